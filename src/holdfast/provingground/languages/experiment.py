"""The MPO experiment of the proving ground: bases, alignment data and methods."""

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

    @classmethod
    def demo(cls) -> "MPOExperimentSettings":
        """What `holdfast demo mpo` runs: minutes on two cores."""
        return cls(seeds=(1, 2), noise="published", alignments=methods(tuned("published")))

    @classmethod
    def study(cls, noise: Noise) -> "MPOExperimentSettings":
        """Every method, ablation and idea at its chosen learning rate, on eight bases."""
        rate = tuned(noise)
        return cls(tuple(range(1, 9)), noise, (*methods(rate), *ablations(rate), *ideas(rate)))

    @classmethod
    def frontier(cls, noise: Noise) -> "MPOExperimentSettings":
        """Every method and idea at every learning rate, on two bases."""
        return cls((1, 2), noise, frontier())


def run_mpo_experiment(
    settings: MPOExperimentSettings,
    output_dir: Path,
    *,
    workers: int = 2,
    console: Console | None = None,
) -> list[Figure]:
    """Run what is not there yet and return all figures; arguments as those of `runner.run_cells`."""
    places: list[tuple[int, Alignment | None]] = [
        (seed, alignment) for seed in settings.seeds for alignment in (None, *settings.alignments)
    ]
    cells = [_cell(settings, *place) for place in places]
    measured = runner.run_cells(WORLD, settings.pretraining, cells, output_dir, workers=workers, console=console)
    return figures_of(
        [
            Cell(seed, settings.noise, alignment.name if alignment else "base", numbers)
            for (seed, alignment), numbers in zip(places, measured, strict=True)
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
