"""Parallel preference pairs from files and the hub: rows read, joined, and the doubtful ones counted."""

from collections import Counter
from collections.abc import Collection, Hashable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from holdfast.data.files import BadRowError, read_records, shortened
from holdfast.data.languages import detector_is_installed, language_code, require_detector
from holdfast.data.pair_checks import FOREIGN_PROMPT, LANGUAGE_REASONS, NOT_CHECKED, ONCE, REASONS, TWICE, doubts
from holdfast.data.pair_halves import Half, halves_of
from holdfast.data.pair_languages import with_languages
from holdfast.data.pairs import ParallelPairs, PreferencePair
from holdfast.errors import HoldfastError

_EXAMPLES = 5  # places that are named for each reason


class Parallel(NamedTuple):
    """A target and the half in the dominant language that says the same."""

    target: Half
    dominant: Half


def load_parallel_pairs(
    source: str | Path,
    *,
    dominant: str = "en",
    split: str = "train",
    drop: bool | Collection[str] = False,
    drop_bad_rows: bool = False,
    limit: int | None = None,
    languages: Collection[str] | None = None,
) -> ParallelPairs:
    """Load parallel preference pairs from a JSON, JSONL, CSV or Parquet file or from the hub; docs/data_formats.md.

    Args:
        source: path, or hub id where there is no such path.
        dominant: ISO 639-1 code of the language that leads the others.
        split: of a hub data set; a file has none.
        drop: False keeps doubtful rows with a warning and stops at the first bad row; True drops both, counted;
            some of `pair_checks.REASONS` drop the rows with these doubts only.
        drop_bad_rows: whether bad rows are dropped and counted, whatever becomes of doubtful ones.
        limit: keep the first so many target pairs, at least 1.
        languages: keep only these target languages.

    Raises HoldfastError naming file, line and field of the first bad row.
    """
    if limit is not None and limit < 1:
        raise HoldfastError(f"{source}: a limit of {limit} leaves no pairs; give 1 or more, or none")
    tally = _Tally(str(source), _reasons_to_drop(drop), drops_bad_rows=drop_bad_rows or drop is True)
    dominant = _code(dominant, source)
    halves = with_languages(_read(source, split, tally), dominant, str(source))
    joined = _of_languages(_joined(halves, dominant, tally), languages, dominant, source)
    return _checked(joined, limit, tally)


@dataclass
class _Tally:
    """What is to be dropped, and the counts of what was dropped or kept in doubt."""

    source: str
    drop: frozenset[str]
    drops_bad_rows: bool
    warnings: Counter[str] = field(default_factory=Counter)
    examples: dict[str, tuple[str, ...]] = field(default_factory=dict)
    dropped: Counter[str] = field(default_factory=Counter)

    def refuse(self, location: str, reason: str, detail: str) -> None:
        """Stop at a bad row, or drop and count it."""
        if not self.drops_bad_rows:
            raise HoldfastError(f"{location}: {detail}")
        self.dropped[reason] += 1

    def drops(self, reasons: Iterable[str]) -> bool:
        """Whether a row with these doubts is dropped; it is counted under the first of them that drops it."""
        reason = next((reason for reason in reasons if reason in self.drop), None)
        if reason is not None:
            self.dropped[reason] += 1
        return reason is not None

    def warn(self, reasons: Iterable[str], half: Half) -> None:
        for reason in reasons:
            self.warnings[reason] += 1
            places = self.examples.get(reason, ())
            if len(places) < _EXAMPLES:
                self.examples[reason] = (*places, f"{half.location} ({half.language})")

    def nothing_left(self) -> HoldfastError:
        lost = "; dropped: " + ", ".join(f"{n} {why}" for why, n in self.dropped.items()) if self.dropped else ""
        return HoldfastError(
            f"{self.source}: no pairs in it{lost}; give a file with at least one request in two languages"
        )


def _reasons_to_drop(drop: bool | Collection[str]) -> frozenset[str]:
    if isinstance(drop, bool):
        return frozenset(REASONS if drop else ())
    for reason in drop:
        if reason not in REASONS:
            raise HoldfastError(f"drop: unknown reason {shortened(reason)}; there are: {', '.join(REASONS)}")
    return frozenset(drop)


def _code(language: str, source: str | Path) -> str:
    code = language_code(language)
    if code is None:
        raise HoldfastError(
            f"{source}: {shortened(language)} is no language code; use one of ISO 639-1, such as en or zh"
        )
    return code


def _read(source: str | Path, split: str, tally: _Tally) -> list[Half]:
    halves: list[Half] = []
    for location, record in read_records(source, split=split):
        try:
            if isinstance(record, BadRowError):
                raise record
            halves += halves_of(record, location)
        except BadRowError as bad:
            tally.refuse(location, bad.reason, bad.detail)
    if not halves:
        raise tally.nothing_left()
    return halves


# --- joining


def _joined(halves: list[Half], dominant: str, tally: _Tally) -> list[Parallel]:
    """Each target with its counterpart in the dominant language, in the order of the source."""
    counterparts: dict[Hashable, Half] = {}
    targets: list[Half] = []
    for half in _without_twins(_known(halves, tally), tally):
        if half.side == "target" and half.language == dominant and half.group in counterparts:
            why = f"the target is in the dominant language '{dominant}'; translate it, or remove the row"
            tally.refuse(half.location, "target in the dominant language", why)
        elif half.language == dominant and half.side != "target":
            counterparts.setdefault(half.group, half)
        elif half.side != "source":
            targets.append(half)
    _refuse_unserving(counterparts, {target.group for target in targets}, tally)
    joined = []
    for target in targets:
        if target.group in counterparts:
            joined.append(Parallel(target, counterparts[target.group]))
        else:
            why = f"this row in '{target.language}' has none in the dominant language '{dominant}' to go with it"
            if target.side == "target":
                why = f"its source is in another language: {why}"
            tally.refuse(target.location, "no dominant pair", f"{why}; add one, or remove the row")
    return joined


def _refuse_unserving(counterparts: dict[Hashable, Half], served: set[Hashable], tally: _Tally) -> None:
    for half in counterparts.values():
        if half.side is None and half.group not in served:
            why = f"this row in the dominant language '{half.language}' has none in another language to go with it"
            tally.refuse(half.location, "no target pair", f"{why}; add one, or remove the row")


def _known(halves: list[Half], tally: _Tally) -> list[Half]:
    """The halves whose language is known; the others are bad rows."""
    for half in halves:
        if half.language is None:
            name = "target_language" if half.side else "language"
            why = f"the language of the prompt cannot be told; add a field '{name}'"
            tally.refuse(half.location, "unknown language", why)
    return [half for half in halves if half.language is not None]


def _without_twins(halves: list[Half], tally: _Tally) -> list[Half]:
    """Without rows whose id stands in their language already; the published format has no ids."""
    first: dict[Hashable, str] = {}
    kept = []
    for half in halves:
        key = (half.group, half.language)
        if half.side is None and key in first:
            why = f"the id {shortened(half.group)} is there twice in '{half.language}' (first: {first[key]})"
            tally.refuse(half.location, "id twice", f"{why}; rename or remove one")
        else:
            first.setdefault(key, half.location)
            kept.append(half)
    return kept


def _of_languages(
    joined: list[Parallel], languages: Collection[str] | None, dominant: str, source: str | Path
) -> list[Parallel]:
    if languages is None:
        return joined
    wanted = [_code(language, source) for language in languages]
    there = {str(parallel.target.language) for parallel in joined}
    for language in wanted:
        if language not in there and language != dominant:
            raise HoldfastError(
                f"{source}: no target pair in '{language}', there are {', '.join(sorted(there)) or 'none'}; "
                "choose among them"
            )
    return [parallel for parallel in joined if parallel.target.language in wanted]


# --- checking


def _checked(joined: list[Parallel], limit: int | None, tally: _Tally) -> ParallelPairs:
    """The pairs that stay, after the warnings are counted."""
    checker = _Checker(tally)
    kept: list[Parallel] = []
    for parallel in joined:
        if len(kept) == limit:
            break
        if checker.keeps(parallel):
            kept.append(parallel)
    spoken = Counter(parallel.target.language for parallel in kept)
    for parallel in [parallel for parallel in kept if spoken[parallel.target.language] == 1]:
        if tally.drops([ONCE]):
            kept.remove(parallel)
        else:
            tally.warn([ONCE], parallel.target)
    if not kept:
        raise tally.nothing_left()
    index = {texts: k for k, texts in enumerate(dict.fromkeys(parallel.dominant.texts for parallel in kept))}
    dominants = {
        parallel.dominant.texts: parallel.dominant for parallel in reversed(kept)
    }  # the first of each wins
    return ParallelPairs(
        targets=tuple(_pair(parallel.target) for parallel in kept),
        dominants=tuple(_pair(dominants[texts]) for texts in index),
        dominant_of=tuple(index[parallel.dominant.texts] for parallel in kept),
        source=tally.source,
        warnings=tally.warnings,
        examples=tally.examples,
        dropped=tally.dropped,
    )


class _Checker:
    """Decides row by row what stays, and counts; each dominant pair is looked at once."""

    def __init__(self, tally: _Tally):
        self._tally = tally
        if tally.drop & LANGUAGE_REASONS:
            require_detector()  # better no data than rows that should have gone
        self._checks_languages = detector_is_installed()
        self._dominants: dict[Hashable, bool] = {}
        self._seen: set[Hashable] = set()

    def keeps(self, parallel: Parallel) -> bool:
        target, dominant = parallel
        if dominant.texts not in self._dominants:
            self._dominants[dominant.texts] = self._keeps(dominant, [])
        if not self._dominants[dominant.texts]:
            self._tally.dropped["its dominant pair dropped"] += 1
            return False
        identity = (dominant.texts, target.language, target.texts)
        more = [TWICE] if identity in self._seen else []
        if target.prompt == dominant.prompt:
            more.append(FOREIGN_PROMPT)
        self._seen.add(identity)
        return self._keeps(target, more)

    def _keeps(self, half: Half, more: list[str]) -> bool:
        reasons = sorted({*doubts(_pair(half), languages=self._checks_languages), *more}, key=REASONS.index)
        if self._tally.drops(reasons):
            return False
        unchecked = [] if self._checks_languages else [NOT_CHECKED]
        self._tally.warn([*reasons, *half.changes, *unchecked], half)
        return True


def _pair(half: Half) -> PreferencePair:
    return PreferencePair(half.prompt, half.chosen, half.rejected, str(half.language), half.location)
