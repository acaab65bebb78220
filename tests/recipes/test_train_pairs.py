"""MPO and its baselines from a file of pairs to a model on disk; killed and continued; on real data."""

import json
import signal
import sys
from pathlib import Path

import pytest
import torch
import yaml

from holdfast.cli import main
from holdfast.config import load_config
from holdfast.losses.preference import PREFERENCE_LOSSES
from holdfast.models import load_model
from holdfast.recipes.configs import MPOConfig
from holdfast.results import read_figures
from tests.architectures import ARCHITECTURES
from tests.conftest import save
from tests.recipes.test_train_sarft import (
    ROOT,
    ROWS,
    assert_used_as_it_stands,
    final_weights,
    holdfast,
    run,
    start,
    stop_at_a_checkpoint,
)

PAIRS = ROOT / "examples/languages/pairs.jsonl"
SHIPPED = sorted((ROOT / "configs").glob("mpo_*.yaml"))


def write_config(path, **values):
    defaults = {
        "data": str(PAIRS),
        "learning_rate": 1e-3,
        "epochs": 2,
        "per_device_batch_size": 2,
        "gradient_accumulation_steps": 1,
        "lora_rank": 4,
        "lora_alpha": 8,
        "seed": 1,
    }
    values = {
        key: value if isinstance(value, (int, float, str, dict, list)) else str(value)
        for key, value in values.items()
    }
    path.write_text(yaml.safe_dump(defaults | values), encoding="utf-8")
    return path


@pytest.mark.parametrize("tuning", ["lora", "full"])
def test_train_save_reload(architecture, tmp_path, tuning):
    model = save(architecture, tmp_path / "model")
    out = tmp_path / "out"
    config = write_config(tmp_path / "run.yaml", model=model, output_dir=out, tuning=tuning)
    run("train-mpo", config, "--max-prompt-tokens", "2000")
    trained = load_model(str(out), dtype="float32", device="cpu")
    before = load_model(str(model), dtype="float32", device="cpu")
    ids = torch.tensor([[5, 6, 7, 8]])
    assert not torch.allclose(trained(ids).logits, before(ids).logits)
    assert not list(out.glob("*.bin"))
    card = (out / "README.md").read_text(encoding="utf-8")
    assert "Multilingual reward gaP Optimization" in card
    figures = list(read_figures(out / "results.jsonl"))
    before_training = {f.group: f.n for f in figures if f.metric == "reward_gap" and f.method == "before training"}
    assert before_training == {"en": 3, "sw": 3, "zh": 3}  # the dominant pairs once each
    assert {f.metric for f in figures if f.method == "mpo"} >= {"gap_loss", "retention_loss", "train_loss"}
    assert json.loads((out / "run.json").read_text())["data"]["trained_pairs"] == 6


@pytest.mark.parametrize("loss", sorted(PREFERENCE_LOSSES))
def test_every_baseline_has_a_command(llama, tmp_path, loss):
    model = save(llama, tmp_path / "model")
    config = write_config(tmp_path / "run.yaml", model=model, output_dir=tmp_path / "out", loss=loss)
    run("train-preference", config)
    assert final_weights(tmp_path / "out")
    assert f"# {loss}, en to sw, zh, on model" in (tmp_path / "out/README.md").read_text().replace("\\", "")


@pytest.mark.parametrize(
    "options",
    [
        ("--retention", "none"),
        ("--retention", "mean"),
        ("--preset", "official"),
        ("--gap", "dpo"),
        ("--length-normalise", "false"),
        ("--huber-delta", "0.5"),
        ("--one-sided", "true"),
        ("--retention-data", str(ROWS)),
        ("--dominant-language", "zh"),
        ("--target-languages", "[sw]"),
        ("--eval-data", str(PAIRS)),
        ("--bf16", "true"),
    ],
)
def test_every_switch_trains(llama, tmp_path, options):
    model = save(llama, tmp_path / "model")
    config = write_config(tmp_path / "run.yaml", model=model, output_dir=tmp_path / "out")
    run("train-mpo", config, *options)
    figures = {(f.method, f.group, f.metric): f for f in read_figures(tmp_path / "out/results.jsonl")}
    assert figures["mpo", "training", "gap_loss"].value >= 0
    held = figures["mpo", "training", "retention_loss"].value
    assert held == 0 if options == ("--retention", "none") else held > 0
    if "--eval-data" in options:
        assert figures["mpo", "training", "eval_loss"].value > 0
    if "--target-languages" in options:
        assert {group for _, group, metric in figures if metric == "safe_preferred"} == {"en", "sw"}


def test_killed_and_continued_is_uninterrupted(llama, tmp_path):
    model = save(llama, tmp_path / "model")
    common = {"model": model, "epochs": 60, "save_steps": 10, "logging_steps": 5, "lora_dropout": 0.1}
    cut = write_config(tmp_path / "cut.yaml", output_dir=tmp_path / "cut", **common)
    whole = write_config(tmp_path / "whole.yaml", output_dir=tmp_path / "whole", **common)
    process = start(cut, tmp_path, command="train-mpo")
    stop_at_a_checkpoint(process, tmp_path / "cut", signal.SIGKILL)
    assert process.returncode == -9
    again = start(cut, tmp_path, command="train-mpo")
    _, said = again.communicate(timeout=120)
    assert again.returncode == 0, said
    assert "continuing from" in said
    run("train-mpo", whole)
    first, second = final_weights(tmp_path / "cut"), final_weights(tmp_path / "whole")
    for name, weight in second.items():
        torch.testing.assert_close(first[name], weight, rtol=0, atol=0)


def every_tenth_row(source: Path, path: Path) -> Path:
    path.write_text(json.dumps(json.loads(source.read_text(encoding="utf-8"))[::10]), encoding="utf-8")
    return path


@pytest.mark.parametrize(
    "path",
    # With adapters every row runs in seconds, with all weights in half a minute.
    [pytest.param(path, id=path.stem, marks=pytest.mark.slow if "_full" in path.stem else ()) for path in SHIPPED],
)
def test_every_shipped_config_runs_on_the_published_pairs(path, tmp_path, real_data):
    """On a tiny model of the architecture, texts cut short: all 600 rows, one epoch where every weight is trained; a
    tenth of the rows for the files that differ from another one by 4 bits only."""
    name = next(
        tiny
        for key, tiny in {"llama3": "llama3", "gemma2": "gemma2", "qwen2.5": "qwen2.5"}.items()
        if key in path.name
    )
    model = save(ARCHITECTURES[name], tmp_path / "model")
    options = {
        "--model": model,
        "--data": real_data / "mpo/llama_mpo_data.json",
        "--dominant-language": "en",  # the rows at hand are Llama's; Qwen's lead from Chinese
        "--output-dir": tmp_path / "out",
        "--deepspeed": "null",
        "--dtype": "float32",
        "--epochs": 1 if "full" in path.name else 0.1,
        "--per-device-batch-size": 20,
        "--gradient-accumulation-steps": 1,
        "--max-prompt-tokens": 48,
        "--max-response-tokens": 16,
        "--long-prompts": "keep_end",
        "--score-batch-size": 100,
    }
    rows = 600
    if load_config(MPOConfig, path).tuning == "qlora":
        options["--tuning"] = "lora"  # 4 bits need a GPU
        options["--data"], rows = every_tenth_row(options["--data"], tmp_path / "pairs.json"), 60
    run("train-mpo", path, *[part for pair in options.items() for part in pair])
    assert final_weights(tmp_path / "out")
    assert_used_as_it_stands(MPOConfig, path, tmp_path / "out", options)
    assert json.loads((tmp_path / "out/run.json").read_text())["data"]["trained_pairs"] == rows
    counts = {
        f.group: f.n
        for f in read_figures(tmp_path / "out/results.jsonl")
        if f.metric == "reward_gap" and f.method == "before training"
    }
    assert sum(counts.values()) - counts["en"] == rows
    if rows == 600:
        assert counts == {"en": 100, "zh": 100, "ja": 100, "ko": 100, "ar": 100, "bn": 100, "sw": 100}


def test_the_official_preset_is_the_published_codes(tmp_path):
    """LLaMA-Factory's templates end an answer with eos: Gemma's <eos>, what the tokenizer calls eos elsewhere."""
    path = write_config(tmp_path / "a.yaml", model="m", output_dir=tmp_path / "out", preset="official")
    config = load_config(MPOConfig, path, {})
    assert (config.end_of_turn, config.retention, config.long_prompts) == ("eos", "padded_mean", "keep_start")


def test_shipped_configs_hold_the_published_settings():
    assert len(SHIPPED) == 9
    for path in SHIPPED:
        config = load_config(MPOConfig, path)
        assert path.stem.rpartition("_")[2] == {"qlora": "single-24gb"}.get(config.tuning, config.tuning)
        devices = 8 if config.tuning == "full" else 1
        assert config.per_device_batch_size * config.gradient_accumulation_steps * devices == 8
        assert config.max_prompt_tokens + config.max_response_tokens == 1024
        assert config.beta == (1.0 if "llama" in path.name else 1.5)
        assert config.dominant_language == ("zh" if "qwen" in path.name else "en")
        assert (config.epochs, config.lr_scheduler, config.warmup_steps) == (2, "cosine", 0.1)
        if config.tuning == "full":
            assert config.learning_rate == (4e-7 if "gemma" in path.name else 6e-7)
            assert (config.preset, config.retention, config.per_device_batch_size) == (
                "official",
                "padded_mean",
                1,
            )


def test_4_bits_without_bitsandbytes_say_what_to_install(llama, tmp_path, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "bitsandbytes", None)  # as where it is not installed
    model = save(llama, tmp_path / "model")
    config = write_config(tmp_path / "run.yaml", model=model, output_dir=tmp_path / "out", tuning="qlora")
    assert holdfast("train-mpo", config) == 2
    assert "tuning: qlora needs bitsandbytes; run: pip install 'holdfast[qlora]'" in capsys.readouterr().err


def test_gap_prints_a_table_a_model_and_writes_what_was_asked(tmp_path, capsys):
    models = [save(ARCHITECTURES[name], tmp_path / name) for name in ("llama3", "qwen2.5")]
    given = [part for model in models for part in ("--model", model)]
    run("gap", *given, "--data", PAIRS, "--results", tmp_path / "gap.jsonl", "--page", tmp_path / "gap.html")
    printed = capsys.readouterr().out
    assert "side by side" in printed
    assert "steal" not in printed  # no text of the data
    figures = list(read_figures(tmp_path / "gap.jsonl"))
    assert {(f.method, f.group, f.metric, f.n) for f in figures} == {
        (model, language, metric, 3)
        for model in ("llama3", "qwen2.5")
        for language in ("en", "sw", "zh")
        for metric in ("reward_gap", "safe_preferred")
    }
    page = (tmp_path / "gap.html").read_text(encoding="utf-8")
    assert page.count("<svg") == 1


def test_a_model_given_twice_is_refused(tmp_path, capsys):
    model = save(ARCHITECTURES["llama3"], tmp_path / "model")
    assert holdfast("gap", "--model", model, "--model", model, "--data", PAIRS) == 2
    assert "the same model is given twice" in capsys.readouterr().err


def test_an_unknown_weight_is_refused_before_anything_is_trained(llama, tmp_path, capsys):
    model = save(llama, tmp_path / "model")
    config = write_config(
        tmp_path / "run.yaml", model=model, output_dir=tmp_path / "out", loss="dpo", loss_weights={"gamma": 1.0}
    )
    with pytest.raises(SystemExit) as raised:
        main(["train-preference", str(config)])
    assert raised.value.code == 2
    assert "dpo has no weight 'gamma'; it has beta" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_two_processes_are_one(llama, tmp_path):
    """Two forwards go before each backward, the pairs' and the anchors': gradients are averaged all the same."""
    model = save(llama, tmp_path / "model")
    common = {"model": model, "tuning": "full", "learning_rate": 1e-4, "training_arguments": {"optim": "sgd"}}
    one = write_config(tmp_path / "one.yaml", output_dir=tmp_path / "one", per_device_batch_size=2, **common)
    two = write_config(tmp_path / "two.yaml", output_dir=tmp_path / "two", per_device_batch_size=1, **common)
    launcher = ("-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2")
    for config, how in ((one, ()), (two, launcher)):
        process = start(config, tmp_path, how, command="train-mpo")
        _, error = process.communicate(timeout=240)
        assert process.returncode == 0, error
    single, double = final_weights(tmp_path / "one"), final_weights(tmp_path / "two")
    for name, weight in single.items():
        torch.testing.assert_close(double[name], weight, rtol=0, atol=1e-6)
    assert any(not torch.equal(weight, double[name]) for name, weight in final_weights(model).items())
