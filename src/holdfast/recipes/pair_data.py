"""From a file of parallel pairs to rows with everything that the frozen reference says about them."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from holdfast.chat import ChatFormat
from holdfast.data.pair_collator import PairExample
from holdfast.data.pair_formats import load_parallel_pairs
from holdfast.data.pairs import ParallelPairs
from holdfast.data.rows import Message
from holdfast.data.truncation import LengthLimits, TruncationCounts
from holdfast.errors import HoldfastError
from holdfast.models import Policy
from holdfast.recipes.terminal import count, note, progress_bar, warn_of, warn_of_unknown_tokens
from holdfast.reference.pairs import EncodedPair, PairScore, encode_pairs, score_pairs


@dataclass(frozen=True)
class ScoredPairs:
    """Encoded pairs of both sides with the reference's log-probabilities; keys are indices in `pairs`."""

    pairs: ParallelPairs
    targets: list[EncodedPair]
    dominants: list[EncodedPair]
    target_scores: dict[int, PairScore]
    dominant_scores: dict[int, PairScore]
    truncated: TruncationCounts

    def gaps(self, *, length_normalise: bool = True) -> dict[str, list[float]]:
        """Return the reward gaps by language, the dominant one first; its are over distinct pairs, each once."""
        gaps: dict[str, list[float]] = {}
        for language, _, score in self._measured():
            gaps.setdefault(language, []).append(score.reward_gap(length_normalise=length_normalise))
        return gaps

    def cut_answers(self) -> dict[str, tuple[int, int]]:
        """Return how many answers were cut and how many there are, by language; only languages where some were."""
        counts: dict[str, tuple[int, int]] = {}
        for language, pair, _ in self._measured():
            cut, answers = counts.get(language, (0, 0))
            counts[language] = (cut + pair.answers_cut, answers + 2)
        return {language: both for language, both in counts.items() if both[0]}

    def _measured(self) -> Iterator[tuple[str, EncodedPair, PairScore]]:
        for pair in self.dominants:
            yield self.pairs.dominant_language, pair, self.dominant_scores[pair.row]
        for pair in self.targets:
            yield self.pairs.targets[pair.row].language, pair, self.target_scores[pair.row]

    def examples(self, *, length_normalise: bool = True) -> list[PairExample]:
        """Target pairs with their reference values; those whose dominant pair the limits dropped are left out."""
        examples = []
        for target in self.targets:
            dominant = self.pairs.dominant_of[target.row]
            if dominant not in self.dominant_scores:
                self.truncated.counts["pairs dropped (dominant prompt too long)"] += 1
                continue
            score = self.target_scores[target.row]
            gap = self.dominant_scores[dominant].reward_gap(length_normalise=length_normalise)
            examples.append(
                PairExample(
                    **target.example,
                    reference_chosen_logps=score.chosen_logps,
                    reference_rejected_logps=score.rejected_logps,
                    reference_dominant_gaps=gap,
                    anchor=dominant,
                )
            )
        if not examples:
            raise HoldfastError(
                f"{self.pairs.source}: no pair is left to train on ({self.truncated}); raise max_prompt_tokens"
            )
        return examples


def load_pairs(
    source: str,
    *,
    dominant: str,
    languages: tuple[str, ...] = (),
    split: str = "train",
    drop: bool = False,
    drop_bad_rows: bool = False,
    limit: int | None = None,
) -> ParallelPairs:
    """Load, and say what was found and what looks wrong."""
    pairs = load_parallel_pairs(
        source,
        dominant=dominant,
        languages=languages or None,
        split=split,
        drop=drop,
        drop_bad_rows=drop_bad_rows,
        limit=limit,
    )
    note(
        f"{pairs.source}: {count(len(pairs.targets), 'pair')} in {', '.join(pairs.languages[1:])}, "
        f"{count(len(pairs.dominants), 'dominant pair')} in {pairs.dominant_language}"
    )
    warn_of(pairs.source, pairs.warnings, pairs.examples, pairs.dropped)
    return pairs


def score_both_sides(
    model: Policy,
    chat: ChatFormat,
    pairs: ParallelPairs,
    limits: LengthLimits,
    *,
    system: str | None = None,
    batch_size: int,
    cache_dir: Path | None,
) -> ScoredPairs:
    """Score every target and every dominant pair once, with one progress bar."""
    for language in pairs.languages:
        texts = [
            (*pair.prompt, Message("assistant", pair.chosen))
            for pair in (*pairs.dominants, *pairs.targets)
            if pair.language == language
        ]
        warn_of_unknown_tokens(chat, texts[:200], f"the {language} tokens")
    truncated = TruncationCounts()
    sides = {
        "dominant": encode_pairs(chat, pairs.dominants, limits, system=system, counts=truncated),
        "target": encode_pairs(chat, pairs.targets, limits, system=system, counts=truncated),
    }
    total, before = sum(map(len, sides.values())), 0
    if total == 0:
        raise HoldfastError(f"{pairs.source}: no pair is left to score ({truncated}); raise max_prompt_tokens")
    scores = {}
    with progress_bar("scoring pairs") as show:
        for name, loaded in (("dominant", pairs.dominants), ("target", pairs.targets)):
            start = before

            def progress(done: int, _: int, start: int = start) -> None:
                show(start + done, total)

            scores[name] = score_pairs(
                model, chat, loaded, sides[name], batch_size=batch_size, cache_dir=cache_dir, progress=progress
            )
            before += len(sides[name])
    return ScoredPairs(pairs, sides["target"], sides["dominant"], scores["target"], scores["dominant"], truncated)
