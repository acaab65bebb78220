"""Tables fit the terminal: no word of a heading or cell is broken, whatever the width."""

import io
import re

import pytest
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from holdfast.recipes import terminal
from holdfast.recipes.terminal import SafeConsole
from holdfast.report.terminal import fit_table

HEADINGS = ("Benchmark", "attack success", "over-refusal", "Rouge-L", "unscored")
ROWS = [
    ("MultiJail, Swahili", "0.37 [0.32, 0.42]", "0.04 [0.03, 0.05]", "0.98", "0"),
    ("AdvBench-X", "0.55 [0.53, 0.56]", "0.02 [0.01, 0.03]", "0.99", "12"),
]


def table() -> Table:
    made = Table(*HEADINGS, title="Verdicts", caption="share of the scored completions")
    for row in ROWS:
        made.add_row(*row)
    return made


def printed(width: int, parts) -> str:
    file = io.StringIO()
    console = Console(file=file, width=width)
    for part in parts:
        console.print(part)
    return file.getvalue()


@pytest.mark.parametrize("width", [20, 30, 40, 60, 80, 120])
def test_every_word_is_whole_and_no_line_is_wider(width):
    text = printed(width, fit_table(table(), width))
    words = set(re.findall(r"[^\s│┃]+", text))
    for cell in (*HEADINGS, *(cell for row in ROWS for cell in row)):
        assert set(cell.split()) <= {word.rstrip(":") for word in words} | words, f"{cell!r} at {width} columns"
    assert max(map(len, text.splitlines())) <= width


def test_a_wide_terminal_changes_nothing():
    assert len(fit_table(table(), 120)) == 1
    assert len(fit_table(table(), 50)) > 1


def test_the_first_column_stands_in_every_part():
    for part in fit_table(table(), 50):
        assert part.columns[0].header == "Benchmark"


def test_a_file_gets_whole_lines_and_no_colours(monkeypatch):
    monkeypatch.delenv("COLUMNS", raising=False)
    file = io.StringIO()
    SafeConsole(file=file).print(table())
    assert "\x1b" not in file.getvalue()
    assert any(all(heading in line for heading in HEADINGS) for line in file.getvalue().splitlines())


def test_progress_in_a_pipe_is_a_plain_line_now_and_then(monkeypatch, capsys):
    monkeypatch.setattr(terminal, "SECONDS_BETWEEN_LINES", 0.0)
    with terminal.progress_bar("scoring rows") as show:
        show(1, 4)
        show(2, 4)
    lines = capsys.readouterr().err.splitlines()
    assert lines == ["scoring rows: 1 of 4", "scoring rows: 2 of 4"]


@pytest.mark.parametrize("width", [20, 40, 60, 80, 160])
def test_a_console_cuts_no_cell_and_no_number(width):
    """Cells of several words, several columns that name the row, and a word longer than the terminal."""
    made = Table("Benchmark", "Wrapper", title="Comparison of two evaluations of one model", box=SIMPLE_HEAD)
    for heading in ("base", "tuned", "difference", "p"):
        made.add_column(heading, justify="right", no_wrap=True)
    path = "/home/somebody/evaluations/of-a-long-name/model"
    made.add_row("AdvBench-X", "none", "0.37 [0.32, 0.42]", "0.41 [0.33, 0.49]", "+0.04 [0.00, 0.08]", ".031")
    made.add_row(path, "code wrapping", "0.25 [0.22, 0.29]", "0.51 [0.43, 0.59]", "+0.26 [0.20, 0.32]", ".002")
    file = io.StringIO()
    SafeConsole(file=file, width=width, markup=False, emoji=False, force_terminal=True, color_system=None).print(
        made
    )
    shown = re.findall(r"[^\s:]+", re.sub(r"\x1b\[[0-9;]*m", "", file.getvalue()))
    cells = [cell for column in made.columns for cell in (column.header, *column.cells)]
    words = {word for cell in cells for word in cell.split()}
    assert words <= set(shown), words - set(shown)


def test_every_part_says_whose_row_it_is():
    made = Table("Benchmark", "Metric")
    for heading in ("base", "tuned"):
        made.add_column(heading, justify="right")
    made.add_row("XSTest", "refusals", "0.37 [0.32, 0.42]", "0.41 [0.33, 0.49]")
    made.add_row("", "harm", "0.25 [0.22, 0.29]", "0.51 [0.43, 0.59]")  # blank: as above
    parts = fit_table(made, 50)
    assert [[column.header for column in part.columns] for part in parts] == [
        ["Benchmark", "Metric", "base"],
        ["Benchmark", "Metric", "tuned"],
    ]
    (records,) = fit_table(made, 30)
    assert records.plain.count("Benchmark: XSTest") == 2
