"""The project's one results format: JSON lines, one figure a line.

Every experiment, evaluation and study writes this and every report reads it. Docs: docs/data_formats.md.
"""

import json
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, fields
from pathlib import Path

from holdfast.errors import HoldfastError


@dataclass(frozen=True, slots=True)
class Figure:
    """One measured number.

    `group` is a role, a language or `mean`; `seed` is None for an aggregate over seeds; `low` and `high` are
    the bounds of a 95 % interval, None where there is none; `n` is what the value was measured on (prompts for
    a rate, seeds or runs for an aggregate).
    """

    experiment: str
    method: str
    group: str
    seed: int | None
    metric: str
    value: float
    n: int
    low: float | None = None
    high: float | None = None


def write_figures(path: Path, figures: Iterable[Figure]) -> None:
    """Write figures as JSON lines, replacing the file in one step so that a reader never sees half of it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(path.name + ".partial")
    with partial.open("w", encoding="utf-8") as file:
        for figure in figures:
            file.write(json.dumps(asdict(figure), ensure_ascii=False) + "\n")
    partial.replace(path)


def read_figures(path: Path) -> Iterator[Figure]:
    """Read figures; raises HoldfastError naming file and line where a line is not a figure."""
    names = {field.name for field in fields(Figure)}
    with path.open(encoding="utf-8") as file:
        for number, line in enumerate(file, start=1):
            try:
                record = json.loads(line)
                if set(record) != names:
                    raise ValueError(f"expected the fields {sorted(names)}")
            except (ValueError, TypeError) as error:
                raise HoldfastError(f"{path}:{number}: not a results line ({error}); delete the file and measure again") from None
            yield Figure(**record)
