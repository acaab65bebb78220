"""What is compared in world 2: MPO, the paper's baselines, ablations and ideas, and at which learning rates."""

from collections.abc import Callable, Collection
from dataclasses import replace
from typing import Any

from holdfast.losses.preference import PREFERENCE_LOSSES
from holdfast.provingground.languages.alignment import Noise
from holdfast.provingground.languages.cells import Alignment
from holdfast.reference.pairs import Retention
from holdfast.trainers.mpo import MPOSettings

LEARNING_RATES = (3e-5, 1e-4, 3e-4, 1e-3, 3e-3)  # every method is tried with each of these, and with nothing else
Rate = Callable[[str], float]  # a method's name -> its learning rate
# Chosen by benchmarks/tune_languages.py on development bases and prompts; ablations take MPO's.
HELD = ("mpo_benign", "mpo_benign_one_sided", "mpo_benign_huber")
NAMES = ("mpo", *PREFERENCE_LOSSES, "mpo_one_sided", "mpo_huber", "mpo_retention_16", *HELD)
TUNED: dict[Noise, dict[str, float]] = {
    "clean": dict.fromkeys(NAMES, 1e-4) | dict.fromkeys(HELD, 3e-4),
    "published": dict.fromkeys(NAMES, 3e-4),
}


def tuned(noise: Noise) -> Rate:
    """The learning rates chosen for a kind of pairs."""
    return lambda name: TUNED[noise][name]


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


def methods(rate: Rate) -> tuple[Alignment, ...]:
    """MPO and every baseline of the paper; `rate` gives each one's learning rate."""
    return (mpo("mpo", rate("mpo")), *(preference(name, rate(name)) for name in PREFERENCE_LOSSES))


def ideas(rate: Rate) -> tuple[Alignment, ...]:
    """Ours, for a better point than the paper's; tried with the same budget as every method."""
    switches: dict[str, dict[str, Any]] = {
        "mpo_one_sided": {"one_sided": True},
        "mpo_huber": {"huber_delta": 0.5},
        "mpo_retention_16": {"retention_weight": 16.0},
        "mpo_benign": {"retention_weight": 16.0, "benign_prompts": 100},
        "mpo_benign_one_sided": {"retention_weight": 16.0, "benign_prompts": 100, "one_sided": True},
        "mpo_benign_huber": {"retention_weight": 16.0, "benign_prompts": 100, "huber_delta": 0.5},
    }
    return tuple(mpo(name, rate(name), **chosen) for name, chosen in switches.items())


def ablations(rate: Rate) -> tuple[Alignment, ...]:
    """MPO with one thing changed, at MPO's own learning rate."""
    own = rate("mpo")
    return (
        mpo("mpo_no_retention", own, retention=None),
        mpo("mpo_mean", own, retention="mean"),
        mpo("mpo_padded_mean", own, retention="padded_mean"),
        mpo("mpo_sums", own, length_normalise=False),
        mpo("mpo_dpo_gap", own, gap="dpo"),
    )


def frontier(names: Collection[str] = NAMES) -> tuple[Alignment, ...]:
    """These methods and ideas at every learning rate of the grid, named `method @ rate`."""
    first = LEARNING_RATES[0]
    return tuple(
        replace(alignment, name=f"{alignment.name} @ {rate:g}", learning_rate=rate)
        for alignment in (*methods(lambda _: first), *ideas(lambda _: first))
        if alignment.name in names
        for rate in LEARNING_RATES
    )
