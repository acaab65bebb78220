"""Encoded rows to padded batches."""

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypedDict

import torch
from torch import Tensor

from holdfast.losses.logprobs import IGNORED
from holdfast.losses.top_k import TopKLogps


class Example(TypedDict, total=False):
    """One encoded row: token ids, which of them are trained, and whether the row is flagged.

    `reference_logps`: the frozen reference's log-probability of each trained token, where a loss needs them
    (`reference.token_logps`); either every row of a batch has them or none.
    `reference_top_k`: reads what the reference says at the row's anchored positions (`reference.top_k`); either every
    flagged row has it or none.
    """

    input_ids: list[int]
    trained: list[bool]
    harmful: bool
    reference_logps: list[float]
    reference_top_k: Callable[[], TopKLogps]


@dataclass(frozen=True)
class RoleCollator:
    """Pads on the left, so that the answers of a batch end together and one `logits_to_keep` covers them.

    Example, pad id 0, two rows of (ids, trained): ([5, 6, 7], [0, 0, 1]) and ([8, 9], [0, 1]):
        input_ids      [[5, 6, 7], [0, 8, 9]]
        attention_mask [[1, 1, 1], [0, 1, 1]]
        labels         [[-100, -100, 7], [-100, -100, 9]]
        harmful        [False, False]
        row            [0, 1]
    Where the rows have `reference_logps`, [-0.5] and [-2.0], these stand at their tokens' positions:
        reference_logps [[0, 0, -0.5], [0, 0, -2.0]]
    Where flagged rows have `reference_top_k`, of M positions in all, these are joined in the rows' order:
        top_k_tokens (M, k), top_k_logps (M, k), top_k_rest (M,)
    """

    pad_token_id: int

    def __call__(self, examples: Sequence[Example]) -> dict[str, Tensor]:
        """Tensors (B, T) for B examples, T the longest; `harmful` and `row` are (B,)."""
        width = max(len(example["input_ids"]) for example in examples)
        shape = (len(examples), width)
        input_ids = torch.full(shape, self.pad_token_id, dtype=torch.long)
        attention_mask = torch.zeros(shape, dtype=torch.long)
        labels = torch.full(shape, IGNORED, dtype=torch.long)
        for index, example in enumerate(examples):
            ids = torch.tensor(example["input_ids"])
            start = width - len(ids)
            input_ids[index, start:] = ids
            attention_mask[index, start:] = 1
            labels[index, start:] = ids.where(torch.tensor(example["trained"]), IGNORED)
        harmful = torch.tensor([bool(example.get("harmful", False)) for example in examples])
        batch = {
            "input_ids": input_ids,
            "attention_mask": attention_mask,
            "labels": labels,
            "harmful": harmful,
            "row": torch.arange(len(examples)),
        }
        if "reference_logps" in examples[0]:
            batch["reference_logps"] = _at_trained_tokens(examples, width)
        return batch | _joined_top_k(examples)


def _joined_top_k(examples: Sequence[Example]) -> dict[str, Tensor]:
    """The flagged rows' `reference_top_k` as tensors (M, ...); empty where there are none."""
    rows = [
        example["reference_top_k"]()
        for example in examples
        if example.get("harmful", False) and "reference_top_k" in example
    ]
    columns = zip(TopKLogps._fields, zip(*rows, strict=True), strict=True) if rows else ()
    return {f"top_k_{name}": torch.cat(values) for name, values in columns}


def top_k_in(batch: Mapping[str, Tensor]) -> TopKLogps | None:
    """The `reference_top_k` of a batch's flagged rows; None where there are none."""
    if "top_k_tokens" not in batch:
        return None
    return TopKLogps(*(batch[f"top_k_{name}"] for name in TopKLogps._fields))


def _at_trained_tokens(examples: Sequence[Example], width: int) -> Tensor:
    """(B, T) float32: each row's `reference_logps` at its trained tokens, 0 elsewhere."""
    values = torch.zeros(len(examples), width)
    for index, example in enumerate(examples):
        trained = torch.tensor(example["trained"])
        values[index, width - len(trained) :][trained] = torch.tensor(example["reference_logps"])
    return values


def positions(attention_mask: Tensor) -> Tensor:
    """(B, T) position of each token in its own row, whatever the padding; 0 on padding."""
    return (attention_mask.cumsum(-1) - 1).clamp(min=0)


def examples_fingerprint(examples: Sequence[Example]) -> str:
    """SHA-256 over the rows' tokens and which of them are trained, in order."""
    digest = hashlib.sha256()
    for example in examples:
        digest.update(json.dumps([example["input_ids"], example["trained"]]).encode())
    return digest.hexdigest()


def forward_inputs(batch: Mapping[str, Tensor]) -> dict[str, Any]:
    """How a causal model is called on a padded batch."""
    mask = batch["attention_mask"]
    return {
        "input_ids": batch["input_ids"],
        "attention_mask": mask,
        "position_ids": positions(mask),
        "use_cache": False,
    }


def answer_span(labels: Tensor) -> int:
    """How many trailing positions hold every trained token and the position that predicts its first one."""
    first = int((labels != IGNORED).any(0).int().argmax())
    return labels.shape[1] - max(first - 1, 0)
