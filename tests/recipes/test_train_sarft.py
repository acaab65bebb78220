"""The whole path on tiny models of the real architectures: score, train, save, reload, generate; kill and resume."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
import yaml
from safetensors.torch import load_file

from holdfast.chat import ChatFormat
from holdfast.cli import main
from holdfast.config import Config, load_config
from holdfast.data.rows import Message
from holdfast.models import load_model, load_tokenizer
from holdfast.recipes.configs import OFFICIAL, SaRFTConfig
from holdfast.results import read_figures
from tests.architectures import ARCHITECTURES
from tests.conftest import save

ROOT = Path(__file__).parents[2]
ROWS, ROLE = ROOT / "examples/keeper/rows.jsonl", ROOT / "examples/keeper/role.yaml"
SHIPPED = sorted((ROOT / "configs").glob("sarft_*.yaml"))


def write_config(path: Path, **values) -> Path:
    defaults = {
        "data": str(ROWS),
        "role": str(ROLE),
        "learning_rate": 1e-3,
        "epochs": 2,
        "per_device_batch_size": 2,
        "gradient_accumulation_steps": 1,
        "lora_rank": 4,
        "lora_alpha": 8,
        "seed": 1,
    }
    path.write_text(
        yaml.safe_dump(defaults | {key: str(v) if isinstance(v, Path) else v for key, v in values.items()})
    )
    return path


def holdfast(*arguments) -> int:
    with pytest.raises(SystemExit) as raised:
        main([str(argument) for argument in arguments])
    return raised.value.code or 0


def run(*arguments) -> None:
    main([str(argument) for argument in arguments])


def final_weights(directory: Path) -> dict[str, torch.Tensor]:
    files = list(directory.glob("*.safetensors"))
    assert [file.name for file in files] in (["adapter_model.safetensors"], ["model.safetensors"])
    return load_file(files[0])


def generate(directory: Path) -> list[int]:
    model, tokenizer = load_model(str(directory)).eval(), load_tokenizer(str(directory))
    chat = ChatFormat(tokenizer)
    prompt = torch.tensor([chat.prompt_ids([Message("user", "Who are you?")])])
    output = model.generate(
        prompt,
        max_new_tokens=8,
        do_sample=False,
        eos_token_id=chat.stop_token_ids,
        pad_token_id=tokenizer.pad_token_id,
    )
    return output[0, prompt.shape[1] :].tolist()


@pytest.mark.parametrize("tuning", ["lora", "full"])
def test_score_train_save_reload_generate(architecture, saved_model, tmp_path, tuning):
    config = write_config(
        tmp_path / "run.yaml",
        model=saved_model,
        output_dir=tmp_path / "out",
        tuning=tuning,
        learning_rate=1e-2,
        epochs=8,
    )
    run("train-sarft", config)
    out = tmp_path / "out"
    assert not list(out.glob("checkpoint-*"))
    assert not list(out.glob("*.bin"))
    assert final_weights(out)

    figures = {figure.metric: figure for figure in read_figures(out / "results.jsonl")}
    assert figures["flagged_share"].group == "The Keeper"
    assert 0 <= figures["flagged_share"].value <= 1
    history = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    losses = [entry["role_loss"] for entry in history if "role_loss" in entry and "train_loss" not in entry]
    assert losses[-1] < 0.95 * losses[0], "thirty-two steps on eight rows must learn something"

    resolved = load_config(SaRFTConfig, out / "config.yaml")
    assert resolved.tuning == tuning
    manifest = json.loads((out / "run.json").read_text())
    assert manifest["settings"] == resolved.model_dump(mode="json")
    assert manifest["data"]["trained_rows"] == 8
    assert set(manifest["versions"]) >= {"holdfast", "torch", "transformers", "peft", "commit"}
    card = (out / "README.md").read_text()
    assert "arXiv 2502.20968" in card
    assert "## Not measured" in card

    assert len(generate(out)) > 0
    if tuning == "full":
        stops = json.loads((out / "generation_config.json").read_text())["eos_token_id"]
        assert set(stops) == set(ChatFormat(load_tokenizer(str(out))).stop_token_ids)
    trained = load_model(str(out)).state_dict()
    assert all(torch.isfinite(weight).all() for weight in trained.values())


def test_official_preset_sets_every_switch_and_yields_to_the_user(tmp_path):
    path = write_config(tmp_path / "a.yaml", model="m", output_dir=tmp_path / "out", preset="official")
    config = load_config(SaRFTConfig, path)
    assert {name: getattr(config, name) for name in OFFICIAL} == OFFICIAL
    assert load_config(SaRFTConfig, path, {"kl_span": "response"}).kl_span == "response"
    assert load_config(SaRFTConfig, path, {"preset": "holdfast"}).kl_span == "response"


def assert_used_as_it_stands(kind: type[Config], path: Path, run_directory: Path, options) -> None:
    """Every field that the shipped file sets is the run's, save those that the test had to replace."""
    replaced = {option.removeprefix("--").replace("-", "_") for option in options}
    asked = load_config(kind, path).model_dump(mode="json")
    used = load_config(kind, run_directory / "config.yaml").model_dump(mode="json")
    fields = set(yaml.safe_load(path.read_text(encoding="utf-8"))) - replaced
    assert {"learning_rate", "beta", "dtype"} - replaced <= fields
    assert {field: used[field] for field in fields} == {field: asked[field] for field in fields}


def test_4_bits_without_bitsandbytes_say_what_to_install(llama, tmp_path, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "bitsandbytes", None)  # as where it is not installed
    model = save(llama, tmp_path / "model")
    config = write_config(tmp_path / "run.yaml", model=model, output_dir=tmp_path / "out", tuning="qlora")
    assert holdfast("train-sarft", config) == 2
    assert "tuning: qlora needs bitsandbytes; run: pip install 'holdfast[qlora]'" in capsys.readouterr().err


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)
def test_every_shipped_config_runs_on_a_tiny_model_of_its_architecture(path, tmp_path, real_data):
    name = next(
        name
        for key, name in {"llama3": "llama3", "gemma2": "gemma2", "qwen2.5": "qwen2.5"}.items()
        if key in path.name
    )
    model = save(ARCHITECTURES[name], tmp_path / "model")
    rows = real_data / "rolebench/rolebench-eng/instruction-generalization/role_specific/test.jsonl"
    options = {
        "--model": model,
        "--data": rows,
        "--role": real_data / "sarft/roles_95.json",
        "--output-dir": tmp_path / "out",
        "--deepspeed": "null",
        "--dtype": "float32",
        "--epochs": 0.1,
        "--gradient-accumulation-steps": 1,
    }
    if load_config(SaRFTConfig, path).tuning == "qlora":
        options["--tuning"] = "lora"  # 4 bits need a GPU
    run("train-sarft", path, *[part for pair in options.items() for part in pair])
    assert final_weights(tmp_path / "out")
    assert_used_as_it_stands(SaRFTConfig, path, tmp_path / "out", options)
    answers = sum(
        len(record["generated"])
        for record in map(json.loads, rows.read_text(encoding="utf-8").splitlines())
        if record["role"] == "Freddy Krueger"
    )
    assert json.loads((tmp_path / "out/run.json").read_text())["data"]["trained_rows"] == answers


def test_shipped_configs_hold_the_published_settings():
    assert len(SHIPPED) == 9
    for path in SHIPPED:
        config = load_config(SaRFTConfig, path)
        assert path.stem.rpartition("_")[2] == {"qlora": "single-24gb"}.get(config.tuning, config.tuning)
        full = config.tuning == "full"
        devices = 8 if full else 1
        assert config.per_device_batch_size * config.gradient_accumulation_steps * devices == 32
        assert config.learning_rate == (2e-5 if full else 1e-4)
        assert (config.preset, config.selector, config.beta, config.epochs) == ("official", "rds", 0.5, 1)
        assert (config.max_prompt_tokens, config.max_response_tokens) == (512, 128)
        assert (config.lora_rank, config.lora_alpha, config.lora_dropout) == (32, 64, 0)
        assert config.lora_target_modules == ("q_proj", "v_proj")
        assert (config.lr_scheduler, config.warmup_steps) == ("constant", 0)


@pytest.mark.parametrize("selector", ["all", "none", "random", "flip"])
def test_selectors_run_and_flag_what_they_say(llama, tmp_path, selector):
    model = save(llama, tmp_path / "model")
    config = write_config(tmp_path / "run.yaml", model=model, output_dir=tmp_path / selector, selector=selector)
    run("train-sarft", config)
    rds = write_config(tmp_path / "rds.yaml", model=model, output_dir=tmp_path / "rds", selector="rds")
    run("train-sarft", rds)
    share, by_rds = (
        next(f.value for f in read_figures(tmp_path / d / "results.jsonl") if f.metric == "flagged_share")
        for d in (selector, "rds")
    )
    assert share == pytest.approx({"all": 1, "none": 0, "random": by_rds, "flip": 1 - by_rds}[selector])


def test_scored_rows_load_as_training_data_for_the_column_selector(llama, tmp_path):
    model = save(llama, tmp_path / "model")
    run("score", "--model", model, "--data", ROWS, "--role", ROLE, "--output", tmp_path / "scored.jsonl")
    scored = [json.loads(line) for line in (tmp_path / "scored.jsonl").read_text().splitlines()]
    config = write_config(
        tmp_path / "run.yaml",
        model=model,
        output_dir=tmp_path / "out",
        data=tmp_path / "scored.jsonl",
        selector="column",
    )
    run("train-sarft", config)
    shares = [f.value for f in read_figures(tmp_path / "out/results.jsonl") if f.metric == "flagged_share"]
    assert shares == [pytest.approx(sum(row["harmful"] for row in scored) / 8)]


def start(
    config: Path, tmp_path: Path, launcher: tuple[str, ...] = (), *, command: str = "train-sarft"
) -> subprocess.Popen:
    environment = os.environ | {
        "HOLDFAST_CACHE": str(tmp_path / "cache"),
        "OMP_NUM_THREADS": "1",
        "PYTHONPATH": os.pathsep.join([str(ROOT / "src"), str(ROOT)]),
    }
    return subprocess.Popen(
        [sys.executable, *launcher, "-m", "holdfast", command, str(config)],
        env=environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        # Where the tests run in a shell's background, Ctrl-C is ignored, and a child would inherit that.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )


def stop_at_a_checkpoint(process: subprocess.Popen, directory: Path, how: signal.Signals) -> str:
    """Send the signal as soon as there is one more checkpoint than before; returns what was said."""
    before = set(directory.glob("checkpoint-*/trainer_state.json"))
    deadline = time.monotonic() + 120
    while not set(directory.glob("checkpoint-*/trainer_state.json")) - before and process.poll() is None:
        assert time.monotonic() < deadline, "no checkpoint was written"
        time.sleep(0.01)
    process.send_signal(how)
    _, said = process.communicate(timeout=60)
    return said


def test_interrupted_killed_and_continued_by_the_same_command_is_uninterrupted(llama, tmp_path):
    model = save(llama, tmp_path / "model")
    common = {"model": model, "epochs": 60, "save_steps": 10, "logging_steps": 5, "lora_dropout": 0.1}
    cut = write_config(tmp_path / "cut.yaml", output_dir=tmp_path / "cut", **common)
    whole = write_config(tmp_path / "whole.yaml", output_dir=tmp_path / "whole", **common)
    for how, code in ((signal.SIGINT, 130), (signal.SIGKILL, -9)):
        process = start(cut, tmp_path)
        said = stop_at_a_checkpoint(process, tmp_path / "cut", how)
        assert process.returncode == code, said
        assert not (tmp_path / "cut/results.jsonl").exists()
    *_, earlier, newest = sorted((tmp_path / "cut").glob("checkpoint-*"), key=lambda path: int(path.name[11:]))
    (newest / "trainer_state.json").write_text("")  # what a kill in the middle of writing it leaves
    last = start(cut, tmp_path)
    _, said = last.communicate(timeout=120)
    assert last.returncode == 0, said
    assert f"continuing from {earlier}" in said
    run("train-sarft", whole)
    first_weights, second_weights = final_weights(tmp_path / "cut"), final_weights(tmp_path / "whole")
    for name, weight in second_weights.items():
        torch.testing.assert_close(first_weights[name], weight, rtol=0, atol=0)


def test_finished_run_is_not_repeated_and_another_run_is_refused(llama, tmp_path, capsys):
    model = save(llama, tmp_path / "model")
    config = write_config(tmp_path / "run.yaml", model=model, output_dir=tmp_path / "out")
    run("train-sarft", config)
    before = (tmp_path / "out/results.jsonl").stat().st_mtime_ns
    run("train-sarft", config)
    assert (tmp_path / "out/results.jsonl").stat().st_mtime_ns == before
    assert "this run is finished" in capsys.readouterr().err
    assert holdfast("train-sarft", config, "--beta", "2") == 2
    assert "holds a run with another beta (0.5 there, 2.0 now)" in capsys.readouterr().err
    run("train-sarft", config, "--beta", "2", "--overwrite", "true")
    assert (tmp_path / "out/results.jsonl").stat().st_mtime_ns != before


def test_two_processes_are_one(llama, tmp_path):
    """Rows are flagged unevenly over the processes: the one without any must not leave the other waiting."""
    model = save(llama, tmp_path / "model")
    one = write_config(tmp_path / "one.yaml", model=model, output_dir=tmp_path / "one", per_device_batch_size=4)
    two = write_config(tmp_path / "two.yaml", model=model, output_dir=tmp_path / "two", per_device_batch_size=2)
    run("train-sarft", one)
    launcher = ("-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2")
    process = start(two, tmp_path, launcher)
    try:
        _, error = process.communicate(timeout=120)
    finally:
        process.kill()
    assert process.returncode == 0, error
    first, second = final_weights(tmp_path / "one"), final_weights(tmp_path / "two")
    for name, weight in first.items():
        torch.testing.assert_close(second[name], weight, rtol=0, atol=1e-4)
    metrics = [json.loads((tmp_path / d / "metrics.jsonl").read_text().splitlines()[-1]) for d in ("one", "two")]
    for name in (
        "role_loss",
        "safety_loss",
        "flagged_share",
    ):  # transformers' train_loss is the first process's own
        assert metrics[0][name] == pytest.approx(metrics[1][name], rel=1e-3)


@pytest.mark.parametrize("tuning", ["lora", "full"])
def test_the_reference_s_likeliest_tokens_instead_of_a_reference(saved_model, tmp_path, tuning):
    """All of them give the plain run's weights; a few other ones; mse cannot be had."""
    results = {}
    vocabulary = len(load_tokenizer(str(saved_model)))
    for k in (None, vocabulary, 8):
        config = write_config(
            tmp_path / f"{k}.yaml",
            model=saved_model,
            output_dir=tmp_path / f"out_{k}",
            selector="all",
            tuning=tuning,
            training_arguments={"optim": "sgd"},  # AdamW's first steps would blow rounding up
        )
        run("train-sarft", config, *(() if k is None else ("--reference-top-k", k)))
        results[k] = final_weights(tmp_path / f"out_{k}")
    for name, weight in results[None].items():
        torch.testing.assert_close(results[vocabulary][name], weight, rtol=0, atol=1e-5)
    assert any(not torch.equal(results[8][name], weight) for name, weight in results[None].items())
    assert holdfast("train-sarft", tmp_path / "8.yaml", "--reference-top-k", 8, "--safe-loss", "mse") == 2
