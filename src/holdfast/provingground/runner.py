"""Runs an experiment: base models first, then the cells on each, in workers, resumed where it stopped.

A cell is one base model with something done to it and measured. Its numbers are kept in a file that is named by
everything they depend on, so a change of settings or code makes a new file and nothing is ever measured twice.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from rich.console import Console

from holdfast.errors import HoldfastError
from holdfast.files import check_output_directory, write_json
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


@dataclass(frozen=True)
class Plan:
    """Cells on the base models of one world, one a seed.

    Base models go to `bases/`, finished cells to `cells/` in `output_dir`; plans may share them.
    """

    world: World
    pretraining: PretrainingSettings
    cells: Sequence[Cell]
    output_dir: Path


def run_plans(plans: Sequence[Plan], *, workers: int, console: Console | None = None) -> list[list[Measured]]:
    """Run what is not there yet of all plans together, so that no worker waits for a plan's end.

    Args:
        plans: what is measured.
        workers: processes, one thread each; 1 runs everything in this process.
        console: where progress bars are drawn; None draws none.

    Returns every plan's cells' numbers, in order.
    """
    if workers < 1:
        raise HoldfastError(f"workers must be at least 1, got {workers}")
    # Named once: an edit of the source while the experiment runs must not rename what is being written.
    paths = [[_path(plan, cell) for cell in plan.cells] for plan in plans]
    waiting: dict[Job, dict[Path, Job]] = {}  # the cells of each base
    for plan, own in zip(plans, paths, strict=True):
        check_output_directory(plan.output_dir)
        for path, cell in zip(own, plan.cells, strict=True):
            if not path.is_file():
                base = _base_job(plan, cell.seed)
                waiting.setdefault(base, {})[path] = Job(cell.name, run_and_write_cell, (path, cell))
    with Display(console, len(waiting) + sum(map(len, waiting.values()))) as display:

        def follow(job: Job, result: Any) -> list[Job]:
            display.finished(job.name)
            if job.function is not aligned_model:
                return []
            cells = waiting[job].values()
            return [replace(cell, arguments=(cell.arguments[0], result, *cell.arguments[1:])) for cell in cells]

        run_jobs(list(waiting), follow, display.report, workers=workers)
    return [[_read(path) for path in own] for own in paths]


def _base_job(plan: Plan, seed: int) -> Job:
    arguments = (plan.output_dir / "bases", plan.world, plan.pretraining, seed)
    return Job(f"{plan.world.name}, base {seed}", aligned_model, arguments)


def _path(plan: Plan, cell: Cell) -> Path:
    base = base_manifest(plan.world, plan.pretraining, cell.seed)
    fingerprint = manifest_fingerprint({"base": base, "cell": cell.depends_on})
    return plan.output_dir / "cells" / f"{cell.stem}_{fingerprint}.json"


def run_and_write_cell(path: Path, base: Path, cell: Cell, progress: Progress) -> None:
    """Run a cell and write it in one step, so that a file that is there is whole."""
    measured = cell.run(base, *cell.arguments, progress=progress)
    stored = {name: {metric: asdict(m) for metric, m in metrics.items()} for name, metrics in measured.items()}
    write_json(path, stored, indent=1)


def _read(path: Path) -> Measured:
    try:
        stored = json.loads(path.read_text(encoding="utf-8"))
        return {
            name: {metric: Measurement(**values) for metric, values in metrics.items()}
            for name, metrics in stored.items()
        }
    except (ValueError, TypeError, AttributeError) as error:
        raise HoldfastError(f"{path}: not a finished cell ({error}); delete it and run again") from None
