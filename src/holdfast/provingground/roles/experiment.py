"""The SaRFT experiment of the proving ground: bases, roles and methods, in workers, resumed where it stopped."""

import json
import random
from dataclasses import asdict, dataclass, field
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
    source_digest,
)
from holdfast.provingground.roles.aggregate import Cell, figures_of
from holdfast.provingground.roles.cells import SELECTOR_OF, FineTuning, Measured, Method, run_cell
from holdfast.provingground.roles.characters import Character, Temper, draw_character
from holdfast.provingground.roles.tokenizer import build_tokenizer
from holdfast.provingground.roles.words import Split
from holdfast.provingground.roles.world import draw_conversation
from holdfast.provingground.workers import Job, run_jobs
from holdfast.results import Figure

HERE = Path(__file__).parent
TEXTS = ("words.py", "characters.py", "world.py", "tokenizer.py")
WORLD = World("roles", build_tokenizer, draw_conversation, tuple(HERE / name for name in TEXTS))
# What a cell's numbers depend on besides its base: the code that fine-tunes on the world and measures.
CELL_SOURCES = tuple(HERE / name for name in ("cells.py", "evaluate.py", "probes.py"))


@dataclass(frozen=True)
class SaRFTExperimentSettings:
    """The experiment. Every seed is a base model of its own; each gets one new role per entry of `tempers`.

    `split` says which test prompts are used: `development` while anything is still being chosen, `final` for
    what is reported. Seeds of 100 and above are for development.
    """

    seeds: tuple[int, ...] = (1, 2, 3, 4)
    tempers: tuple[Temper, ...] = ("villain", "kind")
    methods: tuple[Method, ...] = tuple(SELECTOR_OF)
    split: Split = "final"
    tuning: FineTuning = field(default_factory=FineTuning)
    pretraining: PretrainingSettings = field(default_factory=PretrainingSettings)

    @classmethod
    def demo(cls) -> "SaRFTExperimentSettings":
        """What `holdfast demo sarft` runs: minutes on two cores."""
        return cls()

    @classmethod
    def study(cls) -> "SaRFTExperimentSettings":
        """More bases and roles, for tighter intervals: about half an hour on two cores."""
        return cls(seeds=tuple(range(1, 17)), tempers=("villain", "villain", "mixed", "kind"))


def run_sarft_experiment(
    settings: SaRFTExperimentSettings,
    output_dir: Path,
    *,
    workers: int = 2,
    console: Console | None = None,
) -> list[Figure]:
    """Run what is not there yet and return all figures.

    Args:
        settings: what to run.
        output_dir: base models go to `bases/`, finished cells to `cells/` in it. A run that was stopped or killed
            goes on from what it finished; a change of settings or code makes new files.
        workers: processes, one thread each; 1 runs everything in this process.
        console: where progress bars are drawn; None draws none.
    """
    if workers < 1:
        raise HoldfastError(f"workers must be at least 1, got {workers}")
    plan = _Plan(settings, output_dir)
    bases = [seed for seed in settings.seeds if plan.missing_roles(seed)]
    jobs = [Job(f"base {seed}", aligned_model, plan.base_arguments(seed)) for seed in bases]
    with Display(console, len(bases) + sum(len(plan.missing_roles(seed)) for seed in bases)) as display:

        def follow(job: Job, result: Any) -> list[Job]:
            display.finished(job.name)
            return plan.role_jobs(job.arguments[3], result) if job.function is aligned_model else []

        run_jobs(jobs, follow, display.report, workers=workers)
    return figures_of([plan.read_cell(seed, number) for seed, number in plan.cells])


class _Plan:
    """Which file belongs to which base and role."""

    def __init__(self, settings: SaRFTExperimentSettings, output_dir: Path):
        self.settings = settings
        self.base_dir = output_dir / "bases"
        self.cell_dir = output_dir / "cells"
        self.cell_dir.mkdir(parents=True, exist_ok=True)
        self.cells = [(seed, number) for seed in settings.seeds for number in range(len(settings.tempers))]
        # Named once: an edit of the source while the experiment runs must not rename what is being written.
        self._paths = {cell: self._named_path(*cell) for cell in self.cells}

    def character(self, seed: int, number: int) -> Character:
        """The role `number` of a base; the roles of one base have different names."""
        temper = self.settings.tempers[number]
        taken = {self.character(seed, earlier).name for earlier in range(number)}
        rng = random.Random(f"role {seed} {number} {temper}")
        while (character := draw_character(rng, temper)).name in taken:
            pass
        return character

    def base_arguments(self, seed: int) -> tuple[Path, World, PretrainingSettings, int]:
        """Arguments of `aligned_model`."""
        return self.base_dir, WORLD, self.settings.pretraining, seed

    def cell_path(self, seed: int, number: int) -> Path:
        """Where a cell's numbers are, or will be."""
        return self._paths[seed, number]

    def _named_path(self, seed: int, number: int) -> Path:
        """Named by everything that the cell's numbers depend on."""
        manifest = {
            "base": base_manifest(WORLD, self.settings.pretraining, seed),
            "character": asdict(self.character(seed, number)),
            "split": self.settings.split,
            "methods": self.settings.methods,
            "tuning": asdict(self.settings.tuning),
            "sources": source_digest(CELL_SOURCES),
        }
        return self.cell_dir / f"seed_{seed}_role_{number}_{manifest_fingerprint(manifest)}.json"

    def missing_roles(self, seed: int) -> list[int]:
        """The roles of a base that are still to be run."""
        return [n for n in range(len(self.settings.tempers)) if not self.cell_path(seed, n).is_file()]

    def role_jobs(self, seed: int, base: Path) -> list[Job]:
        """The jobs that a base makes possible."""
        jobs = []
        for number in self.missing_roles(seed):
            character = self.character(seed, number)
            arguments = (self.cell_path(seed, number), base, character, seed * 1000 + number, self.settings)
            jobs.append(Job(f"base {seed}: {character.name} ({character.temper})", run_and_write_cell, arguments))
        return jobs

    def read_cell(self, seed: int, number: int) -> Cell:
        """A finished cell."""
        path = self.cell_path(seed, number)
        try:
            stored = json.loads(path.read_text(encoding="utf-8"))
            measured: Measured = {
                method: {metric: Measurement(**values) for metric, values in metrics.items()}
                for method, metrics in stored.items()
            }
        except (ValueError, TypeError, AttributeError) as error:
            raise HoldfastError(f"{path}: not a finished cell ({error}); delete it and run again") from None
        return Cell(seed, self.character(seed, number), measured)


def run_and_write_cell(
    path: Path,
    base: Path,
    character: Character,
    seed: int,
    settings: SaRFTExperimentSettings,
    progress: Progress,
) -> None:
    """Run a cell and write it in one step, so that a file that is there is whole."""
    measured = run_cell(
        base,
        character,
        seed,
        split=settings.split,
        methods=settings.methods,
        tuning=settings.tuning,
        progress=progress,
    )
    stored = {method: {metric: asdict(m) for metric, m in metrics.items()} for method, metrics in measured.items()}
    partial = path.with_suffix(".partial")
    partial.write_text(json.dumps(stored, indent=1) + "\n", encoding="utf-8")
    partial.replace(path)
