"""The MPO experiment of the proving ground: bases, alignment data and methods."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from rich.console import Console

from holdfast.losses.preference import PREFERENCE_LOSSES
from holdfast.provingground import runner
from holdfast.provingground.languages.aggregate import Cell, figures_of
from holdfast.provingground.languages.alignment import Noise
from holdfast.provingground.languages.cells import Alignment, run_cell
from holdfast.provingground.languages.frames import Split
from holdfast.provingground.languages.settings import PRETRAINING, WORLD
from holdfast.provingground.pretrain import PretrainingSettings, source_digest
from holdfast.reference.pairs import Retention
from holdfast.results import Figure
from holdfast.trainers.mpo import MPOSettings

HERE = Path(__file__).parent
# What a cell's numbers depend on besides its base: the code that aligns on the world and measures.
CELL_SOURCES = tuple(HERE / name for name in ("alignment.py", "benign.py", "cells.py", "evaluate.py", "probes.py"))
LEARNING_RATES = (1e-4, 3e-4, 1e-3, 3e-3)  # every method is tried with each of these, and with nothing else


@dataclass(frozen=True)
class MPOExperimentSettings:
    """The experiment. Every seed is a base model and alignment data of its own.

    `split` says which test prompts are used: `development` while anything is still being chosen, `final` for
    what is reported. Seeds of 100 and above are for development.
    """

    seeds: tuple[int, ...]
    alignments: tuple[Alignment, ...]
    noises: tuple[Noise, ...] = ("clean", "published")
    split: Split = "final"
    pretraining: PretrainingSettings = field(default_factory=lambda: PRETRAINING)


def mpo(
    name: str,
    learning_rate: float,
    *,
    benign_prompts: int = 0,
    retention: Retention | None = "last",
    **switches: Any,
) -> Alignment:
    """MPO with its published weights, and whatever switch is named."""
    settings = MPOSettings(**{"beta": 1.0} | switches)
    return Alignment(name, learning_rate, mpo=settings, retention=retention, benign_prompts=benign_prompts)


def preference(name: str, learning_rate: float) -> Alignment:
    """A baseline with its default weights."""
    return Alignment(name, learning_rate, loss=name)


def methods(rate: Callable[[str], float]) -> tuple[Alignment, ...]:
    """MPO and every baseline of the paper; `rate` gives each one's learning rate."""
    return (mpo("mpo", rate("mpo")), *(preference(name, rate(name)) for name in PREFERENCE_LOSSES))


def frontier(alignments: Iterable[Alignment]) -> tuple[Alignment, ...]:
    """Each alignment at every learning rate of the grid, named `method @ rate`."""
    return tuple(
        replace(alignment, name=f"{alignment.name} @ {rate:g}", learning_rate=rate)
        for alignment in alignments
        for rate in LEARNING_RATES
    )


def run_mpo_experiment(
    settings: MPOExperimentSettings,
    output_dir: Path,
    *,
    workers: int = 2,
    console: Console | None = None,
) -> list[Figure]:
    """Run what is not there yet and return all figures; arguments as those of `runner.run_cells`."""
    places = list(_places(settings))
    cells = [_cell(settings, *place) for place in places]
    measured = runner.run_cells(WORLD, settings.pretraining, cells, output_dir, workers=workers, console=console)
    done: Sequence[Cell] = [
        Cell(seed, noise, alignment.name if alignment else "base", numbers)
        for (seed, noise, alignment), numbers in zip(places, measured, strict=True)
    ]
    return figures_of(done)


def _places(settings: MPOExperimentSettings) -> Iterable[tuple[int, Noise, Alignment | None]]:
    for noise in settings.noises:
        for seed in settings.seeds:
            yield seed, noise, None
            for alignment in settings.alignments:
                yield seed, noise, alignment


def _cell(settings: MPOExperimentSettings, seed: int, noise: Noise, alignment: Alignment | None) -> runner.Cell:
    name = alignment.name if alignment else "base"
    # The untouched base knows nothing of the noise: one cell serves both.
    noise = noise if alignment else "clean"
    return runner.Cell(
        name=f"base {seed}: {name}, {noise} pairs",
        stem=f"languages_seed_{seed}_{name.replace(' ', '')}_{noise}",
        seed=seed,
        run=run_cell,
        arguments=(seed, noise, settings.split, alignment),
        depends_on={
            "noise": noise,
            "split": settings.split,
            "alignment": asdict(alignment) if alignment else None,
            "sources": source_digest(CELL_SOURCES),
        },
    )
