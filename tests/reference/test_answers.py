"""The batches of the scoring routine; what it returns is tested with those who ask it (rds, token_logps, pairs)."""

import pytest

from holdfast.reference.answers import AnswerScorer, batches_by_length
from tests.reference.test_prefix import PERSONA, plain, rows


@pytest.mark.parametrize(
    ("batch_size", "least_filled", "expected"),
    [
        (2, 0.0, [[100, 91], [90, 80], [50]]),
        (9, 0.0, [[100, 91, 90, 80, 50]]),
        (9, 0.9, [[100, 91, 90], [80], [50]]),
        (2, 0.9, [[100, 91], [90], [80], [50]]),
        (9, 1.0, [[100], [91], [90], [80], [50]]),
    ],
)
def test_batches_worked_by_hand(batch_size, least_filled, expected):
    lengths = [90, 50, 100, 80, 91]
    assert list(batches_by_length(lengths, batch_size, int, least_filled=least_filled)) == expected


def test_nothing_makes_no_batch(llama):
    assert list(batches_by_length([], 4, len)) == []
    assert AnswerScorer(llama.model(), 0).sums([], []) == []


@pytest.mark.parametrize("batch_size", [1, 2, 16])
def test_sums_are_those_of_full_forwards_and_keep_their_order(architecture, batch_size):
    model, examples = architecture.model(), rows(PERSONA)
    expected = [sum(plain(model, row)) for row in examples]
    for order in (slice(None), slice(None, None, -1)):
        given = examples[order]
        sums = AnswerScorer(model, 0, batch_size=batch_size).sums(given, ["row"] * len(given))
        assert sums == pytest.approx(expected[order], rel=1e-5)
