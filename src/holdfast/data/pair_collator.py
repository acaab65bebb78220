"""Encoded preference pairs to padded batches."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple, TypedDict

import torch
from torch import Tensor

from holdfast.data.collator import Example, RoleCollator
from holdfast.losses.logprobs import IGNORED


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


# What a position of a row that two answers share belongs to: `answer` of PairCollator's batches.
PADDING, PROMPT, CHOSEN, REJECTED = -1, 0, 1, 2


@dataclass(frozen=True)
class PairCollator:
    """B pairs as 2B rows, padded on the left: the chosen answers first, then the rejected ones in the same order.

    Besides `input_ids`, `attention_mask` and `labels` (2B, T) there are `row` (B,) and each reference value
    (B,). With anchors there are the texts of the dominant pairs that the batch needs, each once:
    `anchor_input_ids`, `anchor_attention_mask` and `anchor_pooled` (A * S, P), `anchor_vectors` (A, S, H), and
    `anchor_of` (B,), which of them is each row's.

    Where both answers may share their prompt the pairs are B rows: prompt, chosen answer, rejected answer. `answer`
    (B, T) is there instead of `attention_mask` and says which of them a position belongs to. The prompt's last token
    leads each answer, so that every trained token is predicted by the position before it.
    Example, pad id 0, two pairs of (prompt, chosen, rejected): ([5, 6], [7], [8, 9]) and ([5], [7], [8]):
        input_ids [[5, 6, 7, 6, 8, 9], [0, 0, 5, 7, 5, 8]]
        answer    [[0, 1, 1, 2, 2, 2], [-1, -1, 1, 1, 2, 2]]
        labels    [[-100, -100, 7, -100, 8, 9], [-100, -100, -100, 7, -100, 8]]

    Attributes:
        pad_token_id: the tokenizer's.
        anchors: what is held; None holds nothing.
        longest_sharing: a batch shares where no prompt with an answer has more tokens than this; 0 never shares.
            What the model allows: `trainers.pairs.longest_sharing`.
    """

    pad_token_id: int
    anchors: Anchors | None = None
    longest_sharing: int = 0

    def __call__(self, examples: Sequence[PairExample]) -> dict[str, Tensor]:
        """See the class."""
        rows = [*(example["chosen"] for example in examples), *(example["rejected"] for example in examples)]
        if max(len(row["input_ids"]) for row in rows) <= self.longest_sharing:
            batch = _shared_rows(examples, self.pad_token_id)
        else:
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


def shared_tokens(example: PairExample) -> int:
    """How many tokens a pair has as one row: what its forward costs, and what to group pairs by."""
    both = len(example["chosen"]["input_ids"]) + len(example["rejected"]["input_ids"])
    return both - _shared_prefix(example)


def _shared_prefix(example: PairExample) -> int:
    """How many leading tokens stand once in a shared row.

    The longest common part in which nothing is trained, less its last token, which predicts the first of what follows
    and so leads both answers. Whatever the template does, the rest stays each answer's own.
    """
    chosen, rejected = example["chosen"], example["rejected"]
    both = zip(
        zip(chosen["input_ids"], chosen["trained"], strict=True),
        zip(rejected["input_ids"], rejected["trained"], strict=True),
        strict=False,
    )
    common = 0
    for (token, trained), (other, other_trained) in both:
        if token != other or trained or other_trained:
            break
        common += 1
    return max(common - 1, 0)


def _shared_rows(examples: Sequence[PairExample], pad_token_id: int) -> dict[str, Tensor]:
    """`input_ids`, `answer` and `labels` (B, T): see PairCollator."""
    shape = (len(examples), max(shared_tokens(example) for example in examples))
    input_ids = torch.full(shape, pad_token_id, dtype=torch.long)
    answer = torch.full(shape, PADDING, dtype=torch.long)
    labels = torch.full(shape, IGNORED, dtype=torch.long)
    for index, example in enumerate(examples):
        chosen, rejected = example["chosen"], example["rejected"]
        prefix = _shared_prefix(example)
        ids = torch.tensor([*chosen["input_ids"], *rejected["input_ids"][prefix:]])
        trained = torch.tensor([*chosen["trained"], *rejected["trained"][prefix:]])
        start, end = shape[1] - len(ids), shape[1] - len(rejected["input_ids"]) + prefix
        input_ids[index, start:] = ids
        labels[index, start:] = ids.where(trained, IGNORED)
        answer[index, start:] = PROMPT
        answer[index, start + prefix :] = CHOSEN
        answer[index, end:] = REJECTED
    return {"input_ids": input_ids, "answer": answer, "labels": labels}


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
