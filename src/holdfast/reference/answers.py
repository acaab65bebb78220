"""What the frozen reference gives the answers of encoded rows: one forward, the head on answer positions only."""

from collections.abc import Callable, Iterator, Sequence
from typing import TypeVar

import torch
from torch import Tensor

from holdfast.data.collator import Example, RoleCollator, answer_span, forward_inputs
from holdfast.forward import deferred_logits, evaluating
from holdfast.losses.logprobs import summed_logps
from holdfast.models import Policy

Item = TypeVar("Item")


def answer_logps(model: Policy, pad_token_id: int, examples: Sequence[Example]) -> Tensor:
    """(B,) sum of log p over each row's trained tokens, in float32, without a gradient."""
    batch = {key: value.to(model.device) for key, value in RoleCollator(pad_token_id)(examples).items()}
    labels = batch["labels"]
    span = answer_span(labels)
    with torch.no_grad(), evaluating(model):
        return summed_logps(deferred_logits(model, span, **forward_inputs(batch)), labels[:, -span:])


def batches_by_length(
    items: Sequence[Item], batch_size: int, tokens: Callable[[Item], int]
) -> Iterator[list[Item]]:
    """Items of like length together, the longest first; the same items always make the same batches."""
    ordered = sorted(items, key=tokens, reverse=True)  # stable: equal lengths stay in order
    for start in range(0, len(ordered), batch_size):
        yield ordered[start : start + batch_size]
