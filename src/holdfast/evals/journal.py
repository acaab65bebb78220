"""Finished pieces of long work, kept as they come, so that a killed command continues where it was."""

import hashlib
import json
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Any, TypeVar

from holdfast.files import LineAppender, dump_json, is_written_through, locked_file, os_errors
from holdfast.parsing import half_surrogate, parse_json

Entry = TypeVar("Entry")


def digest_of(*parts: Any) -> str:
    """The key of a piece of work: everything that its result depends on, as JSON."""
    return hashlib.sha256(
        json.dumps(parts, sort_keys=True, ensure_ascii=False).encode(errors="surrogatepass")
    ).hexdigest()[:32]


class Journal:
    """A file of JSON lines, `{"key": ..., ...}`, that only grows; of two lines with one key the later one counts.

    A line that a kill cut short is left behind and its work is done again. Use as a context manager to append; a
    second process that does is refused with a HoldfastError. Without a path it is in memory only.
    """

    def __init__(self, path: Path | None):
        self.path = path
        self._entries: dict[str, dict[str, Any]] = {}
        self._file: LineAppender | None = None
        self._whole_bytes = 0
        self._lock = ExitStack()
        self._open = False
        if path is not None and path.exists():
            self._read(path)

    @classmethod
    def beside(cls, output: Path) -> "Journal":
        """The journal of a command that writes one file; of a device or a pipe there is none to continue from."""
        special = is_written_through(output)
        return cls(None if special else output.with_name(output.name + ".partial.jsonl"))

    def __enter__(self) -> "Journal":
        if self.path is not None:
            self._lock.enter_context(locked_file(self.path))
            self._read(self.path)  # what another process has added before it was locked
            self._file = LineAppender(self.path, keep=self._whole_bytes)  # what a kill cut short is dropped
        self._open = True
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None
        self._lock.close()
        self._open = False

    def remove(self) -> None:
        """Remove the file: it has served."""
        if self.path is not None:
            self.path.unlink(missing_ok=True)

    def __len__(self) -> int:
        return len(self._entries)

    def get(self, key: str) -> dict[str, Any] | None:
        """What was kept under this key, None where it has not been done."""
        return self._entries.get(key)

    def read(self, key: str, kind: Callable[..., Entry]) -> Entry | None:
        """What was kept under this key as `kind`, None where it has not been done or is not what `kind` takes.

        `kind` raises TypeError or ValueError for fields that are not its own: a line that somebody changed is a
        damaged one, and its work is done again.
        """
        entry = self.get(key)
        if entry is None or half_surrogate(entry) is not None:
            return None
        try:
            return kind(**entry)
        except (TypeError, ValueError):
            return None

    def append(self, key: str, entry: dict[str, Any]) -> None:
        """Keep an entry; it is with the operating system when this returns."""
        if not self._open:
            raise RuntimeError("a journal is appended to inside its `with` block")
        if self._file is not None:
            self._file.append(dump_json({"key": key, **entry}) + "\n")
        self._entries[key] = entry

    def _read(self, path: Path) -> None:
        self._whole_bytes = 0
        with os_errors(path), path.open("rb") as file:
            for raw in file:
                if not raw.endswith(b"\n"):
                    break
                try:
                    entry = parse_json(raw)
                    self._entries[entry.pop("key")] = entry
                except (ValueError, KeyError, AttributeError, TypeError):
                    pass  # a damaged line: its work is done again
                self._whole_bytes += len(raw)
