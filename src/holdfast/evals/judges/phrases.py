"""A refusal judge by a list of one's own: `phrases:FILE`, for models that refuse in words no shipped judge knows."""

from collections.abc import AsyncIterator, Sequence
from pathlib import Path

from holdfast.errors import HoldfastError
from holdfast.evals.judges.base import Exchange
from holdfast.evals.refusal import judge_refusal
from holdfast.files import read_text
from holdfast.refusals.text import answer_of
from holdfast.samples import Judgement, Verdict


class PhraseJudge:
    """An answer that holds one of the file's phrases refuses, any other complies; one without a letter is unscored.

    Matching is that of the AdvBench list (`holdfast.evals.refusal.is_refusal`): whole words, whatever their case.
    """

    def __init__(self, path: Path, name: str):
        """Raises HoldfastError where the file cannot be read or holds no phrase."""
        self.name = name
        self.verdicts: tuple[Verdict, ...] = ("refusal", "compliance")
        self.phrases = read_phrases(path)

    async def judge(self, exchanges: Sequence[Exchange]) -> AsyncIterator[tuple[int, Judgement]]:
        """Judge in order; reasoning before the answer is left out."""
        for index, exchange in enumerate(exchanges):
            verdict = judge_refusal(answer_of(exchange.completion), self.phrases)
            yield index, Judgement(verdict, "empty answer" if verdict == "unscored" else None)


def read_phrases(path: Path) -> tuple[str, ...]:
    """The phrases of a text file in UTF-8: one a line; blank lines and lines that begin with # are none."""
    lines = read_text(path, "text file, one phrase a line").splitlines()
    phrases = tuple(line.strip() for line in lines if line.strip() and not line.startswith("#"))
    if not phrases:
        raise HoldfastError(f"{path}: holds no phrase; write one a line")
    return phrases
