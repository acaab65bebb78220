"""What is compared in world 1, with which settings."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from holdfast.methods.registry import ROLE_METHODS, Family
from holdfast.provingground.roles import words
from holdfast.provingground.roles.world import UNSAFE_SUFFIX


@dataclass(frozen=True)
class StudyMethod:
    """Settings of `RoleMethod`; or a decoding defence over the plainly fine-tuned model, with its settings.

    Methods of a `family` are run together: they share what is computed for them.
    """

    settings: Mapping[str, Any] = field(default_factory=dict)
    defence: str | None = None
    family: Family = "ours"


KINDLY = f"{words.KINDLY_TONE[0]} {words.KINDLY_RULE[0]}"  # this world's prompt that stresses safety
OWN: dict[str, dict[str, Any]] = {
    "rose": {"safe_prompt": KINDLY, "reverse_prompt": UNSAFE_SUFFIX},
    "self_cd": {"safe_prompt": KINDLY},
}
# What else is tried of the methods that have a strength, the paper's or our default first; the choice of
# benchmarks/tune_roles.py on development bases and prompts stands in TUNED.
GRID: dict[str, tuple[dict[str, Any], ...]] = {
    "vaccine": tuple({"perturbation": rho} for rho in (0.1, 0.5, 2.0, 8.0)),
    "proximal": tuple({"proximal_weight": weight} for weight in (1.0, 0.01, 0.1, 10.0)),
    "safe_lora": ({"projection_threshold": 0.5}, *({"projected_layers": layers} for layers in (4, 8, 16))),
    "sppft": tuple({"frozen_layers": layers} for layers in ("auto", (0, 1), (1, 2), (2, 3))),
    "lookahead": tuple(
        {"answer_preview": kind, "preview_tokens": tokens}
        for kind, tokens in (("virtual", 6), ("real", 6), ("real", 3), ("real", 12))
    ),
    "rose": tuple({"alpha": alpha} for alpha in (0.5, 0.1, 0.25, 1.0)),
    "self_cd": tuple({"alpha": alpha} for alpha in (2.5, 0.5, -0.5, -2.5)),
    "safe_decoding": tuple({"alpha": alpha} for alpha in (3.0, 1.0, 2.0, 6.0)),
}
TUNED: dict[str, dict[str, Any]] = {
    "vaccine": {"perturbation": 2.0},
    "proximal": {"proximal_weight": 0.01},
    "safe_lora": {"projected_layers": 8},
    "sppft": {"frozen_layers": (0, 1)},
    "lookahead": {"answer_preview": "real", "preview_tokens": 3},
    "rose": {"alpha": 0.25},
    "self_cd": {"alpha": 2.5},
    "safe_decoding": {"alpha": 1.0},
}


def study_method(name: str, *, tuned: bool = True) -> StudyMethod:
    """A method of the registry as it is run in this world; not `tuned`, at the registry's own strength."""
    method = ROLE_METHODS[name]
    chosen = TUNED.get(name, {}) if tuned else {}
    return StudyMethod({**(method.settings or {}), **OWN.get(name, {}), **chosen}, method.defence, method.family)


def by_family(chosen: Mapping[str, StudyMethod]) -> list[dict[str, StudyMethod]]:
    """The methods in groups, in order; plain fine-tuning and SaRFT with its controls are one group."""
    groups: dict[Family, dict[str, StudyMethod]] = {}
    for name, method in chosen.items():
        family: Family = "ours" if method.family == "reference" else method.family
        groups.setdefault(family, {})[name] = method
    return list(groups.values()) or [{}]


def methods(*names: str) -> dict[str, StudyMethod]:
    """Methods by name, in the order given."""
    return {name: study_method(name) for name in names}


DEMO = methods("sft", "sarft", "random", "uniform")
STUDY = methods(*(name for name in ROLE_METHODS if name != "base"))
