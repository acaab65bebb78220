"""Reading and writing files: whole or not at all, and every failure is one line that names the file.

All verbs write through `atomic_writer` or `new_directory`, lock what they write with `locked`, and check before
the work that the result can be written with `check_writable` or `check_output_directory`.
"""

import errno
import json
import os
import shutil
import stat
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any

from holdfast.errors import HoldfastError

# Errors that have one obvious remedy; the others get the system's own words.
_ADVICE = {
    errno.ENOSPC: "the disk is full; free some space and run the same command again",
    errno.EDQUOT: "your disk quota is used up; free some space and run the same command again",
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
LOCK_NAME = ".lock"
MAX_TEXT_BYTES = 64 * 2**20  # far above any config, card or template


def describe_os_error(error: OSError, path: Path | str | None = None) -> str:
    """Return `FILE: what is wrong; what to do` for an operating system error.

    The file is `path`, else the one that the error names.
    """
    named = path if path is not None else error.filename
    advice = _ADVICE.get(error.errno or 0, error.strerror or str(error) or type(error).__name__)
    return f"{os.fspath(named)}: {advice}" if named is not None else advice


@contextmanager
def os_errors(path: Path | str) -> Iterator[None]:
    """Raise HoldfastError naming `path` for any operating system error, or an impossible path, in the block."""
    try:
        yield
    except OSError as error:
        raise HoldfastError(describe_os_error(error, path)) from error
    except ValueError as error:
        if "null byte" not in str(error):
            raise
        raise HoldfastError(f"{path!s}: a path cannot hold a NUL character; choose another path") from error


@contextmanager
def atomic_writer(path: Path, *, binary: bool = False, errors: str = "strict") -> Iterator[IO[Any]]:
    """Open a file for writing that replaces `path` only when the block ends without an exception.

    The content is written beside `path`, flushed to the disk and renamed, so that a reader sees the old file or
    the new one. A symbolic link is followed and stays. A device or a pipe is written to directly. Text is UTF-8
    with `\\n` line ends; `errors` is `open`'s. Parent directories are made. Raises HoldfastError, naming `path`,
    where it cannot be written.
    """
    with os_errors(path):
        target = Path(os.path.realpath(path))
        mode = _mode_of(target)
        text = {} if binary else {"encoding": "utf-8", "newline": "\n", "errors": errors}
        if mode is not None and not stat.S_ISREG(mode):
            if stat.S_ISDIR(mode):
                raise IsADirectoryError(errno.EISDIR, "is a directory", str(path))
            with target.open("wb" if binary else "w", **text) as file:  # type: ignore[call-overload]
                yield file
            return
        target.parent.mkdir(parents=True, exist_ok=True)
        remove_leftovers(target)
        # The name of the temporary file never exceeds the file system's limit where the target's does not.
        descriptor, name = tempfile.mkstemp(
            prefix=f"{_temporary_prefix(target)}{os.getpid()}-", suffix=".partial", dir=target.parent
        )
        temporary = Path(name)
        try:
            with os.fdopen(descriptor, "wb" if binary else "w", **text) as file:  # type: ignore[call-overload]
                yield file
                file.flush()
                os.fsync(file.fileno())
            temporary.chmod(stat.S_IMODE(mode) if mode is not None else 0o666 & ~_umask())
            temporary.replace(target)
        except BaseException:
            with suppress(OSError):
                temporary.unlink()
            raise


def write_text(path: Path, text: str, *, errors: str = "strict") -> None:
    """Write `text` to `path` in one step; see `atomic_writer`."""
    with atomic_writer(path, errors=errors) as file:
        file.write(text)


def write_json(path: Path, content: Any, *, indent: int | None = 2) -> None:
    """Write `content` as JSON to `path` in one step; see `atomic_writer`."""
    write_text(path, json.dumps(content, indent=indent, ensure_ascii=False) + "\n")


@contextmanager
def new_directory(path: Path) -> Iterator[Path]:
    """Yield a temporary directory beside `path` that becomes `path` when the block ends without an exception.

    `path` must not exist, or be an empty directory. What a killed command left behind is removed. Raises
    HoldfastError, naming `path`.
    """
    with os_errors(path):
        check_new_directory(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        remove_leftovers(path)
        name = tempfile.mkdtemp(
            prefix=f"{_temporary_prefix(path)}{os.getpid()}-", suffix=".partial", dir=path.parent
        )
        temporary = Path(name)
        try:
            yield temporary
            temporary.chmod(0o777 & ~_umask())
            if path.is_dir():
                path.rmdir()
            temporary.replace(path)
        except BaseException:
            shutil.rmtree(temporary, ignore_errors=True)
            raise


def check_new_directory(path: Path) -> None:
    """Raise HoldfastError unless `path` can become a new directory: it is missing or empty, and can be written."""
    with os_errors(path):
        if path.is_symlink() and not path.exists():
            raise HoldfastError(f"{path}: a symbolic link that leads nowhere; remove it or choose another path")
        if path.exists() and not path.is_dir():
            raise HoldfastError(f"{path}: is a file; choose a new directory")
        if path.is_dir() and any(path.iterdir()):
            raise HoldfastError(f"{path}: the directory is not empty; choose a new one")
        check_output_directory(path)


def check_writable(path: Path) -> None:
    """Raise HoldfastError unless a file `path` can be written, before hours of work end in an error.

    Writes nothing that stays: an empty file is made beside the target, or in the nearest parent that exists, and
    removed.
    """
    with os_errors(path):
        target = Path(os.path.realpath(path))
        mode = _mode_of(target)
        if mode is not None and stat.S_ISDIR(mode):
            raise IsADirectoryError(errno.EISDIR, "is a directory", str(path))
        if mode is not None and not stat.S_ISREG(mode):
            if not os.access(target, os.W_OK):
                raise PermissionError(errno.EACCES, "permission denied", str(path))
            return
        _probe(target.parent, target.name)


def check_output_directory(path: Path) -> None:
    """Raise HoldfastError unless files can be written in the directory `path`, which may not exist yet."""
    with os_errors(path):
        if path.is_symlink() and not path.exists():
            raise HoldfastError(f"{path}: a symbolic link that leads nowhere; remove it or choose another path")
        target = Path(os.path.realpath(path))
        if target.exists() and not target.is_dir():
            raise HoldfastError(f"{path}: is a file; choose a directory")
        _probe(target, "")


@contextmanager
def locked(directory: Path, what: str = "output directory") -> Iterator[None]:
    """Hold the lock of `directory` in the block; the system frees it when this process ends, however it ends.

    Raises HoldfastError at once where another process holds it. Where the system or the file system has no locks,
    nothing is locked.
    """
    with os_errors(directory):
        directory.mkdir(parents=True, exist_ok=True)
    try:
        import fcntl
    except ImportError:  # Windows
        yield
        return
    path = directory / LOCK_NAME
    with os_errors(path):
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise HoldfastError(
                f"{directory}: another process is writing to this {what}; wait for it, or choose another one"
            ) from None
        except OSError:  # no locks on this file system
            pass
        yield
    finally:
        os.close(descriptor)


def read_bytes(path: Path, what: str = "file", *, limit: int | None = None) -> bytes:
    """Return the content of a regular file. Raises HoldfastError, also for pipes, devices and over `limit` bytes."""
    with os_errors(path):
        mode = path.stat().st_mode
        if stat.S_ISDIR(mode):
            raise HoldfastError(f"{path}: is a directory; name a {what}")
        if not stat.S_ISREG(mode):
            raise HoldfastError(f"{path}: is no regular file (a pipe or a device); name a {what}")
        if limit is not None and path.stat().st_size > limit:
            raise HoldfastError(f"{path}: over {limit // 2**20} MiB, too large for a {what}; check the path")
        return path.read_bytes()


def read_text(path: Path, what: str = "file", *, limit: int = MAX_TEXT_BYTES) -> str:
    """Return the text of a regular UTF-8 file, without a byte order mark. Raises HoldfastError, naming the line."""
    raw = read_bytes(path, what, limit=limit)
    try:
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = 1 + raw.count(b"\n", 0, error.start)
        raise HoldfastError(
            f"{path}:{line}: not UTF-8 (byte 0x{raw[error.start]:02x}); save the file as UTF-8"
        ) from None


def parse_json(text: str | bytes) -> Any:
    """`json.loads` whose every failure is a ValueError, nesting too deep included."""
    try:
        return json.loads(text)
    except RecursionError:
        raise ValueError("nested too deeply") from None


def read_json(path: Path, what: str = "file", *, limit: int = MAX_TEXT_BYTES) -> Any:
    """Return the content of a JSON file. Raises HoldfastError, naming the line."""
    text = read_text(path, what, limit=limit)
    try:
        return parse_json(text)
    except ValueError as error:
        raise HoldfastError(f"{path}:{getattr(error, 'lineno', 1)}: not JSON ({error}); fix the {what}") from None


def remove_leftovers(path: Path) -> None:
    """Remove temporary files and directories that killed commands left when they were writing `path`.

    The caller holds the lock of the directory, or is the only one who writes `path`.
    """
    prefix = _temporary_prefix(path)
    with suppress(OSError):
        for left in path.parent.iterdir():
            if left.name.startswith(prefix) and left.name.endswith(".partial") and not _in_use(left, prefix):
                shutil.rmtree(left, ignore_errors=True) if left.is_dir() else left.unlink(missing_ok=True)


def _in_use(temporary: Path, prefix: str) -> bool:
    """Whether the process that made it still runs; its number stands in the name."""
    number = temporary.name[len(prefix) :].partition("-")[0]
    if not number.isdigit():
        return True  # none of ours
    if int(number) == os.getpid():
        return True
    try:
        os.kill(int(number), 0)
    except ProcessLookupError:
        return False
    except OSError:
        pass
    return True


def _temporary_prefix(path: Path) -> str:
    return f".{path.name[:100]}."


def _mode_of(path: Path) -> int | None:
    try:
        return path.stat().st_mode
    except FileNotFoundError:
        return None


def _umask() -> int:
    current = os.umask(0)
    os.umask(current)
    return current


def _probe(directory: Path, name: str) -> None:
    """Make and remove an empty file in `directory` or its nearest parent that exists; check the names below it."""
    missing = [name] if name else []
    while not directory.exists():
        missing.append(directory.name)
        directory = directory.parent
    if not directory.is_dir():
        raise NotADirectoryError(errno.ENOTDIR, "not a directory", str(directory))
    try:
        longest = os.pathconf(directory, "PC_NAME_MAX")
    except (AttributeError, OSError, ValueError):
        longest = 255
    if any(len(os.fsencode(part)) > longest for part in missing):
        raise OSError(errno.ENAMETOOLONG, "name too long")
    descriptor, probe = tempfile.mkstemp(prefix=".holdfast.", dir=directory)
    os.close(descriptor)
    Path(probe).unlink()
