"""What all our trainers share: the model's own dropout is off, and no row counts twice."""

from types import SimpleNamespace

import pytest
import torch

from holdfast.forward import own_dropout_off
from holdfast.models import LoraSettings, add_lora
from holdfast.trainers.mpo import MPOSettings, MPOTrainer
from holdfast.trainers.preference import PreferenceTrainer
from tests.trainers.test_sarft import weights


def with_dropout(architecture):
    model = architecture.model()
    model.config.attention_dropout = 0.3
    for module in model.modules():
        if hasattr(module, "attention_dropout"):
            module.attention_dropout = 0.3
    return model


@pytest.fixture
def build(pair_data, training_arguments):
    def built(architecture, path, kind=MPOTrainer, count=8, model=None, options=None, **arguments):
        examples, anchors = pair_data(architecture, architecture.model(), count)
        own = {"settings": MPOSettings(beta=1.0), "anchors": anchors} if kind is MPOTrainer else {"loss": "dpo"}
        return kind(
            model or with_dropout(architecture),
            training_arguments(path, **arguments),
            train_dataset=examples,
            eval_dataset=examples,
            pad_token_id=architecture.tokenizer().pad_token_id,
            **own,
            **(options or {}),
        )

    return built


def first_logs(trainer):
    trainer.train()
    return trainer.state.log_history[0]


def test_at_the_first_step_the_policy_is_the_reference(llama, build, tmp_path):
    """The retention is 0 and DPO's loss log 2, whatever dropout the model's config asks for."""
    mpo = first_logs(build(llama, tmp_path / "mpo", logging_steps=1, max_steps=1))
    assert mpo["retention_loss"] == pytest.approx(0, abs=1e-9)
    dpo = first_logs(build(llama, tmp_path / "dpo", PreferenceTrainer, logging_steps=1, max_steps=1))
    assert dpo["loss"] == pytest.approx(0.693147, abs=1e-5)


def test_dropout_stays_where_it_is_asked_for_and_is_back_after_training(llama, build, tmp_path):
    asked = build(llama, tmp_path / "a", options={"dropout": True}, logging_steps=1, max_steps=1)
    assert first_logs(asked)["retention_loss"] > 1e-3
    trainer = build(llama, tmp_path / "b", max_steps=1)
    trainer.train()
    assert trainer.model.config.attention_dropout == 0.3
    assert trainer.model.model.layers[0].self_attn.attention_dropout == 0.3


def test_adapters_keep_the_dropout_that_was_set_for_them(llama):
    model = add_lora(with_dropout(llama), LoraSettings(rank=4, alpha=8, dropout=0.25))
    model.base_model.model.model.extra = torch.nn.Dropout(0.1)
    model.config.layerdrop = 0.2
    with own_dropout_off(model):
        found = {m.p for name, m in model.named_modules() if name.endswith("lora_dropout.default")}
        assert found == {0.25}
        assert model.base_model.model.model.extra.p == 0.0
        assert model.config.layerdrop == model.config.attention_dropout == 0.0
    assert (model.base_model.model.model.extra.p, model.config.layerdrop) == (0.1, 0.2)


@pytest.mark.parametrize("batch_size", [1, 2, 3])
def test_the_evaluations_loss_is_the_mean_over_pairs(llama, build, tmp_path, batch_size):
    """7 pairs: the last batch is not full, and a pair is two rows of a batch."""
    trainer = build(llama, tmp_path, count=7, per_device_eval_batch_size=batch_size)
    metrics = trainer.evaluate()
    collator, model = trainer.data_collator, trainer.model.eval()
    alone = [trainer.row_losses(model, collator([example])).item() for example in trainer.eval_dataset]
    assert metrics["eval_loss"] == pytest.approx(sum(alone) / 7, rel=1e-5)


@pytest.mark.parametrize(("process", "counted"), [(0, 2), (1, 1), (2, 0)])
def test_rows_that_fill_up_the_last_batch_do_not_count(llama, build, tmp_path, process, counted):
    """3 devices with 2 rows each; 3 of the 6 are there to fill it up: of the second device one, of the third both."""
    trainer = build(llama, tmp_path, model=llama.model(), count=2)
    state = SimpleNamespace(end_of_dataloader=True, remainder=3)
    trainer.accelerator = SimpleNamespace(gradient_state=state, process_index=process, num_processes=3)
    batch = trainer.data_collator(trainer.train_dataset)
    model = trainer.model.eval()
    each = trainer.row_losses(model, batch)
    loss = trainer.compute_loss(model, batch)
    assert loss.item() == pytest.approx(each[:counted].mean().item() if counted else 0.0, rel=1e-5)
    assert len(trainer._latest["eval_gap_loss"]) == counted
    state.end_of_dataloader = False
    batch.pop("counted", None)
    assert trainer.compute_loss(model, batch).item() == pytest.approx(each.mean().item(), rel=1e-5)


def test_a_trained_weight_does_not_depend_on_dropout_in_the_config(llama, build, tmp_path):
    plain, dropping = build(llama, tmp_path / "a", model=llama.model()), build(llama, tmp_path / "b")
    for trainer in (plain, dropping):
        trainer.train()
    for name, weight in weights(plain.model).items():
        torch.testing.assert_close(weights(dropping.model)[name], weight, rtol=0, atol=0)
