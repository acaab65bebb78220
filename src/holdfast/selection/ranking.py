"""One entry point to the ranking selectors, with a cache on disk named by everything that the scores depend on."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any, Literal, get_args

from pydantic import TypeAdapter, ValidationError

from holdfast.chat import ChatFormat
from holdfast.data.collator import Example, examples_fingerprint
from holdfast.data.roles import Role
from holdfast.data.rows import RoleRow, rows_fingerprint
from holdfast.errors import HoldfastError
from holdfast.models import Policy, model_fingerprint
from holdfast.reference.store import RowStore
from holdfast.selection.gradients import GradientSettings, bi_selection_scores, gradient_scores
from holdfast.selection.kept import KeptScores, Progress
from holdfast.selection.persona import PersonaVectorSettings, persona_vector_scores
from holdfast.selection.seal import SEALSettings, seal_scores

Ranking = Literal["seal", "bi_selection", "gradient", "persona_vector"]
Anchors = Literal["safety_data", "unsafe_data"]

RANKINGS: tuple[Ranking, ...] = get_args(Ranking)

# Which rows besides the training rows a selector is given, by the config field that names them.
NEEDS: Mapping[Ranking, frozenset[Anchors]] = {
    "seal": frozenset({"safety_data"}),
    "bi_selection": frozenset({"safety_data", "unsafe_data"}),
    "gradient": frozenset({"unsafe_data"}),
    "persona_vector": frozenset(),
}
WHAT: Mapping[Anchors, str] = {
    "safety_data": "harmful requests that are refused",
    "unsafe_data": "harmful requests that are answered",
}


MOST = 1_000_000  # of any setting; more is a slip of the finger


@dataclass(frozen=True)
class RankingSettings:
    """The settings of every selector; the chosen one reads its own."""

    seal: SEALSettings = field(default_factory=SEALSettings)
    gradient: GradientSettings = field(default_factory=GradientSettings)
    persona_vector: PersonaVectorSettings = field(default_factory=PersonaVectorSettings)


_OWN: Mapping[Ranking, str] = {
    "seal": "seal",
    "bi_selection": "gradient",
    "gradient": "gradient",
    "persona_vector": "persona_vector",
}


def ranking_settings(selector: Ranking, given: Mapping[str, Any]) -> RankingSettings:
    """A selector's settings, with those given in the defaults' place.

    Raises HoldfastError for a setting that the selector does not have, or a value that it rejects.
    """
    settings = RankingSettings()
    own: Any = getattr(settings, _OWN[selector])
    known = [setting.name for setting in fields(own)]
    for name in given:
        if name not in known:
            raise HoldfastError(
                f"field 'selector_settings': {selector} has no {name!r:.60}; it has {', '.join(known)}"
            )
    for name, value in given.items():
        if isinstance(value, int | float) and not 0 <= value <= MOST:  # NaN is outside, too
            raise HoldfastError(f"field 'selector_settings': {name} {value!r:.60} is not between 0 and {MOST:,}")
        if type(value) is int and value == 0:
            raise HoldfastError(f"field 'selector_settings': {name} 0; give at least 1")
    try:
        checked = TypeAdapter(type(own)).validate_python({**{name: getattr(own, name) for name in known}, **given})
        return replace(settings, **{_OWN[selector]: checked})
    except ValidationError as error:
        problem = error.errors(include_url=False)[0]
        name = ".".join(map(str, problem["loc"]))
        reason = problem["msg"].removeprefix("Value error, ")
        raise HoldfastError(f"field 'selector_settings': {name + ': ' if name else ''}{reason}") from None


def rank_rows(
    selector: Ranking,
    model: Policy,
    chat: ChatFormat,
    rows: Sequence[RoleRow],
    examples: Sequence[Example],
    role: Role,
    *,
    safety: Sequence[Example] | None = None,
    unsafe: Sequence[Example] | None = None,
    seed: int = 0,
    settings: RankingSettings | None = None,
    cache_dir: Path | None = None,
    progress: Progress | None = None,
) -> list[float]:
    """One score for each row, in the rows' order; higher says that training on the row erodes safety more.

    Scores of different selectors have different units; `flag_top` reads their order only. With `cache_dir` they are
    kept and found again. A run that was killed goes on where it stopped, but for SEAL, whose ranker is learnt over all
    rows together: it starts again, and `progress` says so.

    Args:
        selector: which of `RANKINGS`.
        model: the aligned model, before fine-tuning; it comes back as it was.
        chat: its tokenizer's template.
        rows, examples: the training rows that the length limits left, and the same encoded; aligned.
        role: whose rows they are; only persona_vector reads it.
        safety: encoded harmful requests that are refused.
        unsafe: encoded harmful requests that are answered.
        seed: of what a selector draws.
        settings: of the selectors.
        cache_dir: where scores are kept and looked for; None keeps them in memory.
        progress: (rows done, rows), for seal (steps done, steps).

    Raises HoldfastError where anchors are missing, a score is not finite, or the cache is corrupt.
    """
    if len(rows) != len(examples):
        raise ValueError(f"{len(rows)} rows and {len(examples)} examples; they must be aligned")
    settings = settings or RankingSettings()
    given: dict[Anchors, Sequence[Example] | None] = {"safety_data": safety, "unsafe_data": unsafe}
    anchors = {name.removesuffix("_data"): _given(selector, name, given[name]) for name in sorted(NEEDS[selector])}
    store = None
    if cache_dir is not None:
        manifest = _manifest(selector, model, chat, rows, examples, role, anchors, seed, settings)
        store = RowStore(cache_dir, f"{selector}_scores", manifest, rows=len(rows), fields=KeptScores.FIELDS)
    kept = KeptScores(store, [row.location for row in rows])
    if len(kept) < len(rows):
        pad = chat.tokenizer.pad_token_id or 0
        common: dict[str, Any] = {"seed": seed, "progress": progress, **anchors}
        if selector == "seal":
            kept.add(dict(enumerate(seal_scores(model, pad, examples, settings=settings.seal, **common))))
        elif selector == "persona_vector":
            common |= {"settings": settings.persona_vector, "kept": kept}
            persona_vector_scores(model, chat, rows, examples, role, **common)
        else:
            score = bi_selection_scores if selector == "bi_selection" else gradient_scores
            score(model, pad, examples, settings=settings.gradient, kept=kept, **common)
    return kept.in_order()


def _given(selector: Ranking, name: Anchors, examples: Sequence[Example] | None) -> Sequence[Example]:
    if not examples:
        what = "is missing" if examples is None else "holds no row"
        raise HoldfastError(f"selector {selector}: {name} {what}; give {WHAT[name]}")
    return examples


def _manifest(
    selector: Ranking,
    model: Policy,
    chat: ChatFormat,
    rows: Sequence[RoleRow],
    examples: Sequence[Example],
    role: Role,
    anchors: Mapping[str, Sequence[Example]],
    seed: int,
    settings: RankingSettings,
) -> dict[str, Any]:
    """Everything that the selector's scores depend on, as JSON values."""
    used: SEALSettings | PersonaVectorSettings | GradientSettings = settings.gradient
    if selector in ("seal", "persona_vector"):
        used = settings.seal if selector == "seal" else settings.persona_vector
    manifest: dict[str, Any] = {
        "format": 1,
        "selector": selector,
        "model": model_fingerprint(model),
        "examples": examples_fingerprint(examples),
        "anchors": {name: examples_fingerprint(encoded) for name, encoded in anchors.items()},
        "seed": seed,
        "settings": json.loads(json.dumps(asdict(used))),  # tuples as the lists that JSON gives back
    }
    if selector == "persona_vector":  # the only one that encodes text itself
        manifest |= {
            "tokenizer_and_template": chat.fingerprint(),
            "rows": rows_fingerprint(rows),
            "role": {"persona_prompt": role.persona_prompt, "unsafe_prompt": role.unsafe_prompt},
        }
    return manifest
