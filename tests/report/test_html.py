import re
from html.parser import HTMLParser

import pytest
from markupsafe import Markup

from holdfast.report.html import Sample, Section, write_report
from holdfast.report.plots import grouped_bars
from holdfast.report.table import Cell, Column, Row, TableData

EVIL = "<script>alert(1)</script><img src=x onerror=alert(2)>\"'>&"


class Page(HTMLParser):
    """Tags, attributes and text of a page; every opened element must be closed in order."""

    VOID = frozenset({"meta", "img", "br", "link"})

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.words: dict[str, list[str]] = {}
        self.feed(text)
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open and data.strip():
            self.words.setdefault(self.open[-1], []).append(data)

    def attributes(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.tags if name == tag]


def plot(title: str = "Refusals") -> Markup:
    return grouped_bars(["near"], ["SFT"], [[0.5]], None, "refusal rate", title)


def table(text: str = "SFT", caption: str = "over 4 seeds") -> TableData:
    cells = (Cell(0.914, 0.85, 0.95, 40), Cell())
    return TableData(text, (Column("a", text, True), Column("b", "Rouge")), (Row(text, cells),), caption)


def page(tmp_path, title="Title", intro=("Intro",), sections=()) -> str:
    path = tmp_path / "runs" / "index.html"
    write_report(path, title=title, intro=intro, sections=sections)
    return path.read_text(encoding="utf-8")


def full(text: str = "text") -> dict:
    sections = [
        Section(text, [text], table(text, text), [plot(text)], [Sample(text, text, text)]),
        Section("Two", ["words"], samples=[Sample("p", "a"), Sample("q", "b")]),
        Section("Three"),
    ]
    return {"title": text, "intro": [text], "sections": sections}


def test_every_text_field_stays_inert(tmp_path):
    tame, wild = Page(page(tmp_path, **full())), Page(page(tmp_path, **full(EVIL)))
    assert [tag for tag, _ in wild.tags] == [tag for tag, _ in tame.tags]
    assert len(wild.attributes("script")) == 1  # the page's own
    handlers = [name for _, attributes in wild.tags for name in attributes if name.startswith("on")]
    assert handlers == []
    for tag in ("title", "h1", "h2", "p", "dd"):
        assert "".join(wild.words[tag]).count(EVIL) >= 1


def test_a_plot_that_is_a_plain_string_is_escaped(tmp_path):
    text = page(tmp_path, sections=[Section("S", plots=["<svg onload=alert(1)></svg>"])])
    assert "<svg" not in text
    assert "&lt;svg onload" in text


def test_markup_is_embedded_as_it_is(tmp_path):
    link = Markup('see <a href="https://arxiv.org/abs/2502.20968">the paper</a>')
    parsed = Page(page(tmp_path, intro=[link], sections=[Section("S", plots=[plot()])]))
    assert parsed.attributes("a") == [{"href": "https://arxiv.org/abs/2502.20968"}]
    assert parsed.attributes("svg")[0]["aria-label"].startswith("Refusals. Bar chart of refusal rate")


def test_nothing_is_loaded_from_anywhere(tmp_path):
    text = page(tmp_path, **full())
    parsed = Page(text)
    assert parsed.attributes("link") == parsed.attributes("img") == parsed.attributes("iframe") == []
    for tag, attributes in parsed.tags:
        assert "src" not in attributes
        assert (attributes.get("href") or "#").startswith("#"), tag
    assert set(re.findall(r"https?://[^\"'\s<]*", text)) == {"http://www.w3.org/2000/svg"}
    assert "@import" not in text
    policies = [
        a["content"] for a in parsed.attributes("meta") if a.get("http-equiv") == "Content-Security-Policy"
    ]
    assert policies == ["default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'"]


def test_the_same_bytes_twice_and_no_file_beside(tmp_path):
    first = page(tmp_path, **full())
    assert page(tmp_path, **full()) == first
    assert [child.name for child in (tmp_path / "runs").iterdir()] == ["index.html"]


def test_table_cells(tmp_path):
    text = page(tmp_path, sections=[Section("S", table=table())])
    assert '<td data-value="0.914" title="n = 40">0.91 <span class="interval">[0.85, 0.95]</span></td>' in text
    assert '<td class="missing"><span role="img" aria-label="not measured">–</span></td>' in text
    assert '<button type="button">SFT ↑</button>' in text
    assert '<th scope="row">SFT</th>' in text
    assert "over 4 seeds" in Page(text).words["span"]


def test_samples_are_closed_behind_a_warning(tmp_path):
    parsed = Page(page(tmp_path, sections=[Section("S", samples=[Sample("asked", "said", "SFT")])]))
    assert parsed.attributes("details") == [{}]  # no `open`
    assert " ".join(parsed.words["summary"]).split() == ["Show", "1", "sample"]
    assert parsed.words["small"][0].startswith("Content warning")
    assert (parsed.words["dt"], parsed.words["dd"]) == (["Prompt", "Answer, SFT"], ["asked", "said"])


def test_what_a_section_lacks_is_not_drawn(tmp_path):
    parsed = Page(page(tmp_path, sections=[Section("Only words", ["Here."])]))
    assert {"table", "figure", "details", "nav"}.isdisjoint(tag for tag, _ in parsed.tags)


def test_accessible_structure(tmp_path):
    parsed = Page(page(tmp_path, **full()))
    assert parsed.attributes("html") == [{"lang": "en"}]
    headings = [tag for tag, _ in parsed.tags if re.fullmatch(r"h\d", tag)]
    assert headings == ["h1", "h2", "h2", "h2"]
    assert all(svg["role"] == "img" and svg["aria-label"] for svg in parsed.attributes("svg"))
    ids = [attributes["id"] for _, attributes in parsed.tags if "id" in attributes]
    assert len(ids) == len(set(ids))
    targets = [a["href"].removeprefix("#") for a in parsed.attributes("a")]
    assert targets == ["section-1", "section-2", "section-3"]
    assert set(targets) | {s["aria-labelledby"] for s in parsed.attributes("section")} <= set(ids)


def test_generated_text_that_is_not_unicode_still_makes_a_page(tmp_path):
    assert "half ?" in page(tmp_path, sections=[Section("S", samples=[Sample("p", "half \ud83d")])])


def _luminance(colour: str) -> float:
    channels = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def _contrast(one: str, other: str) -> float:
    low, high = sorted([_luminance(one), _luminance(other)])
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize("mode", [0, 1], ids=["light", "dark"])
def test_contrast_in_both_modes(tmp_path, mode):
    blocks = re.findall(r":root \{(.*?)\}", page(tmp_path), flags=re.DOTALL)
    colours = dict(re.findall(r"--([\w-]+): (#[0-9a-f]{6})", blocks[mode]))
    for text in ("ink", "soft", "accent"):  # WCAG 2: 4.5 for text, 3 for marks
        assert _contrast(colours[text], colours["paper"]) >= 4.5
        assert _contrast(colours[text], colours["raised"]) >= 4.5
    for number in range(1, 8):
        assert _contrast(colours[f"series-{number}"], colours["paper"]) >= 3


def test_control_characters_are_shown_as_escapes(tmp_path):
    name = "a\x1b[31m\x00\u202eb"
    sections = [Section(name, (name,), samples=[Sample(name, name, name)])]
    write_report(tmp_path / "page.html", title=name, intro=[name], sections=sections)
    page = (tmp_path / "page.html").read_text(encoding="utf-8")
    assert page.count("a\\x1b[31m\\x00\\u202eb") >= 7
    assert all(character.isprintable() or character in "\n\t" for character in page)
