import pytest

from benchmarks import mpo_step

TINY = ("--vocab", "64", "--hidden", "32", "--layers", "1", "--rows", "8", "--batch-size", "2", "--rounds", "1")


@pytest.mark.parametrize("tuning", ["full", "lora"])
def test_the_last_line_holds_the_ratios(run, tuning):
    printed, figures = run(mpo_step.main, *TINY, "--tuning", tuning)
    measured = figures["mpo_step"]["64"]
    seconds, peak = measured["seconds"], measured["peak_bytes"]
    own = seconds["reference"] + 2 * seconds["ours"]
    assert "vocabulary 64:" in printed
    # One round, so that the ratios are those of the seconds; they are rounded to a thousandth.
    assert measured["two_epochs"] == pytest.approx(2 * seconds["published"] / own, rel=0.02)
    with_report = own + seconds["target_scores"]
    assert measured["two_epochs_with_report"] == pytest.approx(2 * seconds["published"] / with_report, rel=0.02)
    assert measured["step_vs_trl"] == pytest.approx(seconds["ours"] / seconds["trl"], rel=0.02)
    trl = seconds["trl_reference"] + 2 * seconds["trl"]
    assert measured["two_epochs_vs_trl"] == pytest.approx(own / trl, rel=0.02)
    assert measured["peak_memory"] == pytest.approx(
        max(peak["ours"], peak["reference"]) / peak["published"], rel=1e-2
    )
    assert (measured["published_reference_bytes"] == 0) == (tuning == "lora")


def test_trl_trains_the_same_tokens_on_the_same_weights(options, lengths, tmp_path):
    case = mpo_step.make_case(options, 64, str(tmp_path), lengths)
    for row, pair in zip(case.trl.train_dataset, case.pairs.encoded_targets, strict=True):
        for side in ("chosen", "rejected"):
            example = pair.example[side]
            assert row["prompt_ids"] + row[f"{side}_ids"] == example["input_ids"]
            assert len(row[f"{side}_ids"]) == sum(example["trained"])
    assert case.trl.model is not case.mpo.model
    theirs, ours = (list(trainer.model.parameters()) for trainer in (case.trl, case.mpo))
    assert all(a is b for a, b in zip(theirs, ours, strict=True))
    assert not case.trl.model.is_gradient_checkpointing


def test_a_dominant_pair_serves_six_targets(options, lengths, tmp_path):
    case = mpo_step.make_case(options, 64, str(tmp_path), lengths)
    assert case.pairs.dominant_of == [0] * 6
    assert [pair.language for pair in case.pairs.targets] == ["zh", "ja", "ko", "ar", "bn", "sw"]
    assert len(case.pairs.dominants) == 1
