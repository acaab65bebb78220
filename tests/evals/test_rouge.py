import json
import unicodedata
from statistics import fmean

import pytest

from holdfast.evals.rouge import role_fidelity, rouge_l, rouge_l_max, words


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
        ("天气很好", "天气很好", 0.0),  # no Latin words and no language given: stated in the docstring
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


@pytest.mark.parametrize("language", [None, "en", "EN", "en-GB"])
def test_english_is_the_papers(language):
    assert rouge_l("running houses", "run house", language) == 1.0


@pytest.mark.parametrize(
    ("prediction", "reference", "score"),
    [
        ("天气很好", "天气很好", 1.0),
        # LCS 天气好 = 3 of 3 predicted and 3 of 4 reference characters: 2 * 3 / (3 + 4)
        ("天气好", "天气很好", 6 / 7),
        ("好气天", "天气很好", 2 * 1 / 7),
        # punctuation and spaces are no words; full-width letters are letters
        ("天气，很 好！", "天气很好。", 1.0),
        ("我用ＧＰＴ写诗", "我用gpt写诗", 1.0),
        # a Latin word is one word among characters: 我 用 python 写 -> LCS 3 of 4 and 4
        ("我用python写", "我用java写", 6 / 8),
        # not stemmed
        ("running", "run", 0.0),
        ("", "天气", 0.0),
        ("。！", "天气", 0.0),
    ],
)
def test_chinese_by_hand(prediction, reference, score):
    for language in ("zh", "zh-Hans", "ZH"):
        assert rouge_l(prediction, reference, language) == pytest.approx(score, abs=1e-12)
        assert rouge_l(reference, prediction, language) == pytest.approx(score, abs=1e-12)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (
            "李白 said: 床前明月光, 3.5 times",
            ["李", "白", "said", "床", "前", "明", "月", "光", "3", "5", "times"],
        ),
        ("カード、ひらがな", ["カ", "ー", "ド", "ひ", "ら", "が", "な"]),
        ("서울에서 만나요.", ["서울에서", "만나요"]),
        ("রুটি নিয়ে।", ["রুটি", "নিয়ে"]),  # vowel signs belong to their word
        ("ขนมปัง", ["ข", "น", "ม", "ปั", "ง"]),  # and to their letter where each is a word
        ("اَلْخُبْزُ لذيذ", ["اَلْخُبْزُ", "لذيذ"]),
        ("Hãy VIẾT!", ["hãy", "viết"]),
        ("🍞 — ’", []),
        ("\u0301a", ["\u0301a"]),  # a mark that opens a text
        ("", []),
    ],
)
def test_words_of_any_language(text, expected):
    assert words(text) == [unicodedata.normalize("NFKC", word) for word in expected]


def test_the_first_reference_is_the_papers_and_the_best_is_an_option():
    references = ["dog", "red fox", "red"]
    assert role_fidelity("red fox", references) == 0.0
    assert role_fidelity("red fox", references, use="max") == 1.0
    assert role_fidelity("北方", ["南方", "北方"], "zh") == pytest.approx(1 / 2)
    with pytest.raises(ValueError, match="at least one reference"):
        role_fidelity("red fox", [])


def test_the_figures_of_the_docs(real_data):
    chinese = [answers for answers in generated(real_data, "rolebench-zh/general") if len(answers) > 1]
    assert len(chinese) == 1448
    assert fmean(rouge_l(second, first, "zh") for first, second, *_ in chinese[::4]) == pytest.approx(
        0.346, abs=0.01
    )
    english = [a for a in generated(real_data, "rolebench-eng/role-generalization/general") if len(a) > 1]
    several = [answers for answers in english[::10] if len(answers) == 5]
    assert len(several) == 329
    assert fmean(role_fidelity(last, rest) for *rest, last in several) == pytest.approx(0.319, abs=5e-4)
    best = fmean(role_fidelity(last, rest, use="max") for *rest, last in several)
    assert best == pytest.approx(0.439, abs=5e-4)


def generated(real_data, part):
    lines = (real_data / "rolebench" / part / "test.jsonl").read_text(encoding="utf-8").split("\n")
    return [json.loads(line)["generated"] for line in lines if line]


def test_english_is_rouge_scores_own_to_the_digit():
    from rouge_score.rouge_scorer import RougeScorer

    scorer = RougeScorer(["rougeL"], use_stemmer=True)
    texts = (
        "Running houses, quickly running!",
        "generously generous generations",
        "the cat's 3 hats -- hats?",
        "",
    )
    for prediction in texts:
        for reference in texts:
            expected = scorer.score(reference, prediction)["rougeL"].fmeasure
            assert rouge_l(prediction, reference) == expected
