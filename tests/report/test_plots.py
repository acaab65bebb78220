import re
from xml.etree import ElementTree

import matplotlib
import pytest

from holdfast.report.plots import grouped_bars, scatter, score_histogram

SVG = "{http://www.w3.org/2000/svg}"
EVIL = '<script>alert("1")</script> & $x_1$'


def bars(values=((0.4, None), (0.9, 0.5)), intervals=(((0.3, 0.5), None), ((0.8, 0.95), None)), **names):
    return grouped_bars(
        names.get("groups", ["near", "far"]),
        names.get("series", ["SFT", "SaRFT"]),
        values,
        intervals,
        names.get("ylabel", "refusal rate"),
        names.get("title", "Refusals"),
    )


def dots(**names):
    return scatter(
        [(0.1, 0.9), (0.8, 0.3)],
        names.get("labels", ["Hawking", "Freddy"]),
        names.get("xlabel", "flagged"),
        names.get("ylabel", "refusals"),
        names.get("title", "Shares"),
    )


def scores(**names):
    return score_histogram(
        {names.get("series", "flagged"): [1.0, 2.0, 2.5], "unflagged": [-1.0, -2.0]},
        names.get("xlabel", "score"),
        names.get("title", "Scores"),
    )


PLOTS = {"bars": bars, "dots": dots, "scores": scores}


@pytest.fixture(params=PLOTS)
def plot(request):
    return PLOTS[request.param]


def texts(svg) -> list[str]:
    return ["".join(element.itertext()) for element in ElementTree.fromstring(svg).iter(f"{SVG}text")]


def test_the_same_bytes_every_time(plot):
    assert plot() == plot()


def test_the_users_own_style_neither_changes_a_plot_nor_is_changed(plot):
    before = plot()
    with matplotlib.rc_context({"font.size": 30, "axes.grid": True, "lines.linewidth": 9}):
        assert plot() == before
        assert matplotlib.rcParams["font.size"] == 30


def test_one_described_svg_element(plot):
    root = ElementTree.fromstring(plot())
    assert root.tag == f"{SVG}svg"
    assert root.attrib["role"] == "img"
    assert root.attrib["viewBox"].startswith("0 0 518.4 ")
    assert {"width", "height"}.isdisjoint(root.attrib)


def test_descriptions():
    labels = [ElementTree.fromstring(PLOTS[name]()).attrib["aria-label"] for name in PLOTS]
    assert labels == [
        "Refusals. Bar chart of refusal rate: SFT, SaRFT, for near, far.",
        "Shares. Scatter plot of refusals against flagged, 2 points.",
        "Scores. Histogram of score: 3 flagged, 2 unflagged.",
    ]


def test_nothing_from_outside_and_no_style_for_the_page(plot):
    svg = plot()
    assert re.findall(r"https?://[^\"]*", svg) == ["http://www.w3.org/2000/svg"]  # a name, never fetched
    assert "<style" not in svg
    assert "<metadata" not in svg
    assert "DejaVu" not in svg  # the page's font


def test_every_colour_belongs_to_the_page(plot):
    colours = set(re.findall(r"(?:fill|stroke): ([^;\"]+)", plot()))
    assert colours <= {"none", "currentColor", "var(--rule, #c8ccd0)"} | {
        colour for colour in colours if colour.startswith("var(--series-")
    }
    assert "currentColor" in colours


def test_ids_are_unique_across_the_plots_of_a_page():
    page = "".join([bars(), dots(), scores(), bars(title="another")])
    ids = re.findall(r'\bid="([^"]+)"', page)
    assert len(ids) == len(set(ids))
    references = re.findall(r"url\(#([^)]+)\)", page) + re.findall(r'href="#([^"]+)"', page)
    assert len(set(references)) >= 4
    assert set(references) <= set(ids)


def test_labels_are_text_as_given():
    shown = texts(bars(groups=[EVIL, "b"], series=["_private", "SaRFT"], ylabel="$y$", title="T $z$"))
    assert {EVIL, "b", "SaRFT", "$y$", "T $z$"} <= set(shown)
    assert "_private" in "".join(shown)


@pytest.mark.parametrize("field", ["groups", "series", "ylabel", "title", "labels", "xlabel"])
def test_text_stays_inert(plot, field):
    value = [EVIL, "b"] if field in ("groups", "labels") or (field == "series" and plot is bars) else EVIL
    svg = plot(**{field: value})
    assert "<script" not in svg
    assert [element.tag for element in ElementTree.fromstring(svg).iter() if "script" in element.tag] == []


def test_a_missing_bar_is_a_dash_not_a_zero():
    assert texts(bars()).count("–") == 1
    assert texts(bars(values=((0.4, 0.0), (0.9, 0.5)))).count("–") == 0


def test_bars_rise_in_proportion():
    svg = bars(values=((0.25, 0.5), (0.75, 1.0)), intervals=None)
    heights = []
    for element in ElementTree.fromstring(svg).iter(f"{SVG}path"):
        if "fill: var(--series-" in element.attrib.get("style", "") and "clip-path" in element.attrib:
            ys = [float(y) for y in re.findall(r"[ML] \S+ (\S+)", element.attrib["d"])]
            heights.append(max(ys) - min(ys))
    assert [height / heights[-1] for height in heights] == pytest.approx([0.25, 0.5, 0.75, 1.0], abs=1e-4)


def test_intervals_are_lines_only_where_given():
    whiskers = [svg.count("stroke: currentColor; stroke-width: 1.2") for svg in (bars(), bars(intervals=None))]
    assert whiskers == [2, 0]


def test_the_legend_reads_line_by_line():
    series = list("ABCDEF")
    svg = bars(series=series, values=[[0.1, 0.2]] * 6, intervals=None)
    places = {
        element.text: (float(element.attrib["y"]), float(element.attrib["x"]))
        for element in ElementTree.fromstring(svg).iter(f"{SVG}text")
        if element.text in series
    }
    assert sorted(places, key=lambda name: (round(places[name][0]), places[name][1])) == series


def test_labels_of_close_points_do_not_meet():
    svg = scatter([(0.5, 0.5), (0.505, 0.505), (0.1, 0.1), (0.9, 0.9)], ["one", "two", "", "far"], "x", "y")
    spans = {}
    for element in ElementTree.fromstring(svg).iter(f"{SVG}text"):
        if element.text in ("one", "two", "far"):
            x, y = float(element.attrib["x"]), float(element.attrib["y"])
            left = x - 18 if "text-anchor: end" in element.attrib["style"] else x
            spans[element.text] = (left, left + 18, y)
    assert set(spans) == {"one", "two", "far"}
    one, two = spans["one"], spans["two"]
    assert one[1] < two[0] or two[1] < one[0] or abs(one[2] - two[2]) > 10


def test_many_points_carry_numbers_and_a_list_says_whose_they_are():
    names = [f"method <{index}>" for index in range(12)]
    places = [(index / 12, (index * 5 % 12) / 12) for index in range(12)]
    said = texts(scatter(places, names, "x", "y"))
    for number, name in enumerate(names, start=1):
        assert str(number) in said  # at its dot
        assert any(text.split() == [str(number), *name.split()] for text in said)  # in the list
    assert not any("1  method" in text for text in texts(scatter(places[:2], names[:2], "x", "y")))


def test_control_characters_in_names_are_shown_and_break_no_plot():
    name = "a\x1b[31m\x00\x07b\r\n\u202e"
    for plot in (
        grouped_bars([name], [name], [[0.5]], None, name, name),
        scatter([(0.1, 0.2)], [name], name, name, name),
        score_histogram({name: [0.1, 0.2]}, name, name),
    ):
        assert "\\x1b[31m\\x00\\x07b\\r\\n\\u202e" in plot
        assert all(character.isprintable() or character in "\n\t" for character in plot)
