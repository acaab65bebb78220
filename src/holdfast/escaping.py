"""One escaping for each output format: what names and texts of files, users and models go through on their way out.

In HTML pages jinja2 escapes the markup, and `printable` the characters (report/html.py).
"""

import hashlib
import re
import unicodedata

# Control characters (Cc) but for line break and tab, format characters (Cf), line separators and half surrogates.
# ZWNJ, ZWJ and the Arabic, Syriac and Kaithi number signs stay: text in many languages, and emoji, needs them.
_UNPRINTABLE = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\xad\u061c\u180e\u200b\u200e\u200f\u2028-\u202e\u2060-\u2064\u2066-\u206f\ufeff"
    "\ufff9-\ufffb\ud800-\udfff\U00013430-\U0001343f\U0001bca0-\U0001bca3\U0001d173-\U0001d17a\U000e0001"
    "\U000e0020-\U000e007f]"
)
_MARKDOWN = re.compile(
    r"""
    [\\`*~|$#]              # code, emphasis, cells of a table, formulas, headings
    | (?<![^\W_])_ | _(?![^\W_])    # emphasis, but not within a word
    | \](?=[(\[:])          # links, images and their definitions
    | (?<=:)/(?=/)          # addresses, which some viewers make links of
    | (?<=www)\.
    | ^[-+](?![\d.]) | ^[=>]  # lists, underlined headings, quotations
    | (?:(?<=^\d)|(?<=^\d\d)|(?<=^\d{3}))[.)](?!\S)
    """,
    re.VERBOSE,
)
_LATEX = {
    **{sign: f"\\{sign}" for sign in "&%$#_{}"},
    "\\": "\\textbackslash{}",
    "~": "\\textasciitilde{}",
    "^": "\\textasciicircum{}",
    "<": "\\textless{}",
    ">": "\\textgreater{}",
    "|": "\\textbar{}",
    "↑": "$\\uparrow$",
    "↓": "$\\downarrow$",
    "†": "$\\dagger$",
    "–": "--",
}
_LATEX_SIGN = re.compile("|".join(map(re.escape, _LATEX)))
_NUMBER = re.compile(r"-?\d+(\.\d+)?([eE][-+]?\d+)?")
_MAX_NAME_BYTES = 120  # with what is added to it, well below the 255 of common file systems


def printable(text: str) -> str:
    r"""Return text that a terminal only shows: control and invisible characters become `\x1b` or `\u202e`.

    Line breaks and tabs stay.
    """
    return _UNPRINTABLE.sub(lambda match: _code(match[0]), text)


def one_line(text: str) -> str:
    r"""Return `printable` text with line breaks and tabs as `\n` and `\t`: a name, a message or a cell."""
    return printable(text).replace("\n", "\\n").replace("\t", "\\t")


def markdown(text: str) -> str:
    """Return text for a paragraph, heading, list item or table cell of Markdown, on one line and without markup."""
    escaped = _MARKDOWN.sub(r"\\\g<0>", _spaced(text))
    return re.sub(r"&(?=#?\w+;)", "&amp;", escaped).replace("<", "&lt;")


def latex(text: str) -> str:
    """Return text for LaTeX, on one line and without commands."""
    escaped = _LATEX_SIGN.sub(lambda match: _LATEX[match[0]], _spaced(text))
    # After the end of a table's line these would be its arguments.
    return f"{{{escaped[0]}}}{escaped[1:]}" if escaped[:1] in ("[", "*") else escaped


def csv_cell(value: object) -> object:
    """Return a cell that a spreadsheet does not run as a formula: such a text gets a `'` before it."""
    if not isinstance(value, str):
        return value
    first = value.lstrip()[:1]
    if first not in ("=", "+", "-", "@") and value[:1] not in ("\t", "\r", "\n"):
        return value
    return value if _NUMBER.fullmatch(value) else f"'{value}"


def directory_name(name: str) -> str:
    """Return the name of a file or directory for any name; different names get different ones.

    Letters, digits and `_ . + -` stay. Where something else had to go, `~` and a digest of the name follow.
    """
    kept = re.sub(r"[^\w.+-]+", "-", unicodedata.normalize("NFC", name)).strip("-.")
    kept = kept.encode("utf-8", "replace")[:_MAX_NAME_BYTES].decode("utf-8", "ignore")
    if kept == name and name:
        return name
    return f"{kept or 'name'}~{hashlib.sha256(name.encode('utf-8', 'surrogatepass')).hexdigest()[:8]}"


def _spaced(text: str) -> str:
    return printable(" ".join(text.split()))


def _code(character: str) -> str:
    number = ord(character)
    if character == "\r":
        return "\\r"
    return f"\\x{number:02x}" if number < 0x100 else f"\\u{number:04x}" if number < 0x10000 else f"\\U{number:08x}"
