"""What `holdfast judge` says of its verdicts: rates, agreement of judges, agreement with people."""

import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import NamedTuple

from rich.table import Table
from rich.text import Text

from holdfast.escaping import one_line
from holdfast.evals.agreement import cohen_kappa, precision_recall, scored_pairs
from holdfast.evals.judges.base import Exchange
from holdfast.evals.judges.labels import family
from holdfast.evals.statistics import wilson_interval
from holdfast.report.terminal import redact
from holdfast.results import Figure
from holdfast.samples import Judgement, Verdict

ALL = "all"
SHOWN_MISTAKES = 5


@dataclass(frozen=True)
class Judged:
    """A file's completions with the judgements on them, by judge; `labels` are people's, None where a row has none."""

    file: Path
    places: Sequence[str]
    exchanges: Sequence[Exchange | None]
    judgements: Mapping[str, Sequence[Judgement]]
    labels: Sequence[Verdict | None] | None

    def verdicts(self, judge: str) -> list[Verdict]:
        """One judge's verdicts, row by row."""
        return [judgement.verdict for judgement in self.judgements[judge]]

    @property
    def groups(self) -> dict[str, list[int]]:
        """The rows of each group: all of them, and each language where there is one."""
        groups = {ALL: list(range(len(self.exchanges)))}
        for index, exchange in enumerate(self.exchanges):
            if exchange is not None and exchange.language is not None:
                groups.setdefault(exchange.language, []).append(index)
        return groups


class Rate(NamedTuple):
    """How many of the `scored` judgements of a group are this verdict."""

    verdict: Verdict
    number: int
    scored: int


class Agreement(NamedTuple):
    """Two labellings of the same rows: of the n that both scored, how many are equal, and Cohen's kappa."""

    equal: int
    n: int
    kappa: float | None
    left_out: int


class LabelAgreement(NamedTuple):
    """A judge against people; `partial` says what was done with partial refusals. `classes` are in the labels."""

    judge: str
    partial: str
    agreement: Agreement
    classes: tuple[tuple[str, int, float | None, float | None], ...]  # class, labelled so, precision, recall


def rates(judgements: Sequence[Judgement]) -> list[Rate]:
    """A rate for each verdict of the judge's sort, over those that it scored."""
    counts = Counter(judgement.verdict for judgement in judgements)
    scored = len(judgements) - counts["unscored"]
    known = (family(counts) or ()) if scored else ()
    return [Rate(verdict, counts[verdict], scored) for verdict in known]


def agreements(judged: Judged) -> list[tuple[str, str, Agreement]]:
    """Every two judges of one sort."""
    pairs = []
    for a, b in combinations(judged.judgements, 2):
        first, second = judged.verdicts(a), judged.verdicts(b)
        if family([*first, *second]) is not None:
            pairs.append((a, b, _agreement(first, second)))
    return pairs


def label_agreements(judged: Judged) -> list[LabelAgreement]:
    """Each judge of the labels' sort against them, with partial refusals as a class, as refusals, and left out."""
    found = []
    for judge in judged.judgements:
        rows = _labelled(judged, judge)
        if family([each for row in rows for each in row]) is None:
            continue
        found.append(_against(judge, "own class", rows))
        if any("partial_refusal" in row for row in rows):
            merged = [(_merged(verdict), _merged(label)) for verdict, label in rows]
            full = [(_merged(verdict), label) for verdict, label in rows if label != "partial_refusal"]
            found.append(_against(judge, "as refusals", merged))
            found.append(_against(judge, "left out", full))
    return found


def rate_table(judged: Judged, *, by_language: bool) -> Table:
    """Each verdict's share of what was scored, with Wilson's interval, and why the rest was not."""
    table = Table(title="Verdicts", caption="share of the scored completions, its 95 % Wilson interval; n scored")
    _columns(table, ["judge", *["language"] * by_language], ["verdict"], ["number", "% of scored", "n"])
    groups = judged.groups if by_language else {ALL: judged.groups[ALL]}
    for judge, judgements in judged.judgements.items():
        for group, indices in groups.items():
            first = [Text(one_line(judge)), *[Text(one_line(group))] * by_language]
            members = [judgements[index] for index in indices]
            for rate in rates(members):
                cells = f"{rate.number:,}", _percent(rate.number, rate.scored), f"{rate.scored:,}"
                table.add_row(*first, rate.verdict, *cells)
            reasons = Counter(each.reason or "no reason" for each in members if each.verdict == "unscored")
            for reason, number in reasons.most_common():
                table.add_row(*first, f"unscored: {reason}", f"{number:,}", "", "")
        table.add_section()
    return table


def agreement_table(judged: Judged) -> Table:
    """How often each two judges say the same."""
    table = Table(
        title="Agreement of judges",
        caption="Cohen's kappa; over completions that both scored; refusals are not compared with safety",
    )
    _columns(table, ["judge", "judge"], [], ["same verdict %", "kappa", "n", "left out"])
    for a, b, agreement in agreements(judged):
        table.add_row(Text(one_line(a)), Text(one_line(b)), *_cells(agreement))
    return table


def label_tables(judged: Judged) -> Iterator[Table]:
    """Accuracy and kappa against people's labels, then precision and recall of each class."""
    found = label_agreements(judged)
    table = Table(
        title="Agreement with the labels",
        caption="partial: partial refusals are a class, are refusals, or are not compared; left out: unscored rows",
    )
    _columns(table, ["judge"], ["partial"], ["accuracy %", "kappa", "n", "left out"])
    classes = Table(title="Each class")
    _columns(classes, ["judge"], ["partial", "class"], ["labelled", "precision %", "recall %"])
    for each in found:
        table.add_row(Text(one_line(each.judge)), each.partial, *_cells(each.agreement))
        for name, labelled, precision, recall in each.classes:
            shares = ("-" if share is None else f"{100 * share:.1f}" for share in (precision, recall))
            classes.add_row(Text(one_line(each.judge)), each.partial, name, f"{labelled:,}", *shares)
        classes.add_section()
    yield table
    yield classes


def mistakes(judged: Judged, show_text: bool) -> Iterator[Text]:
    """The first rows where a judge and the label differ."""
    for judge in judged.judgements:
        wrong = [
            (place, verdict, label, exchange)
            for place, verdict, label, exchange in zip(
                judged.places, judged.verdicts(judge), judged.labels or (), judged.exchanges, strict=True
            )
            if label is not None and exchange is not None and verdict not in ("unscored", label)
            if family([verdict, label]) is not None
        ]
        for place, verdict, label, exchange in wrong[:SHOWN_MISTAKES]:
            yield Text(one_line(f"{judge} says {verdict}, the label {label}: {place}"), style="bold")
            yield Text(f"  prompt: {redact(exchange.prompt, show_text)}")
            yield Text(f"  completion: {redact(exchange.completion, show_text)}")


def figures(judged: Judged) -> Iterator[Figure]:
    """All of this in the results format; the method is the file's stem."""

    def figure(
        metric: str, value: float | None, n: int, unscored: int, group: str = ALL, hits: int | None = None
    ) -> Figure:
        low, high = wilson_interval(hits, n) if hits is not None and n else (None, None)
        value = math.nan if value is None else value
        return Figure("judge", judged.file.stem, group, None, metric, value, n, low, high, unscored)

    for judge, judgements in judged.judgements.items():
        for group, indices in judged.groups.items():
            members = [judgements[index] for index in indices]
            unscored = sum(each.verdict == "unscored" for each in members)
            yield figure(f"unscored_rate[{judge}]", unscored / len(members), len(members), 0, group, unscored)
            for rate in rates(members):
                share = rate.number / rate.scored
                yield figure(f"{rate.verdict}_rate[{judge}]", share, rate.scored, unscored, group, rate.number)
    for a, b, found in agreements(judged):
        yield figure(f"judge_agreement[{a},{b}]", _share(found), found.n, found.left_out, hits=found.equal)
        yield figure(f"judge_kappa[{a},{b}]", found.kappa, found.n, found.left_out)
    for each in label_agreements(judged) if judged.labels is not None else ():
        treatment = {
            "own class": "",
            "as refusals": "_partial_as_refusal",
            "left out": "_without_partial",
        }
        suffix, found = f"{treatment[each.partial]}[{each.judge}]", each.agreement
        yield figure(f"label_accuracy{suffix}", _share(found), found.n, found.left_out, hits=found.equal)
        yield figure(f"label_kappa{suffix}", found.kappa, found.n, found.left_out)
        for name, _, precision, recall in each.classes:
            yield figure(f"label_precision_{name}{suffix}", precision, found.n, found.left_out)
            yield figure(f"label_recall_{name}{suffix}", recall, found.n, found.left_out)


def _labelled(judged: Judged, judge: str) -> list[tuple[str, str]]:
    """(verdict, label) of each row that has a label."""
    pairs = zip(judged.verdicts(judge), judged.labels or (), strict=True)
    return [(verdict, label) for verdict, label in pairs if label is not None]


def _against(judge: str, partial: str, rows: Sequence[tuple[str, str]]) -> LabelAgreement:
    verdicts, labels = [verdict for verdict, _ in rows], [label for _, label in rows]
    predicted, actual, _ = scored_pairs(verdicts, labels)
    classes = tuple(
        (name, actual.count(name), *precision_recall(predicted, actual, name))
        for name in sorted({*predicted, *actual})
    )
    return LabelAgreement(judge, partial, _agreement(verdicts, labels), classes)


def _agreement(a: Sequence[str], b: Sequence[str]) -> Agreement:
    first, second, left_out = scored_pairs(a, b)
    equal = sum(x == y for x, y in zip(first, second, strict=True))
    return Agreement(equal, len(first), cohen_kappa(first, second), left_out)


def _merged(verdict: str) -> str:
    return "refusal" if verdict == "partial_refusal" else verdict


def _columns(table: Table, folded: Sequence[str], words: Sequence[str], numbers: Sequence[str]) -> None:
    """Columns of names, which may be long, of words and of numbers, which stay on one line."""
    for heading in folded:
        table.add_column(heading, overflow="fold")
    for heading in words:
        table.add_column(heading, no_wrap=True)
    for heading in numbers:
        table.add_column(heading, justify="right", no_wrap=True)


def _share(agreement: Agreement) -> float | None:
    return agreement.equal / agreement.n if agreement.n else None


def _cells(agreement: Agreement) -> tuple[Text | str, ...]:
    kappa = "-" if agreement.kappa is None else f"{agreement.kappa:.3f}"
    return _percent(agreement.equal, agreement.n), kappa, f"{agreement.n:,}", f"{agreement.left_out:,}"


def _percent(number: int, total: int) -> Text:
    if total == 0:
        return Text("-")
    low, high = wilson_interval(number, total)
    return Text(f"{100 * number / total:.1f} [{100 * low:.1f}, {100 * high:.1f}]")
