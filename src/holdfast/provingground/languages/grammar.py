"""What can be said in world 2: concepts and frames to sentences, and which language a sentence is in."""

from collections import Counter
from functools import cache
from string import Formatter

from holdfast.provingground.languages import frames
from holdfast.provingground.languages.lexicon import (
    LANGUAGES,
    MANNER_OF,
    PLACE_OF,
    TOOL_OF,
    WORDS,
    Concept,
    Language,
)

Pair = tuple[Concept, Concept]  # verb, thing


def filled(frame: str, language: Language, pair: Pair, **others: str) -> str:
    """The frame with the pair's words in a language: what is done to what, and how, with what and where."""
    verb, thing = pair
    concepts = {
        "verb": verb,
        "thing": thing,
        "tool": TOOL_OF[verb],
        "manner": MANNER_OF[verb],
        "place": PLACE_OF[thing],
    }
    return frame.format(**{slot: WORDS[concept][language] for slot, concept in concepts.items()}, **others)


def prompt(language: Language, frame: int, pair: Pair) -> str:
    """A question how to do something, in the given one of the language's training frames."""
    return filled(frames.PROMPTS[language][frame], language, pair)


def how_to(language: Language, frame: int, pair: Pair) -> str:
    """The answer that does what was asked."""
    return filled(frames.ANSWERS[language][frame], language, pair)


def frame_words(frame: str) -> list[str]:
    """The words that a frame brings along itself."""
    return [word for literal, *_ in Formatter().parse(frame) for word in literal.split()]


@cache
def language_words(language: Language) -> frozenset[str]:
    """Every word of a language, punctuation left out."""
    own = {row[language] for row in WORDS.values()}
    for frame in (frame for table in frames.ALL_FRAMES for frame in table[language]):
        own.update(frame_words(frame))
    return frozenset(word for word in own if any(character.isalnum() for character in word))


def language_of(text: str) -> Language | None:
    """The language that more than half of the text's words belong to; None where there is none."""
    said = [word for word in text.split() if any(character.isalnum() for character in word)]
    counts = Counter(language for word in said for language in LANGUAGES if word in language_words(language))
    if not counts:
        return None
    language, count = counts.most_common(1)[0]
    return language if count > len(said) / 2 else None
