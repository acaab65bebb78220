"""The MPO experiment of the proving ground: bases, alignment data and methods."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

from rich.console import Console

from holdfast.provingground import runner
from holdfast.provingground.languages.aggregate import Cell, figures_of
from holdfast.provingground.languages.alignment import Noise
from holdfast.provingground.languages.alignments import ablations, frontier, ideas, methods, tuned
from holdfast.provingground.languages.cells import Alignment, run_cell
from holdfast.provingground.languages.frames import Split
from holdfast.provingground.languages.settings import PRETRAINING, WORLD
from holdfast.provingground.pretrain import PretrainingSettings, source_digest
from holdfast.results import Figure

HERE = Path(__file__).parent
NOISES: tuple[Noise, ...] = ("clean", "published")
# What a cell's numbers depend on besides its base: the code that aligns on the world and measures.
CELL_SOURCES = tuple(HERE / name for name in ("alignment.py", "benign.py", "cells.py", "evaluate.py", "probes.py"))


@dataclass(frozen=True)
class MPOExperimentSettings:
    """The experiment. Every seed is a base model and alignment data of its own.

    `split` says which test prompts are used: `development` while anything is still being chosen, `final` for
    what is reported. Seeds of 100 and above are for development.
    """

    seeds: tuple[int, ...]
    noise: Noise
    alignments: tuple[Alignment, ...]
    split: Split = "final"
    pretraining: PretrainingSettings = field(default_factory=lambda: PRETRAINING)


# MPO; safe answers alone; preferences with a reference; preferences without one.
IN_THE_DEMO = ("mpo", "sft", "dpo", "simpo")
AT_EVERY_RATE = ("mpo", "sft", "dpo", "simpo", "kto", "mpo_huber", "mpo_benign")


def demo_parts() -> tuple[MPOExperimentSettings, ...]:
    """What `holdfast demo mpo` runs: one method a kind on one base, trained less, on pairs as noisy as published."""
    chosen = tuple(alignment for alignment in methods(tuned("published")) if alignment.name in IN_THE_DEMO)
    return (MPOExperimentSettings((1,), "published", chosen, pretraining=replace(PRETRAINING, steps=900)),)


def study_parts() -> tuple[MPOExperimentSettings, ...]:
    """What `holdfast study` runs: everything on eight bases, some at every learning rate on two of them."""
    parts: list[MPOExperimentSettings] = []
    for noise in NOISES:
        rate = tuned(noise)
        everything = (*methods(rate), *ablations(rate), *ideas(rate))
        parts += [
            MPOExperimentSettings(tuple(range(1, 9)), noise, everything),
            MPOExperimentSettings((1, 2), noise, frontier(AT_EVERY_RATE)),
        ]
    return tuple(parts)


def run_mpo_parts(
    parts: Sequence[MPOExperimentSettings],
    output_dir: Path,
    *,
    seeds: int | None = None,
    workers: int = 2,
    console: Console | None = None,
) -> list[Figure]:
    """Run several experiments; the untouched base stands once in the figures for each kind of pairs.

    `seeds` has the seeds 1 to so many in place of each part's own, which the smaller parts keep if they are fewer.
    """
    parts = parts_with(parts, seeds)
    plans = [mpo_plan(part, output_dir) for part in parts]
    figures: list[Figure] = []
    have: set[str] = set()
    for part, measured in zip(parts, runner.run_plans(plans, workers=workers, console=console), strict=True):
        figures += [f for f in _figures(part, measured) if f.method != "base" or part.noise not in have]
        have.add(part.noise)
    return figures


def parts_with(parts: Sequence[MPOExperimentSettings], seeds: int | None) -> list[MPOExperimentSettings]:
    """The parts with the seeds 1 to `seeds`; the smaller ones keep their own if they are fewer."""
    if seeds is None:
        return list(parts)
    most = max(len(part.seeds) for part in parts)
    wanted = [seeds if len(part.seeds) == most else min(seeds, len(part.seeds)) for part in parts]
    return [replace(part, seeds=tuple(range(1, n + 1))) for part, n in zip(parts, wanted, strict=True)]


def run_mpo_experiment(
    settings: MPOExperimentSettings,
    output_dir: Path,
    *,
    workers: int = 2,
    console: Console | None = None,
) -> list[Figure]:
    """Run what is not there yet and return all figures; arguments as those of `runner.run_plans`."""
    (measured,) = runner.run_plans([mpo_plan(settings, output_dir)], workers=workers, console=console)
    return _figures(settings, measured)


def mpo_plan(settings: MPOExperimentSettings, output_dir: Path) -> runner.Plan:
    """What the experiment runs: a cell for each base and alignment, and one for the untouched base."""
    cells = [_cell(settings, *place) for place in _places(settings)]
    return runner.Plan(WORLD, settings.pretraining, cells, output_dir)


def _places(settings: MPOExperimentSettings) -> list[tuple[int, Alignment | None]]:
    return [(seed, alignment) for seed in settings.seeds for alignment in (None, *settings.alignments)]


def _figures(settings: MPOExperimentSettings, measured: Sequence[runner.Measured]) -> list[Figure]:
    return figures_of(
        [
            Cell(seed, settings.noise, alignment.name if alignment else "base", numbers)
            for (seed, alignment), numbers in zip(_places(settings), measured, strict=True)
        ]
    )


def _cell(settings: MPOExperimentSettings, seed: int, alignment: Alignment | None) -> runner.Cell:
    name = alignment.name if alignment else "base"
    # The untouched base knows nothing of the noise: one cell serves both.
    noise: Noise = settings.noise if alignment else "clean"
    return runner.Cell(
        name=f"base {seed}: {name}, {noise} pairs",
        stem=f"languages_seed_{seed}_{noise if alignment else 'base'}",
        seed=seed,
        run=run_cell,
        arguments=(seed, noise, settings.split, alignment),
        depends_on={
            "noise": noise,
            "split": settings.split,
            # Not by name: a method at its chosen rate is a point of the frontier too.
            "alignment": asdict(replace(alignment, name="")) if alignment else None,
            "sources": source_digest(CELL_SOURCES),
        },
    )
