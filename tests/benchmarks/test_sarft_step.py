import pytest
import torch

from benchmarks import sarft_step
from benchmarks.step_data import flags
from benchmarks.step_models import intermediate_size, optimiser_of, sharing_weights, update

TINY = ("--hidden", "32", "--layers", "1", "--rows", "6", "--batch-size", "2", "--rounds", "1")


@pytest.mark.parametrize("tuning", ["full", "lora"])
def test_the_last_line_holds_the_ratios(run, tuning):
    printed, figures = run(sarft_step.main, "--vocab", "64", "96", *TINY, "--tuning", tuning)
    assert list(figures) == ["sarft_step"]
    assert list(figures["sarft_step"]) == ["64", "96"]
    for vocabulary, measured in figures["sarft_step"].items():
        seconds, peak = measured["seconds"], measured["peak_bytes"]
        own, published = seconds["ours"], seconds["published"]
        assert f"vocabulary {vocabulary}:" in printed
        # One round, so that the ratios are those of the seconds; they are rounded to a thousandth.
        assert measured["further_epoch"] == pytest.approx(published / own, rel=0.02)
        assert measured["epoch_with_scoring"] == pytest.approx(published / (own + seconds["scoring"]), rel=0.02)
        assert measured["step_vs_sft"] == pytest.approx(own / seconds["sft"], rel=0.02)
        assert measured["peak_memory"] == pytest.approx(
            max(peak["ours"], peak["scoring"]) / peak["published"], rel=1e-2
        )
        assert measured["reference_bytes"]["ours"] == (0 if tuning == "lora" else measured["gradient_bytes"])


def test_all_ways_train_the_same_weights_and_see_the_same_rows(options, lengths, tmp_path, monkeypatch):
    case = sarft_step.make_case(options, 64, str(tmp_path), lengths)
    updates = []
    monkeypatch.setattr(sarft_step, "update", lambda loss, optimiser: updates.append((loss, optimiser)))
    for way in ("published", "ours", "sft"):
        sarft_step.ways(case)[way](0)
    assert len(updates) == 3 * options.rows // options.batch_size
    assert {id(optimiser) for _, optimiser in updates} == {id(case.optimiser)}
    rows = [row for batch in case.sarft.get_train_dataloader() for row in batch["input_ids"].tolist()]
    answers = {tuple(view.plain["input_ids"][view.plain["trained"].index(True) :]) for view in case.views}
    assert len(rows) == len(answers) == options.rows
    assert {next(answer for answer in answers if tuple(row[-len(answer) :]) == answer) for row in rows} == answers
    assert sum(sum(batch["harmful"]).item() for batch in case.sarft.get_train_dataloader()) == 2
    assert case.sft.reference is None
    assert case.sarft.reference is not None


def test_a_share_of_the_rows_is_flagged_by_the_seed():
    assert sum(flags(40, 0.3, 0)) == 12
    assert flags(40, 0.3, 0) == flags(40, 0.3, 0) != flags(40, 0.3, 1)


def test_the_mlp_is_as_wide_as_llamas():
    assert intermediate_size(512) == 1408  # 1365.3 up to a multiple of 64
    assert intermediate_size(4096) == 10944


def test_a_step_clips_the_gradient_and_leaves_none():
    layer = torch.nn.Linear(3, 1, bias=False)
    optimiser = optimiser_of(layer)
    before = layer.weight.detach().clone()
    seen = []
    optimiser.register_step_pre_hook(lambda *_: seen.append(layer.weight.grad.norm().item()))
    update((1000 * layer(torch.ones(1, 3))).sum(), optimiser)
    assert seen == [pytest.approx(1.0, rel=1e-5)]
    assert layer.weight.grad is None
    assert not torch.equal(before, layer.weight)


def test_a_model_on_shared_weights_is_another_model_with_the_same_weights():
    layer = torch.nn.Sequential(torch.nn.Linear(2, 2), torch.nn.BatchNorm1d(2))
    twin = sharing_weights(layer)
    assert twin is not layer
    assert twin[0] is not layer[0]
    for own, other in zip(
        layer.state_dict(keep_vars=True).values(), twin.state_dict(keep_vars=True).values(), strict=True
    ):
        assert own is other
