"""What the frozen reference says about parallel preference pairs: reward gaps, and anchors for MPO.

Paper: "MPO: Multilingual Safety Alignment via Reward Gap Optimization", https://arxiv.org/abs/2505.16869. All of it
depends on the reference and the data only, so it is computed once and no reference is in memory in training.
"""

import hashlib
import json
import math
import random
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Literal, NamedTuple

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from holdfast.chat import ChatFormat
from holdfast.data.collator import Example, examples_fingerprint
from holdfast.data.pair_collator import Anchors, AnchorSequence, PairExample, collate_anchors
from holdfast.data.pairs import PreferencePair
from holdfast.data.rows import Message, RoleRow
from holdfast.data.truncation import RESPONSES_CUT, LengthLimits, TruncationCounts
from holdfast.errors import HoldfastError
from holdfast.files import replacing
from holdfast.forward import evaluating, last_hidden_states
from holdfast.losses.deferred import at_least_float32
from holdfast.models import Policy, model_fingerprint
from holdfast.reference.answers import answer_logps, batches_by_length
from holdfast.reference.rds import encode_row
from holdfast.reference.store import RowStore

Progress = Callable[[int, int], None]  # (pairs done, pairs in all)
Retention = Literal["last", "mean", "padded_mean"]
PADDED_TO = 8  # the published code pads to a multiple of this


@dataclass(frozen=True, slots=True)
class PairScore:
    """Log-probabilities of a pair's two answers, summed over their tokens, in nats."""

    row: int  # index among the scored pairs
    location: str
    chosen_logps: float
    rejected_logps: float
    chosen_tokens: int
    rejected_tokens: int

    def reward_gap(self, *, length_normalise: bool = True) -> float:
        """RG(x, y_w, y_l): the mean (or summed) log-probability of the safe answer minus the unsafe one's."""
        if not length_normalise:
            return self.chosen_logps - self.rejected_logps
        return self.chosen_logps / self.chosen_tokens - self.rejected_logps / self.rejected_tokens


class EncodedPair(NamedTuple):
    """A pair as tokens, and its index among the loaded ones."""

    row: int
    location: str
    example: PairExample
    answers_cut: int = 0  # of its two answers

    @property
    def tokens(self) -> int:
        """Of the longer answer with its prompt."""
        return max(len(self.example["chosen"]["input_ids"]), len(self.example["rejected"]["input_ids"]))


def encode_pairs(
    chat: ChatFormat,
    pairs: Sequence[PreferencePair],
    limits: LengthLimits,
    *,
    system: str | None = None,
    counts: TruncationCounts | None = None,
) -> list[EncodedPair]:
    """Return pairs as tokens within the limits; one whose prompt is too long is left out.

    The last turn is the answer: all before it is the prompt, earlier assistant turns too. `counts` counts each pair's
    prompt once and each of its answers.
    """
    encoded = []
    for index, pair in enumerate(pairs):
        touched = (TruncationCounts(), TruncationCounts())  # by the chosen answer's row, by the rejected one's
        chosen, rejected = (
            encode_row(
                chat,
                RoleRow((*pair.prompt, Message("assistant", answer)), pair.location),
                limits,
                system=system,
                counts=own,
                last_answer_only=True,
            )
            for answer, own in zip((pair.chosen, pair.rejected), touched, strict=True)
        )
        answers_cut = sum(own.counts[RESPONSES_CUT] for own in touched)
        if counts is not None:
            counts.counts += touched[0].counts | Counter({RESPONSES_CUT: answers_cut})
        if chosen is not None and rejected is not None:  # they share the prompt, so both are there or neither
            example = PairExample(chosen=chosen, rejected=rejected)
            encoded.append(EncodedPair(index, pair.location, example, answers_cut))
    return encoded


def score_pairs(
    model: Policy,
    chat: ChatFormat,
    pairs: Sequence[PreferencePair],
    encoded: Sequence[EncodedPair],
    *,
    batch_size: int = 16,
    cache_dir: Path | None = None,
    progress: Progress | None = None,
) -> dict[int, PairScore]:
    """Score every encoded pair under the frozen reference, each once; keyed by `EncodedPair.row`.

    With `cache_dir` the scores are streamed to disk and reused; a run that was killed goes on where it stopped.
    Raises HoldfastError for a corrupt cache or a log-probability that is not finite.
    """
    store = None
    if cache_dir is not None:
        names = [field.name for field in fields(PairScore) if field.name != "location"]
        store = RowStore(cache_dir, "pair_scores", _manifest(model, encoded), rows=len(pairs), fields=names)
    records = store.records if store else {}
    scores = {row: PairScore(location=pairs[row].location, **record) for row, record in records.items()}
    for batch in batches_by_length(encoded, batch_size, lambda pair: pair.tokens):
        if any(pair.row not in scores for pair in batch):
            scored = _score_batch(model, chat.tokenizer.pad_token_id or 0, batch)
            scores.update((score.row, score) for score in scored)
            if store:
                store.append({name: getattr(score, name) for name in names} for score in scored)
        if progress:
            progress(len(scores), len(encoded))
    return {pair.row: scores[pair.row] for pair in encoded}


def _score_batch(model: Policy, pad_token_id: int, batch: Sequence[EncodedPair]) -> list[PairScore]:
    rows = [*(pair.example["chosen"] for pair in batch), *(pair.example["rejected"] for pair in batch)]
    logps = [math.fsum(own) for own in answer_logps(model, pad_token_id, rows)]
    scored = []
    for pair, chosen, rejected in zip(batch, logps[: len(batch)], logps[len(batch) :], strict=True):
        if not (math.isfinite(chosen) and math.isfinite(rejected)):
            raise HoldfastError(
                f"{pair.location}: the model's log-probability is not finite; load it in float32 or bfloat16"
            )
        tokens = (sum(pair.example["chosen"]["trained"]), sum(pair.example["rejected"]["trained"]))
        scored.append(PairScore(pair.row, pair.location, chosen, rejected, *tokens))
    return scored


def _manifest(model: Policy, encoded: Sequence[EncodedPair]) -> dict[str, object]:
    """Everything that the scores depend on: the model, and the tokens with which of them are the answer."""
    rows = [pair.row for pair in encoded]
    return {
        "format": 2,
        "model": model_fingerprint(model),
        "rows": hashlib.sha256(json.dumps(rows).encode()).hexdigest(),
        "chosen": examples_fingerprint([pair.example["chosen"] for pair in encoded]),
        "rejected": examples_fingerprint([pair.example["rejected"] for pair in encoded]),
    }


# --- anchors


def dominant_anchors(
    dominants: int, encoded: Sequence[EncodedPair], retention: Retention
) -> list[tuple[AnchorSequence, ...]]:
    """The texts to hold for each of the `dominants` loaded dominant pairs; none for one that was left out."""
    by_row = {pair.row: anchor_sequences(pair.example, retention) for pair in encoded}
    return [by_row.get(index, ()) for index in range(dominants)]


def anchor_sequences(example: PairExample, retention: Retention) -> tuple[AnchorSequence, ...]:
    """The texts of a dominant pair whose hidden states are held.

    `last`: the prompt alone, its last token, so that one short forward suffices. `mean`: both answers with their
    prompts, the mean over their tokens. `padded_mean`: the same over all positions, padding included, as the
    published code does with one pair a device; it pads both to the longer one, to a multiple of 8.
    """
    if retention == "last":
        return (prompt_anchor(example["chosen"]),)
    both = [example["chosen"]["input_ids"], example["rejected"]["input_ids"]]
    width = -(-max(map(len, both)) // PADDED_TO) * PADDED_TO
    return tuple(AnchorSequence(ids, [True] * (width if retention == "padded_mean" else len(ids))) for ids in both)


def pooled_hidden_states(model: nn.Module, batch: dict[str, Tensor]) -> Tensor:
    """(A, H) mean over the pooled positions of the last hidden layer, after the final norm, at least float32.

    `batch` is what `collate_anchors` returns. The gradient flows into the model where gradients are on.
    """
    hidden = last_hidden_states(
        model,
        input_ids=batch["anchor_input_ids"],
        attention_mask=batch["anchor_attention_mask"],
        use_cache=False,
    )
    hidden = at_least_float32(hidden)  # (A, P, H)
    weights = batch["anchor_pooled"].to(hidden.dtype)  # (A, P)
    return (hidden * weights.unsqueeze(-1)).sum(1) / weights.sum(1, keepdim=True)


def prompt_anchor(example: Example) -> AnchorSequence:
    """The prompt of an encoded row, held at its last token: where the model decides how to begin its answer."""
    first = example["trained"].index(True)
    return AnchorSequence(example["input_ids"][:first], [False] * (first - 1) + [True])


def with_retained_prompts(
    sets: Sequence[tuple[AnchorSequence, ...]], retained: Sequence[AnchorSequence], seed: int
) -> list[tuple[AnchorSequence, ...]]:
    """Each set with one more text: the retained prompts in turn, in an order drawn by `seed`."""
    order = list(range(len(retained)))
    random.Random(seed).shuffle(order)
    return [(*own, retained[order[index % len(order)]]) for index, own in enumerate(sets)]


def compute_anchors(
    model: Policy,
    chat: ChatFormat,
    sequences: Sequence[tuple[AnchorSequence, ...]],
    *,
    batch_size: int = 16,
    cache_dir: Path | None = None,
) -> Anchors:
    """Hidden states of every set of texts under the frozen reference; a set may be empty, the others are alike long.

    A text that stands in several sets is forwarded once. With `cache_dir` the vectors are kept as safetensors, named
    by everything they depend on. Raises HoldfastError for a corrupt cache.
    """
    path, pad_token_id = None, chat.tokenizer.pad_token_id or 0
    if cache_dir is not None:
        texts = hashlib.sha256(json.dumps(sequences).encode()).hexdigest()
        # A mean over padding sees the padding token too.
        manifest = {"format": 2, "model": model_fingerprint(model), "sequences": texts, "pad": pad_token_id}
        store = RowStore(cache_dir, "anchors", manifest, rows=0, fields=())
        path = store.path / "vectors.safetensors"
    if path is not None and path.is_file():
        return Anchors(tuple(sequences), _load_vectors(path))
    vectors = _anchor_vectors(model, pad_token_id, sequences, batch_size)
    if path is not None:
        with replacing(path) as temporary:
            save_file({"vectors": vectors}, temporary)
    return Anchors(tuple(sequences), vectors)


def _load_vectors(path: Path) -> Tensor:
    try:
        return load_file(path)["vectors"]
    except (SafetensorError, KeyError) as error:
        raise HoldfastError(
            f"{path}: the cache is corrupt ({error}); delete the directory {path.parent} and run again"
        ) from None


def _anchor_vectors(
    model: Policy, pad_token_id: int, sequences: Sequence[tuple[AnchorSequence, ...]], batch_size: int
) -> Tensor:
    """(D, S, H) float32 on the CPU."""
    places: dict[tuple[tuple[int, ...], tuple[bool, ...]], list[tuple[int, int]]] = {}
    for index, own in enumerate(sequences):
        for k, sequence in enumerate(own):
            places.setdefault((tuple(sequence.input_ids), tuple(sequence.pooled)), []).append((index, k))
    texts = max((len(own) for own in sequences), default=0)
    vectors: Tensor | None = None
    for batch in batches_by_length(list(places), batch_size, lambda text: len(text[1])):
        collated = collate_anchors(
            [AnchorSequence(list(ids), list(pooled)) for ids, pooled in batch], pad_token_id
        )
        with torch.no_grad(), evaluating(model):
            hidden = pooled_hidden_states(model, {k: v.to(model.device) for k, v in collated.items()}).cpu()
        if vectors is None:
            vectors = torch.zeros(len(sequences), texts, hidden.shape[-1])
        for text, vector in zip(batch, hidden, strict=True):
            for index, k in places[text]:
                vectors[index, k] = vector
    if vectors is None:
        raise HoldfastError("no dominant pair is left to anchor; raise max_prompt_tokens")
    return vectors
