"""Plots as inline SVG: the same bytes every time, and colours that follow the page into dark mode.

Every function returns a `Markup`, which the page's template embeds as it is (plain strings it escapes). Colours
are drawn with stand-ins and then swapped for the page's CSS variables, with a fallback for use elsewhere.
"""

import hashlib
import io
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import cycle
from typing import TYPE_CHECKING, Any
from xml.etree import ElementTree

from markupsafe import Markup

from holdfast.escaping import one_line
from holdfast.results import Figure

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure as Canvas

Bounds = tuple[float, float]  # low, high

# Stand-in -> what the page shows. The fallbacks are Okabe and Ito's palette, safe for the colour-blind; the page
# gives each series two shades, for a contrast of 3:1 or more on white and on near-black.
_INK, _RULE = "#010203", "#040506"
_SERIES = {
    "#0a0001": "var(--series-1, #0072b2)",
    "#0a0002": "var(--series-2, #d55e00)",
    "#0a0003": "var(--series-3, #009e73)",
    "#0a0004": "var(--series-4, #cc79a7)",
    "#0a0005": "var(--series-5, #e69f00)",
    "#0a0006": "var(--series-6, #56b4e9)",
    "#0a0007": "var(--series-7, #7f7f7f)",
}
_COLOURS = {_INK: "currentColor", _RULE: "var(--rule, #c8ccd0)"} | _SERIES
_STAND_IN = re.compile("|".join(_COLOURS))

_SVG, _XLINK = "{http://www.w3.org/2000/svg}", "{http://www.w3.org/1999/xlink}"

_STYLE: dict[Any, Any] = {
    "svg.fonttype": "none",  # text stays text: it takes the page's font, can be selected and read aloud
    "svg.hashsalt": "holdfast",
    "font.size": 11,
    "text.color": _INK,
    "axes.labelcolor": _INK,
    "axes.edgecolor": _RULE,
    "axes.facecolor": "none",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.spines.left": False,
    "axes.axisbelow": True,
    "xtick.color": _RULE,
    "ytick.color": _RULE,
    "xtick.labelcolor": _INK,
    "ytick.labelcolor": _INK,
    "ytick.major.size": 0,
    "grid.color": _RULE,
    "grid.linewidth": 0.6,
    "legend.frameon": False,
    "text.parse_math": False,  # a dollar sign in a label is a dollar sign
}


def grouped_bars(
    groups: Sequence[str],
    series: Sequence[str],
    values: Sequence[Sequence[float | None]],
    intervals: Sequence[Sequence[Bounds | None]] | None,
    ylabel: str,
    title: str,
) -> Markup:
    """One cluster of bars per group, one bar per series; values[i][j] and intervals[i][j] are series i, group j.

    A missing value leaves a gap with a dash, so that it does not look like a zero.
    """
    groups, series, title = (
        [one_line(name) for name in groups],
        [one_line(name) for name in series],
        one_line(title),
    )
    with _style():
        figure, axes = _figure(7.2, 3.6)
        width = 0.8 / len(series)
        for i, (name, colour) in enumerate(zip(series, cycle(_SERIES), strict=False)):
            places = [j + (i - (len(series) - 1) / 2) * width for j in range(len(groups))]
            heights = [0.0 if value is None else value for value in values[i]]
            axes.bar(places, heights, 0.88 * width, color=colour, label=_plain(name))
            for j, place in enumerate(places):
                if values[i][j] is None:
                    axes.text(place, 0, "–", ha="center", va="bottom")
                elif intervals is not None and (bounds := intervals[i][j]) is not None:
                    axes.plot([place, place], bounds, color=_INK, linewidth=1.2, solid_capstyle="butt")
        axes.set_xticks(range(len(groups)), groups)
        axes.tick_params(axis="x", length=0)
        axes.set_ylabel(one_line(ylabel))
        axes.grid(axis="y")
        _head(axes, title)
        return _svg(figure, title, f"Bar chart of {ylabel}: {', '.join(series)}, for {', '.join(groups)}.")


def figure_bars(
    groups: Sequence[str],
    series: Sequence[str],
    figures: Sequence[Sequence[Figure | None]],
    ylabel: str,
    title: str,
) -> Markup:
    """`grouped_bars` of measured figures with their intervals; figures[i][j] is series i, group j."""
    return grouped_bars(
        groups,
        series,
        [[figure.value if figure else None for figure in row] for row in figures],
        [[figure.interval if figure else None for figure in row] for row in figures],
        ylabel,
        title,
    )


MOST_LABELS = 10  # beside their dots; with more they would lie over each other


def scatter(
    points: Sequence[tuple[float, float]], labels: Sequence[str], xlabel: str, ylabel: str, title: str = ""
) -> Markup:
    """One labelled dot per point (x, y); an empty label draws the dot alone.

    Where there are more than MOST_LABELS, dots carry numbers, and a list beside the plot says whose they are.
    """
    labels, title = [one_line(label) for label in labels], one_line(title)
    crowded = sum(map(bool, labels)) > MOST_LABELS
    with _style():
        figure, axes = _figure(9.4 if crowded else 7.2, 4.6 if crowded else 4.2)
        axes.scatter([x for x, _ in points], [y for _, y in points], s=42, color=next(iter(_SERIES)), linewidths=0)
        axes.margins(0.12)
        axes.set_xlabel(one_line(xlabel))
        axes.set_ylabel(one_line(ylabel))
        axes.grid()
        _head(axes, title)
        if crowded:
            labels = _numbered(axes, labels)
        _label_points(figure, axes, points, labels)
        return _svg(figure, title, f"Scatter plot of {ylabel} against {xlabel}, {len(points)} points.")


def score_histogram(
    series: Mapping[str, Sequence[float]], xlabel: str, title: str = "", *, bins: int = 40
) -> Markup:
    """Overlaid histograms of several sets of scores (flagged, unflagged), over the same bins."""
    import numpy as np

    series, title = {one_line(name): values for name, values in series.items()}, one_line(title)
    with _style():
        figure, axes = _figure(7.2, 3.2)
        edges = np.histogram_bin_edges(np.concatenate([np.asarray(v, float) for v in series.values()]), bins=bins)
        for (name, values), colour in zip(series.items(), cycle(_SERIES), strict=False):
            counts, _ = np.histogram(values, bins=edges)
            axes.stairs(counts, edges, fill=True, color=colour, alpha=0.3)
            axes.stairs(counts, edges, color=colour, linewidth=1.6, label=_plain(f"{name} ({len(values):,})"))
        axes.set_xlabel(one_line(xlabel))
        axes.set_ylabel("rows")
        axes.grid(axis="y")
        _head(axes, title)
        sizes = ", ".join(f"{len(values):,} {name}" for name, values in series.items())
        return _svg(figure, title, f"Histogram of {xlabel}: {sizes}.")


@contextmanager
def _style() -> Iterator[None]:
    """Our style on matplotlib's defaults, whatever the user's matplotlibrc says; theirs comes back afterwards."""
    import matplotlib as mpl  # here, as everywhere in this file: it takes half a second

    with mpl.rc_context():
        mpl.rcdefaults()
        mpl.rcParams.update(_STYLE)
        yield


def _figure(width_inches: float, height_inches: float) -> tuple["Canvas", "Axes"]:
    """A figure of its own: no pyplot, so no window system and nothing shared between calls."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width_inches, height_inches), dpi=72, layout="constrained")  # a point is a unit
    return figure, figure.add_subplot()


def _head(axes: "Axes", title: str) -> None:
    """Title and, where there are labelled series, a legend above the plot; both flush left."""
    handles, names = axes.get_legend_handles_labels()
    columns = min(len(names), 4)
    if names:
        # matplotlib fills a legend column by column; people read it line by line
        order = [index for column in range(columns) for index in range(column, len(names), columns)]
        axes.legend(
            [handles[index] for index in order],
            [names[index] for index in order],
            loc="lower left",
            bbox_to_anchor=(0, 1.02),
            borderaxespad=0,
            borderpad=0,
            ncols=columns,
            handlelength=0.9,
            handleheight=0.9,
        )
    legend_lines = -(-len(names) // 4)
    axes.set_title(title, loc="left", fontsize=12.5, fontweight="bold", pad=10 + 19 * legend_lines)


def _numbered(axes: "Axes", labels: Sequence[str]) -> list[str]:
    """List the labels by number to the right of the plot; what the dots carry in their place."""
    named = [label for label in labels if label]
    numbers = {label: str(number) for number, label in enumerate(named, start=1)}
    lines = "\n".join(f"{numbers[label]:>2}  {label}" for label in named)
    axes.annotate(
        lines, (1, 1), (14, 0), xycoords="axes fraction", textcoords="offset points", va="top", fontsize=9
    )
    return [numbers.get(label, "") for label in labels]


def _label_points(
    figure: "Canvas", axes: "Axes", points: Sequence[tuple[float, float]], labels: Sequence[str]
) -> None:
    """Write each label at the first of four corners of its dot where it meets no other label and no dot."""
    from matplotlib.transforms import Bbox

    figure.draw_without_rendering()  # settles the layout, so that positions are known
    dots = axes.transData.transform(points)
    taken = [Bbox.from_extents(x - 4, y - 4, x + 4, y + 4) for x, y in dots]
    for (x, y), point, label in zip(dots, points, labels, strict=True):
        if not label:
            continue
        width, height = 6.0 * len(label), 11.0  # of the text, near enough
        corners = [(6, 3, "left"), (6, -11, "left"), (-6, 3, "right"), (-6, -11, "right")]
        boxes = [
            Bbox.from_bounds(x + dx - (width if side == "right" else 0), y + dy, width, height)
            for dx, dy, side in corners
        ]
        free = (index for index, box in enumerate(boxes) if box.count_overlaps(taken) == 0)
        chosen = next(free, 0)
        taken.append(boxes[chosen])
        dx, dy, side = corners[chosen]
        axes.annotate(label, point, (dx, dy), textcoords="offset points", fontsize=9.5, ha=side, in_layout=False)


def _plain(label: str) -> str:
    """A legend label as it stands: matplotlib leaves out those that begin with an underscore."""
    return f"\u200b{label}" if label.startswith("_") else label


def _svg(figure: "Canvas", title: str, description: str) -> Markup:
    """The figure as one SVG element that can share a page: named for screen readers, sized and coloured by the page."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    root = ElementTree.fromstring(buffer.getvalue())
    for child in list(root):
        if child.tag == f"{_SVG}metadata" or child.find(f"{_SVG}style") is not None:
            root.remove(child)  # addresses, and a style sheet that would apply to the whole page
    prefix = "p" + hashlib.sha256(title.encode() + buffer.getvalue()).hexdigest()[:8] + "-"  # ids unique in a page
    for element in root.iter():
        element.tag = element.tag.removeprefix(_SVG)
        element.attrib = {
            name.removeprefix(_XLINK): _adapted(name, value, prefix) for name, value in element.attrib.items()
        }
    root.attrib = {
        "xmlns": _SVG[1:-1],
        "viewBox": root.attrib["viewBox"],  # and no width or height
        "class": "plot",
        "role": "img",
        "aria-label": one_line(f"{title}. {description}" if title else description),
        "style": "stroke-linejoin: round; stroke-linecap: butt",
    }
    return Markup(ElementTree.tostring(root, encoding="unicode"))


def _adapted(name: str, value: str, prefix: str) -> str:
    """An attribute with ids made unique, stand-ins turned into the page's colours and the font left to the page."""
    if name == "id":
        return prefix + value
    if name == f"{_XLINK}href":
        return value.replace("#", f"#{prefix}")
    if name == "clip-path":
        return value.replace("url(#", f"url(#{prefix}")
    if name == "style":
        value = re.sub(r"font-family: [^;]*; ?", "", value)
        return _STAND_IN.sub(lambda match: _COLOURS[match[0]], value)
    return value
