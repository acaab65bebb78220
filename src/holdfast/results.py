"""The project's one results format: JSON lines, one figure a line.

Every experiment, evaluation and study writes this and every report reads it. Docs: docs/data_formats.md.
"""

from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

from holdfast.errors import HoldfastError
from holdfast.files import check_regular, os_errors, write_json_lines
from holdfast.parsing import half_surrogate, parse_json


@dataclass(frozen=True, slots=True)
class Figure:
    """One measured number.

    `group` is a role, a language, `mean`, or a mean over some of them such as `mean_villain`; `seed` is None for
    an aggregate over seeds; `low` and `high` are the bounds of a 95 % interval, None where there is none; `n` is
    what the value was measured on (prompts for a rate, seeds or runs for an aggregate) and `unscored` what could
    not be judged and is not in n. A value of nothing (n = 0), or one that is undefined, is NaN.
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
    unscored: int = 0

    @property
    def interval(self) -> tuple[float, float] | None:
        """Both bounds, or None."""
        return None if self.low is None or self.high is None else (self.low, self.high)


def write_figures(path: Path, figures: Iterable[Figure]) -> None:
    """Write figures as JSON lines, replacing the file in one step so that a reader never sees half of it."""
    write_json_lines(path, map(asdict, figures))


def read_figures(path: Path) -> Iterator[Figure]:
    """Read figures; raises HoldfastError where there is no such file, naming the line where one is not a figure."""
    if not path.is_file():
        raise HoldfastError(f"{path}: no results file here; measure first, or name the file an experiment wrote")
    check_regular(path)
    with os_errors(path), path.open("rb") as file:
        for number, line in enumerate(file, start=1):
            try:
                yield _figure(parse_json(line))
            except (ValueError, TypeError) as error:
                raise HoldfastError(
                    f"{path}:{number}: not a results line ({error}); delete the file and measure again"
                ) from None


_NUMBER = (int, float)
_ABSENT = type(None)
_TYPES: dict[str, tuple[type, ...]] = {
    "experiment": (str,),
    "method": (str,),
    "group": (str,),
    "seed": (int, _ABSENT),
    "metric": (str,),
    "value": _NUMBER,
    "n": (int,),
    "low": (*_NUMBER, _ABSENT),
    "high": (*_NUMBER, _ABSENT),
    "unscored": (int,),
}
_LATER = {"unscored": 0}  # fields that older files do not have, and what they mean there


def _figure(record: object) -> Figure:
    if not isinstance(record, dict) or set(record := _LATER | record) != set(_TYPES):
        raise ValueError(f"expected the fields {', '.join(_TYPES)}")
    for name, types in _TYPES.items():
        if not isinstance(record[name], types) or isinstance(record[name], bool):
            expected = " or ".join("null" if kind is _ABSENT else kind.__name__ for kind in types)
            raise TypeError(f"field {name} is {str(record[name])[:40]!r}, expected {expected}")
        if name in ("n", "unscored", "seed") and (record[name] or 0) < 0:
            raise ValueError(f"field {name} is {str(record[name])[:40]}, expected a count")
        if isinstance(record[name], str) and half_surrogate(record[name]) is not None:
            raise ValueError(f"field {name} has half a surrogate pair")
    return Figure(**record)
