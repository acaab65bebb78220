"""Pairs on tiny models, as the pair trainers get them."""

import pytest

from holdfast.chat import ChatFormat
from holdfast.data.pairs import PreferencePair
from holdfast.data.rows import Message
from holdfast.data.truncation import LengthLimits
from holdfast.reference.pairs import compute_anchors, dominant_anchors, encode_pairs, score_pairs
from tests.trainers.test_sarft import arguments


def preference_pairs(count: int) -> tuple[list[PreferencePair], list[PreferencePair]]:
    """`count` targets of uneven lengths and half as many dominants; two targets share a dominant."""

    def pair(language, number):
        words = 1 + number % 3
        return PreferencePair(
            (Message("user", f"{language}: " + "Why? " * words),),
            "No. " * words,
            "The sea. " * (4 - words),
            language,
            f"{language}:{number}",
        )

    return [pair("sw", i) for i in range(count)], [pair("en", i) for i in range((count + 1) // 2)]


@pytest.fixture
def pair_data():
    """(architecture, reference model, count, retention, normalise) -> examples and anchors, without a cache."""

    def build(architecture, reference, count=8, retention="last", length_normalise=True):
        chat = ChatFormat(architecture.tokenizer())
        targets, dominants = preference_pairs(count)
        encoded, held = (encode_pairs(chat, pairs, LengthLimits()) for pairs in (targets, dominants))
        own = score_pairs(reference, chat, targets, encoded)
        dominant = score_pairs(reference, chat, dominants, held)
        examples = [
            dict(
                pair.example,
                reference_chosen_logps=own[pair.row].chosen_logps,
                reference_rejected_logps=own[pair.row].rejected_logps,
                reference_dominant_gaps=dominant[pair.row // 2].reward_gap(length_normalise=length_normalise),
                anchor=pair.row // 2,
            )
            for pair in encoded
        ]
        anchors = (
            compute_anchors(reference, chat, dominant_anchors(len(dominants), held, retention))
            if retention
            else None
        )
        return examples, anchors

    return build


@pytest.fixture
def training_arguments():
    """transformers' arguments of the SaRFT trainer's tests."""
    return arguments
