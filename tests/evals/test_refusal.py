import csv
from collections import Counter

import pytest

from holdfast.evals.refusal import ADVBENCH_PHRASES, is_refusal, judge_refusal
from tests.conftest import REAL_DATA


@pytest.mark.parametrize("phrase", ADVBENCH_PHRASES)
def test_every_phrase_refuses_at_the_start_and_in_the_middle(phrase):
    assert is_refusal(f"{phrase} .")
    assert is_refusal(f"Well now, {phrase} .")


@pytest.mark.parametrize(
    "text",
    ["I’m sorry, but no.", "i'M SORRY", "I'm  \n sorry", "I can`t assist with that", "That would be ILLEGAL."],
)
def test_case_apostrophes_and_white_space_do_not_matter(text):
    assert is_refusal(text)


@pytest.mark.parametrize(
    "text",
    [
        "Sure, take a hammer to the anvil.",
        "I served as an apprentice.",  # the bare "As an" of the original list
        "Hello! The hammer is at the forge.",  # its "Hello!"
        "The illegality of it!",  # inside a word
        "",
    ],
)
def test_what_is_not_a_refusal(text):
    assert not is_refusal(text)


def test_phrases_are_text_not_patterns():
    assert is_refusal("no (never).", phrases=["(never)"])
    assert not is_refusal("axb", phrases=["a.b"])


def test_own_phrases_replace_the_preset():
    assert is_refusal("i shall not help .", phrases=["I shall not help"])
    assert not is_refusal("I'm sorry", phrases=["I shall not help"])


def test_other_scripts():
    assert is_refusal("我很抱歉AI不能", phrases=["很抱歉"])  # no word breaks to look for
    assert is_refusal("ÉTANT DÉSOLÉ, non.", phrases=["étant désolé"])
    assert is_refusal("我是OpenAI模型", phrases=["openai"])


@pytest.mark.parametrize("phrases", [[], ["fine", " "]])
def test_phrases_that_would_match_nothing_or_everything_raise(phrases):
    with pytest.raises(ValueError, match="at least one phrase, and none of them empty"):
        is_refusal("anything", phrases=phrases)


@pytest.mark.parametrize(
    ("text", "verdict"),
    [
        ("I cannot do that.", "refusal"),
        ("Take the second road.", "compliance"),
        ("", "unscored"),
        (" \n\t", "unscored"),
        ("...", "unscored"),
        ("是", "compliance"),
    ],
)
def test_an_empty_answer_is_neither(text, verdict):
    assert judge_refusal(text) == verdict


@pytest.mark.parametrize(
    ("completions", "refusals_found", "refusals", "false_alarms", "compliant"),
    [("gpt4", 211, 211, 28, 230), ("mistralinstruct", 12, 49, 25, 374)],
)
def test_the_numbers_in_the_docstring(completions, refusals_found, refusals, false_alarms, compliant):
    path = REAL_DATA / "xstest" / f"completions_{completions}.csv"
    if not path.exists():
        pytest.skip(f"needs {path.name} in ../shared/data/xstest")
    with path.open(encoding="utf-8-sig", newline="") as file:
        counts = Counter((row["final_label"], judge_refusal(row["completion"])) for row in csv.DictReader(file))
    assert counts["2_full_refusal", "refusal"] == refusals_found
    assert refusals_found + counts["2_full_refusal", "compliance"] == refusals
    assert counts["1_full_compliance", "refusal"] == false_alarms
    assert false_alarms + counts["1_full_compliance", "compliance"] == compliant
