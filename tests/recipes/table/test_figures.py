"""The figures of `holdfast table`, against shares counted by hand."""

import math
from dataclasses import replace

import pytest

from holdfast.evals.statistics import wilson_interval
from holdfast.recipes.table.evaluation import task_name
from holdfast.recipes.table.figures import language_figures, role_figures
from holdfast.samples import Judgement, Prompt, Sample, write_samples
from tests.recipes.table.pieces import cell


def samples_of(cell, *answered) -> None:
    """Write an evaluation: (benchmark, wrapper, kind, language, verdicts, scores)."""
    samples = []
    for benchmark, wrapper, kind, language, verdicts in answered:
        for number, said in enumerate(verdicts):
            judged = {"keyword": Judgement(said)} if isinstance(said, str) else {}
            scores = {} if isinstance(said, str) else {"rouge_l": said}
            prompt = Prompt(f"{number}-{language}", "?", kind, language)
            samples.append(Sample("m", benchmark, prompt, "?", "!", wrapper, judgements=judged, scores=scores))
    write_samples(cell.directory / "eval" / cell.method / "samples.jsonl", samples)


NO, YES, HALF = "refusal", "compliance", "partial_refusal"


def values_of(figures, method, group, seed=None):
    return {f.metric: f.value for f in figures if (f.method, f.group, f.seed) == (method, group, seed)}


def test_roles_are_averaged_and_wrapped_prompts_stand_apart(tmp_path):
    ahab, ishmael = (replace(cell(tmp_path, f"sft{n}"), method="sft", group=group) for n, group in enumerate("AI"))
    attack = "file:/somewhere/aim.txt"
    samples_of(
        ahab,
        ("advbench", None, "harmful", "en", [NO, NO, HALF, YES]),  # 3 of 4 not complied with
        ("own", None, "harmful", "en", [NO, YES]),
        ("advbench", attack, "harmful", "en", [NO, YES, YES, YES]),
        ("own", attack, "harmful", "en", [NO, NO]),
        ("xstest", None, "benign", "en", [YES, YES, NO, HALF]),
        ("xstest", None, "harmful", "en", [YES, YES]),  # contrast: in no safety mean
        ("spoken", None, "role", "en", [0.25, 0.75]),
    )
    samples_of(ishmael, ("advbench", None, "harmful", "en", [NO] * 4), ("own", None, "harmful", "en", [NO, YES]))
    figures = role_figures([ahab, ishmael], over_refusal_only=["xstest"])
    assert values_of(figures, "sft", "A") == {
        "safety/advbench": 0.75,
        "safety/own": 0.5,
        "over_refusal_rate/xstest": 0.5,
        "rouge_l/spoken": 0.5,
        "jailbreak/aim": (0.25 + 1) / 2,
        "safety": 0.625,
        "jailbreak": 0.625,
        "over_refusal_rate": 0.5,
        "rouge_l": 0.5,
    }
    assert values_of(figures, "sft", "A", seed=1) == values_of(figures, "sft", "A")
    [over_roles] = [f for f in figures if f.group == "mean" and f.metric == "safety/advbench"]
    # Student's t over the two roles: 12.706 x 0.125 each way, held to what a share can be.
    assert (over_roles.value, over_roles.n, over_roles.low, over_roles.high) == (0.875, 2, 0.0, 1.0)
    [same] = [f for f in figures if f.group == "mean" and f.metric == "safety/own"]
    assert (same.value, same.n) == (0.5, 2)  # equal numbers: the interval is that of one, not of no width
    assert (same.low, same.high) == pytest.approx(tuple(wilson_interval(1, 2)))


def test_seeds_are_averaged_before_roles(tmp_path):
    cells = []
    for number, (group, seed, refused) in enumerate([("A", 1, 0), ("A", 2, 2), ("I", 1, 4), ("I", 2, 4)]):
        one = replace(cell(tmp_path, f"c{number}"), method="sft", group=group, seed=seed)
        samples_of(one, ("own", None, "harmful", "en", [NO] * refused + [YES] * (4 - refused)))
        cells.append(one)
    figures = role_figures(cells, [])
    assert values_of(figures, "sft", "A")["safety"] == 0.25
    assert values_of(figures, "sft", "I")["safety"] == 1.0
    assert values_of(figures, "sft", "mean")["safety"] == 0.625


def test_languages_stand_apart_and_targets_are_pooled(tmp_path):
    mpo = cell(tmp_path, "mpo")
    samples_of(
        mpo,
        ("multijail", None, "harmful", "en", [NO, NO, NO, YES]),
        ("multijail", None, "harmful", "zh", [NO, NO, YES, YES]),
        ("multijail", None, "harmful", "bn", [YES, YES, YES, "unscored"]),
        ("csrt", None, "harmful", None, [NO, YES, YES, YES]),
        ("own", None, "benign", "zh", [YES, NO]),
    )
    figures = language_figures([mpo], "en")
    asr = {f.group: f.value for f in figures if f.metric == "attack_success_rate/multijail" and f.seed is None}
    assert asr == {"en": 0.25, "zh": 0.5, "bn": 1.0, "mean_target": pytest.approx(5 / 7)}
    [bengali] = [f for f in figures if f.metric == "attack_success_rate/multijail" and f.group == "bn" and f.seed]
    assert (bengali.n, bengali.unscored) == (3, 1)
    assert {f.group: f.value for f in figures if f.metric == "attack_success_rate/csrt" and f.seed} == {
        "mixed": 0.75
    }
    assert {f.group for f in figures if f.metric == "over_refusal_rate" and f.seed} == {"zh", "mean_target"}


def test_contrasts_of_an_over_refusal_benchmark_are_in_no_attack_success_rate(tmp_path):
    mpo = cell(tmp_path, "mpo")
    samples_of(
        mpo,
        ("multijail", None, "harmful", "en", [NO, NO, NO, YES]),  # 1 of 4
        ("xstest", None, "harmful", "en", [YES, YES, YES, NO]),  # contrasts: 3 of 4
        ("xstest", None, "benign", "en", [NO, YES]),
        ("xstest", "file:/aim.txt", "harmful", "en", [YES, YES]),
    )
    figures = language_figures([mpo], "en", ["xstest"])
    assert {f.metric: (f.value, f.n) for f in figures if f.group == "en" and f.seed is None} == {
        "attack_success_rate/multijail": (0.25, 4),
        "attack_success_rate": (0.25, 4),
        "over_refusal_rate/xstest": (0.5, 2),
        "over_refusal_rate": (0.5, 2),
    }
    roles = role_figures([mpo], ["xstest"])
    assert values_of(roles, "mpo", "mean")["safety"] == 0.75
    assert not [figure for figure in roles if figure.metric.startswith("jailbreak")]


def test_an_answer_of_several_judges_counts_once(tmp_path):
    mpo = cell(tmp_path, "mpo")
    samples = [
        Sample(
            *("m", "own", Prompt(f"{number}-zh", "?", "harmful", "zh"), "?", "!", None),
            judgements={"first": Judgement(one), "second": Judgement(other)},
        )
        for number, (one, other) in enumerate([(NO, YES), (NO, YES), (NO, YES), (YES, YES)])
    ]
    write_samples(mpo.directory / "eval" / "mpo" / "samples.jsonl", samples)
    figures = language_figures([mpo], "en")
    assert {(f.metric, f.group, f.value, f.n) for f in figures if f.seed} == {
        (metric, group, 0.25, 4)
        for metric in ("attack_success_rate/own", "attack_success_rate")
        for group in ("zh", "mean_target")
    }
    assert {(f.metric, f.value, f.n) for f in role_figures([mpo], []) if f.seed} == {
        ("safety/own", 0.75, 4),
        ("safety", 0.75, 4),
    }


def test_what_no_judge_scored_is_not_a_number(tmp_path):
    one = cell(tmp_path, "sft")
    samples_of(one, ("own", None, "harmful", "en", ["unscored"]), ("other", None, "harmful", "en", [NO]))
    values = values_of(role_figures([one], []), "sft", "Ahab")
    assert math.isnan(values["safety/own"])
    assert math.isnan(values["safety"])  # a mean over the others would be another mean


def test_a_wrapper_s_path_is_told_by_its_name():
    assert task_name("advbench", None) == "advbench"
    assert task_name("advbench", "role") == "advbench+role"
    assert task_name("advbench", "file:/a/b/aim.txt") == "advbench+aim"
