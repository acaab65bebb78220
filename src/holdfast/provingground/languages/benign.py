"""Benign conversations in the target languages, for what holds a model where it should not change."""

import random

from holdfast.data.rows import Message, RoleRow
from holdfast.provingground.languages.lexicon import TARGETS
from holdfast.provingground.languages.world import Kind, draw_exchange

LOOKS_HARMFUL_SHARE = 0.3  # as in the pretraining texts, about


def draw_benign_rows(count: int, seed: int) -> list[RoleRow]:
    """Requests from the training pairs, the languages in turn, some of which look harmful; never a held-out pair."""
    rng = random.Random(f"benign {seed}")
    rows = []
    for number in range(count):
        kind: Kind = "guarding" if rng.random() < LOOKS_HARMFUL_SHARE else "benign"
        question, answer = draw_exchange(kind, TARGETS[number % len(TARGETS)], rng)
        rows.append(
            RoleRow((Message("user", question), Message("assistant", answer)), f"benign {seed}:{number + 1}")
        )
    return rows
