"""Records from files and the hub, one at a time, each with its place in the source."""

import csv
import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from holdfast.errors import HoldfastError

Record = dict[str, Any]


class BadRowError(Exception):
    """One row is not what it should be.

    `reason` is short and the same for all rows with this fault, for counting; `detail` says field, value and what
    to do, for the error message.
    """

    def __init__(self, reason: str, detail: str):
        super().__init__(detail)
        self.reason, self.detail = reason, detail


# A record and its location, or why there is no record at that location.
Located = tuple[str, Record | BadRowError]


def read_records(source: str | Path, *, split: str = "train") -> Iterator[Located]:
    """Read a JSON, JSONL, CSV or Parquet file, or a data set of the hub where `source` is no path.

    Locations are `file:line` (JSONL, CSV), `file:line[index]` (JSON), `file[index]` (Parquet) and
    `owner/name[index]` (hub). Raises HoldfastError where the source as a whole cannot be read.
    """
    path = Path(source)
    if path.is_dir():
        raise HoldfastError(f"{path}: is a directory; name one of its files ({', '.join(READERS)})")
    if not path.exists():
        if _looks_like_hub_id(str(source)):
            return _read_hub(str(source), split)
        raise HoldfastError(f"{path}: no such file; give a file ({', '.join(READERS)}) or a hub id (owner/name)")
    reader = READERS.get(path.suffix.lower())
    if reader is None:
        raise HoldfastError(
            f"{path}: unknown file type '{path.suffix}'; convert it to one of {', '.join(READERS)}"
        )
    return reader(path)


def _read_jsonl(path: Path) -> Iterator[Located]:
    with path.open("rb") as file:
        for number, raw in enumerate(file, start=1):
            line = _decoded(raw, path, number)
            if not line.strip():
                continue
            try:
                record = json.loads(line)
            except ValueError as error:
                yield f"{path}:{number}", BadRowError("not JSON", f"not JSON ({error}); mend or remove the line")
                continue
            yield f"{path}:{number}", _object_or_bad(record)


def _read_json(path: Path) -> Iterator[Located]:
    """A list of objects, or an object with the list under `data`; read an element at a time to know its line."""
    text = _decoded(path.read_bytes(), path, 1)
    position = _list_start(text)
    if position is None:
        raise HoldfastError(
            f'{path}: expected a list of objects, or {{"data": [...]}}; for one object a line, name the file .jsonl'
        )
    decoder = json.JSONDecoder()
    line, counted, index = 1, 0, 0
    while True:
        position = _skip(text, position, " \t\r\n,")
        line, counted = line + text.count("\n", counted, position), position
        if text[position : position + 1] == "]":
            return
        try:
            record, position = decoder.raw_decode(text, position)
        except ValueError as error:
            # What follows cannot be told apart any more, so this is an error of the file, not of one row.
            raise HoldfastError(f"{path}:{_line_of(error, line)}: not JSON ({error}); mend the file") from None
        yield f"{path}:{line}[{index}]", _object_or_bad(record)
        index += 1


def _read_csv(path: Path) -> Iterator[Located]:
    csv.field_size_limit(sys.maxsize)
    with path.open(encoding="utf-8-sig", newline="") as file:
        reader = csv.DictReader(file, strict=True)
        try:
            header = reader.fieldnames
            if not header:
                return
            while True:
                start = reader.line_num + 1
                try:
                    cells = next(reader)
                except StopIteration:
                    return
                except csv.Error as error:
                    yield f"{path}:{start}", BadRowError("not CSV", f"not CSV ({error}); mend the quotes")
                    continue
                yield f"{path}:{start}", _checked_cells(cells, len(header))
        except UnicodeDecodeError as error:
            raise _not_utf8(path, reader.line_num + 1, error) from None


def _read_parquet(path: Path) -> Iterator[Located]:
    import pyarrow
    from pyarrow import parquet

    try:
        file = parquet.ParquetFile(path)
        index = 0
        for batch in file.iter_batches(batch_size=1024):
            for record in batch.to_pylist():
                yield f"{path}[{index}]", {key: value for key, value in record.items() if value is not None}
                index += 1
    except (pyarrow.ArrowException, OSError) as error:
        raise HoldfastError(f"{path}: not a Parquet file ({str(error).splitlines()[0]}); write it again") from None


def _read_hub(name: str, split: str) -> Iterator[Located]:
    from datasets import load_dataset

    try:
        rows = load_dataset(name, split=split)
    except Exception as error:  # the hub client raises many kinds
        reason = (str(error).splitlines() or [type(error).__name__])[0][:200]
        raise HoldfastError(
            f"{name}: no such file, and the hub has no such data set or cannot be reached ({reason}); check the path, "
            "or the name and split"
        ) from error
    for index, record in enumerate(rows):
        yield f"{name}[{index}]", {key: value for key, value in record.items() if value is not None}


READERS: dict[str, Callable[[Path], Iterator[Located]]] = {
    ".jsonl": _read_jsonl,
    ".ndjson": _read_jsonl,
    ".json": _read_json,
    ".csv": _read_csv,
    ".parquet": _read_parquet,
}


def _looks_like_hub_id(source: str) -> bool:
    owner, slash, name = source.partition("/")
    return (
        bool(owner and slash and name)
        and "/" not in name
        and Path(name).suffix not in READERS
        and owner[0] not in ".~"
    )


def _decoded(raw: bytes, path: Path, first_line: int) -> str:
    try:
        return raw.decode("utf-8-sig" if first_line == 1 else "utf-8")
    except UnicodeDecodeError as error:
        raise _not_utf8(path, first_line + raw.count(b"\n", 0, error.start), error) from None


def _not_utf8(path: Path, line: int, error: UnicodeDecodeError) -> HoldfastError:
    byte = error.object[error.start]
    return HoldfastError(f"{path}:{line}: not UTF-8 (byte 0x{byte:02x}); save the file as UTF-8")


def _object_or_bad(record: Any) -> Record | BadRowError:
    if isinstance(record, dict):
        return {key: value for key, value in record.items() if value is not None}
    return BadRowError(
        "not an object", f"expected an object, found {type(record).__name__}; write one object a row"
    )


def _checked_cells(cells: dict[Any, Any], columns: int) -> Record | BadRowError:
    if None in cells:
        found = columns + len(cells[None])
        return BadRowError(
            "too many cells", f"{found} cells under {columns} headings; quote cells that hold commas"
        )
    return {key: value for key, value in cells.items() if value is not None}


def _list_start(text: str) -> int | None:
    """Position after the bracket that opens the list of rows."""
    start = _skip(text, 0, " \t\r\n")
    if text[start : start + 1] == "{":
        key = text.find('"data"', start)
        colon = _skip(text, key + 6, " \t\r\n") if key >= 0 else -1
        if key < 0 or text[start + 1 : key].strip() or text[colon : colon + 1] != ":":
            return None
        start = _skip(text, colon + 1, " \t\r\n")
    return start + 1 if text[start : start + 1] == "[" else None


def _skip(text: str, position: int, characters: str) -> int:
    while position < len(text) and text[position] in characters:
        position += 1
    return position


def _line_of(error: ValueError, fallback: int) -> int:
    return getattr(error, "lineno", fallback)
