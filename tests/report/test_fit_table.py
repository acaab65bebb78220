"""Tables fit the terminal: no word of a heading or cell is broken, whatever the width."""

import io
import re

import pytest
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
