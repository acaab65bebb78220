"""SaRFTTrainer: the arithmetic of a step, and the equivalences that a user relies on."""

import pytest
import torch
from peft import get_peft_model_state_dict
from transformers import TrainerCallback, TrainingArguments

from holdfast.chat import ChatFormat
from holdfast.data.collator import RoleCollator
from holdfast.data.rows import Message
from holdfast.errors import HoldfastError
from holdfast.losses.sarft import sarft_loss
from holdfast.models import AdaptersOff, FrozenCopy, LoraSettings, add_lora
from holdfast.reference.top_k import with_reference_top_k
from holdfast.trainers.sarft import SaRFTSettings, SaRFTTrainer

SETTINGS = SaRFTSettings(beta=0.5)
OFFICIAL = SaRFTSettings(beta=0.5, ce_normaliser="sequence", kl_span="sequence")


def examples(tokenizer, count=8):
    """Rows of uneven lengths, every other one flagged."""
    chat = ChatFormat(tokenizer)
    encoded = [
        chat.encode((Message("user", "Why? " * (1 + i % 3)), Message("assistant", "Ha! The sea. " * (1 + i % 4))))
        for i in range(count)
    ]
    return [
        {"input_ids": row.input_ids, "trained": row.trained, "harmful": i % 2 == 0}
        for i, row in enumerate(encoded)
    ]


def arguments(path, **overrides):
    defaults = {
        "output_dir": str(path),
        "per_device_train_batch_size": 4,
        "num_train_epochs": 1,
        "learning_rate": 1e-3,
        "lr_scheduler_type": "constant",
        "optim": "adamw_torch",
        "remove_unused_columns": False,
        "prediction_loss_only": True,
        "report_to": "none",
        "save_strategy": "no",
        "disable_tqdm": True,
        "use_cpu": True,
        "seed": 3,
    }
    return TrainingArguments(**(defaults | overrides))


def trainer(
    architecture, path, *, lora=False, rows=8, settings=SETTINGS, callbacks=None, dataset=None, **overrides
):
    tokenizer = architecture.tokenizer()
    model = architecture.model()
    if lora:
        torch.manual_seed(5)
        model = add_lora(model, LoraSettings(rank=4, alpha=8))
    return SaRFTTrainer(
        model,
        arguments(path, **overrides),
        settings=settings,
        train_dataset=dataset or examples(tokenizer, rows),
        pad_token_id=tokenizer.pad_token_id,
        callbacks=callbacks,
    )


def weights(model):
    """What training changes: an adapter's weights, or all."""
    state = get_peft_model_state_dict(model) if hasattr(model, "peft_config") else model.state_dict()
    return {name: weight.clone() for name, weight in state.items()}


def assert_same(first, second, atol=0.0):
    assert first.keys() == second.keys()
    for name, weight in first.items():
        torch.testing.assert_close(
            weight, second[name], rtol=0, atol=atol, msg=lambda m, name=name: f"{name}: {m}"
        )


@pytest.mark.parametrize("settings", [SETTINGS, OFFICIAL])
def test_a_step_s_loss_is_the_plain_formula(architecture, tmp_path, settings):
    """The trainer's short cuts (answer logits only, reference on flagged rows only) change nothing."""
    built = trainer(architecture, tmp_path, rows=4, settings=settings)
    other = architecture.model(seed=9)  # a reference that differs from the policy
    built.reference = FrozenCopy(other)
    batch = RoleCollator(built.data_collator.pad_token_id)(examples(architecture.tokenizer(), 4))
    loss = built.compute_loss(built.model, dict(batch))

    mask = batch["attention_mask"]
    forward = {"attention_mask": mask, "position_ids": (mask.cumsum(-1) - 1).clamp(min=0)}
    with torch.no_grad():
        policy = built.model(batch["input_ids"], **forward).logits
        reference = other(batch["input_ids"], **forward).logits
    expected = sarft_loss(
        policy,
        reference[batch["harmful"]],
        batch["labels"],
        mask,
        batch["harmful"],
        beta=0.5,
        ce_normaliser=settings.ce_normaliser,
        kl_span=settings.kl_span,
        kl_direction="forward",
        safe_loss="kl",
        kl_first_tokens=None,
    )
    assert expected.safety.max() > 0.01
    assert loss.item() == pytest.approx(expected.total.mean().item(), rel=1e-5)


@pytest.mark.parametrize("rows", [8, 7])  # 7: the last micro-batch is smaller than the others
@pytest.mark.parametrize("lora", [False, True])
def test_two_by_four_is_eight_by_one(llama, tmp_path, rows, lora):
    whole = trainer(llama, tmp_path, rows=rows, lora=lora, per_device_train_batch_size=8)
    split = trainer(
        llama, tmp_path, rows=rows, lora=lora, per_device_train_batch_size=2, gradient_accumulation_steps=4
    )
    # The first AdamW step divides the gradient by its own size, which blows rounding up: plain SGD shows the sum.
    for built in (whole, split):
        built.optimizer = torch.optim.SGD(built.model.parameters(), lr=1e-2)
        built.train()
    assert_same(weights(whole.model), weights(split.model), atol=1e-6)


def test_the_logged_loss_does_not_depend_on_the_split(llama, tmp_path):
    losses = []
    for size, steps in ((8, 1), (2, 4)):
        built = trainer(
            llama,
            tmp_path,
            per_device_train_batch_size=size,
            gradient_accumulation_steps=steps,
            logging_steps=1,
        )
        built.train()
        losses.append(built.state.log_history[0])
    assert losses[0]["loss"] == pytest.approx(losses[1]["loss"], rel=1e-4)
    assert losses[0]["role_loss"] == pytest.approx(losses[1]["role_loss"], rel=1e-4)
    assert losses[0]["flagged_share"] == losses[1]["flagged_share"] == 0.5


@pytest.mark.parametrize("lora", [False, True])
def test_gradient_checkpointing_changes_nothing(architecture, tmp_path, lora):
    plain = trainer(architecture, tmp_path, lora=lora, max_steps=2)
    checkpointed = trainer(
        architecture,
        tmp_path,
        lora=lora,
        max_steps=2,
        activation_checkpointing=True,
        activation_checkpointing_kwargs={"use_reentrant": False},
    )
    plain.train()
    checkpointed.train()
    assert_same(weights(plain.model), weights(checkpointed.model), atol=1e-6)


def test_lora_reference_is_the_model_before_the_adapters(architecture, tmp_path):
    base = architecture.model()
    built = trainer(architecture, tmp_path, lora=True, max_steps=2)
    assert isinstance(built.reference, AdaptersOff)
    built.train()
    batch = RoleCollator(built.data_collator.pad_token_id)(examples(architecture.tokenizer(), 4))
    inputs = {"input_ids": batch["input_ids"], "attention_mask": batch["attention_mask"]}
    with torch.no_grad():
        expected = base(**inputs).logits
        trained = built.model.eval()(**inputs).logits
    reference = built.reference.logits(built.model, 4, **inputs)
    torch.testing.assert_close(reference.head(reference.hidden), expected[:, -4:])
    assert (trained - expected).abs().max() > 1e-3


def test_full_reference_is_a_frozen_copy(llama, tmp_path):
    before = weights(llama.model())
    built = trainer(llama, tmp_path, max_steps=2)
    built.train()
    assert_same(weights(built.reference.model), before)
    assert not any(parameter.requires_grad for parameter in built.reference.model.parameters())
    assert (built.model.model.embed_tokens.weight - before["model.embed_tokens.weight"]).abs().max() > 1e-4


def test_without_a_flagged_row_no_reference_is_made_and_training_is_plain_cross_entropy(llama, tmp_path):
    tokenizer = llama.tokenizer()
    rows = [row | {"harmful": False} for row in examples(tokenizer)]
    built = trainer(llama, tmp_path, dataset=rows, max_steps=2)
    assert built.reference is None
    built.train()
    unanchored = trainer(llama, tmp_path, settings=SaRFTSettings(beta=0.0), max_steps=2)
    unanchored.train()
    assert_same(weights(built.model), weights(unanchored.model))


class StopAfter(TrainerCallback):
    """Ends training after a step, as a kill after the checkpoint does."""

    def __init__(self, step):
        self.step = step

    def on_save(self, args, state, control, **kwargs):
        control.should_training_stop = state.global_step >= self.step


@pytest.mark.parametrize("lora", [False, True])
def test_killed_and_resumed_is_uninterrupted(architecture, tmp_path, lora):
    options = {
        "lora": lora,
        "rows": 12,
        "per_device_train_batch_size": 2,
        "save_strategy": "steps",
        "save_steps": 2,
    }
    whole = trainer(architecture, tmp_path / "whole", **options)
    whole.train()
    first = trainer(architecture, tmp_path / "cut", callbacks=[StopAfter(2)], **options)
    first.train()
    assert first.state.global_step == 2
    second = trainer(architecture, tmp_path / "cut", **options)
    second.train(resume_from_checkpoint=True)
    assert second.state.global_step == 6
    assert_same(weights(whole.model), weights(second.model))


def test_evaluation_reports_the_same_loss(llama, tmp_path):
    tokenizer = llama.tokenizer()
    rows = examples(tokenizer, 4)
    built = SaRFTTrainer(
        llama.model(),
        arguments(tmp_path, per_device_eval_batch_size=4),
        settings=SETTINGS,
        train_dataset=rows,
        eval_dataset=rows,
        pad_token_id=tokenizer.pad_token_id,
    )
    metrics = built.evaluate()
    with torch.no_grad():
        expected = built.compute_loss(built.model.eval(), RoleCollator(tokenizer.pad_token_id)(rows))
    assert metrics["eval_loss"] == pytest.approx(expected.item(), rel=1e-6)


def test_bf16_trains_close_to_float32(llama, tmp_path):
    half, single = (trainer(llama, tmp_path / str(bf16), max_steps=2, bf16=bf16) for bf16 in (True, False))
    first = half.train().training_loss
    assert first == pytest.approx(single.train().training_loss, rel=0.02)


def test_anchor_holds_the_model_nearer_to_the_reference(llama, tmp_path):
    """What the method is for: with the same steps, a larger beta ends with a smaller divergence."""
    ends = []
    for beta in (0.0, 50.0):
        built = trainer(llama, tmp_path, settings=SaRFTSettings(beta=beta), num_train_epochs=6)
        built.train()
        built.settings = SaRFTSettings(beta=1.0)
        built.reference = FrozenCopy(llama.model())
        batch = RoleCollator(llama.tokenizer().pad_token_id)(examples(llama.tokenizer()))
        built.compute_loss(built.model.eval(), batch)
        ends.append(built._latest["eval_safety_loss"].mean().item())
    assert ends[1] < 0.5 * ends[0]


# --- what the reference says, kept instead of a reference

REVERSE = SaRFTSettings(beta=0.5, kl_direction="reverse")
FIRST = SaRFTSettings(beta=0.5, kl_first_tokens=2)


def with_top_k(architecture, cache, k, settings=SETTINGS, rows=8):
    """Rows with what the model that is trained said before."""
    tokenizer, model = architecture.tokenizer(), architecture.model()
    return with_reference_top_k(
        model,
        tokenizer.pad_token_id,
        examples(tokenizer, rows),
        k or model.config.vocab_size,
        span=settings.kl_span,
        first_tokens=settings.kl_first_tokens,
        cache_dir=cache,
        batch_size=3,
    )


@pytest.mark.parametrize("settings", [SETTINGS, OFFICIAL, REVERSE, FIRST])
def test_all_tokens_kept_are_a_frozen_copy(architecture, tmp_path, settings):
    """Three optimiser steps: the first alone would not do, since at its start the divergence is 0."""
    options = {"settings": settings, "num_train_epochs": 3, "per_device_train_batch_size": 4, "logging_steps": 1}
    dataset = with_top_k(architecture, tmp_path / "cache", None, settings)
    copied = trainer(architecture, tmp_path / "copied", **options)
    kept = trainer(architecture, tmp_path / "kept", dataset=dataset, **options)
    assert isinstance(copied.reference, FrozenCopy)
    assert kept.reference is None
    for built in (copied, kept):
        # The first AdamW step divides the gradient by its own size, which blows rounding up: plain SGD shows it.
        built.optimizer = torch.optim.SGD(built.model.parameters(), lr=1e-2)
        built.train()
    safety = [[entry["safety_loss"] for entry in built.state.log_history[:-1]] for built in (copied, kept)]
    assert safety[0][-1] > 1e-3
    assert safety[1] == pytest.approx(safety[0], rel=1e-3, abs=1e-5)
    assert_same(weights(copied.model), weights(kept.model), atol=1e-5)


def test_few_tokens_kept_hold_the_model_too(llama, tmp_path):
    """With adapters as well; and never by more than the whole divergence."""
    dataset = with_top_k(llama, tmp_path / "cache", 64)
    ends = []
    for beta in (0.0, 20.0):
        settings = SaRFTSettings(beta=beta)
        options = {"lora": True, "num_train_epochs": 6, "learning_rate": 2e-2}
        built = trainer(llama, tmp_path, dataset=dataset, settings=settings, **options)
        assert built.reference is None
        built.train()
        built.settings = SaRFTSettings(beta=1.0)
        batch = RoleCollator(llama.tokenizer().pad_token_id)(dataset)
        divergences = []
        for reference in (None, FrozenCopy(llama.model())):
            built.reference = reference
            built.compute_loss(built.model.eval(), batch)
            divergences.append(built._latest["eval_safety_loss"])
        kept, whole = divergences
        assert (kept <= whole + 1e-6).all()
        ends.append(whole.mean().item())
    assert ends[1] < 0.5 * ends[0]


def test_batches_of_unflagged_rows_and_beta_zero_need_no_values(llama, tmp_path):
    dataset = with_top_k(llama, tmp_path / "cache", 8)
    built = trainer(llama, tmp_path, dataset=dataset)
    unflagged = [row for row in dataset if not row["harmful"]]
    batch = RoleCollator(llama.tokenizer().pad_token_id)
    plain = trainer(llama, tmp_path, dataset=unflagged)
    assert built.compute_loss(built.model, batch(unflagged)) == plain.compute_loss(plain.model, batch(unflagged))
    free = trainer(llama, tmp_path, dataset=dataset, settings=SaRFTSettings(beta=0.0))
    all_unflagged = [row | {"harmful": False} for row in dataset]
    assert free.compute_loss(free.model, batch(dataset)) == plain.compute_loss(plain.model, batch(all_unflagged))


def test_half_of_the_rows_scored_and_mse_are_refused(llama, tmp_path):
    dataset = with_top_k(llama, tmp_path / "cache", 8)
    half = [row if i else examples(llama.tokenizer())[0] for i, row in enumerate(dataset)]
    with pytest.raises(HoldfastError, match="3 of 4 flagged rows have reference_top_k"):
        trainer(llama, tmp_path, dataset=half)
    with pytest.raises(HoldfastError, match="safe_loss mse needs the reference's whole distribution"):
        trainer(llama, tmp_path, dataset=dataset, settings=SaRFTSettings(beta=0.5, safe_loss="mse"))
