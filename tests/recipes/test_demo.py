"""Both experiments by the same workers: everything is measured by then, and both reports are written."""

from dataclasses import replace

import pytest

from holdfast.provingground.languages.alignments import mpo
from holdfast.provingground.languages.experiment import MPOExperimentSettings, demo_parts
from holdfast.provingground.pretrain import PretrainingSettings
from holdfast.provingground.roles.cells import FineTuning
from holdfast.provingground.roles.experiment import SaRFTExperimentSettings
from holdfast.provingground.roles.methods import methods
from holdfast.recipes import demo as module
from holdfast.recipes import demo_mpo
from holdfast.results import read_figures

QUICK = PretrainingSettings(steps=2, hidden_size=16, layers=1, heads=2)
ROLES = SaRFTExperimentSettings(
    seeds=(101,),
    tempers=("villain",),
    methods=methods("sft"),
    split="development",
    tuning=FineTuning(rows=8),
    pretraining=QUICK,
)
LANGUAGES = MPOExperimentSettings((101,), "published", (mpo("mpo", 1e-3),), "development", QUICK)


def test_both_worlds_share_the_workers_and_write_their_own_reports(tmp_path, monkeypatch):
    parts = (LANGUAGES, replace(LANGUAGES, noise="clean"))
    monkeypatch.setattr(SaRFTExperimentSettings, "demo", classmethod(lambda cls: ROLES))
    for place in (module, demo_mpo):
        monkeypatch.setattr(place, "demo_parts", lambda: parts)
    pools = []

    def counted(*arguments, **options):
        pools.append([job.name for job in arguments[0]])
        return original(*arguments, **options)

    from holdfast.provingground import runner

    original = runner.run_jobs
    monkeypatch.setattr(runner, "run_jobs", counted)
    module.demo(tmp_path / "roles", tmp_path / "languages", workers=1)
    assert pools == [["roles, base 101", "languages, base 101"], [], []]  # one base for both kinds of pairs
    assert len(list((tmp_path / "languages/cells").iterdir())) == 3  # the untouched base serves both too
    for directory, experiments in (
        ("roles", {"proving_ground_sarft"}),
        ("languages", {"proving_ground_mpo_clean", "proving_ground_mpo_published"}),
    ):
        figures = list(read_figures(tmp_path / directory / "results.jsonl"))
        assert {figure.experiment for figure in figures} == experiments
        assert (tmp_path / directory / "index.html").is_file()


def test_the_demo_has_enough_bases_for_an_interval_and_the_study_has_all_it_shows():
    demo, study = SaRFTExperimentSettings.demo(), SaRFTExperimentSettings.study()
    assert len(demo.seeds) >= 3
    assert set(demo.methods) < set(study.methods)
    assert set(demo.tempers) < set(study.tempers)
    assert {len(part.seeds) for part in demo_parts()} == {1}  # a second one has an interval of no use


@pytest.mark.parametrize("workers", [2])
def test_no_pool_is_started_where_nothing_is_missing(tmp_path, monkeypatch, workers):
    from holdfast.provingground import workers as pool
    from holdfast.provingground.roles.experiment import WORLD
    from holdfast.provingground.runner import Plan, run_plans

    monkeypatch.setattr(pool, "start_method", lambda: pytest.fail("started"))
    assert run_plans([Plan(WORLD, QUICK, (), tmp_path)], workers=workers) == [[]]
