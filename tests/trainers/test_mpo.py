"""MPOTrainer: a step against live references and the published arithmetic, and the equivalences users rely on."""

import pytest
import torch
from transformers import Trainer, TrainerCallback

from holdfast.data.pair_collator import PairCollator
from holdfast.models import LoraSettings, add_lora
from holdfast.trainers.mpo import MPOSettings, MPOTrainer
from tests.trainers.test_sarft import assert_same, weights

SETTINGS = MPOSettings(beta=1.5, retention_weight=2.0)


@pytest.fixture
def trainer(pair_data, training_arguments):
    def build(
        architecture, path, *, settings=SETTINGS, lora=False, count=8, retention="last", callbacks=None, **args
    ):
        model = architecture.model()
        examples, anchors = pair_data(
            architecture, architecture.model(), count, retention, settings.length_normalise
        )
        if lora:
            torch.manual_seed(5)
            model = add_lora(model, LoraSettings(rank=4, alpha=8))
        return MPOTrainer(
            model,
            training_arguments(path, **args),
            settings=settings,
            train_dataset=examples,
            pad_token_id=architecture.tokenizer().pad_token_id,
            anchors=anchors,
            callbacks=callbacks,
        )

    return build


def answer_logp(model, example):
    """A float64 loop over the trained tokens."""
    ids = example["input_ids"]
    logps = model(torch.tensor([ids])).logits[0].log_softmax(-1)
    trained = [t for t in range(1, len(ids)) if example["trained"][t]]
    return sum(logps[t - 1, ids[t]] for t in trained), len(trained)


def gap(model, example, normalise=True):
    (chosen, n), (rejected, m) = (answer_logp(model, example[side]) for side in ("chosen", "rejected"))
    return chosen / n - rejected / m if normalise else chosen - rejected


@pytest.mark.parametrize("normalise", [True, False])
@pytest.mark.parametrize("relative", ["simpo", "dpo"])
def test_a_step_is_the_formula_with_live_references(
    architecture, trainer, pair_data, tmp_path, normalise, relative
):
    settings = MPOSettings(beta=1.5, retention_weight=2.0, length_normalise=normalise, gap=relative)
    built = trainer(architecture, tmp_path, settings=settings)
    policy = architecture.model(seed=9)  # differs from the reference
    batch = built.data_collator(built.train_dataset)
    loss = built.compute_loss(policy, batch)

    exact, reference = architecture.model(seed=9).double(), architecture.model().double()
    dominants, anchors = pair_data(architecture, architecture.model())[0], built.data_collator.anchors
    terms = []
    with torch.no_grad():
        for example in built.train_dataset:
            own = gap(exact, example, normalise) - (gap(reference, example, normalise) if relative == "dpo" else 0)
            wanted = example["reference_dominant_gaps"]
            prompt = torch.tensor([anchors.sequences[example["anchor"]][0].input_ids])
            held = reference.model(prompt).last_hidden_state[0, -1]
            moved = exact.model(prompt).last_hidden_state[0, -1]
            terms.append((1.5 * own - wanted) ** 2 + 2.0 * (moved - held).square().mean())
    assert len(dominants) == len(terms) == 8
    assert loss.item() == pytest.approx(torch.stack(terms).mean().item(), rel=1e-3)


def test_the_official_preset_is_the_published_codes_step(llama, trainer, tmp_path):
    """One pair a device, its code spelt out: two concatenated forwards, logps by labels != -100, means over all
    positions of the last hidden layer with right padding to a multiple of 8, two MSELosses added up."""
    built = trainer(
        llama, tmp_path, settings=MPOSettings(beta=1.5), retention="padded_mean", per_device_train_batch_size=1
    )
    policy, reference, pad = llama.model(seed=9), llama.model(), llama.tokenizer().pad_token_id
    dominants = {}
    for example in built.train_dataset:  # the dominant answers with their prompts, as the anchors hold them
        dominants[example["anchor"]] = built.data_collator.anchors.sequences[example["anchor"]]

    def concatenated_forward(model, sequences, labels):
        width = max(map(len, sequences))
        width += -width % 8
        ids = torch.tensor([s + [pad] * (width - len(s)) for s in sequences])
        mask = torch.tensor([[1] * len(s) + [0] * (width - len(s)) for s in sequences])
        targets = torch.tensor([row + [-100] * (width - len(row)) for row in labels])
        outputs = model(ids, attention_mask=mask, output_hidden_states=True)
        logits, targets = outputs.logits.float()[:, :-1], targets[:, 1:].clone()
        kept = targets != -100
        targets[~kept] = 0
        logps = torch.gather(logits.log_softmax(-1), 2, targets.unsqueeze(2)).squeeze(2)
        return (logps * kept).sum(-1) / kept.sum(-1), outputs.hidden_states[-1].mean(dim=1)

    for example in built.train_dataset[:3]:
        sides = [example["chosen"], example["rejected"]]
        labels = [[i if t else -100 for i, t in zip(s["input_ids"], s["trained"], strict=True)] for s in sides]
        source = [list(sequence.input_ids) for sequence in dominants[example["anchor"]]]
        nothing = [[-100] * len(ids) for ids in source]
        with torch.no_grad():
            target_logps, _ = concatenated_forward(policy, [s["input_ids"] for s in sides], labels)
            _, hidden = concatenated_forward(policy, source, nothing)
            _, held = concatenated_forward(reference, source, nothing)
            source_gap = torch.tensor(example["reference_dominant_gaps"])
            loss = torch.nn.MSELoss()(1.5 * (target_logps[0] - target_logps[1]), source_gap)
            loss += torch.nn.MSELoss()(hidden, held)
            ours = built.compute_loss(policy, built.data_collator([example]))
        assert ours.item() == pytest.approx(loss.item(), rel=1e-4)


def test_nothing_is_lost_where_policy_and_reference_agree(llama, trainer, tmp_path):
    """Anchors of an untrained policy hold, and its gap against its own gap is no error."""
    built = trainer(llama, tmp_path, settings=MPOSettings(beta=1.0))
    examples = [
        dict(
            example,
            reference_dominant_gaps=example["reference_chosen_logps"] / sum(example["chosen"]["trained"])
            - example["reference_rejected_logps"] / sum(example["rejected"]["trained"]),
        )
        for example in built.train_dataset
    ]
    loss = built.compute_loss(built.model, built.data_collator(examples))
    assert loss.item() == pytest.approx(0.0, abs=1e-9)


@pytest.mark.parametrize("count", [8, 7])
@pytest.mark.parametrize("lora", [False, True])
def test_two_by_four_is_eight_by_one(llama, trainer, tmp_path, count, lora):
    whole = trainer(llama, tmp_path, count=count, lora=lora, per_device_train_batch_size=8)
    split = trainer(
        llama, tmp_path, count=count, lora=lora, per_device_train_batch_size=2, gradient_accumulation_steps=4
    )
    for built in (whole, split):
        built.optimizer = torch.optim.SGD(built.model.parameters(), lr=1e-2)
        built.train()
    assert_same(weights(whole.model), weights(split.model), atol=1e-6)


@pytest.mark.parametrize("lora", [False, True])
def test_gradient_checkpointing_changes_nothing(llama, trainer, tmp_path, lora):
    plain = trainer(llama, tmp_path, lora=lora)
    checkpointed = trainer(llama, tmp_path, lora=lora, activation_checkpointing=True)
    for built in (plain, checkpointed):
        built.optimizer = torch.optim.SGD(built.model.parameters(), lr=1e-2)
        built.train()
    assert_same(weights(plain.model), weights(checkpointed.model), atol=1e-6)


class StopAt(TrainerCallback):
    def __init__(self, step):
        self.step = step

    def on_step_end(self, args, state, control, **kwargs):
        control.should_training_stop = state.global_step == self.step
        return control


def test_resumed_is_uninterrupted(llama, trainer, tmp_path):
    whole = trainer(llama, tmp_path / "whole", per_device_train_batch_size=2)
    whole.train()
    saving = {"per_device_train_batch_size": 2, "save_strategy": "steps", "save_steps": 2}
    first = trainer(llama, tmp_path / "parts", callbacks=[StopAt(2)], **saving)
    first.train()
    second = trainer(llama, tmp_path / "parts", **saving)
    second.train(resume_from_checkpoint=True)
    assert second.state.global_step == 4
    assert_same(weights(whole.model), weights(second.model))


def test_training_pulls_the_gap_and_holds_the_dominant(llama, trainer, tmp_path):
    moved = {}
    for weight in (0.0, 50.0):
        built = trainer(
            llama,
            tmp_path,
            settings=MPOSettings(beta=1.0, retention_weight=weight),
            num_train_epochs=12,
            learning_rate=2e-4,
            logging_steps=2,
        )
        for example in built.train_dataset:
            example["reference_dominant_gaps"] = 2.0
        built.train()
        batch = PairCollator(built.data_collator.pad_token_id, built.data_collator.anchors)(built.train_dataset)
        logged = [entry["gap_loss"] for entry in built.state.log_history if "gap_loss" in entry]
        assert logged[-1] < 0.6 * logged[0]
        if weight == 0.0:
            assert "anchor_of" not in batch  # nothing held, nothing forwarded
            held_by = trainer(llama, tmp_path).data_collator
            batch = held_by(built.train_dataset)
        hidden, held = built._hidden_states(built.model, batch)
        moved[weight] = (hidden - held).square().mean().item()
    assert moved[50.0] < 0.5 * moved[0.0]


def test_no_reference_model_is_held(llama, trainer, tmp_path):
    built = trainer(llama, tmp_path)
    models = [value for value in vars(built).values() if isinstance(value, torch.nn.Module)]
    assert all(model is built.model for model in models)
    assert isinstance(built, Trainer)


@pytest.mark.parametrize("dtype", [torch.bfloat16])
def test_half_precision_gives_a_float32_loss(llama, trainer, tmp_path, dtype):
    built = trainer(llama, tmp_path)
    loss = built.compute_loss(llama.model().to(dtype), built.data_collator(built.train_dataset))
    assert loss.dtype == torch.float32
    assert torch.isfinite(loss)
