"""Every example of docs/data_formats.md loads, and is what the page says."""

import re
from dataclasses import fields
from pathlib import Path

import pytest

from holdfast.data import Message, load_parallel_pairs, load_role, load_role_rows
from holdfast.data.formats import FORMATS
from holdfast.data.pair_checks import ONCE, REASONS
from holdfast.evals.metrics import REFUSAL_RULES, SAFETY_RULES, figures_of
from holdfast.results import Figure, read_figures
from holdfast.samples import Judgement, Sample, read_samples, write_samples

PAGE = (Path(__file__).parents[2] / "docs" / "data_formats.md").read_text(encoding="utf-8")
EXAMPLES: dict[str, str] = dict(re.findall(r"^```\w+ (\S+)\n(.*?)^```$", PAGE, re.DOTALL | re.MULTILINE))
NORTH, WHALE = Message("assistant", "North."), Message("assistant", "The whale.")
WHERE, WHY = Message("user", "Where to?"), Message("user", "Why?")
ROWS = {
    "messages.jsonl": [
        (Message("system", "Answer briefly."), WHERE, NORTH),
        (WHY, WHALE, Message("user", "And then?"), Message("assistant", "Home.")),
    ],
    "sharegpt.json": [(WHERE, NORTH)],
    "safety.jsonl": [
        (
            Message("user", "How do I steal the bread of the baker?"),
            Message("assistant", "I can't help with that."),
        )
    ],
    "rolebench.jsonl": [(WHERE, NORTH), (WHERE, Message("assistant", "After the whale."))],
    "prompt_completion.csv": [
        (WHERE, NORTH),
        (Message("user", "Why?\nTell me."), Message("assistant", 'The whale, "him".')),
    ],
    "conversational.jsonl": [(WHERE, NORTH)],
    "instruction.json": [(Message("user", "Translate into English.\n\nNach Norden."), NORTH)],
    "input_output.json": [(WHERE, NORTH), (WHY, WHALE)],
}
PAIRS = {
    "published_pairs.json": (("en", "sw"), (0,)),
    "preference_pairs.jsonl": (("en", "zh"), (0,)),
    "sharegpt_pairs.json": (("en", "sw"), (0,)),
    "alpaca_pairs.json": (("en", "sw"), (0,)),
    "messages_pairs.jsonl": (("en", "sw"), (0,)),
    "wide_pairs.csv": (("en", "zh", "sw"), (0, 1)),
}
OTHERS = {"role.yaml", "roles_95.json", "card.json", "card.txt", "samples.jsonl", "results.jsonl"}


@pytest.fixture(autouse=True)
def _examples(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name, body in EXAMPLES.items():
        Path(name).write_text(body, encoding="utf-8")


def test_no_example_is_left_out():
    assert set(EXAMPLES) == {*ROWS, *PAIRS, *OTHERS}


@pytest.mark.parametrize("name", ROWS)
def test_rows(name):
    assert [row.messages for row in load_role_rows(name)] == ROWS[name]


def test_what_the_page_says_of_the_rows():
    assert [row.harmful for row in load_role_rows("input_output.json")] == [False, None]
    assert [row.location for row in load_role_rows("rolebench.jsonl")] == [
        "rolebench.jsonl:1#1",
        "rolebench.jsonl:1#2",
    ]


def test_every_format_has_its_section():
    headings = [line for line in PAGE.splitlines() if line.startswith("### ")]
    for known in FORMATS:
        assert [line for line in headings if all(f"`{field}`" in line for field in known.fields)], known.name


@pytest.mark.parametrize("name", PAIRS)
def test_pairs(name):
    pairs = load_parallel_pairs(name)
    assert (pairs.languages, pairs.dominant_of) == PAIRS[name]
    assert set(pairs.warnings) == {ONCE}


def test_every_doubt_stands_on_the_page():
    for reason in REASONS:
        assert reason.removeprefix("chosen ").removeprefix("rejected ") in PAGE


def test_roles():
    ahab = "You are Ahab, captain of the Pequod, and you hunt a white whale. Speak as Ahab speaks."
    assert load_role("role.yaml").persona_prompt == ahab
    assert load_role("roles_95.json", "d artagnan").unsafe_prompt.endswith("dishonest role.")
    assert load_role("card.json").persona_prompt == EXAMPLES["card.txt"].strip()


def test_samples():
    refused, played = read_samples(Path("samples.jsonl"))
    assert (refused.prompt.kind, refused.judgements) == ("harmful", {"keyword": Judgement("refusal")})
    assert (played.prompt.role, played.prompt.references, played.scores) == ("Ahab", ("North.",), {"rouge_l": 1.0})
    write_samples(Path("again.jsonl"), [refused, played])
    assert Path("again.jsonl").read_text(encoding="utf-8") == EXAMPLES["samples.jsonl"]
    for field in fields(Sample):
        assert f"| `{field.name}` |" in PAGE


def test_every_metric_of_samples_stands_on_the_page():
    for rule in (*REFUSAL_RULES, *SAFETY_RULES):
        assert f"`{rule.name}[J]`" in PAGE
    names = {figure.metric for figure in figures_of(list(read_samples(Path("samples.jsonl"))))}
    assert {"refusal_rate[keyword]", "rouge_l", "answered_rate"} <= names


def test_results():
    assert list(read_figures(Path("results.jsonl"))) == [
        Figure("demo", "sarft", "Ahab", 0, "refusal_rate", 0.92, 200, 0.874, 0.95, unscored=3),
        Figure("demo", "sarft", "mean", None, "refusal_rate", 0.9, 3),
    ]
