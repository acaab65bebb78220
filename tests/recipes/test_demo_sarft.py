"""The demo's report, made from results on disk."""

import re
from pathlib import Path

import pytest

from holdfast.provingground.pretrain import PretrainingSettings
from holdfast.provingground.roles.cells import FineTuning
from holdfast.provingground.roles.experiment import SaRFTExperimentSettings
from holdfast.recipes import demo_sarft as module
from holdfast.results import read_figures

TINY = SaRFTExperimentSettings(
    seeds=(101, 102),
    tempers=("villain", "kind"),
    split="development",
    tuning=FineTuning(rows=16),
    pretraining=PretrainingSettings(steps=2, hidden_size=16, layers=1, heads=2),
)


@pytest.fixture
def tiny_demo(monkeypatch) -> None:
    monkeypatch.setattr(module.SaRFTExperimentSettings, "demo", classmethod(lambda cls: TINY))


def test_writes_results_tables_and_a_page(tiny_demo, tmp_path, capsys):
    module.demo_sarft(tmp_path, seeds=None, workers=1)
    printed = capsys.readouterr().out
    for label in module.METHODS.values():
        assert set(re.findall(r"\w+", label.split(",")[0])) <= set(
            re.findall(r"\w+", printed)
        )  # a label may fold between words
    figures = list(read_figures(tmp_path / "results.jsonl"))
    assert {figure.method for figure in figures} == set(module.METHODS)
    assert {figure.experiment for figure in figures} == {"proving_ground_sarft"}
    assert {figure.seed for figure in figures} == {101, 102, None}
    page = (tmp_path / "index.html").read_text(encoding="utf-8")
    assert page.count("<svg") == 3
    assert "no evidence about large models" in page
    for method in module.METHODS.values():
        assert method in page
    shown = next(f for f in figures if (f.method, f.group, f.metric) == ("sarft", "mean_villain", "rouge_l_raw"))
    assert f"{shown.value:.2f}" in (tmp_path / "tables.md").read_text(encoding="utf-8")


def test_a_second_run_measures_nothing_again(tiny_demo, tmp_path, monkeypatch):
    module.demo_sarft(tmp_path, seeds=None, workers=1)
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    monkeypatch.setattr("holdfast.provingground.runner.run_and_write_cell", lambda *_: pytest.fail("again"))
    module.demo_sarft(tmp_path, seeds=None, workers=1)
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before


def test_seeds_choose_the_bases(tiny_demo, tmp_path):
    module.demo_sarft(Path(tmp_path), seeds=1, workers=1)
    figures = list(read_figures(tmp_path / "results.jsonl"))
    assert {figure.seed for figure in figures} == {1, None}
    one = [f for f in figures if f.seed is None and f.metric == "refusal_rate_near"]
    assert all((f.low, f.high) == (None, None) for f in one), "one base has no interval"
