"""Records from files and the hub, one at a time, each with its place in the source."""

import csv
import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Any

from holdfast.data.names import is_name
from holdfast.errors import HoldfastError
from holdfast.files import check_regular, os_errors
from holdfast.parsing import half_surrogate, parse_json

Record = dict[str, Any]
MAX_ROW_BYTES = 8 * 2**20  # a row is one conversation; a larger one takes minutes and fits no context


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


def read_records(source: str | Path, *, split: str = "train", half_characters: bool = False) -> Iterator[Located]:
    """Read a JSON, JSONL, CSV or Parquet file, or a data set of the hub where `source` is no path.

    Locations are `file:line` (JSONL, CSV), `file:line[index]` (JSON), `file[index]` (Parquet) and
    `owner/name[index]` (hub). A row in which half a surrogate pair stands, which no tokenizer takes, is a bad row
    unless `half_characters` are wanted. Raises HoldfastError where the source as a whole cannot be read.
    """
    path = Path(source)
    with os_errors(path):
        is_directory, exists = path.is_dir(), path.exists()
    if is_directory:
        raise HoldfastError(f"{path}: is a directory; name one of its files ({', '.join(READERS)})")
    if not exists:
        if _looks_like_hub_id(str(source)):
            return _read_hub(str(source), split)
        raise HoldfastError(f"{path}: no such file; give a file ({', '.join(READERS)}) or a hub id (owner/name)")
    reader = READERS.get(path.suffix.lower())
    if reader is None:
        raise HoldfastError(
            f"{path}: unknown file type '{path.suffix}'; convert it to one of {', '.join(READERS)}"
        )
    check_regular(path, "data file")
    return _read_file(reader, path, half_characters)


def _read_file(
    reader: Callable[[Path], Iterator[Located]], path: Path, half_characters: bool
) -> Iterator[Located]:
    with os_errors(path):
        for place, record in reader(path):
            yield place, record if half_characters or isinstance(record, BadRowError) else _encodable(record)


def _read_jsonl(path: Path) -> Iterator[Located]:
    with path.open("rb") as file:
        for number, raw in enumerate(_lines(file), start=1):
            if raw is None:
                yield f"{path}:{number}", _too_large()
                continue
            line = _decoded(raw, path, number)
            if not line.strip():
                continue
            try:
                record = parse_json(line)
            except ValueError as error:
                yield f"{path}:{number}", BadRowError("not JSON", f"not JSON ({error}); fix or remove the line")
                continue
            yield f"{path}:{number}", _object_or_bad(record)


def _lines(file: IO[bytes]) -> Iterator[bytes | None]:
    """The lines of a file; None for one that is over `MAX_ROW_BYTES`, which is never held as a whole."""
    while line := file.readline(MAX_ROW_BYTES + 1):
        whole = len(line) <= MAX_ROW_BYTES
        yield line if whole else None
        while not whole and line and not line.endswith(b"\n"):
            line = file.readline(MAX_ROW_BYTES)


def _read_json(path: Path) -> Iterator[Located]:
    """A list of objects, or an object with the list under `data`."""
    text = _decoded(path.read_bytes(), path, 1)
    if not text.strip():
        return
    try:
        content = parse_json(text)  # the whole, so that a fault anywhere is named before any row is used
    except ValueError as error:
        line = getattr(error, "lineno", 1)
        raise HoldfastError(f"{path}:{line}: not JSON ({error}); fix the file, or name it .jsonl") from None
    rows = content.get("data") if isinstance(content, dict) else content
    if not isinstance(rows, list):
        raise HoldfastError(
            f'{path}: expected a list of objects, or {{"data": [...]}}; for one object a line, name the file .jsonl'
        )
    for index, (line, record, length) in enumerate(_elements(text, _list_start(text))):
        yield f"{path}:{line}[{index}]", _too_large() if length > MAX_ROW_BYTES else _object_or_bad(record)


def _elements(text: str, position: int) -> Iterator[tuple[int, Any, int]]:
    """(line, element, its length) of the JSON list that opens before `position`, in text that is known to be JSON."""
    decoder = json.JSONDecoder()
    line, counted = 1, 0
    while text[position := _skip(text, position, " \t\r\n,")] != "]":
        line, counted = line + text.count("\n", counted, position), position
        start = position
        element, position = decoder.raw_decode(text, position)
        yield line, element, position - start


def _list_start(text: str) -> int:
    """Position after the bracket that opens the list of rows, in text that is known to hold one."""
    decoder = json.JSONDecoder()
    position = _skip(text, 0, " \t\r\n") + 1
    if text[position - 1] == "[":
        return position
    while True:
        key, position = decoder.raw_decode(text, _skip(text, position, " \t\r\n,"))
        position = _skip(text, position, " \t\r\n:")
        if key == "data" and text[position] == "[":
            return position + 1
        _, position = decoder.raw_decode(text, position)


def _read_csv(path: Path) -> Iterator[Located]:
    csv.field_size_limit(MAX_ROW_BYTES)
    header: list[str] = []
    with path.open(encoding="utf-8-sig", newline="") as file:
        reader = csv.reader(file, strict=True)
        while True:
            start = reader.line_num + 1
            try:
                cells = next(reader, None)
            except csv.Error as error:
                # A quote that is not closed swallows the rows after it: a fault of the file, not of one row.
                raise HoldfastError(
                    f"{path}:{start}: not CSV ({error}); fix the quotes of the row that begins here"
                ) from None
            except UnicodeDecodeError:  # it counts bytes of a buffer, not of the file
                _decoded(path.read_bytes(), path, 1)
                raise
            if cells is None:
                return
            if cells and header:
                yield f"{path}:{start}", _record_or_bad(header, cells)
            elif cells:
                header = _checked_header(cells, f"{path}:{start}")


def _read_parquet(path: Path) -> Iterator[Located]:
    import pyarrow
    from pyarrow import parquet

    try:
        file = parquet.ParquetFile(path)
        _checked_header(file.schema_arrow.names, str(path))
        index = 0
        for batch in file.iter_batches(batch_size=1024):
            for record in batch.to_pylist():
                yield f"{path}[{index}]", _present(record)
                index += 1
    # ValueError: a text that is not UTF-8; OverflowError: a date beyond Python's; the others: types without a value.
    except (pyarrow.ArrowException, OSError, ValueError, OverflowError, TypeError, KeyError) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise HoldfastError(f"{path}: cannot be read as Parquet ({reason:.200}); write it again") from None


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
        yield f"{name}[{index}]", _present(record)


READERS: dict[str, Callable[[Path], Iterator[Located]]] = {
    ".jsonl": _read_jsonl,
    ".ndjson": _read_jsonl,
    ".json": _read_json,
    ".csv": _read_csv,
    ".parquet": _read_parquet,
}


def _looks_like_hub_id(source: str) -> bool:
    # Told from a path that does not exist by its characters (no drive `C:`, no `~`) and by not ending like a file.
    return bool(re.fullmatch(r"\w[\w.-]*/[\w.-]+", source, re.ASCII)) and Path(source).suffix not in READERS


def _decoded(raw: bytes, path: Path, first_line: int) -> str:
    try:
        return raw.decode("utf-8-sig" if first_line == 1 else "utf-8")
    except UnicodeDecodeError as error:
        raise _not_utf8(path, first_line + raw.count(b"\n", 0, error.start), error) from None


def _not_utf8(path: Path, line: int, error: UnicodeDecodeError) -> HoldfastError:
    byte = error.object[error.start]
    return HoldfastError(f"{path}:{line}: not UTF-8 (byte 0x{byte:02x}); save the file as UTF-8")


def _present(record: Record) -> Record:
    """The fields that hold something: neither null nor NaN, which is how pandas writes a gap."""
    return {key: value for key, value in record.items() if value is not None and value == value}


def _object_or_bad(record: Any) -> Record | BadRowError:
    if isinstance(record, dict):
        return _present(record)
    return BadRowError(
        "not an object", f"expected an object, found {type(record).__name__}; write one object a row"
    )


def _encodable(record: Record) -> Record | BadRowError:
    """The record, unless a text in it has half a surrogate pair: JSON may escape one, and no tokenizer takes it."""
    broken = half_surrogate(record)
    return record if broken is None else BadRowError("broken character", broken)


def _too_large() -> BadRowError:
    size = MAX_ROW_BYTES // 2**20
    return BadRowError(f"over {size} MiB", f"the row is over {size} MiB; split it, or remove it")


def _checked_header(header: list[str], place: str) -> list[str]:
    for heading in header:
        if heading and header.count(heading) > 1:  # spreadsheets write columns without a heading
            raise HoldfastError(f"{place}: heading {shortened(heading)} is there twice; rename one")
    return header


def _record_or_bad(header: list[str], cells: list[str]) -> Record | BadRowError:
    if len(cells) > len(header):
        return BadRowError(
            "too many cells", f"{len(cells)} cells under {len(header)} headings; quote cells that hold commas"
        )
    return dict(zip(header, cells, strict=False))  # cells that are missing at the end are missing fields


def _skip(text: str, position: int, characters: str) -> int:
    while position < len(text) and text[position] in characters:
        position += 1
    return position


def shortened(value: Any) -> str:
    """Return a value for a message, on one line: a name or number as it is, a text described.

    A data file may hold harmful requests, in any field.
    """
    if isinstance(value, str) and not is_name(value):
        return f"a text of {len(value)} character{'' if len(value) == 1 else 's'}"
    if isinstance(value, bytes | list | dict):
        return f"{type(value).__name__} of length {len(value)}"
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."
