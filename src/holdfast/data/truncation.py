"""Fitting rows into the configured lengths, and counting what that cost."""

import sys
from collections import Counter
from dataclasses import dataclass, field, replace
from typing import Literal

LongPrompts = Literal["drop", "keep_start", "keep_end"]
RESPONSES_CUT = "responses cut"


@dataclass(frozen=True)
class LengthLimits:
    """Limits in tokens.

    The prompt is everything before the first trained token, the response everything from there on.
    `long_prompts` says what becomes of a prompt over its limit: the row is dropped and counted, or its tokens
    are cut (`keep_start` is what SaRFT's published code does: it cuts the question's end off).
    """

    max_prompt_tokens: int = 512
    max_response_tokens: int = 128
    long_prompts: LongPrompts = "drop"

    def without_prompt_limit(self) -> "LengthLimits":
        """The same limit on the response, none on the prompt."""
        return replace(self, max_prompt_tokens=sys.maxsize)


@dataclass
class TruncationCounts:
    """How many rows a limit touched."""

    counts: Counter[str] = field(default_factory=Counter)

    def __str__(self) -> str:
        return ", ".join(f"{count} {what}" for what, count in sorted(self.counts.items())) or "nothing cut"


def fit(
    input_ids: list[int], trained: list[bool], limits: LengthLimits, counts: TruncationCounts | None = None
) -> tuple[list[int], list[bool]] | None:
    """Cut one row to the limits; None where it must be dropped. Counts what it did in `counts`."""
    touched = counts.counts if counts is not None else Counter[str]()
    start = trained.index(True)
    prompt, response, response_trained = input_ids[:start], input_ids[start:], trained[start:]
    if len(prompt) > limits.max_prompt_tokens:
        if limits.long_prompts == "drop":
            touched["rows dropped (prompt too long)"] += 1
            return None
        touched["prompts cut"] += 1
        cut = limits.max_prompt_tokens
        prompt = prompt[:cut] if limits.long_prompts == "keep_start" else prompt[-cut:]
    if len(response) > limits.max_response_tokens:
        touched[RESPONSES_CUT] += 1
        response = response[: limits.max_response_tokens]
        response_trained = response_trained[: limits.max_response_tokens]
    return prompt + response, [False] * len(prompt) + response_trained
