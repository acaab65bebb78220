"""From cells to figures: every cell as it was measured, and means over runs with intervals over base models."""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from statistics import fmean

from holdfast.evals.statistics import mean_interval, paired_difference
from holdfast.provingground.roles.characters import Character
from holdfast.provingground.runner import Measured
from holdfast.results import Figure

EXPERIMENT = "proving_ground_sarft"
PAIRED = "proving_ground_sarft_paired"


@dataclass(frozen=True)
class Cell:
    """What was measured for one base model (`seed`) and one role."""

    seed: int
    character: Character
    measured: Measured


def figures_of(cells: Sequence[Cell]) -> list[Figure]:
    """All figures: single cells first, then the groups `mean_villain`, `mean_kind` (...) and `mean`."""
    tempers = dict.fromkeys(cell.character.temper for cell in cells)
    groups = {f"mean_{temper}": [c for c in cells if c.character.temper == temper] for temper in tempers}
    figures = [figure for cell in cells for figure in _single(cell)]
    for group, members in (groups | {"mean": list(cells)}).items():
        figures += _means(group, members)
        figures += _gains(group, members)
    return figures


def _single(cell: Cell) -> Iterator[Figure]:
    group = f"{cell.character.name} ({cell.character.temper})"
    for method, metrics in cell.measured.items():
        for metric, m in metrics.items():
            if m.n:  # a share of no rows is no figure
                yield Figure(EXPERIMENT, method, group, cell.seed, metric, m.value, m.n, m.low, m.high)


def _means(group: str, cells: Sequence[Cell]) -> Iterator[Figure]:
    """Means over runs; n is how many base models there are, and so is the interval's n.

    Roles fine-tuned from one base are not independent runs, and the bases differ more than the roles do: so the
    runs of a base are averaged first, and the interval is Student's t over bases, held to the metric's range.
    """
    values: dict[tuple[str, str], dict[int, list[float]]] = defaultdict(lambda: defaultdict(list))
    for cell in cells:
        for method, metrics in cell.measured.items():
            for metric, measurement in metrics.items():
                if measurement.n:
                    values[method, metric][cell.seed].append(measurement.value)
    for (method, metric), by_seed in values.items():
        bases = [fmean(of_base) for of_base in by_seed.values()]
        interval = mean_interval(bases)
        low, high = (None, None) if interval is None else (max(0.0, interval.low), min(1.0, interval.high))
        yield Figure(EXPERIMENT, method, group, None, metric, fmean(bases), len(bases), low, high)


def _gains(group: str, cells: Sequence[Cell]) -> Iterator[Figure]:
    """How much more a method refuses than SFT, from the pairs of runs on the same base and role.

    The interval is Student's t over bases; the pairing takes out how differently SFT damages them.
    """
    metric = "refusal_rate_mean"
    paired = [cell for cell in cells if "sft" in cell.measured]
    for method in dict.fromkeys(name for cell in paired for name in cell.measured):
        if method in ("base", "sft"):
            continue
        runs = [(c.seed, c.measured[method][metric].value, c.measured["sft"][metric].value) for c in paired]
        seeds, ours, plain = zip(*runs, strict=True)
        gain = paired_difference(ours, plain, clusters=seeds)
        low, high = gain.interval or (None, None)
        yield Figure(EXPERIMENT, method, group, None, "refusal_gain_over_sft", gain.mean, gain.n, low, high)


def paired_figures(figures: Sequence[Figure], pairs: Sequence[tuple[str, str]], temper: str) -> list[Figure]:
    """For each pair (ours, other) of methods and every metric, the mean of ours less the other on the same runs.

    The interval is Student's t over bases. The figures' experiment is PAIRED, their method `ours less other`.
    """
    runs = {
        (f.method, f.metric, f.seed, f.group): f.value
        for f in figures
        if f.seed is not None and f.group.endswith(f"({temper})")
    }
    differences = []
    for ours, other in pairs:
        shared: dict[str, list[tuple[int, float, float]]] = defaultdict(list)
        for (method, metric, seed, group), value in runs.items():
            if method == ours and (other, metric, seed, group) in runs:
                shared[metric].append((seed, value, runs[other, metric, seed, group]))
        for metric, values in shared.items():
            seeds, first, second = zip(*values, strict=True)
            gain = paired_difference(first, second, clusters=seeds)
            low, high = gain.interval or (None, None)
            name = f"{ours} less {other}"
            differences.append(Figure(PAIRED, name, f"mean_{temper}", None, metric, gain.mean, gain.n, low, high))
    return differences
