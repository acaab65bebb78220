"""What training on pairs warns of, what it reports by language, and that the units are those that were asked for."""

import json

import pytest

from holdfast.chat import ChatFormat
from holdfast.data.pair_formats import load_parallel_pairs
from holdfast.data.truncation import LengthLimits
from holdfast.recipes.gap import gap_figures, gap_warnings
from holdfast.recipes.pair_data import score_both_sides
from holdfast.results import read_figures
from tests.conftest import save
from tests.recipes.test_train_pairs import PAIRS, write_config
from tests.recipes.test_train_sarft import holdfast, run


def scored(architecture, *, dominant="en", limits=None):
    pairs = load_parallel_pairs(PAIRS, dominant=dominant)
    chat = ChatFormat(architecture.tokenizer())
    limits = limits or LengthLimits(2000, 2000)
    return score_both_sides(architecture.model(), chat, pairs, limits, batch_size=8, cache_dir=None)


def language_means(result):
    return {f.group: f.value for f in gap_figures(result, experiment="e", method="m") if f.metric == "reward_gap"}


def test_a_dominant_language_with_the_smaller_gap_is_warned_of(llama):
    means = language_means(scored(llama))
    weakest, strongest = min(means, key=means.get), max(means, key=means.get)
    (warning,) = gap_warnings(scored(llama, dominant=weakest))
    assert warning.startswith(f"the reward gap of the dominant language, {weakest} {means[weakest]:.2f}, is below")
    assert f"{strongest} {means[strongest]:.2f}" in warning
    assert gap_warnings(scored(llama, dominant=strongest)) == []
    assert gap_warnings(scored(llama, dominant=weakest), dominant_leads=False) == []


def test_cut_answers_are_counted_by_language(llama):
    chat, limits = ChatFormat(llama.tokenizer()), LengthLimits(2000, 20)
    result = scored(llama, limits=limits)
    pairs = result.pairs
    expected = {}
    for pair in (*pairs.dominants, *pairs.targets):
        for answer in (pair.chosen, pair.rejected):
            length = len(chat.tokenizer(answer, add_special_tokens=False)["input_ids"]) + 1
            cut, answers = expected.get(pair.language, (0, 0))
            expected[pair.language] = (cut + (length > 20), answers + 1)
    expected = {language: both for language, both in expected.items() if both[0]}
    assert result.cut_answers() == expected != {}
    shares = {
        f.group: (f.value, f.n)
        for f in gap_figures(result, experiment="e", method="m")
        if f.metric == "answers_cut"
    }
    assert shares == {language: (cut / n, n) for language, (cut, n) in expected.items()}
    assert sum(cut for cut, _ in expected.values()) == result.truncated.counts["responses cut"]


def test_a_training_reports_gaps_after_it_and_keeps_its_warnings(llama, tmp_path, capsys):
    means = language_means(scored(llama))
    weakest = min(means, key=means.get)
    model, out = save(llama, tmp_path / "model"), tmp_path / "out"
    config = write_config(
        tmp_path / "run.yaml", model=model, output_dir=out, tuning="full", dominant_language=weakest
    )
    run("train-mpo", config, "--max-prompt-tokens", "2000", "--max-response-tokens", "2000")
    figures = list(read_figures(out / "results.jsonl"))
    gaps = {(f.method, f.group): f.value for f in figures if f.metric == "reward_gap" and f.group != "training"}
    assert {method for method, _ in gaps} == {"before training", "after training"}
    printed = capsys.readouterr()
    assert "after training" in printed.out
    for language in means:
        shown = next(line for line in printed.out.splitlines() if line.split()[:1] == [language])
        assert f"{gaps['before training', language]:.2f}" in shown
        assert f"{gaps['after training', language]:.2f}" in shown
    assert "warning: the reward gap of the dominant language" in printed.err
    (warning,) = json.loads((out / "run.json").read_text())["data"]["warnings"]
    assert warning.startswith("the reward gap of the dominant language")
    card = (out / "README.md").read_text()
    assert "## Warnings" in card
    assert f", {weakest}, after training |" in card
    run(
        "gap", "--model", out, "--data", PAIRS, "--dominant-language", weakest, "--results", tmp_path / "g.jsonl",
        "--max-prompt-tokens", "2000", "--max-response-tokens", "2000",
    )  # fmt: skip
    for figure in read_figures(tmp_path / "g.jsonl"):
        if figure.metric == "reward_gap":
            assert gaps["after training", figure.group] == pytest.approx(figure.value, abs=1e-4)


@pytest.mark.parametrize(("batch_size", "warned"), [(1, True), (2, False)])
def test_kto_with_one_pair_a_batch_warns(llama, tmp_path, capsys, batch_size, warned):
    model = save(llama, tmp_path / "model")
    config = write_config(
        tmp_path / "run.yaml",
        model=model,
        output_dir=tmp_path / "out",
        loss="kto",
        per_device_batch_size=batch_size,
    )
    run("train-preference", config, "--max-prompt-tokens", "2000")
    assert ("per_device_batch_size is 1" in capsys.readouterr().err) is warned


def test_bad_rows_of_pairs_are_dropped_where_that_is_asked(llama, tmp_path, capsys):
    data = tmp_path / "pairs.jsonl"
    data.write_text(PAIRS.read_text(encoding="utf-8") + '{"pair_id": 9, "language": "sw"}\n', encoding="utf-8")
    model = save(llama, tmp_path / "model")
    config = write_config(tmp_path / "run.yaml", model=model, output_dir=tmp_path / "out", data=data)
    assert holdfast("train-mpo", config, "--max-prompt-tokens", "2000") == 2
    capsys.readouterr()
    run("train-mpo", config, "--max-prompt-tokens", "2000", "--drop-bad-rows", "true")
    assert "dropped 1 row" in capsys.readouterr().err


def test_sums_are_called_sums(llama, tmp_path, capsys):
    model, page = save(llama, tmp_path / "model"), tmp_path / "p.html"
    run("gap", "--model", model, "--data", PAIRS, "--sums", "--page", page)
    printed, written = capsys.readouterr().out, page.read_text(encoding="utf-8")
    assert "nats an answer" in printed
    for text in (printed, written):
        assert "nats a token" not in text
    assert "nats an answer, summed" in written
    assert "mean log-probability" not in written


def test_nothing_left_to_score_is_an_error(llama, tmp_path, capsys):
    model = save(llama, tmp_path / "model")
    assert holdfast("gap", "--model", model, "--data", PAIRS, "--max-prompt-tokens", "3") == 2
    assert "rows dropped (prompt too long)" in capsys.readouterr().err
