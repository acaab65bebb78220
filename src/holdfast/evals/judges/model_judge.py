"""What all judges that are language models share: asking, and being unscored whenever the answer is no verdict."""

from collections.abc import AsyncIterator, Sequence
from typing import Protocol

from holdfast.data.rows import Message
from holdfast.evals.judges.base import Exchange
from holdfast.evals.judges.refusal import RefusalJudge
from holdfast.evals.responders import Answer, Decoding, Responder
from holdfast.samples import Judgement, Verdict


class Style(Protocol):
    """How a judge is asked and how its answer is read."""

    @property
    def verdicts(self) -> tuple[Verdict, ...]:
        """The verdicts it can give."""
        ...

    def messages(self, exchange: Exchange) -> tuple[Message, ...]:
        """The conversation that asks for this exchange's verdict."""
        ...

    def verdict(self, answer: str) -> Verdict | None:
        """The verdict of an answer, None where it is not exactly one."""
        ...


class ModelJudge:
    """A language model as judge. Raw text is the model's answer; where a request failed, what went wrong.

    Args:
        name: the judge's name.
        style: how it is asked and read.
        responder: the model.
        max_new_tokens: the most that it may say, its thinking included.
        model: its directory or hub id, where it runs in this process.
    """

    def __init__(
        self,
        name: str,
        style: Style,
        responder: Responder,
        *,
        max_new_tokens: int = 512,
        model: str | None = None,
    ):
        self.name = name
        self.model = model
        self.style = style
        self.verdicts = style.verdicts
        self.responder = responder
        self.decoding = Decoding(max_new_tokens=max_new_tokens)

    async def judge(self, exchanges: Sequence[Exchange]) -> AsyncIterator[tuple[int, Judgement]]:
        """See `Judge`."""
        asked = []
        for index, exchange in enumerate(exchanges):
            if exchange.completion.strip():
                asked.append(index)
            else:
                yield index, Judgement("unscored", "empty answer")
        conversations = [self.style.messages(exchanges[index]) for index in asked]
        if not conversations:
            return
        async for position, answer in self.responder.respond(conversations, self.decoding):
            yield asked[position], await self._judgement(answer)

    async def _judgement(self, answer: Answer) -> Judgement:
        if answer.text is None:
            reason = "judge refused" if answer.error == "content filter" else "judge failed"
            return Judgement("unscored", reason, answer.error)
        verdict = self.style.verdict(answer.text)
        if verdict is not None:
            return Judgement(verdict, raw=answer.text)
        reason = "judge refused" if await _refuses(answer.text) else "unparsable"
        return Judgement("unscored", reason, answer.text)


def without_thinking(answer: str) -> str:
    """What a judge says after its thinking; empty where the thinking never ended."""
    said = answer.rpartition("</think>")[2]
    return "" if said.lstrip().startswith("<think>") else said


async def _refuses(text: str) -> bool:
    async for _, judgement in RefusalJudge().judge([Exchange("", text)]):
        return judgement.verdict in ("refusal", "partial_refusal")
    return False
