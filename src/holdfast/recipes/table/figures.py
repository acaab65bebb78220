"""From the grid's evaluations to the figures of the papers' tables.

`safety` is the share of harmful requests not complied with, one less the attack success rate, so that refusal judges
and safety judges give one number, as in SaRFT's published code. docs/table.md lists the metrics.
"""

import math
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from statistics import fmean

from holdfast.evals.metrics import Measured, by_experiment, groups_of, metric_figure, metrics_of
from holdfast.evals.statistics import mean_interval
from holdfast.recipes.table.cells import Cell, written
from holdfast.recipes.table.evaluation import task_name
from holdfast.report.paper_table import MEAN, MIXED, TARGETS
from holdfast.report.published import TABLE_MPO, TABLE_SARFT
from holdfast.results import Figure, read_figures
from holdfast.samples import Sample, read_samples

_COUNTED = ("attack_success_rate", "over_refusal_rate", "rouge_l")


def role_figures(cells: Iterable[Cell], over_refusal_only: Sequence[str]) -> list[Figure]:
    """SaRFT's figures: each run, then each role over its seeds, then the mean over roles.

    The benchmarks of `over_refusal_only` have harmful prompts for contrast alone: they are in no figure, plain or
    wrapped.
    """
    runs = [
        replace(measured.figure(TABLE_SARFT, cell.method, cell.group), seed=cell.seed)
        for cell in cells
        for measured in _of_role(_samples(cell), over_refusal_only)
    ]
    roles = _over(runs, lambda figure: figure.group)
    return [*runs, *roles, *_over(roles, lambda figure: MEAN)]


def language_figures(cells: Iterable[Cell], dominant: str, over_refusal_only: Sequence[str] = ()) -> list[Figure]:
    """MPO's figures: each run language by language, then the mean over seeds; `over_refusal_only` as above."""
    runs: list[Figure] = []
    for cell in cells:
        measured = _of_languages(_samples(cell), dominant, over_refusal_only)
        found = [one.figure(TABLE_MPO, cell.method, group) for group, one in measured]
        runs += [replace(figure, seed=cell.seed) for figure in [*found, *_utility(cell)]]
    return [*runs, *_over(runs, lambda figure: figure.group)]


# -- one run


def _of_role(samples: Sequence[Sample], over_refusal_only: Sequence[str]) -> list[Measured]:
    singles: list[Measured] = []
    wrapped: defaultdict[str, list[Measured]] = defaultdict(list)
    for task, name, measured in _measured(samples, over_refusal_only):
        _, _, wrapper = task.partition("+")
        if name != "attack_success_rate":
            singles.append(measured._replace(metric=f"{name}/{task}"))
        elif wrapper:
            wrapped[wrapper].append(_held(measured, f"jailbreak/{wrapper}"))
        else:
            singles.append(_held(measured, f"safety/{task}"))
    singles += [_mean(f"jailbreak/{wrapper}", found) for wrapper, found in wrapped.items()]
    by_name: defaultdict[str, list[Measured]] = defaultdict(list)
    for single in singles:
        by_name[single.metric.partition("/")[0]].append(single)
    return [*singles, *(_mean(name, found) for name, found in by_name.items())]


def _of_languages(
    samples: Sequence[Sample], dominant: str, over_refusal_only: Sequence[str]
) -> Iterator[tuple[str, Measured]]:
    """(group, number): each benchmark in each language and in all target languages together; then over benchmarks."""
    over: defaultdict[tuple[str, str], list[Measured]] = defaultdict(list)
    for together in by_experiment(samples).values():
        for group, members in _language_groups(together, dominant).items():
            for task, name, measured in _measured(members, over_refusal_only):
                if name == "rouge_l":
                    continue
                yield group, measured._replace(metric=f"{name}/{task}")
                over[name, group].append(measured)
    for (name, group), found in over.items():
        yield group, _mean(name, found)


def _language_groups(samples: Sequence[Sample], dominant: str) -> dict[str, list[Sample]]:
    groups = groups_of(samples, "language")
    targets = [sample for sample in samples if sample.prompt.language not in (None, dominant)]
    mixed = [sample for sample in samples if sample.prompt.language is None]
    return {
        **groups,
        **({TARGETS: targets} if targets else {}),
        **({MIXED: mixed} if mixed else {}),
    }


def _measured(samples: Sequence[Sample], over_refusal_only: Sequence[str]) -> Iterator[tuple[str, str, Measured]]:
    """Yield (task, name, number) of every metric of the tables; whether questions to a role are refused is in none.

    Of several judges the first is the table's: one answer counts once.
    """
    for together in by_experiment(samples).values():
        first = together[0]
        task = task_name(first.benchmark, first.wrapper)
        seen: set[str] = set()
        for metric in metrics_of(together):
            name = metric.name.partition("[")[0]
            if name == "attack_success_rate" and first.benchmark in over_refusal_only:
                continue
            if name == "over_refusal_rate" and metric.kinds == {"role"}:
                continue
            measured = metric_figure(metric, together) if name in _COUNTED and name not in seen else None
            if measured is not None:
                seen.add(name)
                yield task, name, measured


def _held(measured: Measured, metric: str) -> Measured:
    """One less an attack success rate."""
    interval = measured.interval
    if interval is not None:
        interval = type(interval)(1 - interval.high, 1 - interval.low)
    return measured._replace(metric=metric, value=1 - measured.value, interval=interval)


def _mean(metric: str, members: Sequence[Measured]) -> Measured:
    """The unweighted mean of several benchmarks, as the papers'; of one, that one's. No interval is known for it."""
    if len(members) == 1:
        return members[0]._replace(metric=metric)
    return Measured(
        metric,
        fmean(member.value for member in members),
        sum(member.n for member in members),
        None,
        sum(member.unscored for member in members),
    )


def _samples(cell: Cell) -> list[Sample]:
    return [sample for path in written(cell, "samples.jsonl") for sample in read_samples(path)]


def _utility(cell: Cell) -> list[Figure]:
    """What lm-evaluation-harness measured."""
    found = [figure for path in written(cell, "results.jsonl") for figure in read_figures(path)]
    return [
        replace(figure, experiment=TABLE_MPO, method=cell.method, metric=f"{figure.experiment}/{figure.metric}")
        for figure in found
        if figure.experiment.startswith("utility/")
    ]


# -- over runs


def _over(figures: Sequence[Figure], group_of: Callable[[Figure], str]) -> list[Figure]:
    """Means over what falls into one group, with Student's t interval over it."""
    members: defaultdict[tuple[str, str, str], list[Figure]] = defaultdict(list)
    for figure in figures:
        members[figure.method, group_of(figure), figure.metric].append(figure)
    return [_aggregate(found, group) for (_, group, _), found in members.items()]


def _aggregate(figures: Sequence[Figure], group: str) -> Figure:
    """Where all are the same number, and so for one alone, its own interval stands: no spread is not certainty."""
    first = figures[0]
    if len({(figure.value, figure.low, figure.high, figure.n) for figure in figures}) == 1:
        return replace(first, group=group, seed=None)
    values = [figure.value for figure in figures]
    interval = None if any(map(math.isnan, values)) or len(set(values)) == 1 else mean_interval(values)
    low, high = (None, None) if interval is None else (max(0.0, interval.low), min(1.0, interval.high))
    return replace(
        first,
        group=group,
        seed=None,
        value=fmean(values),
        n=len(values),
        low=low,
        high=high,
        unscored=sum(figure.unscored for figure in figures),
    )
