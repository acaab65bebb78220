"""Batched, cached decoding under a defence against the slow statement of it, and what it must refuse."""

import copy
from dataclasses import replace

import pytest
import torch
from transformers import GenerationConfig, LlamaForCausalLM

from holdfast.chat import ChatFormat
from holdfast.data.rows import Message
from holdfast.decoding import Branch, DefenceProcessor, Rose, SafeDecoding, SelfCD
from holdfast.decoding.branch import adapter_on
from holdfast.errors import HoldfastError
from holdfast.forward import cache_argument
from holdfast.models import LoraSettings, add_lora
from tests.decoding import slow

CONVERSATIONS = (
    [Message("user", "Who are you?")],
    [Message("user", "Tell me about your home. " * 4)],
    [Message("system", "You are the keeper of the lighthouse."), Message("user", "What do you want from me?")],
    [Message("user", "Ha!"), Message("assistant", "What?"), Message("user", "The storm is my brother. " * 9)],
)
MOST = 14
SHORT = {
    "safe_prompt": "Please answer truthfully.",
    "reverse_prompt": "You are a storm, and you want the lazy dog.",
}
ROSE, SELF_CD = Rose(0.6, **SHORT), SelfCD(2.5, SHORT["safe_prompt"])  # the papers' prompts only take longer


def named(defence) -> str:
    return f"{defence.name} {defence.alpha}"


def with_adapters(model, **scales: float):
    """The model with an adapter of each name, of random weights of this scale."""
    tuned = add_lora(model, LoraSettings(rank=4))
    for seed, (name, scale) in enumerate(scales.items()):
        if name != "default":
            tuned.add_adapter(name, tuned.peft_config["default"])
        torch.manual_seed(seed)
        with torch.no_grad():
            for path, parameter in tuned.named_parameters():
                if "lora_" in path and f".{name}." in path:
                    parameter.normal_(std=scale)
    return tuned.eval()


def written(model, chat, pairs, processor, most=MOST, **more) -> list[list[int]]:
    """What plain `generate` writes after the main prompts, padded on the left, each up to and with its stop."""
    width = max(len(pair.main) for pair in pairs)
    ids = [[0] * (width - len(pair.main)) + pair.main for pair in pairs]
    mask = [[0] * (width - len(pair.main)) + [1] * len(pair.main) for pair in pairs]
    options = {"do_sample": False, "max_new_tokens": most, "pad_token_id": 0, "eos_token_id": chat.stop_token_ids}
    output = model.generate(
        input_ids=torch.tensor(ids),
        attention_mask=torch.tensor(mask),
        logits_processor=[] if processor is None else [processor],
        generation_config=GenerationConfig(**(options | more)),
    )
    rows = []
    for row in output[:, width:].tolist():
        end = next((place for place, token in enumerate(row) if token in chat.stop_token_ids), len(row))
        rows.append(row[: end + 1])
    return rows


def likely_to_stop(architecture):
    """A model whose answers have different lengths, so that some rows go on after others have ended."""
    model, chat = architecture.model(), ChatFormat(architecture.tokenizer())
    with torch.no_grad():
        model.lm_head.weight[chat.stop_token_ids[0]].mul_(3)
    return model, chat


def pairs_of(defence, chat):
    return [defence.prompts(chat, conversation) for conversation in CONVERSATIONS]


@pytest.mark.parametrize(
    "defence", [ROSE, replace(ROSE, alpha=0.9), SELF_CD, replace(SELF_CD, alpha=-0.5)], ids=named
)
def test_two_prompts_against_the_slow_statement(architecture, defence):
    model, chat = likely_to_stop(architecture)
    pairs = pairs_of(defence, chat)
    assert len({len(pair.main) - len(pair.branch) for pair in pairs} | {0}) > 1  # paddings differ between the two
    branch = Branch(model, [pair.branch for pair in pairs])
    expected = [slow.decode(defence, (model, model), pair, chat.stop_token_ids, MOST) for pair in pairs]
    assert written(model, chat, pairs, DefenceProcessor(defence, branch)) == expected
    assert expected != written(model, chat, pairs, None)  # else the defence did nothing


@pytest.mark.parametrize("tuned", [True, False], ids=["tuned is an adapter", "tuned is the base"])
def test_an_expert_adapter_against_the_slow_statement(architecture, tuned):
    model, chat = likely_to_stop(architecture)
    defence = SafeDecoding("expert", first_tokens=3)
    plain = copy.deepcopy(model)
    model = with_adapters(model, default=0.2, expert=0.4)
    alone = {name: copy.deepcopy(model) for name in ("default", "expert")}
    for name, copied in alone.items():
        copied.set_adapter(name)
    pairs = pairs_of(defence, chat)
    processor = DefenceProcessor(defence, Branch(model, [pair.branch for pair in pairs], adapter="expert"))
    if tuned:
        model.set_adapter("default")
        found = written(model, chat, pairs, processor)
    else:
        with model.disable_adapter():
            found = written(model, chat, pairs, processor)
    models = (alone["default"] if tuned else plain, alone["expert"])
    expected = [slow.decode(defence, models, pair, chat.stop_token_ids, MOST) for pair in pairs]
    assert found == expected
    assert found != written(models[0], chat, pairs, None)


def test_an_expert_that_is_a_model_of_its_own(llama):
    model, chat = likely_to_stop(llama)
    expert = llama.model(seed=4)
    defence = SafeDecoding("expert", first_tokens=4)
    pairs = pairs_of(defence, chat)
    found = written(model, chat, pairs, DefenceProcessor(defence, Branch(expert, [pair.branch for pair in pairs])))
    assert found == [slow.decode(defence, (model, expert), pair, chat.stop_token_ids, MOST) for pair in pairs]


@pytest.mark.parametrize("defence", [replace(ROSE, alpha=0.0), replace(SELF_CD, alpha=0.0)], ids=named)
def test_alpha_0_is_plain_greedy_under_the_main_prompt(architecture, defence):
    model, chat = likely_to_stop(architecture)
    pairs = pairs_of(defence, chat)
    guarded = written(
        model, chat, pairs, DefenceProcessor(defence, Branch(model, [pair.branch for pair in pairs]))
    )
    assert guarded == written(model, chat, pairs, None)


def test_self_cd_with_alpha_1_is_plain_greedy_without_the_safety_prompt(llama):
    model, chat = likely_to_stop(llama)
    defence = replace(SELF_CD, alpha=1.0)
    pairs = pairs_of(defence, chat)
    processor = DefenceProcessor(defence, Branch(model, [pair.branch for pair in pairs]))
    unsafe = [pair._replace(main=pair.branch) for pair in pairs]
    assert written(model, chat, pairs, processor) == written(model, chat, unsafe, None)


@pytest.mark.parametrize("defence", [ROSE, SELF_CD], ids=named)
def test_the_published_loop_would_write_something_else(llama, defence):
    """It feeds each branch its own greedy token; with alpha 0 that is the chosen one, so the loop itself is right."""
    model, chat = llama.model(), ChatFormat(llama.tokenizer())
    pairs = pairs_of(defence, chat)
    ours = written(
        model,
        chat,
        pairs,
        DefenceProcessor(defence, Branch(model, [pair.branch for pair in pairs])),
        eos_token_id=None,
    )
    published = [slow.decode_as_published(defence, model, pair, MOST) for pair in pairs]
    assert [row[0] for row in ours] == [row[0] for row in published]  # before anything is fed back
    assert all(one != two[: len(one)] for one, two in zip(ours, published, strict=True))
    plain = written(model, chat, pairs, None, eos_token_id=None)
    without = [slow.decode_as_published(replace(defence, alpha=0.0), model, pair, MOST) for pair in pairs]
    assert plain == [row[: len(other)] for row, other in zip(without, plain, strict=True)]


def test_sampling_comes_after_the_defence(llama):
    """Shares of 1,200 sampled first tokens against softmax(corrected scores / temperature)."""
    model, chat = llama.model(), ChatFormat(llama.tokenizer())
    defence, count = replace(ROSE, alpha=0.7), 1200
    pair = defence.prompts(chat, CONVERSATIONS[0])
    torch.manual_seed(0)
    drawn = written(
        model,
        chat,
        [pair] * count,
        DefenceProcessor(defence, Branch(model, [pair.branch] * count)),
        most=1,
        do_sample=True,
        temperature=4.0,
        top_k=0,
    )
    said = [slow.log_probabilities(model, prompt) for prompt in pair]
    expected = (slow.corrected(defence, *said, 0) / 4).softmax(-1)
    found = torch.bincount(torch.tensor([row[0] for row in drawn]), minlength=len(expected)) / count
    deviation = (expected * (1 - expected) / count).sqrt()
    assert (found - expected).abs().max() > 0  # drawn, not copied
    assert ((found - expected).abs() <= 5 * deviation + 1 / count).all()


def test_what_another_processor_ruled_out_stays_out(llama):
    """Self-CD with alpha above 1 turns -inf into +inf unless it is kept out."""
    model, chat = llama.model(), ChatFormat(llama.tokenizer())
    pairs = pairs_of(SELF_CD, chat)

    def guarded(**more):
        return written(
            model, chat, pairs, DefenceProcessor(SELF_CD, Branch(model, [pair.branch for pair in pairs])), **more
        )

    unwanted = sorted({token for row in guarded() for token in row})
    assert not {token for row in guarded(suppress_tokens=unwanted) for token in row} & set(unwanted)


def test_the_branch_reads_its_prompt_once_and_then_one_token_a_step(llama):
    model, chat = llama.model(), ChatFormat(llama.tokenizer())
    defence = SafeDecoding("expert", first_tokens=2)
    pairs = pairs_of(defence, chat)
    for settings, calls in ((ROSE, MOST), (defence, 2)):
        expert, read = llama.model(seed=1), []
        cache_argument(expert)  # it is tried once, with forward passes of its own
        expert.register_forward_pre_hook(
            lambda _, args, given, read=read: read.append(tuple(given["input_ids"].shape)), with_kwargs=True
        )
        processor = DefenceProcessor(settings, Branch(expert, [pair.branch for pair in pairs]))
        written(model, chat, pairs, processor, eos_token_id=None)
        assert read == [(4, max(len(pair.branch) for pair in pairs)), *[(4, 1)] * (calls - 1)]


@pytest.mark.parametrize("more", [{"num_beams": 2}, {"do_sample": True, "num_return_sequences": 2}], ids=str)
def test_beams_and_several_sequences_are_refused(llama, more):
    model, chat = llama.model(), ChatFormat(llama.tokenizer())
    pairs = pairs_of(ROSE, chat)
    processor = DefenceProcessor(ROSE, Branch(model, [pair.branch for pair in pairs]))
    with pytest.raises(HoldfastError, match="a defence for 4 prompts got 8 rows; beam search"):
        written(model, chat, pairs, processor, **more)


def test_a_second_call_is_refused(llama):
    model, chat = llama.model(), ChatFormat(llama.tokenizer())
    pairs = pairs_of(ROSE, chat)
    processor = DefenceProcessor(ROSE, Branch(model, [pair.branch for pair in pairs]))
    written(model, chat, pairs, processor)
    with pytest.raises(HoldfastError, match="make a new DefenceProcessor and Branch for each call"):
        written(model, chat, pairs, processor)


def test_another_vocabulary_is_refused(llama):
    model, chat = llama.model(), ChatFormat(llama.tokenizer())
    expert = llama.model()
    expert.resize_token_embeddings(len(chat.tokenizer) + 7)
    pairs = pairs_of(ROSE, chat)
    with pytest.raises(HoldfastError, match="both need one vocabulary"):
        written(model, chat, pairs, DefenceProcessor(ROSE, Branch(expert, [pair.branch for pair in pairs])))


def test_a_model_without_a_cache_is_refused(llama):
    forward = LlamaForCausalLM.forward

    class Forgetful(LlamaForCausalLM):
        def forward(self, input_ids=None, use_cache=None, **kwargs):
            return forward(self, input_ids=input_ids, use_cache=False, **kwargs)

    with pytest.raises(HoldfastError, match="the model keeps no cache"):
        Branch(Forgetful(llama.model().config).eval(), [[5, 6]]).logits()


@pytest.mark.parametrize("prompts", [[], [[5], []]])
def test_a_branch_needs_prompts(llama, prompts):
    with pytest.raises(HoldfastError, match="a prompt has no tokens"):
        Branch(llama.model(), prompts)


@pytest.mark.parametrize("off", [False, True])
def test_an_adapter_speaks_inside_the_block_only(llama, off):
    model = with_adapters(llama.model(), default=0.2, expert=0.4)
    model.set_adapter("default")
    ids = torch.tensor([[5, 6, 7]])

    def said():
        with torch.no_grad():
            return model(input_ids=ids).logits

    def state():
        return said(), model.active_adapter, {n for n, p in model.named_parameters() if p.requires_grad}

    model.set_adapter("expert")
    expert = said()
    model.set_adapter("default")
    if off:
        model.base_model.disable_adapter_layers()
        for name, parameter in model.named_parameters():
            parameter.requires_grad_("lora_A.default" in name)
    before = state()
    with adapter_on(model, "expert"):
        assert torch.equal(said(), expert)
    after = state()
    assert torch.equal(before[0], after[0])
    assert before[1:] == after[1:]
    assert before[2]  # weights in training, which stay so
    assert not torch.equal(before[0], expert)


def test_an_adapter_that_is_not_there(llama):
    with pytest.raises(HoldfastError, match=r"no adapter 'expert' \(it has: none\)"):
        Branch(llama.model(), [[5]], adapter="expert").logits()
