"""What the frozen reference says at every anchored position, in k + 1 outcomes: computed once, kept on disk, mapped.

SaRFT (`losses.sarft`) holds flagged rows to the reference. With these values in the rows (`Example.reference_top_k`)
no reference is in memory in training: no frozen copy under full fine-tuning, no second forward under LoRA. What the
k + 1 outcomes (`losses.top_k`) leave out of the divergence is measured by `benchmarks/top_k_reference.py`.

A position takes 8 k + 4 bytes: tokens as int32, log-probabilities as float32. Shards are safetensors files, one a
batch, and are read where and when a batch is put together, so that a cache may be larger than the memory.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from holdfast.data.collator import Example, RoleCollator, answer_span, examples_fingerprint, forward_inputs
from holdfast.errors import HoldfastError
from holdfast.files import replacing
from holdfast.forward import deferred_logits, evaluating
from holdfast.losses.deferred import SCORED_BYTES, DeferredLogits
from holdfast.losses.logprobs import next_labels
from holdfast.losses.sarft import Span, anchored_positions
from holdfast.losses.top_k import TopKLogps, top_k_of
from holdfast.models import Policy, model_fingerprint
from holdfast.reference.answers import Progress, batches_by_length
from holdfast.reference.store import RowStore


@dataclass(frozen=True, slots=True)
class StoredTopK:
    """One row's values in a shard; called, it reads them."""

    shard: Path
    start: int  # its first position in the shard
    positions: int

    def __call__(self) -> TopKLogps:
        """The row's anchored positions in order. Raises HoldfastError where the shard does not hold them."""
        with _opened(self.shard) as file:
            parts = (file.get_slice(name) for name in TopKLogps._fields)
            own = TopKLogps(*(part[self.start : self.start + self.positions] for part in parts))
        if len(own.tokens) != self.positions:
            raise _corrupt(self.shard, f"it has no positions {self.start} to {self.start + self.positions - 1}")
        return own


def score_top_k(
    model: Policy,
    pad_token_id: int,
    examples: Sequence[Example],
    k: int,
    *,
    span: Span,
    first_tokens: int | None,
    cache_dir: Path,
    batch_size: int = 16,
    progress: Progress | None = None,
) -> list[StoredTopK]:
    """The reference's k likeliest tokens at the anchored positions of every row: each an `Example.reference_top_k`.

    Args:
        model: the aligned model, before fine-tuning and without adapters.
        pad_token_id: the tokenizer's.
        examples: the flagged rows, already cut to their lengths.
        k: how many tokens.
        span, first_tokens: which positions are anchored: `kl_span` and `kl_first_tokens` of the loss.
        cache_dir: where the values are kept and looked for; a run that was killed goes on where it stopped.
        batch_size: rows per forward; rows are grouped by length.
        progress: called after each batch.

    Raises HoldfastError for a corrupt cache, for k beyond the vocabulary, or a model that returns numbers that are
    not finite.
    """
    if not examples:
        return []
    store = _store(model, examples, k, span, first_tokens, cache_dir)
    shards = 1 + max((record["shard"] for record in store.records.values()), default=-1)
    for batch in batches_by_length(range(len(examples)), batch_size, lambda row: len(examples[row]["input_ids"])):
        missing = [row for row in batch if row not in store.records]
        if missing:  # the whole batch again, so that a resumed run gives the same digits
            scored = _score_batch(model, pad_token_id, [examples[row] for row in batch], k, span, first_tokens)
            new = {row: own for row, own in zip(batch, scored, strict=True) if row in missing}
            _check_finite(new)
            _write_shard(_shard_path(store, shards), list(new.values()))
            store.append(_records(new, shards))
            shards += 1
        if progress:
            progress(len(store.records), len(examples))
    return [_stored(store, row) for row in range(len(examples))]


def with_reference_top_k(
    model: Policy, pad_token_id: int, examples: Sequence[Example], k: int, **options: Any
) -> list[Example]:
    """The rows, the flagged ones with `reference_top_k`; arguments are those of `score_top_k`."""
    flagged = [example for example in examples if example.get("harmful", False)]
    stored = iter(score_top_k(model, pad_token_id, flagged, k, **options))
    return [
        {**example, "reference_top_k": next(stored)} if example.get("harmful", False) else example
        for example in examples
    ]


# --- scoring


def _score_batch(
    model: Policy, pad_token_id: int, examples: Sequence[Example], k: int, span: Span, first_tokens: int | None
) -> list[TopKLogps]:
    """Each row's anchored positions, on the CPU."""
    batch = {key: value.to(model.device) for key, value in RoleCollator(pad_token_id)(examples).items()}
    labels, mask = batch["labels"], batch["attention_mask"]
    kept = labels.shape[1] if span == "sequence" else answer_span(labels)
    every_row = torch.ones_like(batch["harmful"])
    anchored = anchored_positions(next_labels(labels[:, -kept:]), mask[:, -kept:], every_row, span, first_tokens)
    with torch.no_grad(), evaluating(model):
        outcomes = _top_k_at(anchored, deferred_logits(model, kept, **forward_inputs(batch)), k)
    counts = anchored.sum(1).tolist()
    return [TopKLogps(*own) for own in zip(*(values.split(counts) for values in outcomes), strict=True)]


def _top_k_at(anchored: Tensor, logits: DeferredLogits, k: int) -> TopKLogps:
    """The outcomes at the anchored positions (B, K), row by row; logits are made for a few positions at a time."""
    if not 1 <= k <= logits.vocabulary:
        raise HoldfastError(f"reference_top_k {k}: give 1 to {logits.vocabulary}, the model's vocabulary")
    hidden = logits.at(anchored.flatten().nonzero().squeeze(1))
    at_once = max(1, SCORED_BYTES // (4 * logits.vocabulary))
    parts = [top_k_of(logits.head(chunk), k) for chunk in hidden.split(at_once)]
    tokens, logps, rest = (torch.cat(values).cpu() for values in zip(*parts, strict=True))
    return TopKLogps(tokens.int(), logps.float(), rest.float())


def _check_finite(scored: dict[int, TopKLogps]) -> None:
    for row, own in scored.items():
        if not own.logps.isfinite().all() or own.rest.isnan().any():
            raise HoldfastError(
                f"flagged row {row + 1}: the model's log-probability is not finite; load it in float32 or bfloat16"
            )


# --- on disk


def _store(
    model: Policy, examples: Sequence[Example], k: int, span: Span, first_tokens: int | None, cache_dir: Path
) -> RowStore:
    """Which row is where: its shard, its first position there and how many it has. All shards are there."""
    manifest = {
        "format": 1,
        "model": model_fingerprint(model),
        "examples": examples_fingerprint(examples),
        "k": k,
        "span": span,
        "first_tokens": first_tokens,
    }
    fields = ("row", "shard", "start", "positions")
    store = RowStore(cache_dir, "top_k_logps", manifest, rows=len(examples), fields=fields)
    for shard in {record["shard"] for record in store.records.values()}:
        with _opened(_shard_path(store, shard)):
            pass
    return store


def _shard_path(store: RowStore, shard: int) -> Path:
    return store.path / f"{shard:06d}.safetensors"


def _write_shard(path: Path, rows: Sequence[TopKLogps]) -> None:
    columns = zip(TopKLogps._fields, zip(*rows, strict=True), strict=True)
    with replacing(path) as temporary:
        save_file({name: torch.cat(values) for name, values in columns}, temporary)


def _records(scored: dict[int, TopKLogps], shard: int) -> Iterator[dict[str, int]]:
    start = 0
    for row, own in scored.items():
        yield {"row": row, "shard": shard, "start": start, "positions": len(own.tokens)}
        start += len(own.tokens)


def _stored(store: RowStore, row: int) -> StoredTopK:
    record = store.records[row]
    return StoredTopK(_shard_path(store, record["shard"]), record["start"], record["positions"])


@contextmanager
def _opened(shard: Path) -> Iterator[Any]:
    """A shard, mapped into memory."""
    try:
        with safe_open(shard, framework="pt") as file:
            yield file
    except (SafetensorError, OSError) as error:
        raise _corrupt(shard, str(error)) from None


def _corrupt(shard: Path, why: str) -> HoldfastError:
    return HoldfastError(
        f"{shard}: the cache is corrupt ({why}); delete the directory {shard.parent} and run again"
    )
