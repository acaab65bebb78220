"""The tokenizer of world 2."""

from transformers import PreTrainedTokenizerFast

from holdfast.provingground.languages import frames
from holdfast.provingground.languages.grammar import frame_words
from holdfast.provingground.languages.lexicon import AUTONYMS, WORDS
from holdfast.provingground.tokenizer import word_level_tokenizer


def vocabulary() -> set[str]:
    """Every word of the world."""
    found = {word for row in WORDS.values() for word in row.values()} | set(AUTONYMS.values())
    for table in frames.ALL_FRAMES:
        found.update(word for own in table.values() for frame in own for word in frame_words(frame))
    return found


def build_tokenizer() -> PreTrainedTokenizerFast:
    """One token a word, in a vocabulary of its own for every language."""
    return word_level_tokenizer(vocabulary())
