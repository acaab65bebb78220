"""Training that starts from an adapter, merged or continued, and the layers that adapters are put on."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import nn
from transformers import Phi3Config, Phi3ForCausalLM

from holdfast.errors import HoldfastError
from holdfast.models import (
    AdaptersOff,
    LoraSettings,
    OriginalAdapter,
    add_lora,
    continued_adapter,
    load_model,
    load_tokenizer,
    lora_targets,
    reference_for,
)
from holdfast.recipes.configs import SaRFTConfig
from holdfast.recipes.model_card import base_on_hub
from holdfast.recipes.train_sarft import train_sarft
from tests.architectures import ARCHITECTURES
from tests.conftest import save
from tests.test_cli_errors import GOOD_ROW, write_rows

LLAMA = ARCHITECTURES["llama3"]
IDS = torch.tensor([[7, 8, 9, 10]])


@pytest.fixture
def place(tmp_path) -> Path:
    """A model, an adapter on it that changes its answers, rows and a role."""
    save(LLAMA, tmp_path / "model")
    adapted = add_lora(load_model(str(tmp_path / "model"), device="cpu"), LoraSettings(rank=2))
    with torch.no_grad():
        for name, weight in adapted.named_parameters():
            if "lora_B" in name:
                weight.normal_(generator=torch.Generator().manual_seed(1))
    adapted.save_pretrained(tmp_path / "adapter")
    write_rows(tmp_path / "rows.jsonl", *[GOOD_ROW] * 4)
    (tmp_path / "role.yaml").write_text("name: Ahab\npersona_prompt: You are Ahab.\n")
    return tmp_path


def config(place: Path, **fields) -> SaRFTConfig:
    defaults = {
        "model": str(place / "adapter"),
        "data": str(place / "rows.jsonl"),
        "role": str(place / "role.yaml"),
        "output_dir": str(place / "out"),
        "lora_rank": 2,
        "learning_rate": 1e-9,
        "selector": "all",
    }
    return SaRFTConfig(**(defaults | fields))


def logits(name: Path) -> torch.Tensor:
    with torch.no_grad():
        return load_model(str(name), device="cpu").eval()(IDS).logits


def changed(place: Path) -> float:
    return (logits(place / "adapter") - logits(place / "model")).abs().max().item()


@pytest.mark.parametrize("fields", [{}, {"tuning": "full"}, {"start_adapter": "continue"}])
def test_a_training_without_steps_to_speak_of_gives_the_adapters_model(place, fields):
    assert changed(place) > 0.1
    train_sarft(config(place, **fields))
    torch.testing.assert_close(logits(place / "out"), logits(place / "adapter"), atol=1e-4, rtol=1e-4)
    whole = fields.get("start_adapter", "merge") == "merge"
    assert (place / "out/model.safetensors").exists() == whole
    assert (place / "out/adapter_model.safetensors").exists() != whole


@pytest.mark.parametrize("start", ["merge", "continue"])
def test_the_reference_is_the_adapters_model(place, start):
    """At the start the policy is the reference, so that the divergence is 0; adapters off it is far from that."""
    train_sarft(config(place, start_adapter=start, logging_steps=1))
    logged = [json.loads(line) for line in (place / "out/metrics.jsonl").read_text().splitlines()]
    assert logged[0]["safety_loss"] == pytest.approx(0, abs=1e-5)


def test_a_continued_adapter_is_held_to_what_it_was(place):
    policy = continued_adapter(load_model(str(place / "adapter"), device="cpu"))
    reference = reference_for(policy)
    assert isinstance(reference, OriginalAdapter)
    with torch.no_grad():
        before = policy(IDS).logits
        for weight in policy.parameters():
            if weight.requires_grad:
                weight.add_(0.1)
        after = policy(IDS).logits
    assert (before - after).abs().max() > 0.1
    asked = reference.logits(policy, 4, input_ids=IDS, attention_mask=torch.ones_like(IDS))
    torch.testing.assert_close(asked.head(asked.hidden), before)
    with torch.no_grad():
        torch.testing.assert_close(policy(IDS).logits, after)  # put back


def test_fresh_adapters_are_their_own_reference(place):
    policy = add_lora(load_model(str(place / "model"), device="cpu"), LoraSettings(rank=2))
    assert isinstance(reference_for(policy), AdaptersOff)


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"tuning": "full", "start_adapter": "continue"}, "trains an adapter"),
        ({"tuning": "qlora"}, "4-bit"),
        ({"start_adapter": "continue", "proximal_weight": 1.0}, "proximal_weight"),
        ({"start_adapter": "continue", "selector": "persona_vector"}, "selector persona_vector"),
    ],
)
def test_what_cannot_start_from_an_adapter_is_refused_before_it_is_loaded(place, fields, said, monkeypatch):
    monkeypatch.setattr("holdfast.recipes.training.load_chat_model", lambda *_, **__: pytest.fail("loaded"))
    with pytest.raises(HoldfastError, match=said):
        train_sarft(config(place, **fields))


def test_a_missing_layer_is_told_before_anything_is_scored(place, monkeypatch):
    monkeypatch.setattr("holdfast.recipes.train_sarft.role_examples", lambda *_: pytest.fail("scored"))
    fields = {"model": str(place / "model"), "lora_target_modules": ["q_proj", "wq"]}
    with pytest.raises(HoldfastError, match=r"no layer wq; its layers are .*q_proj, k_proj") as raised:
        train_sarft(config(place, **fields))
    assert "\n" not in str(raised.value)


def phi3() -> nn.Module:
    size = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4}
    return Phi3ForCausalLM(Phi3Config(vocab_size=len(LLAMA.tokenizer()), pad_token_id=0, **size))


def test_fused_layers_stand_for_the_ones_they_hold():
    assert lora_targets(phi3(), ["q_proj", "v_proj"]) == ["qkv_proj"]
    assert lora_targets(phi3(), ["qkv_proj", "gate_proj"]) == ["qkv_proj", "gate_up_proj"]
    assert lora_targets(LLAMA.model(), ["layers.1.self_attn.q_proj"]) == ["layers.1.self_attn.q_proj"]
    with pytest.raises(HoldfastError, match="no layer all-linear"):
        lora_targets(LLAMA.model(), ["all-linear", "q_proj"])


@pytest.mark.parametrize(
    ("targets", "layers"),
    [
        (["all-linear"], {"qkv_proj", "o_proj", "gate_up_proj", "down_proj"}),
        (["q_proj", "v_proj"], {"qkv_proj"}),
    ],
)
def test_a_model_with_fused_layers_is_trained(place, targets, layers):
    save(replace(LLAMA, build=lambda _: phi3()), place / "phi3")
    fields = {"model": str(place / "phi3"), "lora_target_modules": targets, "selector": "none"}
    train_sarft(config(place, **fields))
    names = load_file(place / "out/adapter_model.safetensors")
    assert {name.split(".")[-3] for name in names} == layers


def test_a_card_names_a_base_on_the_hub_only(place):
    assert base_on_hub(str(place / "model")) is None
    assert base_on_hub("owner/name") == "owner/name"
    described = place / "adapter/adapter_config.json"
    assert base_on_hub(str(place / "adapter")) is None
    described.write_text(json.dumps(json.loads(described.read_text()) | {"base_model_name_or_path": "owner/name"}))
    assert base_on_hub(str(place / "adapter")) == "owner/name"


def test_a_model_trained_with_another_template_keeps_it(place):
    """The template of the training is the template of every later verb."""
    (place / "other.jinja").write_text(
        "{% for m in messages %}[{{ m.role }}]{{ m.content }}<|eot_id|>{% endfor %}"
    )
    fields = {"model": str(place / "model"), "chat_template": str(place / "other.jinja"), "selector": "none"}
    train_sarft(config(place, **fields))
    assert load_tokenizer(str(place / "out")).chat_template == (place / "other.jinja").read_text()
