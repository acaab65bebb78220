"""The report as one HTML page that needs nothing else: no network, no fonts, no files beside it."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from jinja2 import Environment, PackageLoader, StrictUndefined, Template
from markupsafe import Markup

from holdfast.escaping import printable
from holdfast.files import write_text
from holdfast.report.table import TableData


@dataclass(frozen=True, slots=True)
class Sample:
    """A prompt and what a model answered, with a label such as the method's name."""

    prompt: str
    answer: str
    label: str = ""


@dataclass(frozen=True, slots=True)
class Section:
    """A part of the page: a heading, paragraphs, and what they are about, in this order.

    All text is escaped. A `Markup` is trusted and embedded as it is: plots come as such (report/plots.py), and a
    paragraph with a link may be one. Samples stay closed behind a warning until the reader opens them.
    """

    heading: str
    prose: Sequence[str] = ()
    table: TableData | None = None
    plots: Sequence[Markup] = ()
    samples: Sequence[Sample] = ()


def write_report(path: Path, *, title: str, intro: Sequence[str], sections: Sequence[Section]) -> None:
    """Write the page, replacing the file in one step; the same arguments give the same bytes."""
    page = _template().render(title=title, intro=intro, sections=sections)
    # A model may generate half of a surrogate pair, which UTF-8 cannot hold: show it as a question mark.
    write_text(path, page, errors="replace")


@cache
def _template() -> Template:
    environment = Environment(
        loader=PackageLoader("holdfast.report", package_path="."),
        autoescape=True,
        finalize=_printable,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template("page.html.jinja")


def _printable(value: object) -> object:
    """Show control and invisible characters of a text as escapes, half a surrogate pair as a question mark.

    A `Markup` is ours and stays.
    """
    if not isinstance(value, str) or isinstance(value, Markup):
        return value
    return printable(value.encode("utf-8", "replace").decode())
