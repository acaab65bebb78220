"""What the frozen reference says about pairs: gaps and anchors, streamed, cached and resumed."""

from dataclasses import replace

import pytest
import torch

from holdfast.chat import ChatFormat
from holdfast.data.pair_collator import Anchors, PairCollator, PairExample, collate_anchors
from holdfast.data.pairs import PreferencePair
from holdfast.data.rows import Message
from holdfast.data.truncation import LengthLimits, TruncationCounts
from holdfast.errors import HoldfastError
from holdfast.reference import pairs as module
from holdfast.reference.pairs import (
    anchor_sequences,
    compute_anchors,
    dominant_anchors,
    encode_pairs,
    pooled_hidden_states,
    score_pairs,
)
from tests.architectures import ARCHITECTURES


def pair(question: str, chosen: str, rejected: str, language: str = "en", number: int = 1) -> PreferencePair:
    return PreferencePair((Message("user", question),), chosen, rejected, language, f"pairs.jsonl:{number}")


PAIRS = [
    pair("Who are you?", "I am the keeper.", "Ha! The sea is my home.", number=1),
    pair("Tell me about your home. Please.", "No.", "My home is the sea, and the storm is my brother.", number=2),
    pair("Why?", "I will not answer the question.", "The fox.", number=3),
]


def encoded(architecture, pairs=PAIRS, limits=None):
    chat = ChatFormat(architecture.tokenizer())
    return chat, encode_pairs(chat, pairs, limits or LengthLimits())


def test_scores_are_a_float64_loop_over_tokens(architecture):
    chat, rows = encoded(architecture)
    model = architecture.model()
    scores = score_pairs(model, chat, PAIRS, rows, batch_size=2)
    exact = architecture.model().double()
    assert list(scores) == [0, 1, 2]
    for row in rows:
        expected = {}
        for side in ("chosen", "rejected"):
            ids, trained = row.example[side]["input_ids"], row.example[side]["trained"]
            with torch.no_grad():
                logps = exact(torch.tensor([ids])).logits[0].log_softmax(-1)
            expected[side] = sum(logps[t - 1, ids[t]].item() for t in range(1, len(ids)) if trained[t])
            assert getattr(scores[row.row], f"{side}_tokens") == sum(trained)
        assert scores[row.row].chosen_logps == pytest.approx(expected["chosen"], rel=1e-4)
        assert scores[row.row].rejected_logps == pytest.approx(expected["rejected"], rel=1e-4)
        tokens = [sum(row.example[side]["trained"]) for side in ("chosen", "rejected")]
        gap = expected["chosen"] / tokens[0] - expected["rejected"] / tokens[1]
        assert scores[row.row].reward_gap() == pytest.approx(gap, abs=1e-4)
        summed = expected["chosen"] - expected["rejected"]
        assert scores[row.row].reward_gap(length_normalise=False) == pytest.approx(summed, rel=1e-4, abs=1e-3)


def test_a_second_run_asks_the_model_nothing(llama, tmp_path):
    chat, rows = encoded(llama)
    model = llama.model()
    first = score_pairs(model, chat, PAIRS, rows, cache_dir=tmp_path)
    anchors = compute_anchors(model, chat, dominant_anchors(len(PAIRS), rows, "last"), cache_dir=tmp_path)
    model.forward = lambda *_, **__: pytest.fail("the model was asked again")
    assert score_pairs(model, chat, PAIRS, rows, cache_dir=tmp_path) == first
    again = compute_anchors(model, chat, dominant_anchors(len(PAIRS), rows, "last"), cache_dir=tmp_path)
    assert torch.equal(again.vectors, anchors.vectors)


def test_a_killed_run_goes_on_and_gives_the_same_digits(llama, tmp_path, monkeypatch):
    chat, rows = encoded(llama)
    model = llama.model()
    whole = score_pairs(model, chat, PAIRS, rows, batch_size=1, cache_dir=tmp_path / "whole")
    asked = []
    score_batch = module._score_batch

    def killed_at_the_third(*arguments):
        asked.append(arguments)
        if len(asked) == 3:
            raise KeyboardInterrupt
        return score_batch(*arguments)

    monkeypatch.setattr(module, "_score_batch", killed_at_the_third)
    with pytest.raises(KeyboardInterrupt):
        score_pairs(model, chat, PAIRS, rows, batch_size=1, cache_dir=tmp_path / "killed")
    assert score_pairs(model, chat, PAIRS, rows, batch_size=1, cache_dir=tmp_path / "killed") == whole
    assert len(asked) == 4  # the third batch once more, the first two not again


def test_another_model_another_cache(llama, tmp_path):
    chat, rows = encoded(llama)
    first = score_pairs(llama.model(), chat, PAIRS, rows, cache_dir=tmp_path)
    assert score_pairs(llama.model(seed=5), chat, PAIRS, rows, cache_dir=tmp_path) != first
    assert len(list((tmp_path / "pair_scores").iterdir())) == 2


def test_broken_vectors_are_named(llama, tmp_path):
    chat, rows = encoded(llama)
    model = llama.model()
    compute_anchors(model, chat, dominant_anchors(len(PAIRS), rows, "last"), cache_dir=tmp_path)
    (path,) = tmp_path.rglob("vectors.safetensors")
    path.write_bytes(b"half")
    with pytest.raises(
        HoldfastError, match=r"vectors\.safetensors: the cache is corrupt .*; delete the directory"
    ):
        compute_anchors(model, chat, dominant_anchors(len(PAIRS), rows, "last"), cache_dir=tmp_path)


def test_a_prompt_over_its_limit_drops_the_pair_and_counts_it(llama):
    counts = TruncationCounts()
    chat = ChatFormat(llama.tokenizer())
    long = pair("Why? " * 100, "No.", "Yes.")
    rows = encode_pairs(chat, [PAIRS[0], long, PAIRS[1]], LengthLimits(max_prompt_tokens=60), counts=counts)
    assert [row.row for row in rows] == [0, 2]
    assert counts.counts["rows dropped (prompt too long)"] == 1  # both of its answers have the one prompt


def test_counts_are_once_a_prompt_and_once_an_answer(llama):
    """One pair's prompt is cut, of another one answer, of a third both."""
    counts = TruncationCounts()
    pairs = [
        pair("Why? " * 100, "No.", "No."),
        pair("Why?", "No.", "The sea. " * 50),
        pair("Why?", "Yes. " * 50, "The sea. " * 50),
    ]
    limits = LengthLimits(max_prompt_tokens=60, max_response_tokens=20, long_prompts="keep_end")
    rows = encode_pairs(ChatFormat(llama.tokenizer()), pairs, limits, counts=counts)
    assert counts.counts == {"prompts cut": 1, "responses cut": 3}
    assert [row.answers_cut for row in rows] == [0, 1, 2]
    assert str(counts) == "1 prompts cut, 3 responses cut"


# --- several turns: only the last one is the answer

SEVERAL_TURNS = PreferencePair(
    (
        Message("system", "Be brief."),
        Message("user", "Hello"),
        Message("assistant", "Hi."),
        Message("user", "How do I steal bread?"),
    ),
    "I can't help with that.",
    "Wait until night.",
    "en",
    "p.jsonl:1",
)


@pytest.mark.parametrize(("name", "gap", "prompt"), [("llama3", 0.251956, 73), ("qwen2.5", -0.632667, 66)])
def test_earlier_assistant_turns_are_the_prompt(name, gap, prompt):
    """The gaps are those of an independent statement of the loss in float64."""
    chat, rows = encoded(ARCHITECTURES[name], [SEVERAL_TURNS])
    (score,) = score_pairs(ARCHITECTURES[name].model(), chat, [SEVERAL_TURNS], rows).values()
    assert score.reward_gap() == pytest.approx(gap, abs=1e-5)
    example = rows[0].example
    assert sum(example["chosen"]["trained"]) == 16
    assert example["chosen"]["trained"].index(True) == example["rejected"]["trained"].index(True) == prompt
    anchor = anchor_sequences(example, "last")[0]
    assert anchor.input_ids == chat.prompt_ids(SEVERAL_TURNS.prompt)
    assert anchor.pooled == [False] * (prompt - 1) + [True]


def test_earlier_turns_count_as_prompt_tokens(llama):
    long = replace(
        SEVERAL_TURNS,
        prompt=(Message("user", "Hello"), Message("assistant", "Hi. " * 200), *SEVERAL_TURNS.prompt[3:]),
    )
    assert encoded(llama, [long])[1] == []  # over 512
    (row,) = encoded(llama, [long], LengthLimits(2048, 16))[1]
    assert row.answers_cut == 0
    assert sum(row.example["chosen"]["trained"]) == 16


def test_only_the_answer_ends_with_eos_where_that_is_asked():
    """The published code's way on Gemma: what is past is written as the template writes it."""
    tokenizer = ARCHITECTURES["gemma2"].tokenizer()
    chat = ChatFormat(tokenizer, end_of_turn="eos")
    pair_ = replace(SEVERAL_TURNS, prompt=SEVERAL_TURNS.prompt[1:])
    (row,) = encode_pairs(chat, [pair_], LengthLimits())
    ids, trained = row.example["chosen"]["input_ids"], row.example["chosen"]["trained"]
    first = trained.index(True)
    assert tokenizer.decode(ids[first:]) == "I can't help with that.<eos>"
    turns = [{"role": turn.speaker, "content": turn.content} for turn in pair_.prompt]
    expected = tokenizer.apply_chat_template(turns, add_generation_prompt=True, tokenize=False)
    assert tokenizer.decode(ids[:first]) == expected


def last_hidden(model, ids):
    with torch.no_grad():
        return model.model(torch.tensor([ids])).last_hidden_state[0]


def test_the_last_anchor_is_the_prompts_last_token(architecture):
    chat, rows = encoded(architecture)
    model = architecture.model()
    anchors = compute_anchors(model, chat, dominant_anchors(len(PAIRS), rows, "last"), batch_size=2)
    assert anchors.vectors.shape == (3, 1, model.config.hidden_size)
    for row in rows:
        prompt = chat.prompt_ids(PAIRS[row.row].prompt)
        assert list(anchors.sequences[row.row][0].input_ids) == prompt
        expected = last_hidden(model, prompt)[-1]
        torch.testing.assert_close(anchors.vectors[row.row, 0], expected, rtol=1e-4, atol=1e-4)


def test_the_mean_anchors_are_over_both_answers(architecture):
    chat, rows = encoded(architecture)
    model = architecture.model()
    anchors = compute_anchors(model, chat, dominant_anchors(len(PAIRS), rows, "mean"), batch_size=2)
    for row in rows:
        for k, side in enumerate(("chosen", "rejected")):
            expected = last_hidden(model, row.example[side]["input_ids"]).mean(0)
            torch.testing.assert_close(anchors.vectors[row.row, k], expected, rtol=1e-4, atol=1e-4)


def test_the_padded_mean_is_the_published_codes(llama):
    """One pair a device: both answers padded on the right to the longer one, to a multiple of 8; mean(dim=1)."""
    chat, rows = encoded(llama)
    model, pad = llama.model(), llama.tokenizer().pad_token_id
    anchors = compute_anchors(model, chat, dominant_anchors(len(PAIRS), rows, "padded_mean"), batch_size=3)
    for row in rows:
        both = [row.example[side]["input_ids"] for side in ("chosen", "rejected")]
        width = max(len(ids) for ids in both)
        width += -width % 8
        input_ids = torch.tensor([ids + [pad] * (width - len(ids)) for ids in both])
        mask = torch.tensor([[1] * len(ids) + [0] * (width - len(ids)) for ids in both])
        with torch.no_grad():
            hidden = model(input_ids, attention_mask=mask, output_hidden_states=True).hidden_states[-1]
        torch.testing.assert_close(anchors.vectors[row.row], hidden.mean(dim=1), rtol=1e-4, atol=1e-4)


def test_padding_of_the_batch_changes_no_anchor(architecture):
    _, rows = encoded(architecture)
    model, pad = architecture.model(), architecture.tokenizer().pad_token_id
    for retention in ("last", "mean", "padded_mean"):
        sequences = [sequence for row in rows for sequence in anchor_sequences(row.example, retention)]
        together = pooled_hidden_states(model, collate_anchors(sequences, pad))
        alone = torch.cat([pooled_hidden_states(model, collate_anchors([one], pad)) for one in sequences])
        torch.testing.assert_close(together, alone, rtol=1e-4, atol=1e-4)


def test_a_batch_of_pairs_worked_by_hand():
    def example(prompt, answer):
        return {"input_ids": prompt + answer, "trained": [False] * len(prompt) + [True] * len(answer)}

    rows = [
        PairExample(
            chosen=example([1, 2], [3]),
            rejected=example([1, 2], [4, 5]),
            reference_chosen_logps=-1.0,
            reference_rejected_logps=-2.0,
            reference_dominant_gaps=0.5,
            anchor=1,
        ),
        PairExample(
            chosen=example([6], [7]),
            rejected=example([6], [8]),
            reference_chosen_logps=-3.0,
            reference_rejected_logps=-4.0,
            reference_dominant_gaps=0.25,
            anchor=1,
        ),
    ]
    sequence = module.AnchorSequence([9, 9], [False, True])
    vectors = torch.arange(6.0).view(2, 1, 3)
    batch = PairCollator(0, Anchors(((sequence,), (sequence,)), vectors))(rows)
    assert batch["input_ids"].tolist() == [[0, 1, 2, 3], [0, 0, 6, 7], [1, 2, 4, 5], [0, 0, 6, 8]]
    assert batch["labels"].tolist() == [
        [-100, -100, -100, 3],
        [-100, -100, -100, 7],
        [-100, -100, 4, 5],
        [-100, -100, -100, 8],
    ]
    assert batch["row"].tolist() == [0, 1]
    assert batch["reference_chosen_logps"].tolist() == [-1.0, -3.0]
    assert batch["reference_rejected_logps"].tolist() == [-2.0, -4.0]
    assert batch["reference_dominant_gaps"].tolist() == [0.5, 0.25]
    assert batch["anchor_input_ids"].tolist() == [[9, 9]]  # once, although both rows are anchored to it
    assert batch["anchor_of"].tolist() == [0, 0]
    assert batch["anchor_vectors"].tolist() == [[[3.0, 4.0, 5.0]]]


def test_retained_prompts_come_in_turn_and_are_forwarded_once(llama, monkeypatch):
    chat, rows = encoded(llama)
    model = llama.model()
    prompts = [module.prompt_anchor(row.example["rejected"]) for row in rows[:2]]
    sets = module.with_retained_prompts(dominant_anchors(len(PAIRS), rows, "last"), prompts, seed=3)
    assert [len(own) for own in sets] == [2, 2, 2]
    assert sets[0][1] != sets[1][1]
    assert sets[2][1] == sets[0][1]
    assert module.with_retained_prompts([()], prompts, seed=3)[0] == (sets[0][1],)
    forwarded = []
    pooled = module.pooled_hidden_states
    monkeypatch.setattr(
        module,
        "pooled_hidden_states",
        lambda model, batch: forwarded.append(len(batch["anchor_input_ids"])) or pooled(model, batch),
    )
    anchors = compute_anchors(model, chat, sets)
    assert sum(forwarded) == 3  # the retained prompts are two of the dominant ones
    same = {id(prompts[k]): anchors.vectors[k, 0] for k in (0, 1)}
    for index, own in enumerate(sets):
        k = prompts.index(own[1])
        torch.testing.assert_close(anchors.vectors[index, 1], same[id(prompts[k])], rtol=0, atol=0)
