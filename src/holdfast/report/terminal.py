"""What a terminal shows besides tables: histograms in block characters, and samples with their text withheld."""

import hashlib
from collections.abc import Mapping, Sequence

import numpy as np
from rich.table import Table
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
