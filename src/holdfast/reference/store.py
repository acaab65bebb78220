"""Values that depend on the frozen reference and the data only, kept on disk and never computed twice.

A store is a directory named by the fingerprint of everything the values depend on: `manifest.json` says what
that was, `rows.jsonl` holds one record a row. Records are appended as they are computed; a run that was killed
goes on where it stopped.
"""

import hashlib
import json
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from holdfast.errors import HoldfastError
from holdfast.files import LineAppender, dump_json, read_bytes, write_json
from holdfast.parsing import is_finite_number, parse_json

LARGEST_LOGP = 1e-2  # a sum of rounded ones may lie a little above 0
COUNTS = ("row", "shard", "start", "positions", "chosen_tokens", "rejected_tokens")


def default_cache_dir() -> Path:
    """`$HOLDFAST_CACHE`, or `~/.cache/holdfast`."""
    if given := os.environ.get("HOLDFAST_CACHE"):
        return Path(given)
    try:
        return Path.home() / ".cache" / "holdfast"
    except RuntimeError:  # no HOME, and a user without an entry
        raise HoldfastError("HOLDFAST_CACHE: is not set, and there is no home directory; set it") from None


class RowStore:
    """Per-row records under `directory / kind / fingerprint`.

    Args:
        directory: the cache's root.
        kind: what is stored, for example `pair_scores`.
        manifest: everything the records depend on, as JSON values; its hash names the directory.
        rows: how many rows there are; a record whose `row` is not below that is corrupt.
        fields: the names every record has.

    Raises HoldfastError where a file is there but is not what it should be.
    """

    def __init__(self, directory: Path, kind: str, manifest: dict[str, Any], *, rows: int, fields: Iterable[str]):
        encoded = json.dumps(manifest, sort_keys=True, ensure_ascii=False)
        self.fingerprint = hashlib.sha256(encoded.encode()).hexdigest()
        self.path = directory / kind / self.fingerprint[:20]
        self.manifest = manifest
        self._rows = rows
        self._fields = set(fields)
        self._records_path = self.path / "rows.jsonl"
        self._write_or_check_manifest()
        self.records = self._read()

    @property
    def complete(self) -> bool:
        """Whether every row has its record."""
        return len(self.records) == self._rows

    def append(self, records: Iterable[dict[str, Any]]) -> None:
        """Write records through to the disk; a record that is there already is kept."""
        new = [record for record in records if record["row"] not in self.records]
        with LineAppender(self._records_path) as file:
            file.append("".join(dump_json(record) + "\n" for record in new))
        self.records.update((record["row"], record) for record in new)

    def _write_or_check_manifest(self) -> None:
        path = self.path / "manifest.json"
        if not path.exists():
            write_json(path, self.manifest)
            return
        try:
            found = parse_json(read_bytes(path, "manifest"))
        except ValueError as error:
            raise self._corrupt(path, None, f"not JSON ({error})") from None
        if found != self.manifest:
            raise self._corrupt(path, None, "it does not match its directory's name")

    def _read(self) -> dict[int, dict[str, Any]]:
        if not self._records_path.exists():
            return {}
        raw = read_bytes(self._records_path, "cache file")
        whole = raw[: raw.rfind(b"\n") + 1]
        if len(whole) < len(raw):  # a run was killed in the middle of a line: that row is computed again
            LineAppender(self._records_path, keep=len(whole)).close()
        records = {}
        for number, line in enumerate(whole.splitlines(), start=1):
            try:
                record = parse_json(line)
                row = record["row"]
                if set(record) != self._fields or type(row) is not int or not 0 <= row < self._rows:
                    raise ValueError("unexpected fields or row number")
                for name in self._fields:
                    _check_value(name, record[name])
            except (ValueError, KeyError, TypeError) as error:
                raise self._corrupt(self._records_path, number, str(error)) from None
            records[row] = record
        return records

    def _corrupt(self, path: Path, line: int | None, why: str) -> HoldfastError:
        place = f"{path}:{line}" if line else f"{path}"
        return HoldfastError(
            f"{place}: the cache is corrupt ({why}); delete the directory {self.path} and run again"
        )


def _check_value(name: str, value: Any) -> None:
    """Raise ValueError unless a record's value is a number, or a list of numbers, that its name allows."""
    for number in value if isinstance(value, list) else [value]:
        if not is_finite_number(number):
            raise ValueError(f"field {name} is no finite number")
        if "logp" in name and number > LARGEST_LOGP:
            raise ValueError(f"field {name} is a positive log-probability")
        if name in COUNTS and (type(number) is not int or number < 0):
            raise ValueError(f"field {name} is no count")
