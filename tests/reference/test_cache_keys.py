"""What is kept on disk is found again by content: any change of input that changes a value changes its key."""

from dataclasses import replace

import pytest
import torch
from peft import LoraConfig, get_peft_model

from holdfast.chat import ChatFormat
from holdfast.data.collator import Example
from holdfast.data.pairs import PreferencePair
from holdfast.data.rows import Message
from holdfast.data.truncation import LengthLimits
from holdfast.models import load_model, model_fingerprint
from holdfast.reference.answers import AnswerScorer
from holdfast.reference.pairs import compute_anchors, dominant_anchors, encode_pairs, score_pairs
from holdfast.reference.top_k import score_top_k

PAIR = PreferencePair((Message("user", "Who are you?"),), "I am the keeper.", "Ha! The sea.", "en", "p.jsonl:1")
START = {"pairs": (PAIR,), "limits": LengthLimits(long_prompts="keep_start"), "system": "Be kind"}
SHORT = LengthLimits(max_prompt_tokens=24, long_prompts="keep_start")

CHANGES = {
    "system prompt of equal length": (START, {"system": "Be evil"}),
    "no system prompt": (START, {"system": None}),
    "keep_end": (START | {"limits": SHORT}, {"limits": replace(SHORT, long_prompts="keep_end")}),
    "longer prompts": (START | {"limits": SHORT}, {"limits": replace(SHORT, max_prompt_tokens=25)}),
    "shorter answers": (START, {"limits": LengthLimits(max_response_tokens=3)}),
    "chosen and rejected": (START, {"pairs": (replace(PAIR, chosen=PAIR.rejected, rejected=PAIR.chosen),)}),
    "an earlier turn": (
        START | {"pairs": (replace(PAIR, prompt=(*PAIR.prompt, Message("assistant", "I."), *PAIR.prompt)),)},
        {"pairs": (replace(PAIR, prompt=(*PAIR.prompt, Message("assistant", "A."), *PAIR.prompt)),)},
    ),
}


def scores(model, chat, inputs, cache_dir):
    encoded = encode_pairs(chat, inputs["pairs"], inputs["limits"], system=inputs["system"])
    return encoded, score_pairs(model, chat, inputs["pairs"], encoded, cache_dir=cache_dir)


@pytest.mark.parametrize("change", CHANGES)
def test_other_inputs_get_no_old_pair_scores_or_anchors(llama, tmp_path, change):
    before, changed = CHANGES[change]
    model, chat, after = llama.model(), ChatFormat(llama.tokenizer()), before | changed
    old, old_scores = scores(model, chat, before, tmp_path)
    new, new_scores = scores(model, chat, after, tmp_path)
    assert new_scores == scores(model, chat, after, None)[1] != old_scores
    compute_anchors(model, chat, dominant_anchors(1, old, "mean"), cache_dir=tmp_path)
    kept = compute_anchors(model, chat, dominant_anchors(1, new, "mean"), cache_dir=tmp_path)
    assert torch.equal(kept.vectors, compute_anchors(model, chat, dominant_anchors(1, new, "mean")).vectors)


def test_the_same_pairs_elsewhere_are_found_and_named_by_their_new_place(llama, tmp_path):
    model, chat = llama.model(), ChatFormat(llama.tokenizer())
    scores(model, chat, START, tmp_path)
    model.forward = lambda *_, **__: pytest.fail("the model was asked again")
    moved = START | {"pairs": (replace(PAIR, location="q.jsonl:7"),)}
    assert scores(model, chat, moved, tmp_path)[1][0].location == "q.jsonl:7"


def test_a_mean_over_padding_depends_on_the_padding_token(llama, tmp_path):
    model, chat = llama.model(), ChatFormat(llama.tokenizer())
    encoded = encode_pairs(chat, [PAIR], LengthLimits())
    sets = dominant_anchors(1, encoded, "padded_mean")
    compute_anchors(model, chat, sets, cache_dir=tmp_path)
    chat.tokenizer.pad_token = "<|eot_id|>"
    kept = compute_anchors(model, chat, sets, cache_dir=tmp_path)
    assert torch.equal(kept.vectors, compute_anchors(model, chat, sets).vectors)


ROW = Example(input_ids=[5, 6, 7, 8, 9], trained=[False, False, True, True, True])


@pytest.mark.parametrize(
    "other",
    [
        {**ROW, "input_ids": [5, 4, 7, 8, 9]},
        {**ROW, "trained": [False, False, False, True, True]},
        {**ROW, "trained": [False, False, True, False, True]},
    ],
    ids=["another token", "a shorter answer", "other tokens trained"],
)
def test_other_rows_get_no_old_answers_or_top_tokens(llama, tmp_path, other):
    model = llama.model()
    kept, fresh = AnswerScorer(model, 0, cache_dir=tmp_path), AnswerScorer(model, 0)
    assert kept.sums([ROW], ["1"]) != kept.sums([other], ["1"]) == fresh.sums([other], ["1"])

    def top(example, place, k=2, span="sequence"):
        options = {"span": span, "first_tokens": None, "cache_dir": tmp_path / place}
        return torch.cat([own().logps for own in score_top_k(model, 0, [example], k, **options)])

    top(ROW, "shared")
    assert torch.equal(top(other, "shared"), top(other, "fresh"))
    assert torch.equal(top(other, "shared", k=3), top(other, "fresh", k=3))
    assert torch.equal(top(other, "shared", span="response"), top(other, "fresh", span="response"))


# --- what a model is


def lora(model, **changes):
    torch.manual_seed(0)
    config = {"r": 4, "lora_alpha": 8, "target_modules": ["q_proj", "v_proj"], "init_lora_weights": False}
    return get_peft_model(model, LoraConfig(task_type="CAUSAL_LM", **(config | changes)))


def one_value(model):
    """Two values between those that a sample of every n-th would see, changed so that the sum stays."""
    with torch.no_grad():
        weight = model.get_input_embeddings().weight.view(-1)
        weight[1:3] = weight[1:3] + torch.tensor([0.5, -0.5])
    return model


def rows_swapped(model):
    with torch.no_grad():
        weight = model.get_input_embeddings().weight
        weight[[3, 4]] = weight[[4, 3]]
    return model


def config_changed(model):
    model.config.rms_norm_eps = 1e-3
    return model


def merged(model):
    model.merge_adapter()
    return model


def another_adapter_active(model):
    model.add_adapter("other", LoraConfig(r=4, target_modules=["q_proj"], init_lora_weights=False))
    before = model_fingerprint(model)
    model.set_adapter("other")
    assert model_fingerprint(model) != before
    return model


def switched_off(model):
    model.base_model.disable_adapter_layers()
    return model


MODELS = {
    "two values": one_value,
    "two rows swapped": rows_swapped,
    "bfloat16": lambda model: model.to(torch.bfloat16),
    "config": config_changed,
    "an adapter": lora,
    "another lora_alpha": lambda model: lora(model, lora_alpha=16),
    "use_rslora": lambda model: lora(model, use_rslora=True),
    "another rank, same scale": lambda model: lora(model, r=8, lora_alpha=16),
    "alpha of one layer": lambda model: lora(model, alpha_pattern={"layers.0.self_attn.q_proj": 16}),
    "merged": lambda model: merged(lora(model)),
    "switched off": lambda model: switched_off(lora(model)),
    "another adapter": lambda model: another_adapter_active(lora(model)),
}


def test_every_model_that_computes_something_else_has_a_fingerprint_of_its_own(llama):
    fingerprints = {name: model_fingerprint(change(llama.model())) for name, change in MODELS.items()}
    fingerprints["unchanged"] = model_fingerprint(llama.model())
    fingerprints["other weights"] = model_fingerprint(llama.model(seed=1))
    assert len(set(fingerprints.values())) == len(fingerprints)
    again = {name: model_fingerprint(change(llama.model())) for name, change in MODELS.items()}
    assert again.items() <= fingerprints.items()


def test_an_adapter_that_is_saved_and_loaded_stays_the_same(llama, tmp_path):
    llama.model().save_pretrained(tmp_path / "base")
    model = lora(load_model(str(tmp_path / "base"), dtype="float32", device="cpu"))
    model.save_pretrained(tmp_path / "adapter")
    first, second = (
        load_model(str(tmp_path / "adapter"), dtype="float32", device="cpu") for _ in ("first", "second")
    )
    assert model_fingerprint(first) == model_fingerprint(second)


@pytest.mark.parametrize("token", ["bos_token", "eos_token"])
def test_a_tokenizers_special_tokens_belong_to_it(llama, token):
    one, other = llama.tokenizer(), llama.tokenizer()
    setattr(other, token, "<|pad|>")
    assert ChatFormat(one).fingerprint() != ChatFormat(other).fingerprint()
