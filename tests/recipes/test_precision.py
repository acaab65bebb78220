"""Full tuning of a half precision checkpoint moves its weights as float32 does, at the papers' learning rates."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from holdfast.config import load_config
from holdfast.errors import HoldfastError
from holdfast.models import LoraSettings, add_lora
from holdfast.recipes.configs import SaRFTConfig
from tests.architectures import ARCHITECTURES
from tests.recipes.test_train_sarft import final_weights, run, write_config


def saved_as(dtype: torch.dtype, path: Path) -> Path:
    """A tiny model on disk in this type."""
    architecture = ARCHITECTURES["llama3"]
    architecture.model().to(dtype).save_pretrained(path)
    architecture.tokenizer().save_pretrained(path)
    return path


def updates(directory: Path, base: Path) -> torch.Tensor:
    """What training has added to all the weights."""
    trained, before = final_weights(directory), load_file(base / "model.safetensors")
    return torch.cat([(trained[name].float() - before[name].float()).flatten() for name in sorted(before)])


@pytest.mark.parametrize(
    ("stored", "options"),
    [
        (torch.bfloat16, ()),
        (torch.bfloat16, ("--bf16", "true")),
        (torch.bfloat16, ("--dtype", "bfloat16")),
        (torch.float16, ()),
    ],
)
def test_the_movement_is_that_of_float32(stored, options, tmp_path, capsys):
    model = saved_as(stored, tmp_path / "model")
    config = write_config(
        tmp_path / "run.yaml", model=model, output_dir=tmp_path / "out", tuning="full", learning_rate=2e-5
    )
    run("train-sarft", config, *options)
    assert "trained and saved in float32" in capsys.readouterr().err
    run("train-sarft", config, "--dtype", "float32", "--output-dir", tmp_path / "single")
    got, wanted = updates(tmp_path / "out", model), updates(tmp_path / "single", model)
    assert got.norm().item() == pytest.approx(wanted.norm().item(), rel=0.03)
    moved, expected = ((update != 0).float().mean().item() for update in (got, wanted))
    assert expected > 0.7  # rows of tokens that do not occur stay
    assert moved == pytest.approx(expected, rel=0.03)
    assert json.loads((tmp_path / "out/config.json").read_text())["dtype"] == "float32"


def test_float16_is_no_type_to_train_in(tmp_path):
    path = write_config(tmp_path / "run.yaml", model="m", output_dir=tmp_path / "out", dtype="float16")
    with pytest.raises(HoldfastError, match=r"field 'dtype'.*float16"):
        load_config(SaRFTConfig, path)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_adapters_are_float32_on_any_base(dtype, llama):
    policy = add_lora(llama.model().to(dtype), LoraSettings(4, 8))
    assert {weight.dtype for weight in policy.parameters() if weight.requires_grad} == {torch.float32}
