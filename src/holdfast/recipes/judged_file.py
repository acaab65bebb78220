"""A file of completions as it came, and the same file with more columns: nothing of the original is lost."""

import csv
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from holdfast.data.fields import field_names
from holdfast.data.files import READERS, BadRowError, read_records, shortened
from holdfast.errors import HoldfastError
from holdfast.files import atomic_writer, replacing, write_json, write_json_lines
from holdfast.parsing import parse_json, whole_characters

Added = Mapping[str, Sequence[str | None]]
"""New columns: a name and a value for each row; None is written as null, and in CSV as nothing."""


@dataclass(frozen=True)
class CompletionsFile:
    """A file's rows with their places (`file:line`), and in `content` all that is needed to write it again."""

    path: Path
    places: list[str]
    rows: list[dict[str, Any]]
    content: Any

    @property
    def columns(self) -> list[str]:
        """Every column that some row has, in order."""
        return list(dict.fromkeys(name for row in self.rows for name in row))

    def texts(self, column: str, option: str) -> list[str | None]:
        """A column's texts; None where a row has null (or NaN, which is how pandas writes a gap).

        Raises HoldfastError at the first row that lacks the column or has something else in it.
        """
        return [self._text(place, row, column, option) for place, row in zip(self.places, self.rows, strict=True)]

    def _text(self, place: str, row: dict[str, Any], column: str, option: str) -> str | None:
        if column not in row:
            raise HoldfastError(f"{place}: no field {column!r}; name one of {field_names(row)} with {option}")
        value = row[column]
        if value is None or value != value:
            return None
        if not isinstance(value, str):
            raise HoldfastError(f"{place}: field {column} is {shortened(value)}, expected text; write it as text")
        return whole_characters(value)


def read_completions(path: Path) -> CompletionsFile:
    """Read a CSV, JSONL, JSON or Parquet file; raises HoldfastError at the first bad row, and where there is none."""
    if not path.is_file():
        raise HoldfastError(f"{path}: no such file; give a file of completions ({', '.join(READERS)})")
    places = []
    for place, record in read_records(path, half_characters=True):  # they come back as they were
        if isinstance(record, BadRowError):
            raise HoldfastError(f"{place}: {record.detail}")
        places.append(place)
    if not places:
        raise HoldfastError(f"{path}: has no rows; give a file with completions to judge")
    rows, content = _FORMATS[path.suffix.lower()].read(path)
    return CompletionsFile(path, places, rows, content)


def write_completions(file: CompletionsFile, path: Path, added: Added) -> None:
    """Write the file with columns added at the end of each row, in its own format, in one step."""
    _FORMATS[file.path.suffix.lower()].write(file.content, path, added)


class _Csv:
    """Content: the heading and the cells, as they are; headings may be empty, so rows are no dictionaries."""

    @staticmethod
    def read(path: Path) -> tuple[list[dict[str, Any]], Any]:
        with path.open(encoding="utf-8-sig", newline="") as file:
            header, *cells = [row for row in csv.reader(file, strict=True) if row]
        return [dict(zip(header, row, strict=False)) for row in cells], (header, cells)

    @staticmethod
    def write(content: Any, path: Path, added: Added) -> None:
        header, cells = content
        with atomic_writer(path) as file:
            writer = csv.writer(file, lineterminator="\n")
            writer.writerow([*header, *added])
            for row, new in zip(cells, zip(*added.values(), strict=True), strict=True):
                gap = [""] * (len(header) - len(row))  # cells may be missing at the end of a row
                writer.writerow([*row, *gap, *("" if value is None else value for value in new)])


class _JsonLines:
    """Content: the rows."""

    @staticmethod
    def read(path: Path) -> tuple[list[dict[str, Any]], Any]:
        text = path.read_text(encoding="utf-8-sig")
        rows = [parse_json(line) for line in text.split("\n") if line.strip()]
        return rows, rows

    @staticmethod
    def write(content: Any, path: Path, added: Added) -> None:
        write_json_lines(path, _with_columns(content, added))


class _Json:
    """Content: the list of rows, or the object that has them under `data` among what else it has."""

    @staticmethod
    def read(path: Path) -> tuple[list[dict[str, Any]], Any]:
        content = parse_json(path.read_text(encoding="utf-8-sig"))
        return (content if isinstance(content, list) else content["data"]), content

    @staticmethod
    def write(content: Any, path: Path, added: Added) -> None:
        if isinstance(content, list):
            content = _with_columns(content, added)
        else:
            content = {**content, "data": _with_columns(content["data"], added)}
        write_json(path, content)


class _Parquet:
    """Content: the table, whose columns keep their types."""

    @staticmethod
    def read(path: Path) -> tuple[list[dict[str, Any]], Any]:
        from pyarrow import parquet

        table = parquet.read_table(path)
        return table.to_pylist(), table

    @staticmethod
    def write(content: Any, path: Path, added: Added) -> None:
        import pyarrow
        from pyarrow import parquet

        for name, values in added.items():
            content = content.append_column(name, pyarrow.array(values, type=pyarrow.string()))
        with replacing(path) as temporary:
            parquet.write_table(content, temporary)


_FORMATS: dict[str, Any] = {
    ".csv": _Csv,
    ".jsonl": _JsonLines,
    ".ndjson": _JsonLines,
    ".json": _Json,
    ".parquet": _Parquet,
}


def _with_columns(rows: Sequence[dict[str, Any]], added: Added) -> list[dict[str, Any]]:
    return [{**row, **{name: values[index] for name, values in added.items()}} for index, row in enumerate(rows)]
