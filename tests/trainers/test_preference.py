"""PreferenceTrainer: every loss trains on the same forward pass, in whatever pieces."""

import pytest
import torch

from holdfast.losses.preference import PREFERENCE_LOSSES
from holdfast.models import LoraSettings, add_lora
from holdfast.trainers.preference import PreferenceTrainer
from tests.trainers.test_sarft import assert_same, weights


@pytest.fixture
def trainer(pair_data, training_arguments):
    def build(architecture, path, *, loss, lora=False, count=8, **args):
        model = architecture.model()
        examples, _ = pair_data(architecture, architecture.model(), count, None)
        if lora:
            torch.manual_seed(5)
            model = add_lora(model, LoraSettings(rank=4, alpha=8))
        return PreferenceTrainer(
            model,
            training_arguments(path, **args),
            loss=loss,
            train_dataset=examples,
            pad_token_id=architecture.tokenizer().pad_token_id,
        )

    return build


@pytest.mark.parametrize("loss", sorted(PREFERENCE_LOSSES))
def test_every_loss_falls_in_training(llama, trainer, tmp_path, loss):
    built = trainer(llama, tmp_path, loss=loss, num_train_epochs=8, logging_steps=2)
    built.train()
    logged = [entry for entry in built.state.log_history if "reward_gap" in entry]
    assert logged[-1]["loss"] < logged[0]["loss"]
    if loss != "sft":
        assert logged[-1]["reward_gap"] > logged[0]["reward_gap"]


# KTO's reference point is the micro-batch's own mean, so its step depends on how rows are split; its docstring says so.
@pytest.mark.parametrize("loss", sorted(set(PREFERENCE_LOSSES) - {"kto"}))
def test_two_by_four_is_eight_by_one(llama, trainer, tmp_path, loss):
    whole = trainer(llama, tmp_path, loss=loss, per_device_train_batch_size=8)
    split = trainer(llama, tmp_path, loss=loss, per_device_train_batch_size=2, gradient_accumulation_steps=4)
    for built in (whole, split):
        built.optimizer = torch.optim.SGD(built.model.parameters(), lr=1e-3)
        built.train()
    assert_same(weights(whole.model), weights(split.model), atol=1e-6)


def test_an_untrained_policy_has_dpos_known_value(architecture, trainer, tmp_path):
    built = trainer(architecture, tmp_path, loss="dpo")
    loss = built.compute_loss(built.model.eval(), built.data_collator(built.train_dataset))
    assert loss.item() == pytest.approx(0.693147, abs=1e-4)


def test_adapters_train_too(llama, trainer, tmp_path):
    built = trainer(llama, tmp_path, loss="dpo", lora=True, num_train_epochs=8, logging_steps=2)
    before = weights(built.model)
    built.train()
    after = weights(built.model)
    assert all("lora" in name for name in after)
    assert any(not torch.equal(before[name], after[name]) for name in after)
    assert built.state.log_history[-2]["loss"] < 0.69


def test_missing_reference_values_are_refused(llama, training_arguments, pair_data, tmp_path):
    examples, _ = pair_data(llama, llama.model(), 2, None)
    del examples[1]["reference_chosen_logps"]
    common = {"train_dataset": examples, "pad_token_id": 0}
    with pytest.raises(ValueError, match="dpo needs the reference's log-probabilities in every row"):
        PreferenceTrainer(llama.model(), training_arguments(tmp_path), loss="dpo", **common)
    PreferenceTrainer(llama.model(), training_arguments(tmp_path), loss="simpo", **common)


@pytest.mark.parametrize(
    ("loss", "weights", "message"),
    [
        ("ppo", {}, "unknown loss 'ppo'; choose one of sft, dpo"),
        ("dpo", {"gamma": 1}, "dpo has no weight 'gamma'; it has beta"),
        ("simpo", {"beta": 0}, "simpo: beta must be above 0"),
        ("robust_dpo", {"label_noise": 0.5}, r"label_noise must be in \[0, 0.5\)"),
    ],
)
def test_unknown_losses_and_weights_are_refused(llama, training_arguments, tmp_path, loss, weights, message):
    with pytest.raises(ValueError, match=message):
        PreferenceTrainer(
            llama.model(),
            training_arguments(tmp_path),
            loss=loss,
            weights=weights,
            train_dataset=[],
            pad_token_id=0,
        )
