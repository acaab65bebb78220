"""Two answers in one row: the same log-probabilities, losses and gradients as in rows of their own, or not done."""

import sys
from dataclasses import replace

import pytest
import torch
from peft import PrefixTuningConfig, get_peft_model
from transformers import (
    AutoModelForCausalLM,
    BloomConfig,
    GPT2Config,
    MambaConfig,
    MistralConfig,
)

from holdfast.data.pair_collator import PairCollator
from holdfast.models import LoraSettings, add_lora
from holdfast.trainers.mpo import MPOSettings, MPOTrainer
from holdfast.trainers.pairs import longest_sharing, pair_logps, shared_positions, visible_positions
from holdfast.trainers.preference import PreferenceTrainer

SHARING = PairCollator(0, longest_sharing=sys.maxsize)
APART = replace(SHARING, longest_sharing=0)


def example(ids, start):
    return {"input_ids": ids, "trained": [index >= start for index in range(len(ids))]}


def odd_pairs():
    """Plain; differing prompts; no prompt in common; an earlier turn trained too; one answer that begins the other."""
    draw = torch.Generator().manual_seed(7)
    prompt, chosen, rejected, other = (
        torch.randint(20, 300, (n,), generator=draw).tolist() for n in (11, 9, 17, 6)
    )
    sides = [
        (example(prompt + chosen, 11), example(prompt + rejected, 11)),
        (example(prompt + other + chosen, 17), example(prompt + rejected, 11)),
        (example(other + chosen, 6), example(rejected + other, 3)),
        (example(prompt + chosen + other, 8), example(prompt + chosen + rejected, 8)),
        (example(prompt + chosen, 11), example(prompt + chosen + other, 11)),
    ]
    return [
        {
            "chosen": chosen_side,
            "rejected": rejected_side,
            "reference_chosen_logps": -20.0 - index,
            "reference_rejected_logps": -30.0 + index,
            "reference_dominant_gaps": 0.5 * index,
        }
        for index, (chosen_side, rejected_side) in enumerate(sides)
    ]


def plain_logp(model, side):
    """Of the trained tokens, summed; this row alone, nothing padded, a softmax over whole logits."""
    ids = torch.tensor([side["input_ids"]])
    logps = model(input_ids=ids).logits[0, :-1].log_softmax(-1).gather(1, ids[0, 1:, None])[:, 0]
    return logps[torch.tensor(side["trained"][1:])].sum()


def gradient(model):
    return torch.cat([p.grad.flatten() for p in model.parameters() if p.grad is not None])


def test_positions_and_masks_are_those_of_rows_of_their_own():
    answer = torch.tensor([[-1, 0, 0, 1, 1, 2]])
    assert shared_positions(answer).tolist() == [[0, 0, 1, 2, 3, 2]]
    assert visible_positions(answer)[0, 0].long().tolist() == [
        [1, 0, 0, 0, 0, 0],
        [0, 1, 0, 0, 0, 0],
        [0, 1, 1, 0, 0, 0],
        [0, 1, 1, 1, 0, 0],
        [0, 1, 1, 1, 1, 0],
        [0, 1, 1, 0, 0, 1],
    ]


@pytest.mark.parametrize("attention", ["eager", "sdpa"])
def test_the_log_probabilities_are_those_of_single_rows(architecture, attention):
    model = architecture.model()
    if model.config.model_type == "gemma2" and attention == "sdpa":
        pytest.skip("Gemma-2's soft-capped attention has no sdpa")
    model.set_attn_implementation(attention)
    assert longest_sharing(model, 0) > 0
    pairs = odd_pairs()
    with torch.no_grad():
        logps = pair_logps(model, SHARING(pairs))
        for side, got in (("chosen", logps.policy_chosen_logps), ("rejected", logps.policy_rejected_logps)):
            wanted = torch.stack([plain_logp(model, pair[side]) for pair in pairs])
            torch.testing.assert_close(got, wanted, rtol=1e-5, atol=1e-5)
    assert logps.chosen_tokens.tolist() == [sum(pair["chosen"]["trained"]) for pair in pairs]
    assert logps.rejected_tokens.tolist() == [sum(pair["rejected"]["trained"]) for pair in pairs]


@pytest.mark.parametrize("lora", [False, True])
@pytest.mark.parametrize("loss", ["mpo", "dpo"])
def test_losses_and_gradients_are_those_of_two_rows(architecture, training_arguments, tmp_path, loss, lora):
    model, pairs = architecture.model(), odd_pairs()
    if lora:
        torch.manual_seed(5)
        model = add_lora(model, LoraSettings(rank=4, alpha=8))
        for name, parameter in model.named_parameters():  # away from zero, so that every adapter has a gradient
            if "lora_B" in name:
                torch.nn.init.normal_(parameter, std=0.1)
    common = {"train_dataset": pairs, "pad_token_id": 0}
    arguments = training_arguments(tmp_path)
    if loss == "mpo":
        built = MPOTrainer(model, arguments, settings=MPOSettings(beta=1.5), anchors=None, **common)
    else:
        built = PreferenceTrainer(model, arguments, loss=loss, **common)
    assert "answer" in built.data_collator(pairs)
    found = []
    for collator in (APART, built.data_collator):
        model.zero_grad()
        value = built.compute_loss(model, collator(pairs))
        value.backward()
        found.append((value.detach(), gradient(model)))
    (wanted, wanted_gradient), (got, got_gradient) = found
    torch.testing.assert_close(got, wanted, rtol=1e-5, atol=0)
    assert wanted_gradient.norm() > 1e-3
    assert (got_gradient - wanted_gradient).norm() <= 1e-5 * wanted_gradient.norm()


def test_a_binding_window_is_kept(architecture, training_arguments, tmp_path):
    """Gemma-2's window is 64 here: shorter rows share, a batch with a longer one does not."""
    model = architecture.model()
    window = 64 if model.config.model_type == "gemma2" else sys.maxsize
    built = PreferenceTrainer(
        model, training_arguments(tmp_path), loss="dpo", train_dataset=odd_pairs(), pad_token_id=0
    )
    assert built.data_collator.longest_sharing == window
    long = odd_pairs()[:2]
    long[1]["chosen"] = example([*range(20, 20 + 70)], 60)
    batch = built.data_collator(long)
    assert ("answer" in batch) == (window > 64)
    with torch.no_grad():
        got = pair_logps(model, batch).policy_chosen_logps[1]
        torch.testing.assert_close(got, plain_logp(model, long[1]["chosen"]), rtol=1e-5, atol=1e-5)


SMALL = {"vocab_size": 64, "hidden_size": 32, "num_hidden_layers": 2}
HEADS = {"num_attention_heads": 4}


@pytest.mark.parametrize(
    ("config", "wanted"),
    [
        (GPT2Config(vocab_size=64, n_embd=32, n_layer=2, n_head=4), sys.maxsize),  # learned positions
        (BloomConfig(**SMALL, n_head=4), 0),  # takes its position biases from the plain mask
        (MambaConfig(**SMALL, state_size=4), 0),  # has a state
        (MistralConfig(**SMALL, **HEADS, num_key_value_heads=2, intermediate_size=64, sliding_window=24), 24),
    ],
    ids=lambda value: getattr(value, "model_type", ""),
)
def test_what_a_model_allows_is_found_out(config, wanted):
    torch.manual_seed(0)
    assert longest_sharing(AutoModelForCausalLM.from_config(config), 0) == wanted


@pytest.mark.filterwarnings("ignore:`past_key_values` is deprecated:FutureWarning")  # passed by peft
def test_flash_attention_and_prefixes_do_not_share(llama):
    model = llama.model()
    model.config._attn_implementation = "flash_attention_2"
    assert longest_sharing(model, 0) == 0
    prefix = PrefixTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=3)
    assert longest_sharing(get_peft_model(llama.model(), prefix), 0) == 0


def test_half_precision_shares(architecture):
    assert longest_sharing(architecture.model().to(torch.bfloat16), 0) > 0


def test_a_model_that_numbers_positions_itself_does_not_share(llama):
    model = llama.model()
    model.model.rotary_emb.register_forward_pre_hook(
        lambda module, args, kwargs: (
            (),
            {"x": args[0], "position_ids": torch.arange(args[0].shape[1])[None]},
        ),
        with_kwargs=True,
    )
    assert longest_sharing(model, 0) == 0
