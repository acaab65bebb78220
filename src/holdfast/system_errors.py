"""Failures of the system (files, disks, memory) as one line that says what to do, also where a library wrapped them."""

import errno
import os
import re
from contextlib import suppress
from typing import IO, Any

# Errors that have one obvious remedy; the others get the system's own words.
_ADVICE = {
    errno.ENOSPC: "the disk is full; free some space and run the same command again",
    errno.EDQUOT: "your disk quota is used up; free some space and run the same command again",
    errno.EFBIG: "larger than a file may be here (ulimit -f); raise the limit and run the same command again",
    errno.EIO: "the disk cannot be read or written (input/output error); check it and run the same command again",
    errno.EACCES: "permission denied; check the permissions or choose another path",
    errno.EPERM: "permission denied; check the permissions or choose another path",
    errno.EROFS: "the file system is read-only; choose another path",
    errno.ENAMETOOLONG: "the name is too long; choose a shorter one",
    errno.EISDIR: "is a directory; name a file",
    errno.ENOTDIR: "a part of the path is a file, not a directory; choose another path",
    errno.ENOENT: "no such file or directory; check the path",
    errno.ELOOP: "a loop of symbolic links; choose another path",
    errno.EMFILE: "too many open files; raise the limit (ulimit -n)",
}
NUL_IN_PATH = re.compile("embedded null (byte|character)")
_LONGEST = 400  # characters of a library's own words
_RUST_ERROR = re.compile(r"\(os error (\d+)\)")  # safetensors, tokenizers
_TORCH_WRITER = re.compile(r"PytorchStreamWriter failed writing|unexpected pos \d+ vs \d+|file write failed")
_OUT_OF_MEMORY = re.compile(
    r"out of memory|can't allocate memory|Cannot allocate memory|CUBLAS_STATUS_ALLOC_FAILED|ALLOC_FAILED", re.I
)


def describe_os_error(error: OSError, path: os.PathLike[str] | str | None = None) -> str:
    """Return `FILE: what is wrong; what to do` for an operating system error.

    The file is `path`, else the one that the error names.
    """
    named = path if path is not None else error.filename
    words = error.strerror or str(error) or type(error).__name__
    advice = _ADVICE.get(error.errno or 0, " ".join(str(words).split())[:_LONGEST])
    return advice if named is None else f"{os.fsdecode(named) if not isinstance(named, int) else named}: {advice}"


def os_error_in(error: BaseException) -> OSError | None:
    """Return the operating system's error that this is, or that a library turned into its own; None for others."""
    if isinstance(error, OSError):
        return error
    text = str(error)
    if found := _RUST_ERROR.search(text):
        return OSError(int(found[1]), os.strerror(int(found[1])))
    if "No space left on device" in text:
        return OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    if isinstance(error, RuntimeError) and _TORCH_WRITER.search(text):  # the reason is lost there
        return OSError(None, "a file cannot be written; check the free space and run the same command again")
    return None


def is_out_of_memory(error: BaseException) -> bool:
    """Whether Python, torch (on the CPU or a GPU) or the system had no memory left."""
    if isinstance(error, MemoryError) or getattr(error, "errno", None) == errno.ENOMEM:
        return True
    return isinstance(error, RuntimeError) and _OUT_OF_MEMORY.search(str(error)) is not None


def describe_failure(error: BaseException) -> str | None:
    """Return one line for a failure of the system, None for any other error."""
    if is_out_of_memory(error):
        return (
            "out of memory; lower the batch size (--batch-size, per_device_batch_size) or the token limits, or take "
            "a smaller dtype or model, and run the same command again, it continues"
        )
    if isinstance(error, ValueError) and NUL_IN_PATH.search(str(error)):
        return "a path cannot hold a NUL character; check the paths of the command and its config"
    found = os_error_in(error)
    return None if found is None else describe_os_error(found)


def silence(stream: IO[Any] | None) -> None:
    """Send what is still written to a broken standard stream nowhere, also what Python flushes when it ends."""
    with suppress(OSError, ValueError, AttributeError):
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, stream.fileno())  # type: ignore[union-attr]
        os.close(nowhere)
