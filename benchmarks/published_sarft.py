"""SaRFT's published training step, restated in our words: what is computed, on what, and what is held meanwhile.

Source: yulinlp/SaRFT at df7f750, sarft/src/trainer.py (`compute_loss`, `compute_reward`) and sarft/src/collator.py.
At every step the reference, a second model in memory, goes over each row twice with a role prompt (the persona, and
the persona with the unsafe suffix) to flag it, and once without; the policy once. All logits are kept, of prompt and
answer; the log-softmax of the flagging runs in the model's type, the rest in float32.

`compute_reward` cannot run as it was released (`role_reward` is used before it is set, and the README's reward type
raises): the flags are computed here as the paper's RDS says, which is what the lines before the error prepare. Left
out: printing losses, which on a GPU would wait for it twice a step.
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from holdfast.data.collator import Example

IGNORED = -100
EPSILON = 1e-5  # the published code adds it to every divisor


class Views(NamedTuple):
    """One row under the three prompts; the answer is the same."""

    plain: Example  # no persona: with an empty system turn, where the template allows one
    role: Example
    unsafe: Example


class Padded(NamedTuple):
    """Rows padded on the left to the longest, each tensor (B, T)."""

    input_ids: Tensor
    attention_mask: Tensor
    labels: Tensor


class Batch(NamedTuple):
    """The three prompts, each padded to its own longest row."""

    plain: Padded
    role: Padded
    unsafe: Padded


def collate(rows: Sequence[Views], pad_token_id: int, device: torch.device) -> Batch:
    """The rows under each prompt."""
    return Batch(*(padded(examples, pad_token_id, device) for examples in zip(*rows, strict=True)))


def padded(examples: Sequence[Example], pad_token_id: int, device: torch.device) -> Padded:
    """Rows on the right, padding on the left."""
    width = max(len(example["input_ids"]) for example in examples)
    ids, mask, labels = [], [], []
    for example in examples:
        own, trained = example["input_ids"], example["trained"]
        missing = width - len(own)
        ids.append([pad_token_id] * missing + own)
        mask.append([0] * missing + [1] * len(own))
        labels.append(
            [IGNORED] * missing
            + [token if learnt else IGNORED for token, learnt in zip(own, trained, strict=True)]
        )
    return Padded(*(torch.tensor(values, device=device) for values in (ids, mask, labels)))


def mean_logps(logits: Tensor, labels: Tensor) -> Tensor:
    """(B,) mean log-probability of the trained tokens, by way of the log-softmax of every position."""
    wanted = labels[:, 1:]
    trained = wanted != IGNORED
    logps = logits[:, :-1].log_softmax(-1)  # (B, T - 1, V)
    chosen = logps.gather(2, wanted.where(trained, 0).unsqueeze(2)).squeeze(2)
    return (chosen * trained).sum(-1) / (trained.sum(-1) + EPSILON)


def rds_flags(reference: nn.Module, role: Padded, unsafe: Padded) -> Tensor:
    """(B,) bool: the answer is likelier under the unsafe prompt than under the persona. Two full forwards."""
    with torch.no_grad():
        unsafe_logits = reference(input_ids=unsafe.input_ids, attention_mask=unsafe.attention_mask).logits
        role_logits = reference(input_ids=role.input_ids, attention_mask=role.attention_mask).logits
    return mean_logps(unsafe_logits, unsafe.labels) - mean_logps(role_logits, role.labels) > 0


def sarft_step_loss(
    policy: nn.Module, reference: nn.Module, batch: Batch, *, beta: float, harmful: Tensor | None = None
) -> Tensor:
    """The loss of one step, a scalar.

    `reference` has no parameter that wants a gradient. `harmful` (B,) replaces the flags that are computed (a test
    gives them); they are computed all the same.
    """
    flags = rds_flags(reference, batch.role, batch.unsafe)
    flags = flags if harmful is None else harmful
    ids, mask, labels = batch.plain
    tokens = mask.sum(1) + EPSILON  # (B,) prompt and answer

    logits = policy(input_ids=ids, attention_mask=mask).logits.float()  # (B, T, V)
    vocabulary = logits.shape[-1]
    shifted = logits[:, :-1].contiguous().view(-1, vocabulary)  # a copy, as published
    losses = F.cross_entropy(shifted, labels[:, 1:].reshape(-1), ignore_index=IGNORED, reduction="none")
    role_losses = losses.view(len(ids), -1).sum(1) / tokens

    reference_logits = reference(input_ids=ids, attention_mask=mask).logits.float()
    logps = F.log_softmax(logits.view(-1, vocabulary), dim=-1)
    reference_probs = F.softmax(reference_logits.view(-1, vocabulary), dim=-1)
    divergences = F.kl_div(logps, reference_probs, reduction="none").sum(-1).view(len(ids), -1)  # (B, T)
    safety_losses = (divergences * mask).sum(1) / tokens
    return beta * (safety_losses * flags).mean() + role_losses.mean()
