"""What looks wrong in a parallel pair. The checks are heuristics: they warn and count, and drop only when asked."""

import re
from collections.abc import Iterator, Sequence

from holdfast.data.fields import is_blank
from holdfast.data.languages import foreign_letters, foreign_share
from holdfast.data.pair_languages import user_text
from holdfast.data.pairs import PreferencePair
from holdfast.data.refusals import has_refusal_phrase
from holdfast.data.rows import Message

EMPTY_PROMPT = "empty prompt"
FOREIGN_PROMPT = "prompt in another language"
IDENTICAL = "chosen and rejected answer identical"
FOREIGN_CHOSEN = "chosen answer in another language"
FOREIGN_REJECTED = "rejected answer in another language"
MIXED_CHOSEN = "chosen answer of mixed language"
MIXED_REJECTED = "rejected answer of mixed language"
NO_REFUSAL = "no refusal phrase in the chosen answer"
END_OF_TURN = "end-of-turn marker in a text"
"""The template writes it itself, so it would stand there twice, or end the answer early."""
REPEATED_PROMPT = "answer that repeats the prompt"
TWICE = "the same row twice"
ONCE = "only row of its language"
"""An interval cannot be computed from one row."""

REASONS = (
    EMPTY_PROMPT,
    FOREIGN_PROMPT,
    IDENTICAL,
    FOREIGN_CHOSEN,
    FOREIGN_REJECTED,
    MIXED_CHOSEN,
    MIXED_REJECTED,
    NO_REFUSAL,
    END_OF_TURN,
    REPEATED_PROMPT,
    TWICE,
    ONCE,
)
"""All doubts; a dropped row is counted under the first that it has."""

LANGUAGE_REASONS = frozenset({FOREIGN_PROMPT, FOREIGN_CHOSEN, FOREIGN_REJECTED, MIXED_CHOSEN, MIXED_REJECTED})
"""The doubts that need the extra `languages`."""

NOT_CHECKED = "language not checked (pip install 'holdfast[languages]')"
"""Counted, never dropped."""

_ANOTHER, _MIXED = 0.5, 0.1  # shares of the letters from which a text is in another, or of mixed, language
_MIXED_LETTERS = 2  # of a foreign script: one may be a symbol, two in an Arabic answer are a fault


_FEWEST_BYTES = 12  # of a question that an answer repeats: shorter ones ("Hello") begin answers by chance

# How the known families of models write the ends (and beginnings) of turns and texts.
_END_OF_TURN = re.compile(
    r"<\|\w{1,40}\|>|<｜[^｜<>\n]{1,40}｜>|<(?:start|end)_of_turn>|<(?:eos|bos)>|\[/?INST\]|<</?SYS>>|</turn>"
    r"|\A\s*<s>|</s>\s*(?:\Z|<s>|\[INST\])"
)


def last_question(prompt: Sequence[Message]) -> str:
    """Return what the user said last."""
    return next((turn.content for turn in reversed(prompt) if turn.speaker == "user"), "")


def doubts(pair: PreferencePair, *, languages: bool = True) -> Iterator[str]:
    """The reasons to doubt a pair by itself, in the order of REASONS; `languages=False` leaves languages out."""
    prompt = user_text(pair.prompt)
    if is_blank(prompt):
        yield EMPTY_PROMPT
    if languages and foreign_share(prompt, pair.language) >= _ANOTHER:
        yield FOREIGN_PROMPT
    if pair.chosen.strip() == pair.rejected.strip():
        yield IDENTICAL
    answers = (pair.chosen, pair.rejected)
    if languages:
        shares = [foreign_share(answer, pair.language) for answer in answers]
        for share, reason in zip(shares, (FOREIGN_CHOSEN, FOREIGN_REJECTED), strict=True):
            if share >= _ANOTHER:
                yield reason
        for answer, share, reason in zip(answers, shares, (MIXED_CHOSEN, MIXED_REJECTED), strict=True):
            mixed = share >= _MIXED or foreign_letters(answer, pair.language) >= _MIXED_LETTERS
            if mixed and share < _ANOTHER:
                yield reason
    if has_refusal_phrase(pair.chosen, pair.language, prompt) is False:
        yield NO_REFUSAL
    if any(_END_OF_TURN.search(text) for text in (*(turn.content for turn in pair.prompt), *answers)):
        yield END_OF_TURN
    asked = " ".join(last_question(pair.prompt).split())
    if len(asked.encode()) >= _FEWEST_BYTES and any(
        " ".join(answer.split()).startswith(asked) for answer in answers
    ):
        yield REPEATED_PROMPT
