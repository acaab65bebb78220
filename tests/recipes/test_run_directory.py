"""A run is what it read: it continues only when all of that is the same, and deletes nothing but its own."""

import json
import os
import shutil
from pathlib import Path

import pytest
from safetensors.torch import load_file, save_file

from holdfast.cli import main
from holdfast.files import locked
from holdfast.recipes.run_directory import RunDirectory
from tests.architectures import ARCHITECTURES
from tests.conftest import save
from tests.recipes.test_train_pairs import PAIRS
from tests.recipes.test_train_sarft import ROLE, ROWS, final_weights, holdfast, run, write_config


class Killed(BaseException):
    """Stands for a kill: nothing of the product catches it."""


@pytest.fixture
def place(tmp_path) -> Path:
    """A folder with a model, its data and a config of eight steps."""
    save(ARCHITECTURES["llama3"], tmp_path / "model")
    shutil.copy(ROWS, tmp_path / "rows.jsonl")
    shutil.copy(ROLE, tmp_path / "role.yaml")
    write_config(
        tmp_path / "run.yaml",
        model=tmp_path / "model",
        data=tmp_path / "rows.jsonl",
        role=tmp_path / "role.yaml",
        output_dir=tmp_path / "out",
        save_steps=2,
        logging_steps=3,
    )
    return tmp_path


def killed(monkeypatch, *arguments) -> None:
    """Run the command, and kill it when the training is over and nothing but checkpoints is there."""
    train = RunDirectory.train

    def then_die(self, trainer):
        train(self, trainer)
        raise Killed

    with monkeypatch.context() as patched:
        patched.setattr(RunDirectory, "train", then_die)
        with pytest.raises(Killed):
            main([str(argument) for argument in arguments])


def refused(capsys, *arguments) -> str:
    """The line that the command ends with."""
    capsys.readouterr()
    assert holdfast(*arguments) == 2
    return capsys.readouterr().err.strip().splitlines()[-1]


def replace_in(path: Path, old: str, new: str) -> None:
    text = path.read_text(encoding="utf-8")
    assert old in text
    path.write_text(text.replace(old, new), encoding="utf-8")


def change_a_weight(model: Path) -> None:
    weights = load_file(model / "model.safetensors")
    next(iter(weights.values())).view(-1)[7] += 1
    save_file(weights, model / "model.safetensors", metadata={"format": "pt"})


CHANGES = {
    "data": lambda p: replace_in(p / "rows.jsonl", "the", "a"),
    "role": lambda p: replace_in(p / "role.yaml", "You", "Thou"),
    "model": lambda p: change_a_weight(p / "model"),
}


@pytest.mark.parametrize("ends", ["killed", "finished"])
@pytest.mark.parametrize("what", CHANGES)
def test_what_was_read_is_the_run_s_identity(what, ends, place, monkeypatch, capsys):
    if ends == "killed":
        killed(monkeypatch, "train-sarft", place / "run.yaml")
    else:
        run("train-sarft", place / "run.yaml")
    before = (place / "out/run.json").read_bytes()
    CHANGES[what](place)
    said = refused(capsys, "train-sarft", place / "run.yaml")
    assert f"holds a run with another {what} (content " in said
    assert "--overwrite true" in said
    assert (place / "out/run.json").read_bytes() == before


def test_the_template_and_the_held_out_rows_are_part_of_the_identity(place, monkeypatch, capsys):
    template = place / "template.jinja"
    shutil.copy(place / "model/chat_template.jinja", template)
    shutil.copy(place / "rows.jsonl", place / "unseen.jsonl")
    given = ("--chat-template", template, "--eval-data", place / "unseen.jsonl")
    killed(monkeypatch, "train-sarft", place / "run.yaml", *given)
    replace_in(place / "unseen.jsonl", "the", "a")
    assert "another eval_data (content" in refused(capsys, "train-sarft", place / "run.yaml", *given)
    template.write_text(template.read_text() + "{# a remark #}")
    said = refused(capsys, "train-sarft", place / "run.yaml", *given)
    assert "chat_template (content" in said
    assert "eval_data (content" in said


def test_swapped_answers_are_other_pairs(place, monkeypatch, capsys):
    shutil.copy(PAIRS, place / "pairs.jsonl")
    config = write_config(
        place / "mpo.yaml", model=place / "model", data=place / "pairs.jsonl", output_dir=place / "out", role=None
    )
    values = [line for line in config.read_text().splitlines() if not line.startswith("role:")]
    config.write_text("\n".join(values) + "\nsave_steps: 2\n")
    killed(monkeypatch, "train-mpo", config)
    rows = [json.loads(line) for line in (place / "pairs.jsonl").read_text(encoding="utf-8").splitlines()]
    for row in rows:
        row["chosen_sw"], row["rejected_sw"] = row["rejected_sw"], row["chosen_sw"]
    (place / "pairs.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert "holds a run with another data (content" in refused(capsys, "train-mpo", config)


def test_the_same_content_at_another_path_is_the_same_run(place, monkeypatch, capsys):
    killed(monkeypatch, "train-sarft", place / "run.yaml")
    (place / "rows.jsonl").rename(place / "moved.jsonl")
    run("train-sarft", place / "run.yaml", "--data", place / "moved.jsonl")
    assert f"continuing from {place / 'out/checkpoint-8'}" in capsys.readouterr().err.replace("\n", "")


def test_a_failed_start_does_not_block_the_corrected_command(place, monkeypatch):
    with monkeypatch.context() as patched:
        patched.setattr(RunDirectory, "train", lambda self, trainer: (_ for _ in ()).throw(Killed))
        with pytest.raises(Killed):
            main(["train-sarft", str(place / "run.yaml"), "--beta", "2"])
    assert (place / "out/run.json").exists()
    replace_in(place / "rows.jsonl", "the", "a")
    run("train-sarft", place / "run.yaml")
    assert json.loads((place / "out/run.json").read_text())["settings"]["beta"] == 0.5


def test_the_manifest_is_not_written_again(place, monkeypatch):
    killed(monkeypatch, "train-sarft", place / "run.yaml")
    before = (place / "out/run.json").stat()
    killed(monkeypatch, "train-sarft", place / "run.yaml")
    after = (place / "out/run.json").stat()
    assert (after.st_mtime_ns, after.st_ino) == (before.st_mtime_ns, before.st_ino)


def test_other_versions_of_a_continuation_are_kept(place, monkeypatch, capsys):
    killed(monkeypatch, "train-sarft", place / "run.yaml")
    manifest = json.loads((place / "out/run.json").read_text())
    manifest["versions"]["peft"] = "0.0.1"
    (place / "out/run.json").write_text(json.dumps(manifest))
    run("train-sarft", place / "run.yaml")
    assert "peft 0.0.1 -> " in capsys.readouterr().err
    [line] = (place / "out/continued.jsonl").read_text().splitlines()
    assert json.loads(line)["step"] == 8


@pytest.mark.parametrize("content", ['{"settings": [1]}', "{}", "[]", '{"name": "thesis"}'])
@pytest.mark.parametrize("overwrite", [(), ("--overwrite", "true")])
def test_somebody_else_s_directory_is_left_alone(content, overwrite, place, capsys):
    (place / "out/src").mkdir(parents=True)
    (place / "out/run.json").write_text(content)
    (place / "out/thesis.txt").write_text("years of work")
    before = sorted(path.name for path in (place / "out").rglob("*"))
    said = refused(capsys, "train-sarft", place / "run.yaml", *overwrite)
    assert "somebody else's" in said
    assert "--overwrite" not in said
    assert sorted(path.name for path in (place / "out").rglob("*")) == before


@pytest.mark.parametrize("content", [b"", b"{", b"[" * 100_000, b"\xff\xfe", None])
def test_a_damaged_manifest_never_costs_checkpoints(content, place, monkeypatch, capsys):
    killed(monkeypatch, "train-sarft", place / "run.yaml")
    (place / "out/run.json").unlink()
    if content is None:
        (place / "out/run.json").mkdir()
    else:
        (place / "out/run.json").write_bytes(content)
    for overwrite in ((), ("--overwrite", "true")):
        said = refused(capsys, "train-sarft", place / "run.yaml", *overwrite)
        assert "run.json" in said
        assert "--overwrite" not in said
        assert "delete" not in said.replace("nothing was deleted", "")
        assert (place / "out/checkpoint-8/trainer_state.json").exists()


def test_overwrite_deletes_only_its_own_and_only_when_all_is_well(place, capsys):
    run("train-sarft", place / "run.yaml")
    out = place / "out"
    (out / "notes.txt").write_text("mine")
    (out / "checkpoint-best").mkdir()
    (out / "checkpoint-best/a.txt").write_text("mine")
    (place / "elsewhere").mkdir()
    (out / "checkpoint-1").symlink_to(place / "elsewhere")
    anew = ("--overwrite", "true")
    trained = final_weights(out)
    for wrong in (("--data", "typo.jsonl"), ("--model", "typo"), ("--lora-target-modules", "[typo]")):
        refused(capsys, "train-sarft", place / "run.yaml", *wrong, *anew)
        assert final_weights(out).keys() == trained.keys()
        assert (out / "results.jsonl").exists()
    run("train-sarft", place / "run.yaml", "--tuning", "full", *anew)
    assert list(final_weights(out)) != list(trained), "an adapter beside the model would be loaded instead of it"
    assert not (out / "adapter_config.json").exists()
    assert (out / "notes.txt").read_text() == "mine"
    assert (out / "checkpoint-best/a.txt").exists()
    assert (out / "checkpoint-1").is_symlink()


def test_a_manifest_cannot_name_files_elsewhere(place):
    run("train-sarft", place / "run.yaml")
    (place / "precious").write_text("mine")
    (place / "out/link").symlink_to(place / "precious")
    manifest = json.loads((place / "out/run.json").read_text())
    manifest["files"] += ["../precious", str(place / "precious"), "link"]
    (place / "out/run.json").write_text(json.dumps(manifest))
    run("train-sarft", place / "run.yaml", "--overwrite", "true")
    assert (place / "precious").read_text() == "mine"
    assert (place / "out/link").is_symlink()


def test_overwrite_continues_its_own_run_after_a_kill(place, monkeypatch, capsys):
    command = ("train-sarft", place / "run.yaml", "--overwrite", "true")
    killed(monkeypatch, *command)
    run(*command)
    assert "continuing from" in capsys.readouterr().err
    run(*command)  # finished: it is trained again
    assert "continuing from" not in capsys.readouterr().err


def test_checkpoints_of_the_user_s_stay(place, monkeypatch):
    killed(monkeypatch, "train-sarft", place / "run.yaml")
    out = place / "out"
    (out / "checkpoint-notes").mkdir()
    (out / "checkpoint-notes/a.txt").write_text("mine")
    shutil.copytree(out / "checkpoint-6", out / "checkpoint-keep")
    os.utime(out / "checkpoint-keep", (0, 0))  # the oldest
    (out / "checkpoint-99").symlink_to(out / "checkpoint-keep")
    shutil.rmtree(out / "checkpoint-8")
    run("train-sarft", place / "run.yaml")
    assert sorted(path.name for path in out.glob("checkpoint-*")) == [
        "checkpoint-99",
        "checkpoint-keep",
        "checkpoint-notes",
    ]
    assert (out / "checkpoint-keep/trainer_state.json").exists()


def test_nothing_is_left_behind(place, monkeypatch):
    """A kill between the results and the end of the cleaning."""
    with monkeypatch.context() as patched:
        patched.setattr(RunDirectory, "clean", lambda self: (_ for _ in ()).throw(Killed))
        with pytest.raises(Killed):
            main(["train-sarft", str(place / "run.yaml")])
    assert list((place / "out").glob("checkpoint-*"))
    run("train-sarft", place / "run.yaml")
    left = {path.name for path in (place / "out").iterdir()} - set(
        json.loads((place / "out/run.json").read_text())["files"]
    )
    assert left == {"run.json", ".lock"}


@pytest.mark.parametrize("command", ["train-sarft"])
def test_a_second_process_is_refused_at_once(command, place, capsys):
    with locked(place / "out"):
        assert "another process is writing to this output_dir" in refused(capsys, command, place / "run.yaml")


@pytest.mark.parametrize("steps", [3, 8])
def test_results_after_a_kill_are_those_of_an_undisturbed_run(steps, place, monkeypatch):
    """Killed after a checkpoint between two logs, and after the last one; an epoch has four steps."""
    shutil.copy(place / "rows.jsonl", place / "unseen.jsonl")
    common = ("train-sarft", place / "run.yaml", "--eval-data", place / "unseen.jsonl", "--lora-dropout", "0.2")
    whole = (*common, "--output-dir", place / "whole", "--logging-steps", "5", "--save-steps", str(steps))
    run(*whole)
    cut = (*common, "--logging-steps", "5", "--save-steps", str(steps))
    killed(monkeypatch, *cut)
    for checkpoint in (place / "out").glob("checkpoint-*"):
        if int(checkpoint.name.partition("-")[2]) > steps:
            shutil.rmtree(checkpoint)
    run(*cut)
    assert (place / "out/results.jsonl").read_bytes() == (place / "whole/results.jsonl").read_bytes()
    timed = {"train_runtime", "train_samples_per_second", "train_steps_per_second"}
    timed |= {"eval_runtime", "eval_samples_per_second", "eval_steps_per_second"}
    metrics = [
        [
            {name: value for name, value in json.loads(line).items() if name not in timed}
            for line in (place / directory / "metrics.jsonl").read_text().splitlines()
        ]
        for directory in ("out", "whole")
    ]
    assert metrics[0] == metrics[1]


def test_train_loss_is_the_mean_over_all_steps(place):
    run("train-sarft", place / "run.yaml", "--logging-steps", "1")
    history = [json.loads(line) for line in (place / "out/metrics.jsonl").read_text().splitlines()]
    losses = [entry["loss"] for entry in history if "loss" in entry]
    assert len(losses) == 8
    assert history[-1]["train_loss"] == pytest.approx(sum(losses) / 8)
    metrics = [json.loads(line) for line in (place / "out/results.jsonl").read_text().splitlines()]
    assert [m["value"] for m in metrics if m["metric"] == "train_loss"] == [history[-1]["train_loss"]]


WILD = (
    "--learning-rate",
    "1e38",
    "--training-arguments",
    "{optim: sgd}",
    "--tuning",
    "full",
    "--max-grad-norm",
    "1e30",
)


@pytest.mark.parametrize("epochs", ["2", "0.25"])
def test_a_training_that_is_not_finite_stops_and_keeps_the_last_good_checkpoint(epochs, place, capsys):
    """Within the training, and where its very last step spoils the model."""
    said = refused(capsys, "train-sarft", place / "run.yaml", *WILD, "--save-steps", "1", "--epochs", epochs)
    assert "step " in said
    assert "so the training stopped" in said
    for checkpoint in (place / "out").glob("checkpoint-*"):
        weights = load_file(checkpoint / "model.safetensors")
        assert all(weight.isfinite().all() for weight in weights.values())
    left = {path.name for path in (place / "out").iterdir()}
    assert left.isdisjoint({"results.jsonl", "README.md", "model.safetensors"})
    assert "saved to" not in said
