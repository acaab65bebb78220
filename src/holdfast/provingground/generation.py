"""Greedy answers of a tiny model."""

from collections.abc import Sequence
from dataclasses import dataclass

from transformers import PreTrainedTokenizerBase

from holdfast.chat import ChatFormat, EncodedRow
from holdfast.data.rows import Message
from holdfast.decoding import Defence
from holdfast.evals.generation import BatchLimits, BranchSource, generate
from holdfast.evals.responders import Decoding
from holdfast.models import Policy


class RememberingChat(ChatFormat):
    """Renders and encodes each conversation once: a cell asks the same of every model that it measures."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase):
        super().__init__(tokenizer)
        self._encoded: dict[tuple[tuple[Message, ...], str | None, bool], EncodedRow] = {}
        self._prompts: dict[tuple[tuple[Message, ...], str | None], list[int]] = {}

    def encode(
        self, messages: Sequence[Message], *, system: str | None = None, last_answer_only: bool = False
    ) -> EncodedRow:
        """As `ChatFormat.encode`; the lists are the caller's own."""
        key = (tuple(messages), system, last_answer_only)
        if key not in self._encoded:
            self._encoded[key] = super().encode(messages, system=system, last_answer_only=last_answer_only)
        ids, trained = self._encoded[key]
        return EncodedRow(list(ids), list(trained))

    def prompt_ids(self, messages: Sequence[Message], *, system: str | None = None) -> list[int]:
        """As `ChatFormat.prompt_ids`; the list is the caller's own."""
        key = (tuple(messages), system)
        if key not in self._prompts:
            self._prompts[key] = super().prompt_ids(messages, system=system)
        return list(self._prompts[key])


@dataclass(frozen=True)
class Defended:
    """A defence at decoding time; `expert` is the model of its branch, None the answering model itself."""

    defence: Defence
    expert: Policy | None = None


def generate_answers(
    model: Policy,
    chat: ChatFormat,
    prompts: Sequence[str],
    *,
    system: str | None = None,
    max_new_tokens: int = 40,
    batch: int = 256,
    defended: Defended | None = None,
) -> list[str]:
    """Greedy answers to single questions, in order."""
    asked = [chat.with_system([Message("user", prompt)], system) for prompt in prompts]
    branch = None
    if defended is None:
        ids = [chat.prompt_ids(messages) for messages in asked]
    else:
        both = [defended.defence.prompts(chat, messages) for messages in asked]
        ids = [read.main for read in both]
        branch = BranchSource([read.branch for read in both], defended.expert or model)
    batches = generate(
        model,
        ids,
        Decoding(max_new_tokens, defence=defended.defence if defended else None),
        stop_token_ids=chat.stop_token_ids,
        pad_token_id=chat.tokenizer.pad_token_id,
        limits=BatchLimits(rows=batch),
        branch=branch,
    )
    tokens = {index: generation.tokens for batch in batches for index, generation in batch if generation}
    return chat.tokenizer.batch_decode([tokens[index] for index in range(len(prompts))], skip_special_tokens=True)
