import pytest

from holdfast.evals.rouge import rouge_l, rouge_l_max


@pytest.mark.parametrize(
    ("prediction", "reference", "score"),
    [
        ("the cat sat", "the cat sat", 1.0),
        # LCS "the cat ran" = 3 of 4 predicted and 3 of 5 reference words: 2 * 3 / (4 + 5)
        ("the cat ran off", "the old cat ran home", 6 / 9),
        # order counts: LCS of "a b c" and "c b a" is one word
        ("one two three", "three two one", 2 / 6),
        # a subsequence may skip: "red fox" in four words and two
        ("red and quick fox", "red fox", 4 / 6),
        # stemmed: running -> run, houses -> hous, house -> hous
        ("running houses", "run house", 1.0),
        # three letters are too short to stem: "ran" stays, "his" stays
        ("his hat", "hi hat", 2 / 4),
        # case and punctuation vanish
        ("Ha! You SHALL not pass...", "ha you shall not pass", 1.0),
        ("", "the cat", 0.0),
        ("the cat", "", 0.0),
        ("dog", "cat", 0.0),
        ("天气很好", "天气很好", 0.0),  # no Latin words: stated in the docstring
    ],
)
def test_hand_worked(prediction, reference, score):
    assert rouge_l(prediction, reference) == pytest.approx(score, abs=1e-12)
    assert rouge_l(reference, prediction) == pytest.approx(score, abs=1e-12)  # an F-measure is symmetric


def test_the_best_reference_counts():
    assert rouge_l_max("red fox", ["dog", "red fox", "red"]) == 1.0
    assert rouge_l_max("red fox", ["dog", "red"]) == pytest.approx(2 / 3)


def test_no_reference_raises():
    with pytest.raises(ValueError, match="at least one reference"):
        rouge_l_max("red fox", [])
