"""Finding a benchmark's file and reading its rows, every fault named by place and field."""

import ast
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from holdfast.data.fields import field_names, text_turn, wrong_type
from holdfast.data.files import BadRowError, Record, read_records, shortened
from holdfast.data.names import shown_name
from holdfast.data.rows import Speaker
from holdfast.errors import HoldfastError
from holdfast.samples import SEPARATOR


@dataclass(frozen=True, slots=True)
class Row:
    """One record, its place and its number from 0 in its source."""

    number: int
    location: str
    record: Record

    def text(self, *names: str, speaker: Speaker = "user") -> str:
        """What is under the first of these columns that the row has, unchanged; HoldfastError if none or empty."""
        name = next((name for name in names if name in self.record), None)
        if name is None:
            wanted = " or ".join(f"'{name}'" for name in names)
            raise self.wrong(f"field {wanted} is missing; add it (there are {field_names(self.record)})")
        try:
            return text_turn(self.record[name], name, speaker).content
        except BadRowError as error:
            raise self.wrong(error.detail) from None

    def label(self, *names: str) -> str | None:
        """The short text or number under the first of these columns that holds one, else None."""
        for name in names:
            value = self.record.get(name)
            if isinstance(value, bool | list | dict | bytes):
                raise self.wrong(wrong_type(name, value, "a text or a number").detail)
            if value is not None and str(value).strip():
                return str(value).strip()
        return None

    def labels(self, name: str) -> str | None:
        """The entries of a list, also one that is written out as in Python, joined; None where there is none."""
        value: Any = self.record.get(name)
        if isinstance(value, str) and value.lstrip().startswith("["):
            try:
                value = ast.literal_eval(value.strip())
            except (ValueError, SyntaxError, MemoryError, RecursionError):
                raise self.wrong(f"field '{name}': not a list of texts; correct it") from None
        if isinstance(value, list):
            return SEPARATOR.join(dict.fromkeys(str(entry) for entry in value)) or None
        return self.label(name)

    def wrong(self, detail: str) -> HoldfastError:
        """The error that says where this row is."""
        return HoldfastError(f"{self.location}: {detail}")


def rows_of(source: str | Path, *, split: str = "train") -> Iterator[Row]:
    """The rows of a file, or of a split of a hub data set; the first bad one is an error."""
    for number, (location, record) in enumerate(read_records(source, split=split)):
        if isinstance(record, BadRowError):
            raise HoldfastError(f"{location}: {record.detail}")
        yield Row(number, location, record)


def local_source(data: str | Path, folder: str, names: Sequence[str]) -> str | Path:
    """The file that `data` means: itself, or the first of these names in its `folder` or in itself.

    What is no path is given back: it may be a data set of the hub.
    """
    path = Path(data)
    if not path.is_dir():
        return path if path.exists() else data
    found = first_of(path, folder, names)
    if found is None:
        raise HoldfastError(
            f"{path}: there is none of {', '.join(names)} here or in {folder}/; put the file there, or name it"
        )
    return found


def first_of(directory: Path, folder: str, names: Sequence[str]) -> Path | None:
    """The first of these files that is there, in the directory's `folder` or in itself."""
    candidates = (base / name for base in (directory / folder, directory) for name in names)
    return next((path for path in candidates if path.is_file()), None)


def hub_file(repository: str, name: str) -> Path:
    """A file of a hub data set, fetched into the hub's own cache; HoldfastError says why it cannot be."""
    from huggingface_hub import hf_hub_download

    try:
        return Path(hf_hub_download(repository, name, repo_type="dataset"))
    except Exception as error:  # the hub client raises many kinds
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0][:200]
        raise HoldfastError(
            f"{repository}/{name}: cannot be fetched from the hub ({reason}); accept the terms at "
            f"https://huggingface.co/datasets/{repository} and log in, or give a local copy as data"
        ) from error


def wide_cells(
    rows: Iterator[Row], languages: Sequence[str], wanted: Sequence[str] | None, place: str
) -> Iterator[tuple[Row, str, str]]:
    """(row, language, text) of a table with a column a language: row by row, so that languages stay parallel.

    Only the `wanted` languages are read where some are: an empty cell of another does no harm.
    """
    columns: list[str] | None = None
    for row in rows:
        if columns is None:
            there = [language for language in languages if language in row.record]
            if not there:
                raise row.wrong(
                    f"no language has a column here; name the columns {', '.join(languages)} "
                    f"(there are {field_names(row.record)})"
                )
            columns = there if wanted is None else [code for code in there if code in wanted]
            require_languages(wanted or (), there, place)
        for language in columns:
            yield row, language, row.text(language)


def require_languages(wanted: Sequence[str], there: Sequence[str], place: str) -> None:
    """Raises HoldfastError, with the languages that are there, where a wanted one is not."""
    for language in wanted:
        if language not in there:
            known = ", ".join(map(shown_name, there))
            raise HoldfastError(f"{place}: no prompt has the language {shortened(language)}; there are {known}")


def source_or_hub(
    data: str | Path | None, folder: str, names: Sequence[str], hub: Callable[[], str | Path]
) -> str | Path:
    """The local source that `data` means, or the hub's where there is no `data`."""
    return hub() if data is None else local_source(data, folder, names)
