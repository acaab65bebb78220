"""Every preference loss that TRL has, against TRL's trainers: the same model, the same tokens, their own loss.

Where TRL reduces differently, the test states the exact relation. R-DPO is not in TRL.
"""

import pytest
import torch
from datasets import Dataset
from trl import DPOConfig, DPOTrainer, KTOConfig, KTOTrainer
from trl.experimental.cpo import CPOConfig, CPOTrainer
from trl.experimental.orpo import ORPOConfig, ORPOTrainer

from holdfast.losses.logprobs import IGNORED, summed_logps, trained_token_counts
from holdfast.losses.preference import (
    PairLogps,
    cpo_loss,
    dpo_loss,
    ipo_loss,
    kto_loss,
    orpo_loss,
    robust_dpo_loss,
    sft_loss,
    simpo_loss,
)
from tests.architectures import ARCHITECTURES

LLAMA = ARCHITECTURES["llama3"]
PAIRS = 3
PROMPT_TOKENS = [4, 2, 6]
ANSWER_TOKENS = [5, 3, 7, 2, 6, 4]  # of the chosen answers, then of the rejected ones


def batch():
    """(2B, T) input_ids, attention_mask and completion_mask, padded on the right; the chosen rows come first."""
    lengths = [p + a for p, a in zip(PROMPT_TOKENS * 2, ANSWER_TOKENS, strict=True)]
    generator = torch.Generator().manual_seed(0)
    ids = torch.randint(5, 300, (2 * PAIRS, max(lengths)), generator=generator)
    attended, answered = torch.zeros_like(ids), torch.zeros_like(ids)
    for row, (length, answer) in enumerate(zip(lengths, ANSWER_TOKENS, strict=True)):
        ids[row, length:] = LLAMA.tokenizer().pad_token_id
        attended[row, :length] = 1
        answered[row, length - answer : length] = 1
    ids[PAIRS:, :2] = ids[:PAIRS, :2]
    return {"input_ids": ids, "attention_mask": attended, "completion_mask": answered}


def models():
    """A policy and a reference that lies near it, so that no loss saturates."""
    policy, reference = LLAMA.model(), LLAMA.model()
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in reference.parameters():
            parameter += 0.01 * torch.randn(parameter.shape, generator=generator)
    return policy, reference


@pytest.fixture(scope="module")
def logps():
    """What this library computes from `batch()`."""
    tokens = batch()
    labels = tokens["input_ids"].masked_fill(tokens["completion_mask"] == 0, IGNORED)
    with torch.no_grad():
        policy, reference = (
            summed_logps(model(tokens["input_ids"], attention_mask=tokens["attention_mask"]).logits, labels)
            for model in models()
        )
    return PairLogps(*policy.chunk(2), *reference.chunk(2), *trained_token_counts(labels).chunk(2))


@pytest.fixture
def trainer(tmp_path):
    def build(trainer_class, config_class, **settings):
        policy, reference = models()
        needs_reference = {"ref_model": reference} if trainer_class in (DPOTrainer, KTOTrainer) else {}
        rows = [{"prompt": "Who are you?", "chosen": " A keeper.", "rejected": " A fox."}] * 2
        return trainer_class(
            model=policy,
            args=config_class(
                output_dir=str(tmp_path), use_cpu=True, bf16=False, report_to="none", disable_tqdm=True, **settings
            ),
            train_dataset=Dataset.from_list(rows),
            processing_class=LLAMA.tokenizer(),
            **needs_reference,
        )

    return build


def split_batch():
    """The batch as CPOTrainer and ORPOTrainer want it."""
    tokens = batch()
    tokens["labels"] = tokens["input_ids"].masked_fill(tokens.pop("completion_mask") == 0, IGNORED)
    sides = {}
    for name, both in tokens.items():
        sides[f"chosen_{name}"], sides[f"rejected_{name}"] = both.chunk(2)
    return sides


def loss_of(built, inputs):
    with torch.no_grad():
        return built.compute_loss(built.model, inputs).item()


def token_mean_sft(logps):
    """TRL's cross-entropy of the chosen answers, from ours: its mean is over tokens, ours over rows."""
    tokens = logps.chosen_tokens
    return ((sft_loss(logps) * tokens).sum() / tokens.sum()).item()


def test_the_batch_discriminates(logps):
    """Ratios that differ from each other and from 0, and no saturated loss: an agreement below means something."""
    ratios = torch.cat([logps[0] - logps[2], logps[1] - logps[3]])
    assert ratios.abs().min() > 0.01
    assert ratios.abs().max() < 20
    assert ratios.unique().numel() == 2 * PAIRS


@pytest.mark.parametrize("beta", [0.1, 0.7])
@pytest.mark.parametrize(
    ("loss_type", "ours", "settings", "weights"),
    [
        ("sigmoid", dpo_loss, {}, {}),
        ("ipo", ipo_loss, {}, {}),
        ("robust", robust_dpo_loss, {"label_smoothing": 0.2}, {"label_noise": 0.2}),
    ],
)
def test_dpo_and_its_kin(trainer, logps, loss_type, ours, settings, weights, beta):
    built = trainer(DPOTrainer, DPOConfig, loss_type=[loss_type], beta=beta, **settings)
    expected = loss_of(built, batch())
    assert ours(logps, beta=beta, **weights).mean().item() == pytest.approx(expected, rel=1e-5, abs=1e-5)


def test_sft_differs_in_its_mean_only(trainer, logps):
    built = trainer(DPOTrainer, DPOConfig, loss_type=["sft"])
    assert token_mean_sft(logps) == pytest.approx(loss_of(built, batch()), rel=1e-5)


@pytest.mark.parametrize("beta", [0.1, 0.7])
def test_cpo(trainer, logps, beta):
    built = trainer(CPOTrainer, CPOConfig, loss_type="sigmoid", beta=beta, cpo_alpha=0.5)
    rows, _, _ = built.cpo_loss(logps.policy_chosen_logps, logps.policy_rejected_logps)
    preference = cpo_loss(logps, beta=beta, sft_weight=0.0)
    torch.testing.assert_close(preference, rows, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(cpo_loss(logps, beta=beta, sft_weight=0.5), rows + 0.5 * sft_loss(logps))
    expected = preference.mean().item() + 0.5 * token_mean_sft(logps)
    assert loss_of(built, split_batch()) == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize(("beta", "gamma"), [(2.0, 1.0), (0.7, 0.0)])
def test_simpo(trainer, logps, beta, gamma):
    built = trainer(CPOTrainer, CPOConfig, loss_type="simpo", beta=beta, simpo_gamma=gamma, cpo_alpha=0.0)
    expected = loss_of(built, split_batch())
    assert simpo_loss(logps, beta=beta, gamma=gamma).mean().item() == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("beta", [0.1, 0.7])
def test_orpo(trainer, logps, beta):
    """TRL's first term is over prompt and answer; ours, as the paper's, over the answer."""
    built = trainer(ORPOTrainer, ORPOConfig, beta=beta)
    means = logps.policy_chosen_logps / logps.chosen_tokens, logps.policy_rejected_logps / logps.rejected_tokens
    subtracted, *_ = built.odds_ratio_loss(*means)
    odds = orpo_loss(logps, beta=beta) - sft_loss(logps)
    torch.testing.assert_close(odds, -subtracted, rtol=1e-5, atol=1e-5)

    tokens = {name: both[:PAIRS] for name, both in batch().items()}
    everything = tokens["input_ids"].masked_fill(tokens["attention_mask"] == 0, IGNORED)
    with torch.no_grad():
        logits = models()[0](tokens["input_ids"], attention_mask=tokens["attention_mask"]).logits
    likelihood = summed_logps(logits, everything).sum() / trained_token_counts(everything).sum()
    assert loss_of(built, split_batch()) == pytest.approx((odds.mean() - likelihood).item(), rel=1e-5)


def test_kto(trainer, logps):
    """TRL has one reference point a step: asked for each kind alone, with the other kind's answers as its KL rows.

    It averages over the 2B answers, ours sums a pair's two.
    """
    weights = {"desirable_weight": 1.2, "undesirable_weight": 0.8}
    tokens = batch()
    common = tokens | {"label": torch.tensor([True] * PAIRS + [False] * PAIRS)}
    total = 0.0
    for kind, others in (("desirable_weight", slice(PAIRS, None)), ("undesirable_weight", slice(0, PAIRS))):
        alone = {name: weight if name == kind else 0.0 for name, weight in weights.items()}
        built = trainer(KTOTrainer, KTOConfig, beta=0.3, train_sampling_strategy="sequential", **alone)
        total += loss_of(built, common | {f"KL_{name}": both[others] for name, both in tokens.items()})
    assert kto_loss(logps, beta=0.3, **weights).mean().item() == pytest.approx(2 * total, rel=1e-5)
