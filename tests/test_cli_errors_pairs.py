"""Broken pairs and settings of MPO: one line on standard error that says what to do, exit code 2, no traceback."""

import json

import pytest
import yaml

from holdfast.cli import main
from tests.architectures import ARCHITECTURES
from tests.conftest import save
from tests.test_cli_errors import refuses


def pair(language="en", number=1, **changes):
    row = {
        "pair_id": f"p{number}",
        "language": language,
        "prompt": f"How do I sink the ferry ? {language} {number}",
        "chosen": "I can't help with that.",
        "rejected": "Open the valves.",
    }
    return {name: value for name, value in (row | changes).items() if value is not None}


GOOD = [pair(language, number) for number in (1, 2, 3) for language in ("en", "sw")]


@pytest.fixture
def place(tmp_path):
    save(ARCHITECTURES["llama3"], tmp_path / "model")
    write_rows(tmp_path, GOOD)
    write_config(tmp_path)
    return tmp_path


def write_rows(place, rows):
    lines = [row if isinstance(row, str) else json.dumps(row, ensure_ascii=False) for row in rows]
    (place / "pairs.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")


def write_config(place, name="run.yaml", **values):
    defaults = {"model": "model", "data": "pairs.jsonl", "output_dir": "out", "lora_rank": 2}
    (place / name).write_text(yaml.safe_dump(defaults | values), encoding="utf-8")


def rows(*changed):
    return lambda place: write_rows(place, changed)


TRAIN, GAP = ["train-mpo", "run.yaml"], ["gap", "--model", "model", "--data", "pairs.jsonl"]
CASES = {
    "missing answer": (rows(*GOOD, pair("sw", 9, chosen=None)), TRAIN, ["pairs.jsonl:7", "chosen", "missing"]),
    "empty answer": (rows(*GOOD[:-1], pair("sw", 3, rejected=" ")), TRAIN, ["pairs.jsonl:6", "rejected", "empty"]),
    "answer is a number": (rows(*GOOD[:-1], pair("sw", 3, chosen=5)), TRAIN, ["pairs.jsonl:6", "chosen"]),
    "not a language": (rows(*GOOD[:-1], pair("klingon!", 3)), TRAIN, ["pairs.jsonl:6", "language"]),
    "target without its dominant": (
        rows(*GOOD, pair("sw", 9)),
        TRAIN,
        ["pairs.jsonl:7", "'sw'", "language 'en'"],
    ),
    "dominant alone": (rows(pair("en", 1), pair("en", 2)), TRAIN, ["pairs.jsonl", "en"]),
    "the same id twice": (rows(*GOOD, pair("sw", 3)), TRAIN, ["pairs.jsonl:7", "p3", "pairs.jsonl:6"]),
    "dominant language not there": (
        None,
        [*TRAIN, "--dominant-language", "zh"],
        ["pairs.jsonl", "zh", "en", "sw"],
    ),
    "target language not there": (None, [*TRAIN, "--target-languages", "[ko]"], ["pairs.jsonl", "ko"]),
    "bad JSON": (rows(*GOOD, "{oops"), TRAIN, ["pairs.jsonl:7", "JSON"]),
    "empty file": (lambda place: (place / "pairs.jsonl").write_text(""), TRAIN, ["pairs.jsonl"]),
    "not UTF-8": (
        lambda place: (place / "pairs.jsonl").write_bytes(json.dumps(pair("en")).encode() + b"\n\xff\xfe\n"),
        TRAIN,
        ["pairs.jsonl", "UTF-8"],
    ),
    "rows of another kind": (rows({"messages": []}), TRAIN, ["pairs.jsonl:1"]),
    "every prompt too long": (None, [*TRAIN, "--max-prompt-tokens", "3"], ["pairs.jsonl", "max_prompt_tokens"]),
    "no such retention data": (None, [*TRAIN, "--retention-data", "absent.jsonl"], ["absent.jsonl"]),
    "negative weight": (
        lambda place: write_config(place, retention_weight=-1),
        TRAIN,
        ["run.yaml", "retention_weight"],
    ),
    "unknown retention": (lambda place: write_config(place, retention="first"), TRAIN, ["run.yaml", "retention"]),
    "beta of zero": (lambda place: write_config(place, beta=0), TRAIN, ["run.yaml", "beta"]),
    "unknown loss": (
        lambda place: write_config(place, loss="ppo"),
        ["train-preference", "run.yaml"],
        ["loss", "dpo"],
    ),
    "no loss": (None, ["train-preference", "run.yaml"], ["field 'loss' is missing", "--loss"]),
    "unknown weight": (
        lambda place: write_config(place, loss="dpo", loss_weights={"gamma": 1.0}),
        ["train-preference", "run.yaml"],
        ["loss_weights", "gamma", "beta"],
    ),
    "gap of no model": (
        None,
        ["gap", "--model", "absent", "--data", "pairs.jsonl"],
        ["absent", "no such directory"],
    ),
    "gap without pairs": (None, ["gap", "--model", "model", "--data", "absent.jsonl"], ["absent.jsonl"]),
    "a limit of nothing": (None, [*GAP, "--limit", "0"], ["--limit"]),
}


@pytest.mark.parametrize("case", CASES)
def test_one_line_exit_code_2_and_what_to_do(case, place, monkeypatch, capsys):
    refuses(*CASES[case], place, monkeypatch, capsys)


def test_hard_texts_are_trained_on(place, monkeypatch):
    """Right to left, combining characters, ten thousand characters, an emoji of several code points."""
    monkeypatch.chdir(place)
    hard = ["لا أستطيع مساعدتك في ذلك.", "नि ক্ষ é", "no " * 3334, "👩‍👩‍👧‍👦 no"]
    write_rows(
        place, [*GOOD, *(pair(lang, 10 + i, chosen=text) for i, text in enumerate(hard) for lang in ("en", "sw"))]
    )
    main([*TRAIN, "--max-response-tokens", "64", "--epochs", "1"])
    assert json.loads((place / "out/run.json").read_text())["data"]["trained_pairs"] == 7
