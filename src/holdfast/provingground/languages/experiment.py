"""The MPO experiment of the proving ground: bases, alignment data and methods."""

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

from rich.console import Console

from holdfast.provingground import runner
from holdfast.provingground.languages.aggregate import Cell, figures_of
from holdfast.provingground.languages.alignment import Noise
from holdfast.provingground.languages.alignments import methods
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
    alignments: tuple[Alignment, ...]
    noises: tuple[Noise, ...] = ("clean", "published")
    split: Split = "final"
    pretraining: PretrainingSettings = field(default_factory=lambda: PRETRAINING)

    @classmethod
    def demo(cls) -> "MPOExperimentSettings":
        """What `holdfast demo mpo` runs: minutes on two cores."""
        return cls(seeds=(1, 2), alignments=methods(), noises=("published",))


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
