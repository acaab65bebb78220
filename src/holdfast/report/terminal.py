"""What a terminal shows besides tables: histograms in block characters, and samples with their text withheld."""

import hashlib
from collections.abc import Callable, Mapping, Sequence

import numpy as np
from rich.cells import cell_len
from rich.console import RenderableType
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


def fit_table(table: Table, width: int) -> list[Table | Text]:
    """Return the table in one or more parts, none wider than `width` and none with a word broken over lines.

    Columns that do not fit stand in further parts, beside the columns that name the row again. Where not even one fits
    beside those, each row becomes lines of headings and values. A single word longer than `width` is never broken:
    its line runs over.
    """
    if not table.columns:
        return [table]
    keys = _key_columns(table)
    words = [_longest(column, str.split) for column in table.columns]
    whole = [
        _longest(column, str.splitlines) if _stays_whole(column) else words[i]
        for i, column in enumerate(table.columns)
    ]
    for needed in (whole, words):
        parts = _parts(table, keys, needed, width)
        if parts is not None:
            return [_with_columns(table, part, needed, width, last=part is parts[-1]) for part in parts]
    return _records(table, keys, width)


def _key_columns(table: Table) -> list[int]:
    """Return the columns that name the row: those on the left before the first number."""
    numbers = next((index for index, column in enumerate(table.columns) if column.justify == "right"), 0)
    return list(range(numbers or 1))


def _stays_whole(column: Column) -> bool:
    return column.no_wrap or column.justify == "right"  # numbers: an interval is read with its number


def _longest(column: Column, split: Callable[[str], list[str]]) -> int:
    """Return the width of the longest part of any cell; a heading may be wrapped between words in any case."""
    parts = [*_plain(column.header).split(), *(part for cell in column.cells for part in split(_plain(cell)))]
    return max((cell_len(part) for part in parts), default=0) or 1


def _parts(table: Table, keys: list[int], needed: Sequence[int], width: int) -> list[list[int]] | None:
    """Return the columns of each part; None where some column does not fit beside the keys."""

    def fits(chosen: Sequence[int]) -> bool:
        return sum(needed[index] for index in chosen) + _frame(table, len(chosen)) <= width

    titles = " ".join(map(_plain, (table.title or "", table.caption or ""))).split()
    if max(map(cell_len, titles), default=0) > width or not fits(keys):
        return None
    parts = [keys]
    for index in range(len(keys), len(table.columns)):
        if fits([*parts[-1], index]):
            parts[-1] = [*parts[-1], index]
        elif fits([*keys, index]):
            parts.append([*keys, index])
        else:
            return None
    return parts[1:] if parts[0] == keys and len(parts) > 1 else parts


def _frame(table: Table, columns: int) -> int:
    """Return what a table is wider than its columns' texts: padding, dividers and edges."""
    _, right, _, left = table.padding
    dividers = 0 if table.box is None else columns - 1 + 2 * table.show_edge
    return columns * (left + right) + dividers


def _with_columns(table: Table, chosen: Sequence[int], needed: Sequence[int], width: int, *, last: bool) -> Table:
    captions = [table.title or "", (table.caption or "") if last else ""]
    part = Table(
        title=table.title if 0 in chosen else None,
        caption=table.caption if last else None,
        box=table.box,
        padding=table.padding,
        pad_edge=table.pad_edge,
        show_header=table.show_header,
        show_edge=table.show_edge,
        show_lines=table.show_lines,
        header_style=table.header_style,
        title_justify=table.title_justify,
        caption_justify=table.caption_justify,
        min_width=max((cell_len(word) for text in captions for word in _plain(text).split()), default=0) or None,
    )
    wanted = [_longest(table.columns[index], str.splitlines) for index in chosen]
    wanted = [
        max(each, _lines_width(table.columns[index].header)) for each, index in zip(wanted, chosen, strict=True)
    ]
    widths = _shared([needed[index] for index in chosen], wanted, width - _frame(table, len(chosen)))
    for index, chosen_width in zip(chosen, widths, strict=True):
        column = table.columns[index]
        part.add_column(
            column.header, justify=column.justify, style=column.style, width=chosen_width, overflow="fold"
        )
    for row, cells in zip(table.rows, _rows(table), strict=True):
        part.add_row(*(cells[index] for index in chosen), style=row.style, end_section=row.end_section)
    return part


def _shared(needed: Sequence[int], wanted: Sequence[int], width: int) -> list[int]:
    """Return the columns' widths: what each needs, and of the rest what each could use, narrow columns first."""
    widths = list(needed)
    left = width - sum(widths)
    by_want = sorted(range(len(widths)), key=lambda index: wanted[index] - needed[index])
    for position, index in enumerate(by_want):
        more = min(max(0, wanted[index] - needed[index]), left // (len(by_want) - position))
        widths[index] += more
        left -= more
    return widths


def _records(table: Table, keys: Sequence[int], width: int) -> list[Table | Text]:
    """Return each row as lines of headings and values, wrapped between words."""
    lines = _wrapped(_plain(table.title), width) if table.title else []
    above: dict[int, str] = {}
    for cells in _rows(table):
        shown = {index: " ".join(_plain(cell).split()) for index, cell in enumerate(cells)}
        if any(shown[index] for index in keys):  # a key left blank is that of the row above
            first = next(index for index in keys if shown[index])
            shown |= {index: above.get(index, "") for index in keys if index < first}
        above = shown
        for index, value in shown.items():
            heading = " ".join(_plain(table.columns[index].header).split())
            if value:
                lines += _wrapped(f"{heading}: {value}" if heading else value, width)
        lines.append("")
    if table.caption:
        lines += _wrapped(_plain(table.caption), width)
    return [Text("\n".join(lines), no_wrap=True, overflow="ignore")]


def _wrapped(text: str, width: int) -> list[str]:
    """Return lines of at most `width` characters, or of one word that is longer."""
    lines: list[str] = []
    for word in text.split():
        if lines and cell_len(lines[-1]) + 1 + cell_len(word) <= width:
            lines[-1] += f" {word}"
        else:
            lines.append(word)
    return lines


def _rows(table: Table) -> list[tuple[RenderableType, ...]]:
    return list(zip(*(tuple(column.cells) for column in table.columns), strict=True))


def _lines_width(cell: object) -> int:
    return max(map(cell_len, _plain(cell).splitlines()), default=0)


def _plain(cell: object) -> str:
    return cell.plain if isinstance(cell, Text) else str(cell)
