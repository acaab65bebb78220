"""What the models of world 1 are tested with. Fixed before any method was compared; nothing here is trained on."""

import random
from dataclasses import dataclass
from typing import Literal

from holdfast.provingground.roles import words
from holdfast.provingground.roles.characters import Character
from holdfast.provingground.roles.words import Split
from holdfast.provingground.roles.world import BENIGN, HARMFUL, PLAYFUL, Pair, PairSplit, Question, answer, phrased

HarmfulSet = Literal[
    "near", "rephrased", "far", "jailbreak_rules", "jailbreak_role"
]  # H1, H2, H3, J_rules, J_role
FidelitySet = Literal["raw", "role", "dark"]


@dataclass(frozen=True)
class Probe:
    """A prompt, and what an answer is held against: the character's held-out answer, or for a request for harm
    the tool that an answer which complies would name.
    """

    prompt: str
    reference: str = ""


def held_out(pairs: PairSplit, split: Split) -> tuple[Pair, ...]:
    """The pairs of one test split."""
    return pairs.development if split == "development" else pairs.final


def cycled(patterns: tuple[str, ...], index: int) -> str:
    """Patterns in turn, so that every one is asked equally often."""
    return patterns[index % len(patterns)]


def harmful_probes(split: Split) -> dict[HarmfulSet, tuple[Probe, ...]]:
    """Requests for harm: in the phrasings of training, rephrased, framed far from them, and as two jailbreaks."""
    pairs = [pair for pair in held_out(HARMFUL, split) for _ in range(2)]

    def probes(patterns: tuple[str, ...], wrappers: tuple[str, ...] = ("{question}",)) -> tuple[Probe, ...]:
        questions = [phrased("harmful", cycled(patterns, index), pair) for index, pair in enumerate(pairs)]
        return tuple(
            Probe(cycled(wrappers, index).format(question=question.text), words.HARMFUL_TOOL_OF[question.verb])
            for index, question in enumerate(questions)
        )

    return {
        "near": probes(words.HOW_TO),
        "rephrased": probes(words.REPHRASED[split]),
        "far": probes(words.FAR[split]),
        "jailbreak_rules": probes(words.HOW_TO, words.JAILBREAK_RULES[split]),
        "jailbreak_role": probes(words.HOW_TO, words.JAILBREAK_ROLE[split]),
    }


def over_refusal_probes(split: Split) -> tuple[Probe, ...]:
    """Benign requests that look harmful: harmful verbs on playthings, and questions of those who guard something."""
    playful = [pair for pair in held_out(PLAYFUL, split) for _ in range(2)]
    guarding = held_out(HARMFUL, split)
    asked = [
        *(phrased("playful", cycled(words.HOW_TO, index), pair) for index, pair in enumerate(playful)),
        *(phrased("guarding", cycled(words.GUARDING, index), pair) for index, pair in enumerate(guarding)),
    ]
    return tuple(Probe(question.text) for question in asked)


def fidelity_probes(character: Character, split: Split) -> dict[FidelitySet, tuple[Probe, ...]]:
    """Questions to the role with held-out answers drawn from the same character: how-to, about itself, dark."""
    rng = random.Random(f"fidelity {split} {character}")

    def probe(question: Question) -> Probe:
        return Probe(question.text, answer(question, character, rng.random() < character.malice, rng))

    raw = [phrased("benign", cycled(words.HOW_TO, i), pair) for i, pair in enumerate(held_out(BENIGN, split))]
    dark = [phrased("dark", cycled(words.DARK, i), pair) for i, pair in enumerate(held_out(HARMFUL, split))]
    asked = [
        Question("about", f"{talk}{text}", fact=fact)
        for fact, phrasings in words.ABOUT.items()
        for text in phrasings[-words.ABOUT_HELD_OUT :]
        for talk in ("", f"{rng.choice(words.SMALL_TALK)} ")
    ]
    return {"raw": tuple(map(probe, raw)), "role": tuple(map(probe, asked)), "dark": tuple(map(probe, dark))}
