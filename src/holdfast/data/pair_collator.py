"""Encoded preference pairs to padded batches."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple, TypedDict

import torch
from torch import Tensor

from holdfast.data.collator import Example, RoleCollator


class PairExample(TypedDict, total=False):
    """One encoded pair, with what the frozen reference says about it (summed log-probabilities, in nats).

    The dominant pair that it belongs to stands as its reward gap under the reference and as the number of its
    anchor; preference losses need neither.
    """

    chosen: Example
    rejected: Example
    reference_chosen_logps: float
    reference_rejected_logps: float
    reference_dominant_gaps: float
    anchor: int


class AnchorSequence(NamedTuple):
    """Tokens whose hidden states are held, padded on the right to `len(pooled)`."""

    input_ids: list[int]
    pooled: list[bool]  # the positions that the mean is over; the published code's include padding


@dataclass(frozen=True)
class Anchors:
    """Hidden states of the dominant language's texts under the frozen reference.

    `sequences[d]` are the S texts of dominant pair d, `vectors` (D, S, H) their pooled last hidden states.
    """

    sequences: tuple[tuple[AnchorSequence, ...], ...]
    vectors: Tensor


@dataclass(frozen=True)
class PairCollator:
    """B pairs as 2B rows, padded on the left: the chosen answers first, then the rejected ones in the same order.

    Besides `input_ids`, `attention_mask` and `labels` (2B, T) there are `row` (B,) and each reference value
    (B,). With anchors there are the texts of the dominant pairs that the batch needs, each once:
    `anchor_input_ids`, `anchor_attention_mask` and `anchor_pooled` (A * S, P), `anchor_vectors` (A, S, H), and
    `anchor_of` (B,), which of them is each row's.
    """

    pad_token_id: int
    anchors: Anchors | None = None

    def __call__(self, examples: Sequence[PairExample]) -> dict[str, Tensor]:
        """See the class."""
        rows = [*(example["chosen"] for example in examples), *(example["rejected"] for example in examples)]
        batch = RoleCollator(self.pad_token_id)(rows)
        del batch["harmful"]
        batch["row"] = torch.arange(len(examples))
        for name in ("reference_chosen_logps", "reference_rejected_logps", "reference_dominant_gaps"):
            if name in examples[0]:
                batch[name] = torch.tensor([example[name] for example in examples])  # type: ignore[literal-required]
        if self.anchors is not None:
            batch |= self._anchored(self.anchors, [example["anchor"] for example in examples])
        return batch

    def _anchored(self, anchors: Anchors, wanted: Sequence[int]) -> dict[str, Tensor]:
        distinct = sorted(set(wanted))
        sequences = [sequence for index in distinct for sequence in anchors.sequences[index]]
        batch = collate_anchors(sequences, self.pad_token_id)
        batch["anchor_vectors"] = anchors.vectors[distinct]
        batch["anchor_of"] = torch.tensor([distinct.index(index) for index in wanted])
        return batch


def collate_anchors(sequences: Sequence[AnchorSequence], pad_token_id: int) -> dict[str, Tensor]:
    """`anchor_input_ids`, `anchor_attention_mask`, `anchor_pooled`, each (A, P), padded on the right."""
    shape = (len(sequences), max(len(sequence.pooled) for sequence in sequences))
    input_ids = torch.full(shape, pad_token_id, dtype=torch.long)
    mask, pooled = torch.zeros(shape, dtype=torch.long), torch.zeros(shape, dtype=torch.bool)
    for index, sequence in enumerate(sequences):
        input_ids[index, : len(sequence.input_ids)] = torch.tensor(sequence.input_ids)
        mask[index, : len(sequence.input_ids)] = 1
        pooled[index, : len(sequence.pooled)] = torch.tensor(sequence.pooled)
    return {"anchor_input_ids": input_ids, "anchor_attention_mask": mask, "anchor_pooled": pooled}
