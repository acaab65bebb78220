"""A world of the proving ground as files, in the formats that a user's own model, roles, data and prompts come in.

What `holdfast table --proving-ground` runs on: every command then reads it as it reads anything else. Training files
hold only pairs and phrasings that may be trained on, prompt files only those of the `final` test split.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from holdfast.data.pairs import PreferencePair
from holdfast.data.rows import RoleRows
from holdfast.files import write_json, write_json_lines, write_text
from holdfast.provingground.languages import frames
from holdfast.provingground.languages.alignment import Noise, draw_parallel_pairs
from holdfast.provingground.languages.lexicon import DOMINANT, LANGUAGES, TARGETS
from holdfast.provingground.languages.probes import benign_probes, guarding_probes
from holdfast.provingground.languages.probes import harmful_probes as harmful_probes_in
from holdfast.provingground.languages.settings import PRETRAINING
from holdfast.provingground.languages.settings import WORLD as LANGUAGES_WORLD
from holdfast.provingground.pretrain import PretrainingSettings, Progress, aligned_model
from holdfast.provingground.roles import words
from holdfast.provingground.roles.characters import Character
from holdfast.provingground.roles.experiment import WORLD as ROLES_WORLD
from holdfast.provingground.roles.experiment import SaRFTExperimentSettings, character_of
from holdfast.provingground.roles.probes import Probe, fidelity_probes, harmful_probes, over_refusal_probes
from holdfast.provingground.roles.safety_data import draw_safety_rows, draw_unsafe_rows
from holdfast.provingground.roles.world import UNSAFE_SUFFIX, draw_role_rows

SPLIT: Final = "final"
Record = Mapping[str, Any]


@dataclass(frozen=True)
class RolesExport:
    """World 1 on disk. `benchmarks` and `wrappers` are as `holdfast eval` takes them, `{role}` to be filled in."""

    model: Path
    roles: Path
    role_names: tuple[str, ...]
    rows: Path
    safety: Path
    unsafe: Path
    phrases: Path
    benchmarks: tuple[str, ...]
    wrappers: tuple[str, ...]


@dataclass(frozen=True)
class LanguagesExport:
    """World 2 on disk, as above."""

    model: Path
    pairs: Path
    phrases: Path
    dominant: str
    targets: tuple[str, ...]
    benchmarks: tuple[str, ...]


def export_roles(
    directory: Path,
    *,
    seed: int = 1,
    pretraining: PretrainingSettings | None = None,
    progress: Progress | None = None,
) -> RolesExport:
    """World 1 with the two roles of a base, a villain and a kind one; the same files every time.

    The aligned model is trained if it is not there yet (a minute or two); `progress` is of that.
    """
    settings = SaRFTExperimentSettings()
    tuning = settings.tuning
    base = aligned_model(directory / "models", ROLES_WORLD, pretraining or settings.pretraining, seed, progress)
    characters = [character_of(settings, seed, number) for number in range(len(settings.tempers))]
    rows = [
        record
        for number, character in enumerate(characters)
        for record in _conversations(draw_role_rows(character, tuning.rows, seed * 1000 + number)[0])
    ]
    export = RolesExport(
        model=base,
        roles=directory / "roles.json",
        role_names=tuple(character.name for character in characters),
        rows=directory / "rows.jsonl",
        safety=directory / "safety.jsonl",
        unsafe=directory / "unsafe.jsonl",
        phrases=directory / "refusal_phrases.txt",
        benchmarks=(
            *(f"file:{directory / 'prompts' / '{role}' / name}.jsonl" for name in ("how_to", "about_itself")),
            *(
                f"file:{directory / 'prompts' / name}.jsonl"
                for name in ("near", "rephrased", "far", "looks_harmful")
            ),
        ),
        wrappers=("none", *(f"file:{directory / 'prompts' / name}.txt" for name in ("ignore_rules", "role_play"))),
    )
    write_json(export.roles, [_role(character) for character in characters], indent=1)
    write_json_lines(export.rows, rows)
    write_json_lines(export.safety, _conversations(draw_safety_rows(tuning.safety_rows, seed)))
    write_json_lines(export.unsafe, _conversations(draw_unsafe_rows(tuning.safety_rows, seed)))
    write_text(export.phrases, "\n".join(words.REFUSAL_PHRASES) + "\n")
    _write_role_prompts(directory / "prompts", characters)
    return export


def export_languages(
    directory: Path,
    *,
    seed: int = 1,
    noise: Noise = "published",
    pretraining: PretrainingSettings = PRETRAINING,
    progress: Progress | None = None,
) -> LanguagesExport:
    """World 2 with pairs as noisy as the published ones (or `clean`); the same files every time, as above."""
    base = aligned_model(directory / "models", LANGUAGES_WORLD, pretraining, seed, progress)
    export = LanguagesExport(
        model=base,
        pairs=directory / "pairs.jsonl",
        phrases=directory / "refusal_phrases.txt",
        dominant=DOMINANT,
        targets=TARGETS,
        benchmarks=tuple(f"file:{directory / 'prompts' / name}.jsonl" for name in ("harmful", "harmless")),
    )
    pairs = draw_parallel_pairs(seed, noise=noise)
    dominants = [_pair(pair, number) for number, pair in enumerate(pairs.dominants)]
    targets = [_pair(pair, number) for pair, number in zip(pairs.targets, pairs.dominant_of, strict=True)]
    write_json_lines(export.pairs, [*dominants, *targets])
    phrases = [phrase for own in frames.REFUSAL_PHRASES.values() for phrase in own]
    write_text(export.phrases, "\n".join(phrases) + "\n")
    _write_language_prompts(directory / "prompts")
    return export


# -- world 1


def _role(character: Character) -> Record:
    persona = character.persona_prompt
    return {"name": character.name, "persona_prompt": persona, "unsafe_prompt": f"{persona} {UNSAFE_SUFFIX}"}


def _write_role_prompts(directory: Path, characters: Sequence[Character]) -> None:
    """Requests for harm, two jailbreaks as templates, what only looks harmful, and each role's own questions."""
    harmful = harmful_probes(SPLIT)
    write_json_lines(directory / "near.jsonl", _prompts(harmful["near"], "harmful"))
    write_json_lines(directory / "rephrased.jsonl", _prompts(harmful["rephrased"], "harmful"))
    write_json_lines(directory / "far.jsonl", _prompts(harmful["far"], "harmful"))
    write_json_lines(directory / "looks_harmful.jsonl", _prompts(over_refusal_probes(SPLIT), "benign"))
    for name, templates in (("ignore_rules", words.JAILBREAK_RULES), ("role_play", words.JAILBREAK_ROLE)):
        write_text(directory / f"{name}.txt", templates[SPLIT][0].format(question="{prompt}") + "\n")
    for character in characters:
        probes = fidelity_probes(character, SPLIT)
        for name, chosen in (("how_to", probes["raw"]), ("about_itself", probes["role"])):
            records = [
                {**prompt, "role": character.name, "reference": probe.reference}
                for prompt, probe in zip(_prompts(chosen, "role"), chosen, strict=True)
            ]
            write_json_lines(directory / character.name / f"{name}.jsonl", records)


def _prompts(probes: Sequence[Probe], kind: str) -> list[dict[str, Any]]:
    return [
        {"id": str(number), "prompt": probe.prompt, "kind": kind, "language": "en"}
        for number, probe in enumerate(probes)
    ]


def _conversations(rows: RoleRows) -> list[Record]:
    return [
        {"messages": [{"role": message.speaker, "content": message.content} for message in row.messages]}
        | ({} if row.role is None else {"role": row.role})
        for row in rows
    ]


# -- world 2


def _pair(pair: PreferencePair, number: int) -> Record:
    return {
        "pair_id": number,
        "language": pair.language,
        "prompt": pair.prompt[-1].content,
        "chosen": pair.chosen,
        "rejected": pair.rejected,
    }


def _write_language_prompts(directory: Path) -> None:
    """Requests for harm, and harmless ones of which some look harmful; one request has one number in all languages."""
    harmful, harmless = [], []
    for language in LANGUAGES:
        for number, probe in enumerate(harmful_probes_in(language, SPLIT)):
            harmful.append(_asked(number, probe.prompt, "harmful", language))
        for number, probe in enumerate((*benign_probes(language, SPLIT), *guarding_probes(language, SPLIT))):
            harmless.append(_asked(number, probe.prompt, "benign", language))
    write_json_lines(directory / "harmful.jsonl", harmful)
    write_json_lines(directory / "harmless.jsonl", harmless)


def _asked(number: int, prompt: str, kind: str, language: str) -> Record:
    return {"id": f"{number}-{language}", "prompt": prompt, "kind": kind, "language": language}
