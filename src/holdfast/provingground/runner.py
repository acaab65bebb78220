"""Runs an experiment: base models first, then the cells on each, in workers, resumed where it stopped.

A cell is one base model with something done to it and measured. Its numbers are kept in a file that is named by
everything they depend on, so a change of settings or code makes a new file and nothing is ever measured twice.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from rich.console import Console

from holdfast.errors import HoldfastError
from holdfast.provingground.display import Display
from holdfast.provingground.measurement import Measurement
from holdfast.provingground.pretrain import (
    PretrainingSettings,
    Progress,
    World,
    aligned_model,
    base_manifest,
    manifest_fingerprint,
)
from holdfast.provingground.workers import Job, run_jobs

Measured = dict[str, dict[str, Measurement]]  # method or language -> metric -> number


@dataclass(frozen=True)
class Cell:
    """What is to be run on the base model of a seed.

    `run(base, *arguments, progress=...)` measures; it and its arguments must pickle. `depends_on` is everything
    besides the base model that the numbers depend on, as JSON values.
    """

    name: str  # shown while it runs
    stem: str  # of its file
    seed: int
    run: Callable[..., Measured]
    arguments: tuple[Any, ...]
    depends_on: Mapping[str, Any]


def run_cells(
    world: World,
    pretraining: PretrainingSettings,
    cells: Sequence[Cell],
    output_dir: Path,
    *,
    workers: int,
    console: Console | None = None,
) -> list[Measured]:
    """Run what is not there yet; returns every cell's numbers, in order.

    Args:
        world, pretraining: how the base models are made, one a seed.
        cells: what is measured on them.
        output_dir: base models go to `bases/`, finished cells to `cells/` in it.
        workers: processes, one thread each; 1 runs everything in this process.
        console: where progress bars are drawn; None draws none.
    """
    if workers < 1:
        raise HoldfastError(f"workers must be at least 1, got {workers}")
    directory = output_dir / "cells"
    directory.mkdir(parents=True, exist_ok=True)
    # Named once: an edit of the source while the experiment runs must not rename what is being written.
    paths = [_path(directory, cell, base_manifest(world, pretraining, cell.seed)) for cell in cells]
    missing: dict[int, list[tuple[Path, Cell]]] = {}
    for path, cell in zip(paths, cells, strict=True):
        if not path.is_file():
            missing.setdefault(cell.seed, []).append((path, cell))
    bases = {
        f"base {seed}": Job(f"base {seed}", aligned_model, (output_dir / "bases", world, pretraining, seed))
        for seed in missing
    }
    seed_of = {f"base {seed}": seed for seed in missing}
    with Display(console, len(bases) + sum(map(len, missing.values()))) as display:

        def follow(job: Job, result: Any) -> list[Job]:
            display.finished(job.name)
            if job.name not in bases:
                return []
            return [
                Job(cell.name, run_and_write_cell, (path, result, cell))
                for path, cell in missing[seed_of[job.name]]
            ]

        run_jobs(list(bases.values()), follow, display.report, workers=workers)
    return [_read(path) for path in paths]


def _path(directory: Path, cell: Cell, base: Mapping[str, object]) -> Path:
    return directory / f"{cell.stem}_{manifest_fingerprint({'base': base, 'cell': cell.depends_on})}.json"


def run_and_write_cell(path: Path, base: Path, cell: Cell, progress: Progress) -> None:
    """Run a cell and write it in one step, so that a file that is there is whole."""
    measured = cell.run(base, *cell.arguments, progress=progress)
    stored = {name: {metric: asdict(m) for metric, m in metrics.items()} for name, metrics in measured.items()}
    partial = path.with_suffix(".partial")
    partial.write_text(json.dumps(stored, indent=1) + "\n", encoding="utf-8")
    partial.replace(path)


def _read(path: Path) -> Measured:
    try:
        stored = json.loads(path.read_text(encoding="utf-8"))
        return {
            name: {metric: Measurement(**values) for metric, values in metrics.items()}
            for name, metrics in stored.items()
        }
    except (ValueError, TypeError, AttributeError) as error:
        raise HoldfastError(f"{path}: not a finished cell ({error}); delete it and run again") from None
