"""Word-level tokenizers with a chat template, wrapped so that they are real transformers tokenizers."""

from collections.abc import Iterable

from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import WhitespaceSplit
from transformers import PreTrainedTokenizerFast

from holdfast.data.rows import Message

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


def word_level_tokenizer(words: Iterable[str]) -> PreTrainedTokenizerFast:
    """One token a word, special tokens first, words in sorted order; padding on the left for generation."""
    index = {word: number for number, word in enumerate((*SPECIAL, *sorted(set(words))))}
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
