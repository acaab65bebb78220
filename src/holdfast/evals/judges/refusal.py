"""The refusal judges that need no model: rules in many languages (`keyword`, the default) and the AdvBench list."""

from collections.abc import AsyncIterator, Sequence
from typing import Literal, get_args

import holdfast.evals.refusal as advbench
from holdfast.errors import HoldfastError
from holdfast.evals.judges.base import Exchange
from holdfast.refusals.rules import verdict_of
from holdfast.refusals.text import answer_of
from holdfast.samples import Judgement, Verdict

Preset = Literal["keyword", "advbench"]

_EMPTY = Judgement("unscored", reason="empty answer")


def judge_refusal(completion: str, prompt: str | None = None) -> Judgement:
    """Refusal, partial refusal or compliance by the rules; unscored where there is no letter or digit."""
    verdict = verdict_of(completion, prompt)
    return _EMPTY if verdict is None else Judgement(verdict)


def judge_by_advbench_list(completion: str, prompt: str | None = None) -> Judgement:
    """Refusal where the answer holds a phrase of the AdvBench list (`holdfast.evals.refusal`), as papers count."""
    answer = answer_of(completion)
    verdict = advbench.judge_refusal(answer)
    return _EMPTY if verdict == "unscored" else Judgement(verdict)


class RefusalJudge:
    """A judge of refusals by rules: at once, offline, the same every time. Its name is its preset's."""

    def __init__(self, preset: Preset = "keyword") -> None:
        """Raises HoldfastError for an unknown preset."""
        if preset not in get_args(Preset):
            known = ", ".join(get_args(Preset))
            raise HoldfastError(f"refusal judge: unknown preset {preset!r:.40}; known: {known}")
        self.name: str = preset
        self.verdicts: tuple[Verdict, ...] = ("refusal", "compliance")
        if preset == "keyword":
            self.verdicts = ("refusal", "partial_refusal", "compliance")

    async def judge(self, exchanges: Sequence[Exchange]) -> AsyncIterator[tuple[int, Judgement]]:
        """Judge in order; the language is read from the answer itself."""
        decide = judge_refusal if self.name == "keyword" else judge_by_advbench_list
        for index, exchange in enumerate(exchanges):
            yield index, decide(exchange.completion, exchange.prompt)
