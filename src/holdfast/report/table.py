"""Tables of figures: one row per method (or group), one column per metric, every cell with its interval."""

import csv
import io
import math
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import zip_longest
from typing import Literal, NamedTuple

from rich.box import SIMPLE_HEAD
from rich.table import Table
from rich.text import Text

from holdfast.errors import HoldfastError
from holdfast.escaping import csv_cell, latex, markdown, one_line
from holdfast.results import Figure

MISSING = "–"  # not measured; never to be read as zero

Rows = Literal["experiment", "method", "group"]


Pivot = Literal["group", "method"]


class Column(NamedTuple):
    """A metric to show, its heading, and which way is better (None: neither, or it depends)."""

    metric: str
    title: str
    higher_is_better: bool | None = None

    @property
    def heading(self) -> str:
        """The title with an arrow that points the better way."""
        return self.title + {True: " ↑", False: " ↓", None: ""}[self.higher_is_better]


class Cell(NamedTuple):
    """One number of a table; value None where it was not measured, low and high None where it has no interval."""

    value: float | None = None
    low: float | None = None
    high: float | None = None
    n: int | None = None

    @property
    def number(self) -> str:
        """The value to two decimals, or the sign for a missing one."""
        return MISSING if self.value is None else f"{self.value:.2f}"

    @property
    def interval(self) -> str:
        """The interval in brackets, or nothing."""
        if self.value is None or self.low is None or self.high is None:
            return ""
        return f"[{self.low:.2f}, {self.high:.2f}]"

    @property
    def text(self) -> str:
        """Number and interval, for example `0.91 [0.85, 0.95]`."""
        return f"{self.number} {self.interval}".rstrip()


class Row(NamedTuple):
    """One line of a table: its label, and as many cells as the table has columns."""

    label: str
    cells: tuple[Cell, ...]


@dataclass(frozen=True, slots=True)
class TableData:
    """A table before it is drawn. No cell is ever marked as the best: overlapping intervals do not rank."""

    corner: str  # heading of the label column
    columns: tuple[Column, ...]
    rows: tuple[Row, ...]
    caption: str = ""

    def only(self, labels: Collection[str]) -> "TableData":
        """The table with the lines of these labels alone."""
        return replace(self, rows=tuple(row for row in self.rows if row.label in labels))


def build_table(
    figures: Iterable[Figure],
    *,
    metrics: Sequence[Column],
    rows: Rows = "method",
    experiment: str | None = None,
    method: str | None = None,
    group: str | None = "mean",
    seed: int | None = None,
    labels: Mapping[str, str] | None = None,
    caption: str = "",
) -> TableData:
    """Arrange figures: `rows` is the field that labels the lines; the other fields select what is shown.

    The field named by `rows` selects nothing, and neither does one given as None, except that seed None means
    the aggregates. Lines keep the order in which the figures come; `labels` renames them, and where it is given
    also orders them. Raises HoldfastError if two figures claim one cell.
    """
    wanted = {"experiment": experiment, "method": method, "group": group}
    del wanted[rows]
    titles = {column.metric for column in metrics}
    cells: dict[tuple[str, str], Cell] = {}
    for figure in figures:
        if figure.metric not in titles or figure.seed != seed:
            continue
        if any(value is not None and getattr(figure, field) != value for field, value in wanted.items()):
            continue
        key = (getattr(figure, rows), figure.metric)
        if key in cells:
            raise HoldfastError(
                f"two figures for {rows} {key[0]!r}, metric {figure.metric!r}; "
                f"select one with {' or '.join(wanted)}"
            )
        cells[key] = _cell(figure)
    found = list(dict.fromkeys(line for line, _ in cells))
    labels = labels or {}
    ordered = [line for line in labels if line in found] + [line for line in found if line not in labels]
    return TableData(
        corner=rows.capitalize(),
        columns=tuple(metrics),
        rows=tuple(
            Row(labels.get(line, line), tuple(cells.get((line, column.metric), Cell()) for column in metrics))
            for line in ordered
        ),
        caption=caption,
    )


def pivoted(figures: Iterable[Figure], metric: str, *, columns: Pivot = "group") -> list[Figure]:
    """One metric's figures with a field in the metric's place, so that `build_table` gives it a column a value.

    `columns="group"`: a line a method, a column a group (a language, say); `columns="method"`: the other way round.
    """
    chosen = [figure for figure in figures if figure.metric == metric]
    if columns == "group":
        return [replace(figure, metric=figure.group, group="all") for figure in chosen]
    return [replace(figure, metric=figure.method, method="all") for figure in chosen]


def to_rich(table: TableData) -> Table:
    """The table for a terminal, intervals under their numbers; text is never read as rich's markup."""
    caption = Text(one_line(table.caption)) if table.caption else None
    drawn = Table(box=SIMPLE_HEAD, caption=caption, caption_justify="left")
    drawn.add_column(Text(one_line(table.corner)), overflow="fold")
    for column, width in zip(table.columns, _widths(table), strict=True):
        heading = Text(one_line(column.heading))
        drawn.add_column(heading, justify="right", min_width=width)  # labels fold, numbers never
    for row in table.rows:
        drawn.add_row(Text(one_line(row.label)), *(_rich_cell(cell) for cell in row.cells))
    return drawn


def folded(table: TableData, width: int) -> list[TableData]:
    """The table as several below each other, each with as many columns as a terminal of this width can show."""
    label = min(max((len(row.label) for row in table.rows), default=0), max(12, width // 4))
    parts: list[list[int]] = [[]]
    first = left = width - label - 5  # rich pads and divides: two and one character a column, two at the edges
    for index, needed in enumerate(_widths(table)):
        if parts[-1] and left < needed + 3:
            parts.append([])
            left = first
        parts[-1].append(index)
        left -= needed + 3
    return [
        TableData(
            table.corner,
            tuple(table.columns[index] for index in part),
            tuple(Row(row.label, tuple(row.cells[index] for index in part)) for row in table.rows),
            table.caption if part is parts[-1] else "",
        )
        for part in parts
    ]


def to_markdown(table: TableData) -> str:
    """The table in GitHub's Markdown, ending in a newline."""
    heading = [markdown(text) for text in (table.corner, *(column.heading for column in table.columns))]
    rule = ["---", *("---:" for _ in table.columns)]
    rows = [[markdown(row.label), *(cell.text for cell in row.cells)] for row in table.rows]
    text = "".join(f"| {' | '.join(line)} |\n" for line in (heading, rule, *rows))
    return text + (f"\n{markdown(table.caption)}\n" if table.caption else "")


def to_csv(table: TableData) -> str:
    """The table as CSV with a heading: four columns for each of the table's, empty where nothing was measured.

    Numbers are in full, not rounded as in the other forms.
    """
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    parts = ("", " low", " high", " n")
    titles = (column.title + part for column in table.columns for part in parts)
    writer.writerow(map(csv_cell, [table.corner, *titles]))
    for row in table.rows:
        values = (value for cell in row.cells for value in cell)  # csv leaves None empty
        writer.writerow([csv_cell(row.label), *values])
    return text.getvalue()


def to_latex(table: TableData) -> str:
    """The table as a LaTeX tabular with its caption below (package booktabs), ending in a newline."""
    lines = [
        f"\\begin{{tabular}}{{l{'r' * len(table.columns)}}}",
        "\\toprule",
        _latex_line([table.corner, *(column.heading for column in table.columns)]),
        "\\midrule",
        *(_latex_line([row.label, *(cell.number for cell in row.cells)], row.cells) for row in table.rows),
        "\\bottomrule",
        "\\end{tabular}",
        *([f"\\par\\smallskip {{\\footnotesize {latex(table.caption)}}}"] if table.caption else []),
    ]
    return "\n".join(lines) + "\n"


def _cell(figure: Figure) -> Cell:
    if math.isnan(figure.value):  # a rate of which every answer was unscored
        return Cell(n=figure.n)
    return Cell(figure.value, figure.low, figure.high, figure.n)


def _widths(table: TableData) -> list[int]:
    """How many characters each column's numbers need, and the words of its heading."""
    return [
        max(
            *(len(word) for word in column.heading.split()),
            *(len(text) for row in table.rows for text in (row.cells[index].number, row.cells[index].interval)),
            1,
        )
        for index, column in enumerate(table.columns)
    ]


def _rich_cell(cell: Cell) -> Text:
    return Text.assemble(cell.number, (f"\n{cell.interval}", "dim") if cell.interval else "")


def _latex_line(texts: Sequence[str], cells: Sequence[Cell] = ()) -> str:
    """A line of the tabular; a cell's interval follows its number, small."""
    intervals = ("", *(cell.interval for cell in cells))
    shown = [
        latex(text) + (f" {{\\scriptsize {interval}}}" if interval else "")
        for text, interval in zip_longest(texts, intervals, fillvalue="")
    ]
    return " & ".join(shown) + " \\\\"
