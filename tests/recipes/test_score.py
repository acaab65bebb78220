import json
from pathlib import Path

import pytest

from holdfast.data import HARMLESS_SUFFIX, load_role
from holdfast.results import read_figures
from tests.conftest import save
from tests.recipes.test_train_sarft import ROLE, ROWS, holdfast, run


@pytest.fixture
def model(llama, tmp_path) -> Path:
    return save(llama, tmp_path / "model")


def test_prints_shares_and_extremes_with_the_text_redacted(model, capsys):
    run("score", "--model", model, "--data", ROWS, "--role", ROLE)
    printed = capsys.readouterr().out
    assert "The Keeper" in printed
    assert printed.count("most harmful") == printed.count("least harmful") == 3
    assert "[redacted, 12 characters" in printed
    assert "lighthouse" not in printed
    assert "Who are you?" not in printed


def test_show_text_prints_it(model, capsys):
    run("score", "--model", model, "--data", ROWS, "--role", ROLE, "--extremes", 8, "--show-text")
    assert "user: Who are you?" in capsys.readouterr().out


def test_writes_rows_and_figures(model, tmp_path):
    run(
        *("score", "--model", model, "--data", ROWS, "--role", ROLE, "--harmless-control"),
        *("--output", tmp_path / "scored.jsonl", "--results", tmp_path / "results.jsonl"),
    )
    scored = [json.loads(line) for line in (tmp_path / "scored.jsonl").read_text().splitlines()]
    given = [json.loads(line) for line in ROWS.read_text().splitlines()]
    assert [row["messages"] for row in scored] == [row["messages"] for row in given]
    assert all(row["harmful"] == (row["unsafe_score"] > row["role_score"]) for row in scored)
    share, control = read_figures(tmp_path / "results.jsonl")
    assert (share.metric, share.group, share.n) == ("flagged_share", "The Keeper", 8)
    assert share.value == sum(row["harmful"] for row in scored) / 8
    assert share.low < share.value < share.high or share.value in (0, 1)
    assert control.metric == "flagged_share_harmless_suffix"


def test_the_control_costs_one_more_prompt(model, tmp_path):
    """The persona's log-probabilities are there already, and flags need no base."""
    shared = ("score", "--model", model, "--data", ROWS, "--role", ROLE, "--cache-dir", tmp_path / "cache")
    run(*shared)
    assert len(list((tmp_path / "cache" / "answer_logps").iterdir())) == 3
    run(*shared, "--harmless-control")
    assert len(list((tmp_path / "cache" / "answer_logps").iterdir())) == 4


def test_the_real_roles_are_scored_with_one_command(model, tmp_path, real_data, capsys):
    rows = real_data / "rolebench/rolebench-eng/instruction-generalization/role_specific/test.jsonl"
    described = json.loads((Path(model) / "config.json").read_text())
    longer = {"max_position_embeddings": 4096}  # the tiny tokenizer makes over 1,024 tokens of some personas
    (Path(model) / "config.json").write_text(json.dumps(described | longer))
    run(
        *("score", "--model", model, "--data", rows, "--role", real_data / "sarft/roles_95.json"),
        *("--all-roles", "--limit", 1, "--results", tmp_path / "results.jsonl"),
    )
    figures = list(read_figures(tmp_path / "results.jsonl"))
    names = {json.loads(line)["role"] for line in rows.read_text(encoding="utf-8").splitlines()}
    assert len(figures) == len(names) == 95
    assert {figure.group for figure in figures} == {name.replace("_", " ") for name in names}
    assert "Freddy Krueger" in capsys.readouterr().out


def test_all_roles_needs_a_role_column(model, capsys):
    assert holdfast("score", "--model", model, "--data", ROWS, "--role", ROLE, "--all-roles") == 2
    assert "no row has a role column" in capsys.readouterr().err


def test_the_control_suffix_is_as_long_as_the_unsafe_one():
    role = load_role(ROLE)
    unsafe = role.unsafe_prompt.removeprefix(role.persona_prompt).strip()
    assert abs(len(HARMLESS_SUFFIX.split()) - len(unsafe.split())) <= 5
