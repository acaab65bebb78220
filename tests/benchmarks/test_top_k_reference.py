import pytest
import torch

from benchmarks import top_k_reference
from tests.conftest import save


def test_errors_worked_by_hand():
    found = top_k_reference.errors(torch.tensor([1.0, 3.0, 0.0005]), torch.tensor([0.5, 2.4, 0.0001]))
    assert found["full_kl"] == pytest.approx(4.0005 / 3)
    assert found["left_out"] == pytest.approx(1 - 2.9001 / 4.0005)
    assert found["mean"] == pytest.approx((0.5 + 0.2) / 2)  # the last position has too little to speak of
    assert found["worst"] == pytest.approx(0.5)
    assert found["worst_nats"] == pytest.approx(0.6)


@pytest.mark.parametrize("direction", ["forward", "reverse"])
def test_more_tokens_leave_out_less_and_all_of_them_nothing(llama, tmp_path, run, direction):
    model = save(llama, tmp_path / "model")
    everything = len(llama.tokenizer())
    some = ("--rows", "8", "--batch-size", "4", "--selector", "all", "--learning-rate", "1e-3")
    ks = ("2", "16", str(everything), str(everything + 1))
    printed, result = run(
        top_k_reference.main, "--model", str(model), *some, "--kl-direction", direction, "--k", *ks
    )
    assert result["vocabulary"] == everything
    for policy in ("sarft", "sft"):
        for found in result["divergence"][policy].values():
            assert list(found) == ["2", "16", str(everything)], "a k beyond the vocabulary is left out"
            assert found["2"]["left_out"] > found["16"]["left_out"] > 0
            assert found[str(everything)]["left_out"] == pytest.approx(0, abs=1e-9)
    differences = {name: found["weights"] for name, found in result["trained"].items()}
    assert differences["sft"] > differences["k 2"] > differences[f"k {everything}"]
    assert (
        differences[f"k {everything}"] < 0.05 * differences["sft"]
    )  # the rounding that AdamW's first steps blow up
    assert result["bytes"]["16"]["position"] == 8 * 16 + 4
    assert result["bytes"]["16"]["all"] > 132 * result["anchored_positions"]
    assert "8 rows, 8 flagged" in printed
