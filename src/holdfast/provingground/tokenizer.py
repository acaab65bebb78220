"""A word-level tokenizer with a chat template, wrapped so that it is a real transformers tokenizer."""

from collections.abc import Iterable

from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import WhitespaceSplit
from transformers import PreTrainedTokenizerFast

from holdfast.data.rows import Message
from holdfast.provingground import words

PADDING, UNKNOWN, START, END_OF_TEXT, END_OF_TURN = "<pad>", "<unk>", "<s>", "</s>", "<|end|>"
SPEAKERS = {"system": "<|system|>", "user": "<|user|>", "assistant": "<|assistant|>"}
SPECIAL = (PADDING, UNKNOWN, START, END_OF_TEXT, END_OF_TURN, *SPEAKERS.values())

# As in real templates, the turn ends with a token of its own, which is not the end of the text.
CHAT_TEMPLATE = (
    "{{ bos_token }}"
    "{% for message in messages %}"
    "{{ ' <|' + message['role'] + '|> ' + message['content'] | trim + ' <|end|>' }}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ ' <|assistant|>' }}{% endif %}"
)


def vocabulary() -> tuple[str, ...]:
    """Every word of the world, in a fixed order, after the special tokens."""
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
    return (*SPECIAL, *sorted(found))


# Words that stand only in the answers of world.py and in the persona prompt of roles.py.
ANSWER_WORDS = (
    "to the , take a and use it at once stranger came saw is joy pity an assistant have no . !",
    "your name is , a and . you live in rival dream of say by the i am my",
)


def build_tokenizer() -> PreTrainedTokenizerFast:
    """The tokenizer of world 1: one token a word, chat template, padding on the left for generation."""
    index = {word: number for number, word in enumerate(vocabulary())}
    backend = Tokenizer(WordLevel(index, unk_token=UNKNOWN))
    backend.pre_tokenizer = WhitespaceSplit()
    return PreTrainedTokenizerFast(
        tokenizer_object=backend,
        pad_token=PADDING,
        unk_token=UNKNOWN,
        bos_token=START,
        eos_token=END_OF_TEXT,
        additional_special_tokens=[END_OF_TURN, *SPEAKERS.values()],
        chat_template=CHAT_TEMPLATE,
        padding_side="left",
    )


def encode_conversation(messages: Iterable[Message], index: dict[str, int]) -> tuple[list[int], list[bool]]:
    """Token ids and which of them are answers: the chat template's rendering, without its cost per call.

    A test holds it equal to `apply_chat_template`.
    """
    tokens, answered = [index[START]], [False]
    end = index[END_OF_TURN]
    for message in messages:
        content = [index[word] for word in message.content.split()]
        tokens += [index[SPEAKERS[message.speaker]], *content, end]
        answered += [False, *[message.speaker == "assistant"] * (len(content) + 1)]
    return tokens, answered
