"""An answer made ready for the rules: without reasoning, code and quotations, evenly spelt, cut into sentences."""

import re
import unicodedata
from collections.abc import Sequence
from typing import NamedTuple

READ_CHARACTERS = 1600
"""How much of an answer is read. What an answer does is plain from its beginning; a book is not read to its end."""

_TAGS = "think|thinking|thought|reasoning|analysis|scratchpad"
_THINKING = re.compile(rf"\s*(?:<(?:{_TAGS})>|\[think\]|◁think▷|<\|channel\|>analysis)", re.IGNORECASE)
_THOUGHT = re.compile(rf"</(?:{_TAGS})>|\[/think\]|◁/think▷|<\|channel\|>final<\|message\|>", re.IGNORECASE)
_UNEVEN = str.maketrans({
    **dict.fromkeys("‘’ʼ′`´＇", "'"),
    **dict.fromkeys("“”„«»＂", '"'),
    "‑": "-", "–": "-", "—": "-", "\r": "\n", "\u2028": "\n", "\u2029": "\n",
    # Marks of direction, joiners and the like, which show nothing. Bengali and Sinhala write with the joiners, but
    # the rules are written without.
    **dict.fromkeys(
        "\0\u00ad\u061c\u0640\u200b\u200c\u200d\u200e\u200f\u202a\u202b\u202c\u202d"
        "\u202e\u2060\u2066\u2067\u2068\u2069\ufeff",
        None,
    ),
    **{chr(mark): None for mark in range(0x64B, 0x653)},  # Arabic vowel signs
    **dict.fromkeys("أإآ", "ا"),
})  # fmt: skip
_CODE = re.compile(r"```.*?(?:```|\Z)", re.DOTALL)
_QUOTED = re.compile(r'"[^"\n]{1,400}"|「[^」\n]{1,400}」|『[^』\n]{1,400}』')
_EMPHASIS = re.compile(r"\*{1,3}|_{2,}|^#{1,6} |^> ?|~~", re.MULTILINE)
_SENTENCE_END = re.compile(r"[.!?;:]\s+|[。！？؟।\n]\s*")
_SMALL_WORDS = (" the ", " is ", " to ", " and ", " of ", " with ", " that ", " i ")
_CODE_MARK = "[code]"


class Hinted(NamedTuple):
    """A slow pattern and literals, one of which stands in every match: without one, the pattern is not tried."""

    pattern: re.Pattern[str]
    hints: tuple[str, ...]

    def search(self, text: str) -> re.Match[str] | None:
        """As `re.Pattern.search`."""
        return self.pattern.search(text) if any(hint in text for hint in self.hints) else None


class Reading(NamedTuple):
    """The beginning of an answer, plain, without code and quotations; `sentences` are its parts, none empty."""

    text: str
    sentences: tuple[str, ...]
    has_code: bool


def read(answer: str) -> Reading:
    """Make an answer ready for the rules. What is quoted, or stands in code, is not said by the answerer."""
    text = _CODE.sub(f"\n{_CODE_MARK}\n", answer.strip()[:READ_CHARACTERS])
    text = _QUOTED.sub('""', plain(text))
    parts = (part.strip() for part in _SENTENCE_END.split(text))
    return Reading(text, tuple(part for part in parts if part), _CODE_MARK in text)


def is_plainly_english(sentences: Sequence[str]) -> bool:
    """Whether the opening has only ASCII letters and the small words of English: then no other rules are tried."""
    opening = " ".join(sentences[:4])
    return opening.isascii() and sum(word in opening for word in _SMALL_WORDS) >= 2


def answer_of(completion: str) -> str:
    """The answer without the reasoning before it; empty where the reasoning never ended."""
    end = _THOUGHT.search(completion)
    if end is not None:
        return completion[end.end() :]
    return "" if _THINKING.match(completion) else completion


def even(text: str) -> str:
    """One spelling for what looks the same: composed, in ordinary width, straight quotes, no unseen marks."""
    return unicodedata.normalize("NFKC", text.translate(_UNEVEN)).translate(_UNEVEN)


def plain(text: str) -> str:
    """Even, in lower case and without emphasis; line breaks stay."""
    spelt = even(text)
    if any(mark in spelt for mark in "*_#>~"):
        spelt = _EMPHASIS.sub("", spelt)
    return "\n".join(" ".join(line.split()) for line in spelt.split("\n")).strip().lower()
