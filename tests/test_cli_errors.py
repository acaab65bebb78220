"""A user's mistakes: one line on standard error that says what to do, exit code 2, no traceback, nothing lost."""

import importlib.util
import json
import shutil
from pathlib import Path

import pytest
import yaml

from holdfast.cli import main
from tests.architectures import ARCHITECTURES
from tests.conftest import save

GOOD_ROW = {"messages": [{"role": "user", "content": "Why?"}, {"role": "assistant", "content": "The sea."}]}


@pytest.fixture
def place(tmp_path) -> Path:
    """A folder with a model, good rows, a role and a config."""
    save(ARCHITECTURES["llama3"], tmp_path / "model")
    write_rows(tmp_path / "rows.jsonl", *[GOOD_ROW] * 20)
    (tmp_path / "role.yaml").write_text("name: Ahab\npersona_prompt: You are Ahab.\n")
    write_config(tmp_path)
    return tmp_path


def write_rows(path: Path, *rows) -> None:
    path.write_text("".join((row if isinstance(row, str) else json.dumps(row)) + "\n" for row in rows))


def write_config(place: Path, **values) -> None:
    defaults = {
        "model": place / "model",
        "data": place / "rows.jsonl",
        "role": place / "role.yaml",
        "output_dir": place / "out",
        "lora_rank": 2,
    }
    lines = [
        f"{key}: {yaml.safe_dump(str(v) if isinstance(v, Path) else v).splitlines()[0]}"
        for key, v in (defaults | values).items()
    ]
    (place / "run.yaml").write_text("\n".join(lines) + "\n")


def set_row(place: Path, line: int, row) -> None:
    rows = (place / "rows.jsonl").read_text().splitlines()
    rows[line - 1] = row if isinstance(row, str) else json.dumps(row)
    write_rows(place / "rows.jsonl", *rows)


def messages(*turns) -> dict:
    return {"messages": [{"role": role, "content": content} for role, content in turns]}


def edit_template(place: Path, text: str | None) -> None:
    (place / "model/chat_template.jinja").unlink()
    if text is not None:
        (place / "model/chat_template.jinja").write_text(text)


def finished_then_full_disk(place: Path) -> None:
    main(["train-sarft", str(place / "run.yaml")])
    (place / "out/results.jsonl").unlink()
    (place / "out/config.yaml").unlink()
    (place / "out/config.yaml").symlink_to("/dev/full")


def corrupt_checkpoint(place: Path) -> None:
    main(["train-sarft", str(place / "run.yaml")])
    (place / "out/results.jsonl").unlink()
    checkpoint = place / "out/checkpoint-1"
    checkpoint.mkdir()
    shutil.copy(place / "out/adapter_config.json", checkpoint)
    (checkpoint / "adapter_model.safetensors").write_bytes(b"\x00" * 20)
    (checkpoint / "trainer_state.json").write_text('{"global_step": 1}')


def corrupt_cache(place: Path) -> None:
    main(["train-sarft", str(place / "run.yaml")])
    shutil.rmtree(place / "out")
    scores = next((place / "holdfast-cache").rglob("rows.jsonl"))
    lines = scores.read_text().splitlines()
    scores.write_text("\n".join([*lines[:3], "{oops", *lines[4:]]) + "\n")


TRAIN = ["train-sarft", "run.yaml"]
# name -> (what is broken, the command, what the line must say)
CASES = {
    "no such config": (None, ["train-sarft", "absent.yaml"], ["absent.yaml", "no such config file"]),
    "config is not yaml": (
        lambda p: (p / "run.yaml").write_text("a: [1\nb: 2\n"),
        TRAIN,
        ["run.yaml:2", "not YAML"],
    ),
    "config is a list": (lambda p: (p / "run.yaml").write_text("- a\n"), TRAIN, ["run.yaml", "mapping", "list"]),
    "unknown key": (lambda p: write_config(p, beeta=1), TRAIN, ["run.yaml:6", "unknown field 'beeta'", "'beta'"]),
    "key given twice": (
        lambda p: (p / "run.yaml").open("a").write("beta: 1\nbeta: 2\n"),
        TRAIN,
        ["run.yaml:7", "'beta' is given twice", "line 6"],
    ),
    "missing key": (
        lambda p: (p / "run.yaml").write_text("model: m\n"),
        TRAIN,
        ["field 'data' is missing", "--data"],
    ),
    "negative beta": (
        lambda p: write_config(p, beta=-1),
        TRAIN,
        ["run.yaml:6", "'beta'", "greater than or equal to 0", "-1"],
    ),
    "beta is text": (lambda p: write_config(p, beta="much"), TRAIN, ["run.yaml:6", "'beta'", "number", "'much'"]),
    "beta is not finite": (None, [*TRAIN, "--beta", "nan"], ["'beta'", "finite"]),
    "unknown selector": (None, [*TRAIN, "--selector", "best"], ["'selector'", "'rds'", "'best'"]),
    "unknown training argument": (
        lambda p: (p / "run.yaml").open("a").write("training_arguments: {learning_rat: 1}\n"),
        TRAIN,
        ["training arguments", "learning_rat"],
    ),
    "missing model": (
        lambda p: write_config(p, model=p / "absent"),
        TRAIN,
        ["absent", "cannot load", "model directory"],
    ),
    "model without weights": (
        lambda p: (p / "model/model.safetensors").unlink(),
        TRAIN,
        ["model: cannot load the model", "safetensors"],
    ),
    "model with corrupt weights": (
        lambda p: (p / "model/model.safetensors").write_bytes(b"garbage!" * 9),
        TRAIN,
        ["model: cannot load the model", "complete model"],
    ),
    "no chat template": (lambda p: edit_template(p, None), TRAIN, ["no chat template", "--chat-template"]),
    "chat template is not jinja": (lambda p: edit_template(p, "{% for %}"), TRAIN, ["chat template", "Expected"]),
    "unknown tracker": (None, [*TRAIN, "--report-to", "[diary]"], ["'report_to'", "'diary'", "pip install"]),
    "wrong lora layer": (None, [*TRAIN, "--lora-target-modules", "[wq]"], ["lora_target_modules", "wq"]),
    "output is a file": (lambda p: (p / "out").write_text("x"), TRAIN, ["out", "is a file", "choose a directory"]),
    "output holds other files": (
        lambda p: ((p / "out").mkdir(), (p / "out/thesis.txt").write_text("x")),
        TRAIN,
        ["out", "holds other files"],
    ),
    "corrupt run manifest": (
        lambda p: ((p / "out").mkdir(), (p / "out/run.json").write_text("{")),
        TRAIN,
        ["run.json", "corrupt", "--overwrite true"],
    ),
    "no such data": (lambda p: (p / "rows.jsonl").unlink(), TRAIN, ["rows.jsonl"]),
    "data of an unknown kind": (
        lambda p: write_config(p, data=(p / "rows.jsonl").rename(p / "rows.txt")),
        TRAIN,
        ["rows.txt", ".jsonl"],
    ),
    "empty data": (lambda p: (p / "rows.jsonl").write_text(""), TRAIN, ["rows.jsonl"]),
    "bad json on line 17": (lambda p: set_row(p, 17, '{"messages": ['), TRAIN, ["rows.jsonl:17", "JSON"]),
    "not an object on line 17": (lambda p: set_row(p, 17, "[1]"), TRAIN, ["rows.jsonl:17", "object"]),
    "missing field": (lambda p: set_row(p, 5, {"prompt": "Why?"}), TRAIN, ["rows.jsonl:5", "completion"]),
    "unknown format": (lambda p: set_row(p, 5, {"text": "Why?"}), TRAIN, ["rows.jsonl:5", "text"]),
    "wrong type": (
        lambda p: set_row(p, 5, {"prompt": "Why?", "completion": 7}),
        TRAIN,
        ["rows.jsonl:5", "completion", "7"],
    ),
    "empty answer": (
        lambda p: set_row(p, 5, messages(("user", "Why?"), ("assistant", "  "))),
        TRAIN,
        ["rows.jsonl:5", "content", "empty"],
    ),
    "only system turns": (
        lambda p: set_row(p, 5, messages(("system", "Be."))),
        TRAIN,
        ["rows.jsonl:5", "assistant"],
    ),
    "unknown speaker": (
        lambda p: set_row(p, 5, messages(("user", "Why?"), ("wizard", "Aye."))),
        TRAIN,
        ["rows.jsonl:5", "role", "wizard"],
    ),
    "wrong encoding": (
        lambda p: (p / "rows.jsonl").write_bytes(b'{"prompt": "caf\xe9"}\n'),
        TRAIN,
        ["rows.jsonl", "UTF-8"],
    ),
    "every prompt too long": (None, [*TRAIN, "--max-prompt-tokens", "2"], ["no row is left", "max_prompt_tokens"]),
    "column selector without a column": (
        None,
        [*TRAIN, "--selector", "column"],
        ["rows.jsonl:1", "'harmful' is missing", "column"],
    ),
    "no such role file": (lambda p: (p / "role.yaml").unlink(), TRAIN, ["role.yaml"]),
    "role without a persona": (
        lambda p: (p / "role.yaml").write_text("name: Ahab\n"),
        TRAIN,
        ["role.yaml", "persona_prompt"],
    ),
    "role with an unknown key": (
        lambda p: (p / "role.yaml").open("a").write("mood: bad\n"),
        TRAIN,
        ["role.yaml", "mood"],
    ),
    "unknown role": (
        lambda p: (
            (p / "roles.json").write_text('{"Ahab": {"role": "You are Ahab.", "safe": "Ignore."}}'),
            write_config(p, role=p / "roles.json", role_name="Ahub"),
        ),
        TRAIN,
        ["roles.json", "Ahub", "Ahab"],
    ),
    "corrupt character card": (
        lambda p: ((p / "card.png").write_bytes(b"\x89PNG\r\n\x1a\nxx"), write_config(p, role=p / "card.png")),
        TRAIN,
        ["card.png"],
    ),
    "corrupt cache": (corrupt_cache, TRAIN, ["rows.jsonl:4", "cache is corrupt", "delete the directory"]),
    "corrupt checkpoint": (corrupt_checkpoint, TRAIN, ["checkpoint-1", "corrupt", "delete this directory"]),
    "full disk": (finished_then_full_disk, TRAIN, ["the disk is full", "free some space"]),
    "unknown option": (None, [*TRAIN, "--betta", "1"], ["No such option", "--beta"]),
}


@pytest.mark.parametrize("case", CASES)
def test_one_line_exit_code_2_and_what_to_do(case, place, monkeypatch, capsys):
    refuses(*CASES[case], place, monkeypatch, capsys)


def refuses(broken, command, expected, place, monkeypatch, capsys):
    """Break what is to be broken, run the command in `place`, and read its one line."""
    monkeypatch.chdir(place)
    if broken is not None:
        broken(place)
    capsys.readouterr()
    with pytest.raises(SystemExit) as raised:
        main(command)
    shown = capsys.readouterr()
    assert raised.value.code == 2, shown.err
    assert "Traceback" not in shown.err
    *_, line = [line for line in shown.err.splitlines() if line.strip()]
    for part in expected:
        assert part in line, shown.err


@pytest.mark.skipif(importlib.util.find_spec("bitsandbytes") is not None, reason="bitsandbytes is installed")
def test_qlora_without_bitsandbytes_says_what_to_install(place, capsys):
    with pytest.raises(SystemExit) as raised:
        main(["train-sarft", str(place / "run.yaml"), "--tuning", "qlora"])
    assert raised.value.code == 2
    assert "pip install 'holdfast[qlora]'" in capsys.readouterr().err
