"""Reading and writing files: whole or not at all, and every failure is one line that names the file.

All verbs write through `atomic_writer`, `replacing` or `new_directory`, add lines through `LineAppender`, lock what
they write with `locked`, and check before the work that the result can be written with `check_outputs` or
`check_output_directory`.
"""

import errno
import json
import os
import re
import secrets
import shutil
import stat
import sys
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from types import TracebackType
from typing import IO, Any

from holdfast.errors import HoldfastError
from holdfast.parsing import parse_json
from holdfast.system_errors import NUL_IN_PATH, describe_os_error, os_error_in

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

LOCK_NAME = ".lock"
MAX_TEXT_BYTES = 64 * 2**20  # far above any config, card or template
_SUFFIX = ".partial"
_WRITING: set[str] = set()  # names of the temporary files that this process is writing


@contextmanager
def os_errors(path: Path | str) -> Iterator[None]:
    """Raise HoldfastError for any operating system error, or an impossible path, in the block.

    It names `path`, unless the error is about a file elsewhere. A broken pipe stays one.
    """
    try:
        yield
    except (HoldfastError, BrokenPipeError):
        raise
    except Exception as error:
        if isinstance(error, ValueError) and NUL_IN_PATH.search(str(error)):
            raise HoldfastError(f"{path!s}: a path cannot hold a NUL character; choose another path") from error
        found = os_error_in(error)
        if found is None:
            raise
        raise HoldfastError(describe_os_error(found, _blamed(found, path))) from error


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yield the path of an empty file, for libraries that write files themselves; it replaces `path` at the end.

    When the block ends without an exception, the file is flushed to the disk and renamed, so that a reader sees the
    old file or the new one. A symbolic link is followed and stays. What a device or a pipe is to have is copied to
    it. Parent directories are made; permissions are those of the old file, else the umask's. Raises HoldfastError,
    naming `path`, where it cannot be written.
    """
    with os_errors(path):
        if _written_through(path):
            with tempfile.TemporaryDirectory() as scratch:
                copy = Path(scratch) / "content"
                copy.touch()
                yield copy
                with copy.open("rb") as source, _opened_through(path, "wb") as file:
                    shutil.copyfileobj(source, file)
            return
        target = Path(os.path.realpath(path))
        mode = _mode_of(target)
        _check_replaceable(target, mode)
        path.parent.mkdir(parents=True, exist_ok=True)  # those of a link that leads nowhere are not made
        remove_leftovers(target)
        with _temporary(target.parent, target, directory=False) as temporary:
            yield temporary
            _sync(temporary)
            temporary.chmod(stat.S_IMODE(mode) if mode is not None else 0o666 & ~_umask())
            temporary.replace(target)


@contextmanager
def atomic_writer(path: Path, *, binary: bool = False, errors: str = "strict") -> Iterator[IO[Any]]:
    """Open a file for writing that replaces `path` when the block ends without an exception; see `replacing`.

    A device or a pipe is written to directly. Text is UTF-8 with `\\n` line ends; `errors` is `open`'s.
    """
    mode = "wb" if binary else "w"
    text: dict[str, Any] = {} if binary else {"encoding": "utf-8", "newline": "\n", "errors": errors}
    with os_errors(path):
        if _written_through(path):
            with _opened_through(path, mode, **text) as file:
                yield file
            return
        with replacing(path) as temporary, temporary.open(mode, **text) as file:
            yield file


def write_text(path: Path, text: str, *, errors: str = "strict") -> None:
    """Write `text` to `path` in one step; see `atomic_writer`."""
    with atomic_writer(path, errors=errors) as file:
        file.write(text)


def write_json(path: Path, content: Any, *, indent: int | None = 2, **options: Any) -> None:
    """Write `content` as JSON to `path` in one step; `options` are `json.dumps`'."""
    write_text(path, dump_json(content, indent=indent, **options) + "\n")


def write_json_lines(path: Path, records: Iterable[Any]) -> None:
    """Write a line of JSON for each record in one step; see `atomic_writer`."""
    with atomic_writer(path) as file:
        file.writelines(dump_json(record) + "\n" for record in records)


def dump_json(content: Any, **options: Any) -> str:
    """Return `content` as JSON that UTF-8 can hold: readable, or with escapes where there is half a surrogate pair."""
    text = json.dumps(content, ensure_ascii=False, **options)
    try:
        text.encode()
    except UnicodeEncodeError:
        return json.dumps(content, **options)
    return text


class LineAppender:
    """A file that whole lines are added to: each is with the operating system when `append` returns, or not there.

    Args:
        path: made with its parent directories where it is missing.
        keep: the bytes to keep of what is there, where a kill cut a line short.

    Raises HoldfastError, naming `path`, where it cannot be written; the file then ends with its last whole line.
    """

    def __init__(self, path: Path, *, keep: int | None = None):
        self._path = path
        with os_errors(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            self._file = path.open("ab", buffering=0)
            try:
                if keep is not None:
                    self._file.truncate(keep)
                self._end = self._file.seek(0, os.SEEK_END)
            except OSError:
                self._file.close()
                raise

    def append(self, lines: str) -> None:
        """Add lines, each with its `\\n`."""
        left = memoryview(lines.encode())
        with os_errors(self._path):
            try:
                while left:
                    left = left[self._file.write(left) :]
            except OSError:
                with suppress(OSError):
                    self._file.truncate(self._end)
                raise
            self._end = self._file.seek(0, os.SEEK_END)

    def close(self) -> None:
        """Close the file."""
        with os_errors(self._path):
            self._file.close()

    def __enter__(self) -> "LineAppender":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


@contextmanager
def new_directory(path: Path) -> Iterator[Path]:
    """Yield a temporary directory that becomes `path` when the block ends without an exception.

    `path` must not exist, or be an empty directory. Files get the permissions of the umask, whoever wrote them. What
    a killed command left behind is removed. Raises HoldfastError, naming `path`.
    """
    with os_errors(path):
        check_new_directory(path)
        target = Path(os.path.realpath(path))
        place = target if _stays(target) else target.parent
        place.mkdir(parents=True, exist_ok=True)
        remove_leftovers(target, place)
        with _temporary(place, target, directory=True) as temporary:
            yield temporary
            share(temporary)
            for file in _files(temporary):
                _sync(file)
            if place == target:
                _move_up(temporary)
                return
            mode = _mode_of(target)
            temporary.chmod(stat.S_IMODE(mode) if mode is not None else 0o777 & ~_umask())
            if mode is not None:
                target.rmdir()
            temporary.replace(target)


def check_new_directory(path: Path) -> None:
    """Raise HoldfastError unless `path` can become a new directory: it is missing or empty, and can be written."""
    with os_errors(path):
        check_output_directory(path)
        prefix = _temporary_prefix(Path(os.path.realpath(path)))
        if path.is_dir() and any(not _is_temporary(entry, prefix) for entry in path.iterdir()):
            raise HoldfastError(
                f"{path}: the directory is not empty; choose a new one, or remove what is in it first"
            )


def share(directory: Path) -> None:
    """Give what is in a directory the umask's permissions: safetensors lets nobody else read what it writes."""
    with os_errors(directory):
        for file in _files(directory):
            file.chmod(0o666 & ~_umask())


def check_outputs(outputs: Mapping[str, Path | None], inputs: Iterable[object] = ()) -> None:
    """Raise HoldfastError unless every output file can be written, before hours of work end in an error.

    Args:
        outputs: files by the option that names them; None for what was not asked for.
        inputs: what the command reads, as the user gave it (`PATH`, `file:PATH`, `NAME=PATH`, a hub id, None). An
            output that is one of them, or would replace a file in one of them, is refused.

    Two outputs may not be one file. Nothing is written.
    """
    read = [candidate for given in inputs if given is not None for candidate in _candidates(str(given))]
    written: dict[str, str] = {}
    for option, path in outputs.items():
        if path is None:
            continue
        check_writable(path)
        if _written_through(path):
            continue
        own = os.path.realpath(path)
        if any(_would_replace(own, source) for source in read):
            raise HoldfastError(f"{option} {path}: this command reads it; name another file, so that it stays")
        if own in written:
            raise HoldfastError(f"{option} {path}: is what {written[own]} writes too; name another file")
        written[own] = option


def check_writable(path: Path) -> None:
    """Raise HoldfastError unless a file `path` can be written.

    Writes nothing that stays: an empty file is made beside the target, or in the nearest parent that exists, and
    removed.
    """
    with os_errors(path):
        if _written_through(path):
            if _own_descriptor(path) is None and not os.access(path, os.W_OK):
                raise PermissionError(errno.EACCES, "permission denied", str(path))
            return
        target = Path(os.path.realpath(path))
        _check_replaceable(target, _mode_of(target))
        if path.is_symlink() and not target.parent.exists():
            raise HoldfastError(f"{path}: a symbolic link that leads nowhere; remove it or choose another path")
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


def check_cache_directory(path: Path) -> None:
    """Raise HoldfastError unless `path` is a directory or can become one; one that is there may be complete."""
    with os_errors(path):
        if not path.is_dir():
            check_output_directory(path)


@contextmanager
def locked(directory: Path, what: str = "output directory") -> Iterator[None]:
    """Hold the lock of `directory` in the block; the system frees it when this process ends, however it ends.

    Raises HoldfastError at once where another process holds it. Where the system or the file system has no locks,
    nothing is locked.
    """
    with os_errors(directory):
        directory.mkdir(parents=True, exist_ok=True)
    with _flock(directory / LOCK_NAME, f"{directory}: another process is writing to this {what}"):
        yield


@contextmanager
def locked_file(path: Path) -> Iterator[None]:
    """Hold the lock of a file that long work adds to, made if need be; as `locked`, with no other file for it."""
    with os_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
    with _flock(path, f"{path}: another process is writing to this file"):
        yield


@contextmanager
def _flock(path: Path, refusal: str) -> Iterator[None]:
    if fcntl is None:
        yield
        return
    with os_errors(path):
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        if not _try_lock(descriptor):
            raise HoldfastError(f"{refusal}; wait for it, or choose another one")
        yield
    finally:
        os.close(descriptor)


def check_regular(path: Path, what: str = "file") -> None:
    """Raise HoldfastError unless `path` is a regular file: reading a pipe or a device may never end."""
    with os_errors(path):
        mode = path.stat().st_mode
    if stat.S_ISDIR(mode):
        raise HoldfastError(f"{path}: is a directory; name a {what}")
    if not stat.S_ISREG(mode):
        raise HoldfastError(f"{path}: is no regular file (a pipe or a device); name a {what}")


def read_bytes(path: Path, what: str = "file", *, limit: int | None = None) -> bytes:
    """Return the content of a regular file. Raises HoldfastError, also for pipes, devices and over `limit` bytes."""
    check_regular(path, what)
    with os_errors(path):
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


def read_json(path: Path, what: str = "file", *, limit: int = MAX_TEXT_BYTES) -> Any:
    """Return the content of a JSON file. Raises HoldfastError, naming the line."""
    text = read_text(path, what, limit=limit)
    try:
        return parse_json(text)
    except ValueError as error:
        raise HoldfastError(f"{path}:{getattr(error, 'lineno', 1)}: not JSON ({error}); fix the {what}") from None


def is_written_through(path: Path) -> bool:
    """Whether `path` is a device, a pipe or an open file of ours (/dev/stdout), which nothing can replace."""
    with os_errors(path):
        return _written_through(path)


def remove_leftovers(path: Path, place: Path | None = None) -> None:
    """Remove temporary files and directories that killed commands left in `place` when they were writing `path`."""
    prefix = _temporary_prefix(path)
    with suppress(OSError):
        for left in (place or path.parent).iterdir():
            if _is_temporary(left, prefix) and not _in_use(left, prefix):
                shutil.rmtree(left, ignore_errors=True) if left.is_dir() else left.unlink(missing_ok=True)


# -- temporary files


@contextmanager
def _temporary(place: Path, target: Path, *, directory: bool) -> Iterator[Path]:
    """An empty file or directory in `place`, locked while the block lasts, removed where it is still there then."""
    path = place / f"{_temporary_prefix(target)}{os.getpid()}-{secrets.token_hex(4)}{_SUFFIX}"
    _WRITING.add(path.name)
    try:
        if directory:
            path.mkdir(mode=0o700)
            descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        else:
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        try:
            _try_lock(descriptor)
            yield path
        finally:
            os.close(descriptor)
    finally:
        _WRITING.discard(path.name)
        with suppress(OSError):
            shutil.rmtree(path, ignore_errors=True) if directory else path.unlink(missing_ok=True)


def _temporary_prefix(path: Path) -> str:
    """Short enough that the temporary file's name is never too long where the target's is not."""
    return f".{os.fsencode(path.name)[:100].decode(errors='ignore')}."


def _is_temporary(path: Path, prefix: str) -> bool:
    number, dash, _ = path.name.removeprefix(prefix).partition("-")
    ours = path.name.startswith(prefix) and path.name.endswith(_SUFFIX)
    return ours and number.isdigit() and bool(dash)


def _in_use(temporary: Path, prefix: str) -> bool:
    """Whether its process still runs: by the number in its name, and by its lock where containers number alike."""
    number = int(temporary.name.removeprefix(prefix).partition("-")[0])
    if temporary.name in _WRITING:
        return True
    if number != os.getpid():
        try:
            os.kill(number, 0)
            return True
        except ProcessLookupError:
            pass
        except (OSError, OverflowError):
            return True
    descriptor = os.open(temporary, os.O_RDONLY | os.O_CLOEXEC)
    try:
        return not _try_lock(descriptor)
    finally:
        os.close(descriptor)


def _try_lock(descriptor: int) -> bool:
    """Whether nobody else holds its lock; the caller does then, where there are locks."""
    if fcntl is None:
        return True
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:  # no locks on this file system
        pass
    return True


def _stays(target: Path) -> bool:
    """Whether an existing directory cannot be replaced by a rename: a mount point, or where somebody works."""
    if not target.is_dir():
        return False
    here = os.path.realpath(os.curdir)
    return os.path.ismount(target) or str(target) == here or not os.access(target.parent, os.W_OK | os.X_OK)


def _move_up(temporary: Path) -> None:
    """Move what is in the directory into its parent, last the files that make a model or an adapter of it."""
    for entry in sorted(temporary.iterdir(), key=lambda entry: (entry.name.endswith("config.json"), entry.name)):
        entry.replace(temporary.parent / entry.name)


def _files(directory: Path) -> list[Path]:
    return [path for path in directory.rglob("*") if path.is_file() and not path.is_symlink()]


def _sync(path: Path) -> None:
    with path.open("rb") as file:
        os.fsync(file.fileno())


# -- what a path is


def _check_replaceable(target: Path, mode: int | None) -> None:
    if mode is not None and stat.S_ISDIR(mode):
        raise IsADirectoryError(errno.EISDIR, "is a directory", str(target))
    if mode is not None and not os.access(target, os.W_OK):
        raise PermissionError(errno.EACCES, "permission denied", str(target))


def _written_through(path: Path) -> bool:
    try:
        mode = path.stat().st_mode
    except FileNotFoundError:
        return False
    special = not stat.S_ISREG(mode) and not stat.S_ISDIR(mode)
    return special or _own_descriptor(path) is not None


def _own_descriptor(path: Path) -> int | None:
    """The number of the open file of this process that `path` names (/dev/stdout, /dev/fd/3), None for others."""
    place = os.path.abspath(path)  # noqa: PTH100 links are followed one by one
    for _ in range(40):
        folder, name = os.path.realpath(os.path.dirname(place)), os.path.basename(place)  # noqa: PTH119, PTH120
        if re.fullmatch(rf"/proc/{os.getpid()}(/task/\d+)?/fd", folder) and name.isdigit():
            return int(name)
        if not os.path.islink(place):  # noqa: PTH114
            return None
        place = os.path.join(folder, os.readlink(place))  # noqa: PTH115, PTH118
    return None


def _opened_through(path: Path, mode: str, **text: Any) -> IO[Any]:
    """A file of ours goes on where it is, so that what is printed to it comes after."""
    number = _own_descriptor(path)
    if number is None:
        return path.open(mode, **text)
    for stream in (sys.stdout, sys.stderr):
        if stream is not None:
            stream.flush()
    return os.fdopen(os.dup(number), mode, **text)


def _candidates(given: str) -> list[str]:
    """What of an option's value may be a path: all of it, or what follows `file:` or `NAME=`."""
    return [given, *(rest for sign in ":=" if (rest := given.partition(sign)[2]))]


def _would_replace(output: str, source: str) -> bool:
    """Whether writing `output` replaces the file `source`, or a file in the directory `source`."""
    with suppress(OSError, ValueError):
        if os.path.samefile(output, source):  # noqa: PTH121
            return True
        inside = output.startswith(os.path.realpath(source).rstrip("/") + os.sep)
        return inside and os.path.isdir(source) and os.path.exists(output)  # noqa: PTH110, PTH112
    return False


def _blamed(error: OSError, path: Path | str) -> Path | str:
    """`path`, or the file that the error names where that lies elsewhere."""
    other = error.filename
    if not isinstance(other, str | bytes | os.PathLike):
        return path
    named = os.path.abspath(os.fsdecode(other))  # noqa: PTH100
    for own in (os.path.abspath(path), os.path.realpath(path)):  # noqa: PTH100
        beside = os.path.join(os.path.dirname(own), _temporary_prefix(Path(own)))  # noqa: PTH118, PTH120
        if named == own or own.startswith(named.rstrip("/") + os.sep) or named.startswith((own + os.sep, beside)):
            return path
    return os.fsdecode(other)


def _mode_of(path: Path) -> int | None:
    try:
        return path.stat().st_mode
    except FileNotFoundError:
        return None


def _umask() -> int:
    """The umask; where the system tells it without a change that other threads would see."""
    with suppress(OSError):
        if found := re.search(r"^Umask:\s*([0-7]+)$", Path("/proc/self/status").read_text(), re.M):
            return int(found[1], 8)
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
    try:
        descriptor, probe = tempfile.mkstemp(prefix=".holdfast.", dir=directory)
    except OSError as error:
        raise OSError(error.errno, error.strerror) from None  # about the output, not about the file tried here
    os.close(descriptor)
    Path(probe).unlink()
