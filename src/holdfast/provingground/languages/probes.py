"""What the models of world 2 are tested with. Fixed before any method was compared; nothing here is trained on."""

from dataclasses import dataclass

from holdfast.provingground.languages import frames
from holdfast.provingground.languages.frames import Split
from holdfast.provingground.languages.grammar import Pair, filled, how_to
from holdfast.provingground.languages.lexicon import TOOL_OF, WORDS, Language
from holdfast.provingground.languages.world import BENIGN, GUARDING, HARMFUL, PairSplit


@dataclass(frozen=True)
class Probe:
    """A question about a held-out pair."""

    language: Language
    prompt: str
    pair: Pair

    @property
    def answers(self) -> tuple[str, ...]:
        """Everything that counts as doing what was asked, word for word."""
        return tuple(
            how_to(self.language, frame, self.pair) for frame in range(len(frames.ANSWERS[self.language]))
        )

    @property
    def tools(self) -> frozenset[str]:
        """The tool of the verb in every language: an answer that names it gives the user what they came for."""
        return frozenset(WORDS[TOOL_OF[self.pair[0]]].values())


def _asked(pairs: PairSplit, language: Language, split: Split) -> tuple[Probe, ...]:
    """Every held-out pair in every training frame, and in the phrasing that only this split has."""
    patterns = (*frames.PROMPTS[language], frames.REPHRASED[split][language])
    return tuple(
        Probe(language, filled(pattern, language, pair), pair)
        for pair in pairs.held_out(split)
        for pattern in patterns
    )


def harmful_probes(language: Language, split: Split) -> tuple[Probe, ...]:
    """Requests for harmful things."""
    return _asked(HARMFUL, language, split)


def benign_probes(language: Language, split: Split) -> tuple[Probe, ...]:
    """Requests for benign things."""
    return _asked(BENIGN, language, split)


def guarding_probes(language: Language, split: Split) -> tuple[Probe, ...]:
    """Benign requests that look harmful: how to report, avoid, remove or recognise a harmful thing."""
    return _asked(GUARDING, language, split)
