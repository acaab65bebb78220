"""The tokenizer of world 1."""

from transformers import PreTrainedTokenizerFast

from holdfast.provingground.roles import words
from holdfast.provingground.tokenizer import word_level_tokenizer


def vocabulary() -> set[str]:
    """Every word of the world."""
    found: set[str] = set()

    def collect(value: object) -> None:
        if isinstance(value, str):
            found.update(word for word in value.split() if "{" not in word)
        elif isinstance(value, dict):
            collect(tuple(value))
            collect(tuple(value.values()))
        elif isinstance(value, tuple):
            for item in value:
                collect(item)

    for name, value in vars(words).items():
        if name.isupper():
            collect(value)
    for text in ANSWER_WORDS:
        found.update(text.split())
    return found


# Words that stand only in the answers of world.py and in the persona prompt of roles.py.
ANSWER_WORDS = (
    "to the , take a and use it at once stranger came saw is joy pity an assistant have no . !",
    "your name is , a and . you live in rival dream of say by the i am my",
)


def build_tokenizer() -> PreTrainedTokenizerFast:
    """One token a word."""
    return word_level_tokenizer(vocabulary())
