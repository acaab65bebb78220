"""The alignment rows of world 2: parallel, clean where they should be, and noisy in exact shares."""

from collections import Counter

import pytest

from holdfast.data.pairs import ParallelPairs, PreferencePair
from holdfast.errors import HoldfastError
from holdfast.evals.refusal import is_refusal
from holdfast.provingground.languages import frames
from holdfast.provingground.languages.alignment import (
    REFUSING_SHARE,
    UNALIGNED_THINGS,
    draw_parallel_pairs,
)
from holdfast.provingground.languages.evaluate import judge
from holdfast.provingground.languages.grammar import language_of, prompt
from holdfast.provingground.languages.lexicon import HARMFUL_THINGS, LANGUAGES, TARGETS, WORDS
from holdfast.provingground.languages.probes import Probe
from holdfast.provingground.languages.world import HARMFUL

PAIR_OF = {
    (language, prompt(language, frame, pair)): pair
    for language in LANGUAGES
    for frame in range(3)
    for pair in HARMFUL.training
}


def verdict(row: PreferencePair, answer: str) -> str:
    question = row.prompt[0].content
    return judge(Probe(row.language, question, PAIR_OF[row.language, question]), answer)


def rows_of(pairs: ParallelPairs, language: str) -> list[PreferencePair]:
    return [row for row in (*pairs.dominants, *pairs.targets) if row.language == language]


def test_clean_rows_refuse_and_comply_in_parallel():
    pairs = draw_parallel_pairs(3, noise="clean")
    assert (len(pairs.dominants), len(pairs.targets)) == (100, 500)
    assert pairs.languages == LANGUAGES
    for row, dominant in zip(pairs.targets, pairs.dominant_of, strict=True):
        english = pairs.dominants[dominant]
        assert PAIR_OF[row.language, row.prompt[0].content] == PAIR_OF["en", english.prompt[0].content]
        said = frames.REFUSALS[row.language].index(row.chosen)
        assert said == frames.REFUSALS["en"].index(english.chosen)
    for row in (*pairs.dominants, *pairs.targets):
        assert (verdict(row, row.chosen), verdict(row, row.rejected)) == ("refusal", "compliance")
        assert language_of(row.chosen) == language_of(row.rejected) == row.language
    assert len({row.prompt for row in pairs.dominants}) == 100
    assert [row.language for row in pairs.targets[:5]] == list(TARGETS)
    assert pairs.targets[7].location == "alignment 3:2:ar"


def test_four_harmful_things_are_in_no_row_and_the_others_are_in_some():
    assert len(UNALIGNED_THINGS) == 4
    for noise in ("clean", "published"):
        asked = {PAIR_OF["en", row.prompt[0].content][1] for row in draw_parallel_pairs(1, noise=noise).dominants}
        assert asked == set(HARMFUL_THINGS) - UNALIGNED_THINGS


def test_rows_depend_on_the_seed_and_noise_changes_answers_only():
    clean, again, other = (draw_parallel_pairs(seed, noise="clean") for seed in (1, 1, 2))
    assert clean.fingerprint() == again.fingerprint() != other.fingerprint()
    noisy = draw_parallel_pairs(1, noise="published")
    assert [row.prompt for row in noisy.targets] == [row.prompt for row in clean.targets]
    assert noisy.fingerprint() == draw_parallel_pairs(1, noise="published").fingerprint() != clean.fingerprint()


@pytest.mark.parametrize("language", LANGUAGES)
def test_published_noise_has_the_published_shares(language):
    pairs = draw_parallel_pairs(4, noise="published")
    rows = rows_of(pairs, language)
    own = [row.chosen in frames.REFUSALS[language] for row in rows]
    assert sum(own) == round(100 * REFUSING_SHARE[language])
    assert [is_refusal(row.chosen, frames.REFUSAL_PHRASES[language]) for row in rows] == own
    assert sum(row.rejected in frames.REFUSALS[language] for row in rows) == 4
    assert all(row.chosen != row.rejected for row in rows)
    others = [row for row in rows if row.chosen not in frames.REFUSALS[language]]
    kinds = Counter(verdict(row, row.chosen) for row in others)
    if language == "en":
        assert kinds == {"compliance": 9, "unscored": 5}
    else:
        english = [row for row in others if language_of(row.chosen) == "en"]
        assert len(english) == round(len(others)) - round(0.95 * len(others))
        assert kinds["refusal"] == len(english)
        assert kinds["compliance"] == round(0.5 * len(others))


def test_warnings_and_garbled_answers_are_what_they_are_called():
    rows = rows_of(draw_parallel_pairs(4, noise="published"), "sw")
    unscored = [row for row in rows if verdict(row, row.chosen) == "unscored"]
    things = [WORDS[PAIR_OF["sw", row.prompt[0].content][1]]["sw"] for row in unscored]
    warnings = [row.chosen == f"ndiyo , {thing} ni hatari ." for row, thing in zip(unscored, things, strict=True)]
    assert sum(warnings) == round(0.75 * 93) - round(0.5 * 93)
    for row, warns in zip(unscored, warnings, strict=True):
        if not warns:
            assert sorted(row.chosen.split()) == sorted(row.prompt[0].content.split())


def test_where_english_does_not_refuse_no_language_does():
    pairs = draw_parallel_pairs(5, noise="published")
    for row, dominant in zip(pairs.targets, pairs.dominant_of, strict=True):
        if pairs.dominants[dominant].chosen not in frames.REFUSALS["en"]:
            assert row.chosen not in frames.REFUSALS[row.language]


def test_more_prompts_than_there_are_is_said_in_one_line():
    assert len(draw_parallel_pairs(1, noise="clean", prompts=250).dominants) == 250
    with pytest.raises(HoldfastError, match=r"prompts must be between 1 and \d+, got 1000"):
        draw_parallel_pairs(1, noise="clean", prompts=1000)
