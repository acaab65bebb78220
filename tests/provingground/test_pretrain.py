"""Making base models: determinism, what names them, and that nothing half-made is ever used."""

import subprocess
import sys
from dataclasses import replace

import pytest
import torch

from holdfast.models import load_model, load_tokenizer, model_fingerprint
from holdfast.provingground import pretrain as module
from holdfast.provingground.pretrain import (
    PretrainingSettings,
    aligned_model,
    base_manifest,
    draw_batches,
    language_model_loss,
    manifest_fingerprint,
    pretrain,
    schedule,
)
from holdfast.provingground.roles.experiment import WORLD
from holdfast.provingground.roles.tokenizer import build_tokenizer

QUICK = PretrainingSettings(steps=3, tokens_per_step=300, hidden_size=16, layers=1, heads=2)


def test_batches_keep_to_their_tokens_and_weights():
    tokenizer = build_tokenizer()
    batches = list(draw_batches(WORLD, replace(QUICK, steps=40), 1))
    assert len(batches) == 40
    end, pad = tokenizer.convert_tokens_to_ids("<|end|>"), tokenizer.pad_token_id
    for batch in batches:
        assert batch.input_ids.shape == batch.weights.shape
        assert batch.input_ids.numel() <= 300
        assert torch.equal(batch.weights == 0, batch.input_ids == pad)
        assert all(
            any(weight == pytest.approx(known) for known in (0.0, 0.1, 1.0))
            for weight in batch.weights.unique().tolist()
        )
        lengths = (batch.input_ids != pad).sum(1)
        assert batch.input_ids[torch.arange(len(lengths)), lengths - 1].tolist() == [end] * len(lengths)
        assert batch.weights[torch.arange(len(lengths)), lengths - 1].tolist() == [1.0] * len(lengths)


def test_the_loss_is_the_weighted_mean_over_tokens():
    torch.manual_seed(0)
    tokenizer = build_tokenizer()
    model = module.build_model(QUICK, tokenizer).eval()
    batch = next(draw_batches(WORLD, QUICK, 1))
    logps = model(input_ids=batch.input_ids).logits.log_softmax(-1)
    total = weight = 0.0
    for row in range(batch.input_ids.shape[0]):
        for t in range(1, batch.input_ids.shape[1]):
            w = batch.weights[row, t].item()
            total -= w * logps[row, t - 1, batch.input_ids[row, t]].item()
            weight += w
    assert language_model_loss(model, batch).item() == pytest.approx(total / weight, rel=1e-5)


def test_the_schedule_rises_and_falls():
    settings = PretrainingSettings(steps=1000, warmup_steps=100)
    assert schedule(settings, 50) == pytest.approx(0.5, abs=0.01)
    assert max(schedule(settings, step) for step in range(1, 1001)) == pytest.approx(0.98, abs=0.01)
    assert schedule(settings, 1000) == pytest.approx(0.02, abs=1e-3)


def test_the_same_seed_gives_the_same_model():
    first, second, other = (pretrain(WORLD, QUICK, seed)[0] for seed in (1, 1, 2))
    assert model_fingerprint(first) == model_fingerprint(second) != model_fingerprint(other)


def test_a_base_is_made_once_and_loads_as_a_chat_model(tmp_path):
    steps = []
    path = aligned_model(tmp_path, WORLD, QUICK, 1, lambda done, total: steps.append((done, total)))
    assert steps == [(1, 3), (2, 3), (3, 3)]
    assert aligned_model(tmp_path, WORLD, QUICK, 1, lambda *_: pytest.fail("trained again")) == path
    tokenizer, model = load_tokenizer(str(path)), load_model(str(path), dtype="float32", device="cpu")
    ends = tokenizer.convert_tokens_to_ids(["<|end|>", "</s>"])
    assert model.generation_config.eos_token_id == ends
    trained = pretrain(WORLD, QUICK, 1)[0].state_dict()
    assert {name: weight.tolist() for name, weight in model.state_dict().items()} == {
        name: weight.tolist() for name, weight in trained.items()
    }
    assert sorted(item.name for item in tmp_path.iterdir()) == [path.name]


def test_a_killed_run_leaves_nothing_that_is_taken_for_a_base(tmp_path):
    class KilledError(Exception):
        pass

    def kill(done: int, total: int) -> None:
        if done == 2:
            raise KilledError

    with pytest.raises(KilledError):
        aligned_model(tmp_path, WORLD, QUICK, 1, kill)
    assert list(tmp_path.iterdir()) == []
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    name = f"roles_seed_1_{manifest_fingerprint(base_manifest(WORLD, QUICK, 1))}"
    half = tmp_path / f".{name}.{gone.pid}-0.partial"
    half.mkdir()
    (half / "model.safetensors").write_bytes(b"half")
    path = aligned_model(tmp_path, WORLD, QUICK, 1)
    assert (path / "model.safetensors").stat().st_size > 1000
    assert not half.exists()


def test_settings_seed_and_code_each_make_another_base(monkeypatch, tmp_path):
    manifests = [
        base_manifest(WORLD, QUICK, 1),
        base_manifest(WORLD, QUICK, 2),
        base_manifest(WORLD, replace(QUICK, prompt_weight=0.2), 1),
    ]
    changed = tmp_path / "words.py"
    changed.write_text("changed", encoding="utf-8")
    manifests.append(base_manifest(replace(WORLD, sources=(*WORLD.sources, changed)), QUICK, 1))
    monkeypatch.setattr(module, "SOURCES", (*module.SOURCES, changed))
    manifests.append(base_manifest(WORLD, QUICK, 1))
    assert len({manifest_fingerprint(manifest) for manifest in manifests}) == 5
