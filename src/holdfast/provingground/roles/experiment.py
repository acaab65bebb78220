"""The SaRFT experiment of the proving ground: bases, roles and methods."""

import random
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from rich.console import Console

from holdfast.provingground import runner
from holdfast.provingground.pretrain import PretrainingSettings, World, source_digest
from holdfast.provingground.roles.aggregate import Cell, figures_of
from holdfast.provingground.roles.cells import FineTuning, run_cell
from holdfast.provingground.roles.characters import Character, Temper, draw_character
from holdfast.provingground.roles.methods import DEMO, STUDY, StudyMethod, by_family, study_method
from holdfast.provingground.roles.tokenizer import build_tokenizer
from holdfast.provingground.roles.words import Split
from holdfast.provingground.roles.world import draw_conversation
from holdfast.results import Figure

HERE = Path(__file__).parent
TEXTS = ("words.py", "characters.py", "world.py", "tokenizer.py")
WORLD = World("roles", build_tokenizer, draw_conversation, tuple(HERE / name for name in TEXTS))
# What a cell's numbers depend on besides its base: the code that fine-tunes on the world and measures.
CELL_SOURCES = tuple(HERE / name for name in ("cells.py", "evaluate.py", "probes.py", "safety_data.py"))


@dataclass(frozen=True)
class SaRFTExperimentSettings:
    """The experiment. Every seed is a base model of its own; each gets one new role per entry of `tempers`.

    `split` says which test prompts are used: `development` while anything is still being chosen, `final` for
    what is reported. Seeds of 100 and above are for development.
    """

    seeds: tuple[int, ...] = (1, 2, 3)
    tempers: tuple[Temper, ...] = ("villain", "kind")
    methods: Mapping[str, StudyMethod] = field(default_factory=lambda: DEMO)
    split: Split = "final"
    tuning: FineTuning = field(default_factory=FineTuning)
    pretraining: PretrainingSettings = field(default_factory=PretrainingSettings)

    @classmethod
    def demo(cls) -> "SaRFTExperimentSettings":
        """What `holdfast demo sarft` runs: villains, on the fewest bases with an interval of any use, trained less."""
        return cls(tempers=("villain",), pretraining=PretrainingSettings(steps=1000))

    @classmethod
    def study(cls) -> "SaRFTExperimentSettings":
        """What `holdfast study` runs: every method, kind roles too, on eight base models for tighter intervals."""
        return cls(seeds=tuple(range(1, 9)), methods=STUDY)


def run_sarft_experiment(
    settings: SaRFTExperimentSettings,
    output_dir: Path,
    *,
    workers: int = 2,
    console: Console | None = None,
) -> list[Figure]:
    """Run what is not there yet and return all figures; arguments as those of `runner.run_plans`."""
    (measured,) = runner.run_plans([sarft_plan(settings, output_dir)], workers=workers, console=console)
    groups = len(by_family(settings.methods))
    whole = [measured[start : start + groups] for start in range(0, len(measured), groups)]
    return figures_of(
        [
            Cell(
                seed, character_of(settings, seed, number), {name: m for part in parts for name, m in part.items()}
            )
            for (seed, number), parts in zip(_places(settings), whole, strict=True)
        ]
    )


def sarft_plan(settings: SaRFTExperimentSettings, output_dir: Path) -> runner.Plan:
    """What the experiment runs: a cell for each base, role and family of methods."""
    groups = by_family(settings.methods)
    cells = [_cell(settings, *place, group, group is groups[0]) for place in _places(settings) for group in groups]
    return runner.Plan(WORLD, settings.pretraining, cells, output_dir)


def _places(settings: SaRFTExperimentSettings) -> list[tuple[int, int]]:
    return [(seed, number) for seed in settings.seeds for number in range(len(settings.tempers))]


# One thing changed at a time in SaRFT (RDS flags) on villains; `study` runs them all.
ABLATIONS: dict[str, dict[str, Any]] = {
    "beta 0.05": {"beta": 0.05},
    "beta 0.1": {"beta": 0.1},
    "beta 0.5": {"beta": 0.5},
    "beta 1": {"beta": 1.0},
    "KL over the sequence": {"kl_span": "sequence"},
    "reverse KL": {"kl_direction": "reverse"},
    "MSE of probabilities": {"safe_loss": "mse"},
    # Ours: alignment is a few tokens deep, so what comes later might be left to the role.
    "first 3 tokens, beta 0.02": {"kl_first_tokens": 3, "beta": 0.02},
    "first 3 tokens, beta 0.05": {"kl_first_tokens": 3, "beta": 0.05},
    "first 3 tokens, beta 0.1": {"kl_first_tokens": 3, "beta": 0.1},
    "first 3 tokens": {"kl_first_tokens": 3},
    "first 3 tokens, beta 0.5": {"kl_first_tokens": 3, "beta": 0.5},
}


# At betas with like fidelity to the role.
FIRST_TOKENS_AGAINST_ALL = (
    ("first 3 tokens, beta 0.02", "beta 0.1"),
    ("first 3 tokens, beta 0.05", "sarft"),
    ("first 3 tokens, beta 0.1", "beta 0.5"),
)


def run_sarft_ablations(
    settings: SaRFTExperimentSettings, output_dir: Path, *, workers: int = 2, console: Console | None = None
) -> list[Figure]:
    """Every entry of ABLATIONS on the bases and villains of `settings`; figures named by the entries."""
    plain = study_method("sarft")
    changed = {name: StudyMethod({**plain.settings, **change}) for name, change in ABLATIONS.items()}
    villains = replace(settings, tempers=("villain",), methods=changed)
    measured = run_sarft_experiment(villains, output_dir, workers=workers, console=console)
    return [figure for figure in measured if figure.method in changed]


def character_of(settings: SaRFTExperimentSettings, seed: int, number: int) -> Character:
    """The role `number` of a base; the roles of one base have different names."""
    temper = settings.tempers[number]
    taken = {character_of(settings, seed, earlier).name for earlier in range(number)}
    rng = random.Random(f"role {seed} {number} {temper}")
    while (character := draw_character(rng, temper)).name in taken:
        pass
    return character


def _cell(
    settings: SaRFTExperimentSettings,
    seed: int,
    number: int,
    methods: Mapping[str, StudyMethod],
    with_base: bool,
) -> runner.Cell:
    character = character_of(settings, seed, number)
    return runner.Cell(
        name=f"base {seed}: {character.name} ({character.temper}), {next(iter(methods), 'aligned model')} ...",
        stem=f"seed_{seed}_role_{number}",
        seed=seed,
        run=run_cell,
        arguments=(character, seed * 1000 + number, settings.split, methods, settings.tuning, with_base),
        depends_on={
            "character": asdict(character),
            "split": settings.split,
            "methods": {name: asdict(method) for name, method in methods.items()},
            "tuning": asdict(settings.tuning),
            "with_base": with_base,
            "sources": source_digest(CELL_SOURCES),
        },
    )
