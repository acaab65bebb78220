"""What a terminal shows besides tables: histograms in block characters, and samples with their text withheld."""

import hashlib
from collections.abc import Mapping, Sequence

import numpy as np
from rich.cells import cell_len
from rich.table import Column, Table
from rich.text import Text

from holdfast.escaping import printable

_EIGHTHS = " ▏▎▍▌▋▊▉"
_STYLES = ("bright_red", "bright_blue", "bright_green", "bright_magenta")


def histogram(series: Mapping[str, Sequence[float]], *, bins: int = 16, width: int = 28) -> Table:
    """Histograms of several sets (flagged, unflagged) side by side over the same bins and to the same scale.

    `width` is the length of the longest bar in characters. A count stands beside its bar, so colour says nothing
    that the text does not.
    """
    pooled = np.concatenate([np.asarray(values, dtype=float) for values in series.values()])
    if pooled.size == 0:
        raise ValueError("a histogram needs at least one value")
    edges = np.histogram_bin_edges(pooled, bins=bins)
    counts = {name: np.histogram(values, bins=edges)[0] for name, values in series.items()}
    highest = max(int(column.max()) for column in counts.values())

    drawn = Table(box=None, pad_edge=False, header_style="bold")
    drawn.add_column("from", justify="right")
    for name, values in series.items():
        drawn.add_column(Text(f"{name} ({len(values):,})"))
    for index in range(bins):
        bars = [
            _bar(int(column[index]), highest, width, _STYLES[position % len(_STYLES)])
            for position, column in enumerate(counts.values())
        ]
        drawn.add_row(f"{edges[index]:+.3g}", *bars)
    drawn.add_row(f"{edges[-1]:+.3g}")  # where the last bin ends
    return drawn


def redact(text: str, show: bool) -> str:
    """The printable text, or unless it is to be shown its length and fingerprint, which tell two texts apart.

    The result has square brackets: print it through rich.text.Text, or rich takes it for markup.
    """
    if show:
        return printable(text)
    fingerprint = hashlib.sha256(text.encode("utf-8", errors="surrogatepass")).hexdigest()[:8]
    return f"[redacted, {len(text):,} character{'' if len(text) == 1 else 's'}, sha {fingerprint}]"


def _bar(count: int, highest: int, width: int, style: str) -> Text:
    """A bar to an eighth of a character, at least an eighth long for any count above zero, with the count."""
    if count == 0:
        return Text("")
    full, rest = divmod(max(1, round(count / highest * width * 8)), 8)
    bar = "█" * full + (_EIGHTHS[rest] if rest else "")
    return Text.assemble((bar, style), f" {count:,}")


def fit_table(table: Table, width: int) -> list[Table]:
    """Return the table in one or more parts, none wider than `width` and none with a word broken over lines.

    Columns that do not fit stand in further parts, under the first column again. Where not even two columns fit, each
    row becomes a block of headings and values. A single word longer than `width` stays whole and runs over.
    """
    needed = [_longest_word(column) for column in table.columns]
    gap = 3 if table.box is not None else 2  # padding on both sides, and the box's divider

    def total(columns: Sequence[int]) -> int:
        return sum(needed[index] + gap for index in columns)

    everything = range(len(needed))
    if not needed or total(everything) <= width:
        return [_with_columns(table, everything, needed)]
    first, *others = everything
    if any(total((first, index)) > width for index in others):
        return [_records(table)]
    parts: list[list[int]] = [[first]]
    for index in others:
        if total((*parts[-1], index)) > width:
            parts.append([first])
        parts[-1].append(index)
    return [_with_columns(table, part, needed) for part in parts]


def _with_columns(table: Table, chosen: Sequence[int], needed: Sequence[int]) -> Table:
    part = Table(
        title=table.title if 1 in chosen or len(table.columns) == 1 else None,
        caption=table.caption if len(table.columns) - 1 in chosen else None,
        box=table.box,
        pad_edge=table.pad_edge,
        show_header=table.show_header,
        header_style=table.header_style,
        title_justify=table.title_justify,
        caption_justify=table.caption_justify,
    )
    for index in chosen:
        column = table.columns[index]
        part.add_column(
            column.header,
            justify=column.justify,
            style=column.style,
            min_width=needed[index],
            overflow="fold",  # never needed: the longest word fits
        )
    for row, cells in enumerate(zip(*(tuple(table.columns[index].cells) for index in chosen), strict=True)):
        part.add_row(*cells, style=table.rows[row].style, end_section=table.rows[row].end_section)
    return part


def _records(table: Table) -> Table:
    """Return the table as one column: for each row its headings and values, line by line."""
    blocks = Table(title=table.title, caption=table.caption, box=None, show_header=False, caption_justify="left")
    blocks.add_column(overflow="fold")
    for cells in zip(*(tuple(column.cells) for column in table.columns), strict=True):
        for column, cell in zip(table.columns, cells, strict=True):
            heading, value = _plain(column.header), _plain(cell)
            blocks.add_row(f"{heading}: {value}" if heading else value)
        blocks.add_row("")
    return blocks


def _longest_word(column: Column) -> int:
    words = [word for cell in (column.header, *column.cells) for word in _plain(cell).split()]
    unbroken = [_plain(cell) for cell in column.cells] if column.no_wrap else []
    return max((cell_len(text) for text in (*words, *unbroken)), default=1)


def _plain(cell: object) -> str:
    return cell.plain if isinstance(cell, Text) else str(cell)
