"""What the frozen reference gives the answers of encoded rows: the one scoring routine of this floor.

The tokens that all rows begin with are forwarded once (`reference.prefix`). What is left of the rows goes through the
model in batches of like length, padded on the right: attention is causal, so no answer sees the padding and no mask is
needed. Only the positions that predict an answer's token go through the head. Nothing but the log-probabilities of one
batch is held; with a cache they are on disk when the next one starts.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, NamedTuple, TypeVar

import torch
from torch import Tensor

from holdfast.data.collator import Example, answer_span, examples_fingerprint
from holdfast.errors import HoldfastError
from holdfast.forward import deferred_logits, evaluating
from holdfast.losses.logprobs import IGNORED, answer_tokens, token_logps
from holdfast.models import Policy, model_fingerprint
from holdfast.reference.prefix import SharedPrefix, shared_ids, shared_prefix
from holdfast.reference.store import RowStore

Item = TypeVar("Item")
Progress = Callable[[int, int], None]  # (rows done, rows in all)
FORMAT = 2  # of the records on disk
LEAST_FILLED = 0.9  # of a batch's longest row; a smaller batch costs less than more padding does


class AnswerScorer:
    """The frozen reference, how many rows it takes at once, and where its answers are kept.

    Args:
        model: the aligned model, before fine-tuning; its weights do not change while the scorer lives.
        pad_token_id: the tokenizer's.
        batch_size: rows per forward, at most.
        cache_dir: where values are kept and looked for, named by the model and the rows' tokens; a run that was
            killed goes on where it stopped and ends with the same digits. None keeps them in memory.
    """

    def __init__(self, model: Policy, pad_token_id: int, *, batch_size: int = 16, cache_dir: Path | None = None):
        self.model = model
        self.pad_token_id = pad_token_id
        self.batch_size = batch_size
        self.cache_dir = cache_dir

    def sums(
        self,
        examples: Sequence[Example],
        places: Sequence[str],
        *,
        after: SharedPrefix | None = None,
        progress: Progress | None = None,
    ) -> list[float]:
        """log p of each row's answer: the sum over its trained tokens, in nats.

        Args:
            examples: encoded rows, already cut to their lengths.
            places: what an error calls each row.
            after: tokens that these rows and others begin with, if there are others.
            progress: called after each batch.

        Raises HoldfastError for a corrupt cache, or a model that returns numbers that are not finite.
        """
        return self._scored(_SUMS, examples, places, after, progress)

    def by_token(
        self, examples: Sequence[Example], places: Sequence[str], *, progress: Progress | None = None
    ) -> list[list[float]]:
        """log p of each trained token of each row, in order; see `sums`."""
        return self._scored(_TOKENS, examples, places, None, progress)

    def _scored(
        self,
        kind: "_Kind",
        examples: Sequence[Example],
        places: Sequence[str],
        after: SharedPrefix | None,
        progress: Progress | None,
    ) -> list[Any]:
        store = self._store(kind, examples)
        values = _stored(store, kind, examples) if store else {}
        shared = len(shared_ids(examples)) if examples else 0
        batches = batches_by_length(
            range(len(examples)),
            self.batch_size,
            lambda row: len(examples[row]["input_ids"]) - shared,
            least_filled=LEAST_FILLED,
        )
        # A batch is computed as a whole, so that a resumed run gives the same digits.
        missing = [batch for batch in batches if any(row not in values for row in batch)]
        prefix = shared_prefix(self.model, examples, after) if missing else None
        if progress:
            progress(len(values), len(examples))
        for batch in missing:
            logps = answer_logps(self.model, self.pad_token_id, [examples[row] for row in batch], prefix)
            _check_finite(logps, [places[row] for row in batch])
            new = {row: kind.value(own) for row, own in zip(batch, logps, strict=True)}
            values = new | values
            if store:
                store.append({"row": row, kind.field: value} for row, value in new.items())
            if progress:
                progress(len(values), len(examples))
        return [values[row] for row in range(len(examples))]

    def _store(self, kind: "_Kind", examples: Sequence[Example]) -> RowStore | None:
        if self.cache_dir is None:
            return None
        manifest = {"format": FORMAT, "model": self._fingerprint, "examples": examples_fingerprint(examples)}
        return RowStore(self.cache_dir, kind.name, manifest, rows=len(examples), fields=("row", kind.field))

    @cached_property
    def _fingerprint(self) -> str:
        return model_fingerprint(self.model)


class _Kind(NamedTuple):
    """What is kept of an answer's log-probabilities."""

    name: Literal["answer_logps", "token_logps"]  # of the store
    field: str  # of its records
    value: Callable[[list[float]], Any]
    fits: Callable[[Any, int], bool]  # a record's value, an answer of so many tokens


_SUMS = _Kind("answer_logps", "logp", math.fsum, lambda value, tokens: isinstance(value, float))
_TOKENS = _Kind(
    "token_logps", "logps", list, lambda value, tokens: isinstance(value, list) and len(value) == tokens
)


def _stored(store: RowStore, kind: _Kind, examples: Sequence[Example]) -> dict[int, Any]:
    """What the store holds, each value as its row's answer wants it."""
    for row, record in store.records.items():
        if not kind.fits(record[kind.field], sum(examples[row]["trained"])):
            raise HoldfastError(
                f"{store.path / 'rows.jsonl'}: the cache is corrupt (row {row} has no {kind.field} of its length); "
                f"delete the directory {store.path} and run again"
            )
    return {row: record[kind.field] for row, record in store.records.items()}


def _check_finite(logps: Sequence[Sequence[float]], places: Sequence[str]) -> None:
    for own, place in zip(logps, places, strict=True):
        if not all(map(math.isfinite, own)):
            raise HoldfastError(
                f"{place}: the model's log-probability is not finite; load it in float32 or bfloat16"
            )


def answer_logps(
    model: Policy, pad_token_id: int, examples: Sequence[Example], prefix: SharedPrefix | None = None
) -> list[list[float]]:
    """log p of each trained token of each row, at least float32, without a gradient: one batch.

    Args:
        model: a causal language model.
        pad_token_id: any token; no answer sees it.
        examples: rows that all begin with the prefix and have no trained token in it or right after it.
        prefix: tokens that are forwarded already.
    """
    input_ids, labels = _padded_on_the_right(examples, len(prefix.ids) if prefix else 0, pad_token_id)
    span = answer_span(labels)
    tokens = answer_tokens(labels[:, -span:].to(model.device))
    inputs = prefix.inputs if prefix else {"use_cache": False}
    with torch.no_grad(), evaluating(model):
        logits = deferred_logits(model, span, input_ids=input_ids.to(model.device), **inputs)
        logps = token_logps(logits, tokens)  # (N,), by row
    counts = torch.bincount(tokens.row, minlength=len(examples)).tolist()
    return [own.tolist() for own in logps.cpu().split(counts)]


def _padded_on_the_right(examples: Sequence[Example], skipped: int, pad_token_id: int) -> tuple[Tensor, Tensor]:
    """Input ids and labels, (B, S), of what comes after the first `skipped` tokens."""
    width = max(len(example["input_ids"]) for example in examples) - skipped
    input_ids = torch.full((len(examples), width), pad_token_id, dtype=torch.long)
    labels = torch.full((len(examples), width), IGNORED, dtype=torch.long)
    for index, example in enumerate(examples):
        ids = torch.tensor(example["input_ids"][skipped:])
        input_ids[index, : len(ids)] = ids
        labels[index, : len(ids)] = ids.where(torch.tensor(example["trained"][skipped:]), IGNORED)
    return input_ids, labels


def batches_by_length(
    items: Sequence[Item], batch_size: int, tokens: Callable[[Item], int], *, least_filled: float = 0.0
) -> Iterator[list[Item]]:
    """Items of like length together, the longest first; the same items always make the same batches.

    Args:
        items: to be batched.
        batch_size: at most so many to a batch.
        tokens: an item's length.
        least_filled: an item shorter than this share of its batch's longest begins the next batch.
    """
    batch: list[Item] = []
    for item in sorted(items, key=tokens, reverse=True):  # stable: equal lengths stay in order
        if batch and (len(batch) == batch_size or tokens(item) < least_filled * tokens(batch[0])):
            yield batch
            batch = []
        batch.append(item)
    if batch:
        yield batch
