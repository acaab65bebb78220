"""The frozen reference's log-probability of every trained token, computed once and cached on disk.

Constrained SFT (`losses.constrained`) compares each token with the aligned model; with these values in the rows no
reference is in memory in training.
"""

import math
from collections.abc import Callable, Sequence
from pathlib import Path

import torch

from holdfast.data.collator import Example, RoleCollator, answer_span, examples_fingerprint, forward_inputs
from holdfast.errors import HoldfastError
from holdfast.forward import deferred_logits, evaluating
from holdfast.losses.logprobs import answer_tokens, token_logps
from holdfast.models import Policy, model_fingerprint
from holdfast.reference.answers import batches_by_length
from holdfast.reference.store import RowStore

Progress = Callable[[int, int], None]  # (rows done, rows in all)


def score_trained_tokens(
    model: Policy,
    pad_token_id: int,
    examples: Sequence[Example],
    *,
    batch_size: int = 16,
    cache_dir: Path | None = None,
    progress: Progress | None = None,
) -> list[list[float]]:
    """log p of every trained token of every row, in nats and in order: an `Example`'s `reference_logps`.

    Args:
        model: the aligned model, before fine-tuning.
        pad_token_id: the tokenizer's.
        examples: encoded rows, already cut to their lengths.
        batch_size: rows per forward; rows are grouped by length.
        cache_dir: where the values are kept and looked for; a run that was killed goes on where it stopped. None
            keeps them in memory.
        progress: called after each batch.

    Raises HoldfastError for a corrupt cache, or a model that returns numbers that are not finite.
    """
    store = None
    if cache_dir is not None:
        manifest = {"format": 1, "model": model_fingerprint(model), "examples": examples_fingerprint(examples)}
        store = RowStore(cache_dir, "token_logps", manifest, rows=len(examples), fields=("row", "logps"))
    scored = _stored(store, examples) if store else {}
    for batch in batches_by_length(range(len(examples)), batch_size, lambda row: len(examples[row]["input_ids"])):
        if any(
            row not in scored for row in batch
        ):  # the whole batch again, so that a resumed run gives the same digits
            new = dict(
                zip(batch, _score_batch(model, pad_token_id, [examples[row] for row in batch]), strict=True)
            )
            _check_finite(new)
            scored = new | scored
            if store:
                store.append({"row": row, "logps": logps} for row, logps in new.items())
        if progress:
            progress(len(scored), len(examples))
    return [scored[row] for row in range(len(examples))]


def _score_batch(model: Policy, pad_token_id: int, examples: Sequence[Example]) -> list[list[float]]:
    batch = {key: value.to(model.device) for key, value in RoleCollator(pad_token_id)(examples).items()}
    labels = batch["labels"]
    span = answer_span(labels)
    tokens = answer_tokens(labels[:, -span:])
    with torch.no_grad(), evaluating(model):
        logps = token_logps(deferred_logits(model, span, **forward_inputs(batch)), tokens)  # (N,), by row
    counts = torch.bincount(tokens.row, minlength=len(examples)).tolist()
    return [own.tolist() for own in logps.split(counts)]


def _check_finite(scored: dict[int, list[float]]) -> None:
    for row, logps in scored.items():
        if not all(map(math.isfinite, logps)):
            raise HoldfastError(
                f"encoded row {row + 1}: the model's log-probability is not finite; load it in float32 or bfloat16"
            )


def _stored(store: RowStore, examples: Sequence[Example]) -> dict[int, list[float]]:
    """What the store holds, each row as long as its answer."""
    for row, record in store.records.items():
        found, wanted = record["logps"], sum(examples[row]["trained"])
        if not isinstance(found, list) or len(found) != wanted:
            raise HoldfastError(
                f"{store.path / 'rows.jsonl'}: the cache is corrupt (row {row} has not {wanted} values); "
                f"delete the directory {store.path} and run again"
            )
    return {row: record["logps"] for row, record in store.records.items()}
