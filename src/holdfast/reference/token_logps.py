"""The frozen reference's log-probability of every trained token, computed once and cached on disk.

Constrained SFT (`losses.constrained`) compares each token with the aligned model; with these values in the rows no
reference is in memory in training.
"""

from collections.abc import Sequence
from pathlib import Path

from holdfast.data.collator import Example
from holdfast.models import Policy
from holdfast.reference.answers import AnswerScorer, Progress


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
    scorer = AnswerScorer(model, pad_token_id, batch_size=batch_size, cache_dir=cache_dir)
    places = [f"encoded row {row + 1}" for row in range(len(examples))]
    return scorer.by_token(examples, places, progress=progress)
