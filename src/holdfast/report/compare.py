"""Models side by side: a table of values, a table of differences from the baseline, and both as records."""

import csv
import io
import json
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.table import Table
from rich.text import Text

from holdfast.escaping import csv_cell, markdown, one_line
from holdfast.evals.paired import BOOTSTRAP, Comparison, Line
from holdfast.report.table import MISSING, Cell
from holdfast.results import Figure

# Which way is better; a metric that is not here has no arrow.
_HIGHER_IS_BETTER = {
    "attack_success_rate": False,
    "refusal_rate": True,
    "partial_refusal_rate": None,
    "safe_rate": True,
    "invalid_rate": False,
    "unsafe_rate": False,
    "over_refusal_rate": False,
    "partial_over_refusal_rate": False,
    "unscored_rate": False,
    "rouge_l": True,
    "accuracy": True,
    "exact_match": True,
}
_ARROWS = {True: " ↑", False: " ↓", None: ""}
_PLACE = ("Benchmark", "Metric", "Group")
_SIDE_BY_SIDE = 4  # models; more of them stand below each other
_WHOLE = "all"  # the group of a figure over a whole benchmark; a column of nothing else is left out

FIELDS = (
    *("benchmark", "metric", "group", "model", "value", "low", "high", "n", "unscored"),
    *("baseline", "difference", "difference_low", "difference_high", "p_value", "p_holm", "significant"),
    *("test", "pairs", "unpaired"),
)


@dataclass(frozen=True, slots=True)
class Grid:
    """A table of text; the first `labels` columns say what a line is about, the others hold numbers.

    What follows a line break in a cell is an aside: an interval, a judge's name, a count. Names are on one line
    and printable.
    """

    headings: tuple[str, ...]
    labels: int
    lines: tuple[tuple[str, ...], ...]
    caption: str


def values_grid(lines: Sequence[Line], models: Sequence[str]) -> Grid:
    """A line for each benchmark, metric and group, a column for each model: value, interval, n, unscored.

    Many models get a line each instead.
    """
    caption = (
        "Value [95 % interval], n answers scored. Unscored answers are not in n: neither safe nor unsafe. "
        f"{MISSING} not measured."
    )
    if len(models) > _SIDE_BY_SIDE:
        below = [
            (*_place(line.figure), one_line(line.figure.method), *_value(line.figure).split("\n", 1))
            for line in lines
        ]
        return _grid(
            (*_PLACE, "Model", "Value", "Interval, n"), len(_PLACE) + 1, sorted(below, key=_first(below)), caption
        )
    cells = {(_place(line.figure), line.figure.method): line.figure for line in lines}
    places = dict.fromkeys(_place(line.figure) for line in lines)
    return _grid(
        (*_PLACE, *map(one_line, models)),
        len(_PLACE),
        [(*place, *(_value(cells.get((place, model))) for model in models)) for place in places],
        caption,
    )


def differences_grid(lines: Sequence[Line], baseline: str) -> Grid:
    """A line for each comparison with the baseline; no lines where nothing was paired."""
    return _grid(
        (*_PLACE, "Model", f"− {one_line(baseline)}", "p\n(Holm)", "Pairs\n(left out)"),
        len(_PLACE) + 1,
        [
            (*_place(line.figure), one_line(line.figure.method), *_comparison(line.comparison))
            for line in lines
            if line.comparison is not None
        ],
        f"Difference from {one_line(baseline)} [95 % interval] over the prompts that were scored for both. "
        "p: McNemar's exact test, † bootstrap of whole requests; below it after Holm's correction over this table, "
        "* where that is below .05. "
        "Left out: asked of one model only, or unscored for one.",
    )


def to_rich(grid: Grid) -> Table:
    """The grid for a terminal, what repeats the line above left blank; text is never read as rich's markup."""
    drawn = Table(box=SIMPLE_HEAD, caption=Text(grid.caption), caption_justify="left")
    for index, heading in enumerate(grid.headings):
        label = index < grid.labels
        # A narrow terminal breaks labels, never numbers.
        drawn.add_column(Text(heading), overflow="fold", justify="left" if label else "right", no_wrap=not label)
    above: tuple[str, ...] = ()
    for line in grid.lines:
        same = next((i for i, (x, y) in enumerate(zip(line, above, strict=False)) if x != y), 0)
        shown = ("" if index < min(same, grid.labels) else text for index, text in enumerate(line))
        drawn.add_row(*(_rich_cell(text) for text in shown))
        above = line
    return drawn


def to_markdown(grid: Grid) -> str:
    """The grid in GitHub's Markdown with its caption, ending in a newline."""
    rule = ["---"] * grid.labels + ["---:"] * (len(grid.headings) - grid.labels)
    heading, *lines = ([markdown(text) for text in line] for line in (grid.headings, *grid.lines))
    table = "".join(f"| {' | '.join(line)} |\n" for line in (heading, rule, *lines))
    return f"{table}\n{markdown(grid.caption)}\n"


def records(lines: Sequence[Line], baseline: str) -> list[dict[str, Any]]:
    """One flat record a line, with the fields `FIELDS`; None for what there is not (never NaN)."""
    return [_record(line, baseline) for line in lines]


def to_json(lines: Sequence[Line], baseline: str) -> str:
    """The records as a JSON list."""
    return json.dumps(records(lines, baseline), ensure_ascii=False, indent=1, allow_nan=False) + "\n"


def to_csv(lines: Sequence[Line], baseline: str) -> str:
    """The records as CSV with a heading; empty cells for what there is not."""
    text = io.StringIO()
    writer = csv.DictWriter(text, FIELDS, lineterminator="\n")
    writer.writeheader()
    for record in records(lines, baseline):
        writer.writerow({field: csv_cell(value) for field, value in record.items()})
    return text.getvalue()


def _grid(headings: tuple[str, ...], labels: int, lines: Sequence[tuple[str, ...]], caption: str) -> Grid:
    group = _PLACE.index("Group")
    if all(line[group] == _WHOLE for line in lines):
        headings, labels = _without(headings, group), labels - 1
        lines = [_without(line, group) for line in lines]
    return Grid(headings, labels, tuple(lines), caption)


def _first(lines: Sequence[tuple[str, ...]]) -> Callable[[tuple[str, ...]], int]:
    """A sort key that brings lines of one place together, places in the order of their first lines."""
    order: dict[tuple[str, ...], int] = {}
    for line in lines:
        order.setdefault(line[: len(_PLACE)], len(order))
    return lambda line: order[line[: len(_PLACE)]]


def _without(line: tuple[str, ...], index: int) -> tuple[str, ...]:
    return line[:index] + line[index + 1 :]


def _record(line: Line, baseline: str) -> dict[str, Any]:
    figure, comparison = line.figure, line.comparison
    values = (
        *(figure.experiment, figure.metric, figure.group, figure.method),
        *(None if math.isnan(figure.value) else figure.value, figure.low, figure.high, figure.n, figure.unscored),
    )
    compared = (
        (None,) * (len(FIELDS) - len(values))
        if comparison is None
        else (
            *(baseline, comparison.difference, comparison.low, comparison.high, comparison.p_value),
            *(comparison.p_holm, comparison.significant, comparison.test, comparison.pairs, comparison.unpaired),
        )
    )
    return dict(zip(FIELDS, (*values, *compared), strict=True))


def _place(figure: Figure) -> tuple[str, str, str]:
    name, bracket, judge = one_line(figure.metric).partition("[")
    # Words, for a terminal to break between them; the records keep the names.
    title = name.replace("_", " ") + _ARROWS[_HIGHER_IS_BETTER.get(name)]
    aside = f"\n{bracket}{judge}" if judge else ""
    return one_line(figure.experiment.removeprefix("eval/")), title + aside, one_line(figure.group)


def _value(figure: Figure | None) -> str:
    if figure is None:
        return MISSING
    value = None if math.isnan(figure.value) else figure.value
    cell = Cell(value, figure.low, figure.high)
    counted = f"(n {figure.n:,},\n{figure.unscored:,} unscored)" if figure.unscored else f"(n {figure.n:,})"
    return "\n".join(part for part in (cell.number, cell.interval, counted) if part)


def _comparison(comparison: Comparison) -> tuple[str, ...]:
    interval = Cell(comparison.difference, comparison.low, comparison.high).interval
    mark = "*" if comparison.significant else ""
    sign = "†" if comparison.test == BOOTSTRAP and comparison.p_value is not None else ""
    return (
        f"{comparison.difference:+.2f}{mark}\n{interval}".rstrip(),
        f"{_probability(comparison.p_value)}{sign}\n({_probability(comparison.p_holm)})",
        f"{comparison.pairs:,}\n({comparison.unpaired:,})",
    )


def _probability(p: float | None) -> str:
    if p is None:
        return MISSING
    return "<.001" if p < 0.001 else f"{p:.3f}"


def _rich_cell(text: str) -> Text:
    first, _, rest = text.partition("\n")
    return Text.assemble(first, (f"\n{rest}", "dim") if rest else "")
