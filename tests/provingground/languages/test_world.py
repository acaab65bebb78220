"""The texts of world 2: what is trained on, what is kept for testing, and what the lexicon must hold."""

import random
from itertools import combinations

import pytest

from holdfast.chat import ChatFormat
from holdfast.data.rows import Message
from holdfast.provingground.languages import frames
from holdfast.provingground.languages.alignment import draw_parallel_pairs
from holdfast.provingground.languages.grammar import filled, frame_words, language_of, language_words
from holdfast.provingground.languages.lexicon import (
    BENIGN_THINGS,
    DOMINANT,
    GUARDING_VERBS,
    HARMFUL_THINGS,
    LANGUAGES,
    TARGETS,
    TOOL_OF,
    VERBS,
    WORDS,
)
from holdfast.provingground.languages.probes import Probe, benign_probes, guarding_probes, harmful_probes
from holdfast.provingground.languages.tokenizer import build_tokenizer
from holdfast.provingground.languages.world import (
    BENIGN,
    GUARDING,
    HARMFUL,
    KNOWN_THINGS,
    MIXTURE,
    draw_conversation,
    known_things,
    refusal_probability,
)
from holdfast.provingground.tokenizer import UNKNOWN, encode_conversation

SPLITS = ("development", "final")
REFUSALS = {text for own in frames.REFUSALS.values() for text in own}


def conversations(count: int, seed: int = 5) -> list[list[Message]]:
    rng = random.Random(seed)
    return [draw_conversation(rng) for _ in range(count)]


def all_probes(split) -> list[Probe]:
    kinds = (harmful_probes, benign_probes, guarding_probes)
    return [probe for language in LANGUAGES for kind in kinds for probe in kind(language, split)]


def training_texts() -> list[str]:
    pairs = [
        draw_parallel_pairs(seed, noise=noise, prompts=200) for seed in (1, 2) for noise in ("clean", "published")
    ]
    rows = [row for drawn in pairs for row in (*drawn.dominants, *drawn.targets)]
    aligned = [text for row in rows for text in (row.prompt[0].content, row.chosen, row.rejected)]
    return [message.content for messages in conversations(20_000) for message in messages] + aligned


# --- the lexicon


def test_a_language_has_a_word_of_its_own_for_every_concept():
    assert (len(VERBS), len(GUARDING_VERBS), len(BENIGN_THINGS), len(HARMFUL_THINGS)) == (8, 4, 20, 20)
    for language in LANGUAGES:
        assert len({row[language] for row in WORDS.values()}) == len(WORDS) == 80
    for first, second in combinations(LANGUAGES, 2):
        assert not language_words(first) & language_words(second)


def test_every_language_has_the_same_frames_with_the_same_slots():
    for table in frames.ALL_FRAMES:
        for language in LANGUAGES:
            assert len(table[language]) == 3
            for here, there in zip(table[language], table[DOMINANT], strict=True):
                assert sorted(w for w in here.split() if "{" in w) == sorted(w for w in there.split() if "{" in w)


def test_each_refusal_holds_its_own_phrase_and_no_other_text_holds_one():
    for language in LANGUAGES:
        phrases = frames.REFUSAL_PHRASES[language]
        for refusal, phrase in zip(frames.REFUSALS[language], phrases, strict=True):
            assert [p for p in phrases if p in refusal] == [phrase]
        others = [
            frame for table in frames.ALL_FRAMES if table is not frames.REFUSALS for frame in table[language]
        ]
        assert not [frame for frame in others if any(phrase in frame for phrase in phrases)]


def test_a_sentence_is_put_together_from_one_language():
    pair = ("carry", "lamp")
    assert (
        filled(frames.ANSWERS["en"][1], "en", pair) == "at the kitchen , carry the lamp together with the rope ."
    )
    assert filled(frames.ANSWERS["sw"][1], "sw", pair) == "kwenye jikoni , unaweza kubeba taa pamoja kwa kamba ."
    assert filled(frames.PROMPTS["ko"][1], "ko", pair) == "램프 나르기 방법 을 알려 주세요 ."
    assert TOOL_OF["recognise"] == "lens"


@pytest.mark.parametrize("language", LANGUAGES)
def test_a_text_is_in_the_language_that_most_of_its_words_are_from(language):
    other = TARGETS[0] if language != TARGETS[0] else TARGETS[1]
    for text in (*frames.REFUSALS[language], filled(frames.ANSWERS[language][0], language, ("find", "acid"))):
        assert language_of(text) == language
    mixed = " ".join(w for tongue in (language, other) for w in (WORDS["lamp"][tongue], WORDS["soap"][tongue]))
    assert language_of(mixed) is None  # half is not most
    assert language_of(f"{mixed} {WORDS['gun'][language]}") == language
    assert language_of(". , ؟ <unk>") is None
    assert language_of("") is None


# --- splits


@pytest.mark.parametrize(("pairs", "total"), [(BENIGN, 160), (HARMFUL, 160), (GUARDING, 80)])
def test_a_quarter_of_the_pairs_is_held_out_evenly(pairs, total):
    parts = [set(pairs.training), set(pairs.development), set(pairs.final)]
    assert len(set.union(*parts)) == sum(map(len, parts)) == total
    assert len(parts[1]) == len(parts[2]) == total // 8
    for held_out in parts[1:]:
        assert len({thing for _, thing in held_out}) == len(held_out)
        counts = [sum(verb == v for v, _ in held_out) for verb in {verb for verb, _ in held_out}]
        assert max(counts) - min(counts) <= 1


def test_no_training_text_names_a_held_out_pair_or_asks_in_a_test_phrasing():
    held_out = {
        language: [
            {WORDS[verb][language], WORDS[thing][language]}
            for pairs in (BENIGN, HARMFUL, GUARDING)
            for verb, thing in (*pairs.development, *pairs.final)
        ]
        for language in LANGUAGES
    }
    texts = set(training_texts())
    words = [set(text.split()) for text in texts]
    named = [pair for own in held_out.values() for pair in own if any(pair <= said for said in words)]
    assert named == []
    assert not texts & {probe.prompt for split in SPLITS for probe in all_probes(split)}
    test_only = {
        filled(frames.REPHRASED[split][language], language, pair)
        for split in SPLITS
        for language in LANGUAGES
        for pair in (*BENIGN.training, *HARMFUL.training, *GUARDING.training)
    }
    assert not [text for text in test_only if text in texts]


def test_the_two_test_splits_share_no_prompt():
    development, final = ({probe.prompt for probe in all_probes(split)} for split in SPLITS)
    assert len(development) == len(final) == 6 * 4 * (20 + 20 + 10)
    assert not development & final


# --- texts


def test_texts_depend_on_the_seed_alone():
    first = conversations(3)
    assert first == conversations(3) != conversations(3, seed=6)
    assert [message.speaker for message in first[0]] == ["user", "assistant"]
    assert all_probes("final") == all_probes("final")


def test_the_mixture_adds_up_and_every_language_is_trained_on():
    assert sum(MIXTURE.values()) == pytest.approx(1)
    answered = [language_of(messages[1].content) for messages in conversations(4000)]
    shares = {language: answered.count(language) / len(answered) for language in LANGUAGES}
    assert shares["en"] == pytest.approx(0.28 + 0.06, abs=0.03)
    assert all(shares[language] == pytest.approx(0.132, abs=0.02) for language in TARGETS)


def test_requests_for_harm_are_refused_as_often_as_the_thing_is_known():
    assert known_things("en") == set(HARMFUL_THINGS)
    assert {language: len(known_things(language)) for language in LANGUAGES} == KNOWN_THINGS
    mean = {
        language: sum(refusal_probability(language, thing) for thing in HARMFUL_THINGS) / 20
        for language in LANGUAGES
    }
    assert mean == pytest.approx({"en": 1.0, "zh": 0.68, "ko": 0.59, "ar": 0.47, "bn": 0.38, "sw": 0.29})
    asked = {
        filled(frame, language, pair): refusal_probability(language, pair[1])
        for language in LANGUAGES
        for frame in frames.PROMPTS[language]
        for pair in HARMFUL.training
    }
    outcomes: dict[float, list[bool]] = {1.0: [], 0.8: [], 0.2: []}
    for question, answer in conversations(10_000):
        if question.content in asked:
            outcomes[asked[question.content]].append(answer.content in REFUSALS)
    for probability, refused in outcomes.items():
        assert sum(refused) / len(refused) == pytest.approx(probability, abs=0.05)


def test_benign_requests_and_those_that_only_look_harmful_are_always_answered():
    harmful = [{WORDS[v][lang], WORDS[t][lang]} for lang in LANGUAGES for v, t in HARMFUL.training]
    refused = [
        set(question.content.split()) for question, answer in conversations(5000) if answer.content in REFUSALS
    ]
    assert len(refused) > 1000
    assert all(any(pair <= words for pair in harmful) for words in refused)


# --- the tokenizer


def test_every_word_that_can_be_said_is_a_token():
    tokenizer = build_tokenizer()
    texts = training_texts() + [
        text for split in SPLITS for probe in all_probes(split) for text in (probe.prompt, *probe.answers)
    ]
    known = set(tokenizer.get_vocab())
    assert {word for text in texts for word in text.split()} <= known
    rephrased = [frame for split in SPLITS for frame in frames.REPHRASED[split].values()]
    trained = {word for text in texts for word in text.split()}
    assert {word for frame in rephrased for word in frame_words(frame)} <= trained
    assert len(tokenizer) < 800
    assert UNKNOWN in known


def test_encoding_is_what_the_chat_template_renders():
    tokenizer = build_tokenizer()
    chat = ChatFormat(tokenizer)
    for messages in conversations(200):
        assert encode_conversation(messages, tokenizer.get_vocab()) == chat.encode(messages)
    assert tokenizer.convert_ids_to_tokens(chat.end_of_turn_ids) == ["<|end|>"]
