"""Hostile names and texts in every output format, against what a reader or a parser of the format makes of them."""

import csv
import io
import re
import sys
import unicodedata

import pytest
from markdown_it import MarkdownIt

from holdfast.escaping import csv_cell, directory_name, latex, markdown, one_line, printable

HOSTILE = [
    "<script>alert(1)</script>",
    '<img src=x onerror="alert(1)">',
    "[click](javascript:alert(1))",
    "![x](http://tracker.example/x.png)",
    "x\n# pwned\n<script>alert(1)</script>",
    "x\n\\input{/etc/passwd}\n%",
    "\\input{/etc/passwd} \\immediate\\write18{id} % $x$ & # _ ^ ~",
    "| a | b |\n|---|---|\n| 1 | 2 |",
    "`code` **bold** __bold__ ~~gone~~ $x_1$",
    "---\nlicense: evil\n---\n# pwned",
    "[id]: javascript:alert(1)",
    "&#60;script>",
    "\x1b[31mRED\x1b]0;PWNED\x07",
    "\x9b31mCSI8",
    "\u202edlrow\u202c",
    "a\x00b\x08\x7f",
    "line1\r\nline2\rline3\u2028line4",
    "\ud800",
    "- item",
    "1. item",
    "> quotation",
    "===",
]


def test_only_printable_characters_reach_a_terminal():
    escaped = {chr(code) for code in range(sys.maxunicode + 1) if printable(chr(code)) != chr(code)}
    control = {
        chr(code)
        for code in range(sys.maxunicode + 1)
        if unicodedata.category(chr(code)) in ("Cc", "Cf", "Cs", "Zl", "Zp")
    }
    joiners = set("\u200c\u200d")
    prepended = {character for character in control if "NUMBER" in unicodedata.name(character, "")}
    kept = {*"\n\t", *joiners, *prepended, *"\u06dd\u070f\u0890\u0891\u08e2", *map(chr, range(0x600, 0x606))}
    assert control - escaped <= kept
    assert {unicodedata.category(character) for character in escaped - control} <= {"Cn", "Mn"}


@pytest.mark.parametrize(
    "text", ["مرحبا بكم", "শুভ ক\u09cd\u200dষণ", "می\u200cخواهم", "👩\u200d🚀 ok", "zh 你好", "a\\b"]
)
def test_text_of_any_language_stays_readable(text):
    assert printable(text) == one_line(text) == text


def test_control_characters_are_shown():
    assert printable("\x1b]0;T\x07\nnext\u202e\x9b") == "\\x1b]0;T\\x07\nnext\\u202e\\x9b"
    assert one_line("a\r\n\tb\ud800\U000e0041") == "a\\r\\n\\tb\\ud800\\U000e0041"


@pytest.mark.parametrize("text", HOSTILE)
def test_markdown_renders_as_the_text_itself(text):
    parser = MarkdownIt("commonmark", {"html": True}).enable(["table", "strikethrough"])
    for page in (f"# {markdown(text)}\n", f"{markdown(text)}\n", f"- {markdown(text)}\n"):
        tokens = parser.parse(page)
        inline = [child for token in tokens for child in token.children or []]
        assert {child.type for child in inline} <= {"text"}
        assert "".join(child.content for child in inline).strip() == printable(" ".join(text.split())).strip()
        assert "html_block" not in {token.type for token in tokens}
    table = parser.parse(f"| a | b |\n| --- | --- |\n| {markdown(text)} | 0.5 |\n")
    assert sum(token.type == "td_open" for token in table) == 2
    assert sum(token.type == "tr_open" for token in table) == 2


def test_markdown_of_ordinary_names_is_the_name():
    for name in ("attack_success_rate", "Llama-3-8B-Instruct", "0.50 [0.40, 0.60]", "AT&T, R&D", "bn 10 > 9"):
        assert markdown(name) == name


@pytest.mark.parametrize("text", HOSTILE)
def test_latex_has_no_command_of_the_text(text):
    escaped = latex(text)
    ours = r"\\(textbackslash|textasciitilde|textasciicircum|textless|textgreater|textbar)\{\}|\\[&%$#_{}]"
    left = re.sub(ours, "", escaped)
    assert not re.search(r"[\\%$#_&~^<>|]", left)
    assert escaped.isprintable()
    assert escaped[:1] not in ("[", "*")  # after a line's \\ these begin an argument


@pytest.mark.parametrize("text", ["=1+1", "@SUM(1)", "+1+1", "-2+3", "\t=1", "\r=1", " =1+1", "-cmd"])
def test_a_text_cell_is_no_formula(text):
    file = io.StringIO()
    csv.writer(file).writerow([csv_cell(text)])
    [[cell]] = csv.reader(io.StringIO(file.getvalue()))
    assert cell == f"'{text}"


@pytest.mark.parametrize("value", [-0.5, 3, None, "-0.5", "-3", "sarft", "a=b"])
def test_numbers_and_names_stay_as_they_are(value):
    assert csv_cell(value) == value


def test_names_and_directories_are_one_to_one():
    alike = ["llama 3", "llama-3", "llama/3", "llama  3", "llama:3", "Llama-3", "llama-3.", ".llama-3", "-llama-3"]
    alike += ["", ".", "..", "model", "name", "\x1b", "\ud800", "a" * 300, "a" * 301, "é", "e\u0301", "字" * 80]
    alike += [directory_name("llama 3"), directory_name("")]
    names = {directory_name(name) for name in alike}
    assert len(names) == len(alike)
    for name in names:
        assert re.fullmatch(r"[\w.+~-]+", name)
        assert len(name.encode()) <= 140
        assert not name.startswith((".", "-", "~"))


def test_ordinary_names_are_their_own_directories():
    for name in ("llama-3", "Qwen2.5-0.5B", "sarft+safe_decoding", "en", "中文"):
        assert directory_name(name) == name
