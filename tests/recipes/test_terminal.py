"""What is printed: no text of a file or a user controls the terminal, and none is markup."""

import io

import pytest
from rich.table import Table
from rich.text import Text

from holdfast.cli import main
from holdfast.errors import HoldfastError
from holdfast.recipes import terminal
from holdfast.recipes.terminal import SafeConsole

EVIL = "\x1b[31mRED\x1b]0;PWNED\x07\x9b8m\u202e"
SHOWN = "\\x1b[31mRED\\x1b]0;PWNED\\x07\\x9b8m\\u202e"


def printed(*renderables, **kwargs) -> str:
    console = SafeConsole(file=io.StringIO(), width=200, markup=False, emoji=False)
    for renderable in renderables:
        console.print(renderable, **kwargs)
    return console.file.getvalue()


def test_no_control_character_gets_through_a_console():
    table = Table(EVIL, title=EVIL, caption=EVIL)
    table.add_row(EVIL)
    table.add_row(Text(EVIL))
    text = printed(EVIL, Text(EVIL), table, Text(f"two\n{EVIL}"))
    assert all(character.isprintable() or character == "\n" for character in text)
    assert text.count("\\x1b[31mRED\\x1b]0;PWNED") >= 3


@pytest.mark.parametrize(
    "text", ["a[/b]", "[/]", "x[bold", "[link=file:///etc/passwd]x", ":smile:", "[red]x[/red]"]
)
def test_nothing_is_markup(text):
    table = Table("heading")
    table.add_row(text)
    assert printed(text, table).count(text) == 2


def test_a_note_is_one_line(monkeypatch):
    console = SafeConsole(file=io.StringIO(), width=200, markup=False)
    monkeypatch.setattr(terminal, "err", console)
    terminal.note(f"role {EVIL}\nholdfast: forged line")
    assert console.file.getvalue() == f"role {SHOWN}\\nholdfast: forged line\n"


def test_a_progress_bar_s_title_is_no_markup(monkeypatch):
    console = SafeConsole(file=io.StringIO(), width=200, markup=False, force_terminal=True)
    monkeypatch.setattr(terminal, "err", console)
    with terminal.progress_bar("m[/x]\x1b]0;T\x07: answers") as show:
        show(1, 2)
    assert "m[/x]\\x1b]0;T\\x07: answers" in console.file.getvalue()


def test_an_error_message_is_one_printable_line(monkeypatch, capsys):
    def fail(options):
        raise HoldfastError(f"{EVIL}\nsecond")

    monkeypatch.setattr("holdfast.recipes.compare.compare", fail)
    with pytest.raises(SystemExit) as exit:
        main(["compare", "x"])
    assert exit.value.code == 2
    assert capsys.readouterr().err == f"holdfast: {SHOWN} second\n"


@pytest.mark.parametrize("arguments", [[f"--{EVIL}"], ["--batch-size", EVIL]])
def test_an_argument_that_click_refuses_is_printable(arguments, capsys):
    with pytest.raises(SystemExit) as exit:
        main(["score", *arguments])
    assert exit.value.code == 2
    text = capsys.readouterr().err
    assert SHOWN in text
    assert all(character.isprintable() or character == "\n" for character in text)


@pytest.mark.parametrize(("table", "verb"), [("table_sarft", "sarft"), ("table_mpo", "mpo")])
@pytest.mark.parametrize(("worked", "code"), [(True, None), (False, 1)])
def test_a_table_with_a_failed_cell_ends_with_exit_code_1(table, verb, worked, code, monkeypatch, tmp_path):
    monkeypatch.setattr(f"holdfast.recipes.table.tables.{table}", lambda options: worked)
    try:
        main(["table", verb, "--output-dir", str(tmp_path)])
        ended = None
    except SystemExit as exit:
        ended = exit.code
    assert ended == code
