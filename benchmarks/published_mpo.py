"""MPO's published training step, restated in our words: what is computed, on what, and what is held meanwhile.

Source: circle-hit/MPO at 0291e7f, src/llamafactory/train/dpo/trainer.py (`get_batch_loss_metrics`,
`concatenated_forward`, `mpo_loss`), src/llamafactory/data/collator.py and train/dpo/workflow.py; `get_batch_logps` is
LLaMA-Factory's (train/trainer_utils.py). At every step the policy goes over the dominant pair and the target pair and
the reference, a second model in memory unless adapters are trained, over the dominant pair. All logits are kept, of
prompt and answer, in float32. The labels go into the model too, so that it computes a cross-entropy which nobody reads.
Hidden states are averaged over all positions, padding included, of the chosen and of the rejected answer.
Rows are padded on the right (LLaMA-Factory's default) to a multiple of 8. Left out: rewards that are only logged.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from holdfast.data.collator import Example
from holdfast.data.pair_collator import PairExample

IGNORED = -100
PADDED_TO = 8

Model = Callable[..., Any]  # a causal model; the reference under LoRA is the policy with its adapters off


class ParallelPair(NamedTuple):
    """One training row: the pair in the dominant language, and in the target language."""

    dominant: PairExample
    target: PairExample


class Forward(NamedTuple):
    """What one forward over B pairs returns, the chosen answers first. The logits live as long as it does."""

    logps: Tensor  # (2B,) mean over the answer's tokens
    hidden: Tensor  # (2B, H) mean over all positions
    logits: Tensor  # (2B, T, V)


def collate(
    rows: Sequence[ParallelPair], pad_token_id: int, device: torch.device
) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """The dominant pairs and the target pairs, each as 2B rows."""
    dominants, targets = zip(*rows, strict=True)
    return padded(dominants, pad_token_id, device), padded(targets, pad_token_id, device)


def padded(pairs: Sequence[PairExample], pad_token_id: int, device: torch.device) -> dict[str, Tensor]:
    """`input_ids`, `attention_mask` and `labels` (2B, T), T a multiple of 8."""
    examples: list[Example] = [*(pair["chosen"] for pair in pairs), *(pair["rejected"] for pair in pairs)]
    longest = max(len(example["input_ids"]) for example in examples)
    width = -(-longest // PADDED_TO) * PADDED_TO
    ids, mask, labels = [], [], []
    for example in examples:
        own, trained = example["input_ids"], example["trained"]
        missing = width - len(own)
        ids.append(own + [pad_token_id] * missing)
        mask.append([1] * len(own) + [0] * missing)
        learnt = [token if wanted else IGNORED for token, wanted in zip(own, trained, strict=True)]
        labels.append(learnt + [IGNORED] * missing)
    named = {"input_ids": ids, "attention_mask": mask, "labels": labels}
    return {name: torch.tensor(values, device=device) for name, values in named.items()}


def forward(model: Model, batch: dict[str, Tensor]) -> Forward:
    """One full forward over chosen and rejected answers."""
    outputs = model(**batch, use_cache=False, output_hidden_states=True)
    logits = outputs.logits.to(torch.float32)
    hidden = outputs.hidden_states[-1].mean(dim=1)
    wanted = batch["labels"][:, 1:]
    trained = wanted != IGNORED
    logps = logits[:, :-1].log_softmax(-1).gather(2, wanted.where(trained, 0).unsqueeze(2)).squeeze(2)
    return Forward((logps * trained).sum(-1) / trained.sum(-1), hidden, logits)


def reward_gaps(made: Forward) -> Tensor:
    """(B,) chosen minus rejected."""
    chosen, rejected = made.logps.chunk(2)
    return chosen - rejected


def mpo_step_loss(
    policy: Model,
    reference: Model,
    dominant: dict[str, Tensor],
    target: dict[str, Tensor],
    *,
    beta: float,
) -> Tensor:
    """The loss of one step, a scalar."""
    held = forward(policy, dominant)
    trained = forward(policy, target)
    with torch.no_grad():
        asked = forward(reference, dominant)
    gap = F.mse_loss(beta * reward_gaps(trained), reward_gaps(asked))
    return gap + F.mse_loss(held.hidden, asked.hidden)
