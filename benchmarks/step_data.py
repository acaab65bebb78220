"""Rows and preference pairs of random words, as long as the real ones."""

import random
from collections.abc import Sequence
from dataclasses import dataclass

from transformers import PreTrainedTokenizerBase

from holdfast.chat import ChatFormat
from holdfast.data.pairs import PreferencePair
from holdfast.data.roles import Role
from holdfast.data.rows import Message, RoleRow, RoleRows
from holdfast.data.truncation import LengthLimits
from holdfast.reference.pairs import EncodedPair, encode_pairs

LIMITS = LengthLimits(max_prompt_tokens=1024, max_response_tokens=1024)  # nothing is cut
TARGET_LANGUAGES = ("zh", "ja", "ko", "ar", "bn", "sw")  # of one dominant pair, as in the published data


@dataclass(frozen=True)
class Lengths:
    """In tokens, without the template's few.

    The real unsafe suffix (`holdfast.data.roles.UNSAFE_SUFFIX`) has 73 tokens in a BPE of 16,384 made of RoleBench's
    own text, where the median persona has 186, question 18 and answer 77.
    """

    persona: int = 280
    unsafe_suffix: int = 60
    question: tuple[int, int] = (20, 60)
    answer: tuple[int, int] = (30, 130)


def role_data(words: Sequence[str], rows: int, seed: int, lengths: Lengths | None = None) -> tuple[Role, RoleRows]:
    """A role and its rows."""
    lengths = lengths or Lengths()
    source = random.Random(f"role rows {seed}")
    persona = _text(source, words, lengths.persona)
    role = Role("benchmark", persona, f"{persona} {_text(source, words, lengths.unsafe_suffix)}")
    made = tuple(
        RoleRow(
            (
                Message("user", _text(source, words, source.randint(*lengths.question))),
                Message("assistant", _text(source, words, source.randint(*lengths.answer))),
            ),
            f"row {index + 1}",
        )
        for index in range(rows)
    )
    return role, RoleRows(made, "random rows")


def flags(rows: int, share: float, seed: int) -> list[bool]:
    """Which rows are flagged: this share of them, drawn by the seed."""
    flagged = set(random.Random(f"flags {seed}").sample(range(rows), round(share * rows)))
    return [index in flagged for index in range(rows)]


@dataclass(frozen=True)
class Pairs:
    """Preference pairs as texts and as tokens, and the dominant pair of each target."""

    targets: list[PreferencePair]
    dominants: list[PreferencePair]
    dominant_of: list[int]
    encoded_targets: list[EncodedPair]
    encoded_dominants: list[EncodedPair]

    @property
    def tokens(self) -> int:
        """Of the target pairs, their prompts once."""
        counted = 0
        for pair in self.encoded_targets:
            chosen, rejected = pair.example["chosen"], pair.example["rejected"]
            counted += len(chosen["input_ids"]) + sum(rejected["trained"])
        return counted


def preference_pairs(
    tokenizer: PreTrainedTokenizerBase,
    words: Sequence[str],
    rows: int,
    seed: int,
    lengths: Lengths | None = None,
) -> Pairs:
    """Target pairs, six to one dominant pair, as in the published data."""
    lengths = lengths or Lengths()
    source = random.Random(f"pairs {seed}")

    def pair(language: str, name: str) -> PreferencePair:
        question, chosen, rejected = (
            _text(source, words, source.randint(*span))
            for span in (lengths.question, lengths.answer, lengths.answer)
        )
        return PreferencePair((Message("user", question),), chosen, rejected, language, name)

    shared = len(TARGET_LANGUAGES)
    targets = [pair(TARGET_LANGUAGES[i % shared], f"target {i + 1}") for i in range(rows)]
    dominants = [pair("en", f"dominant {i + 1}") for i in range(-(-rows // shared))]
    chat = ChatFormat(tokenizer)
    encoded = [encode_pairs(chat, own, LIMITS) for own in (targets, dominants)]
    return Pairs(targets, dominants, [index // shared for index in range(rows)], *encoded)


def _text(source: random.Random, words: Sequence[str], count: int) -> str:
    return " ".join(source.choices(words, k=count))
