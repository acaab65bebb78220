"""SaRFT's loss against hand-worked numbers, an independent loop, and the published code's arithmetic."""

import math

import pytest
import torch
import torch.nn.functional as F

from holdfast.losses.logprobs import IGNORED
from holdfast.losses.sarft import sarft_loss

HOLDFAST = {
    "ce_normaliser": "response",
    "kl_span": "response",
    "kl_direction": "forward",
    "safe_loss": "kl",
    "kl_first_tokens": None,
}
OFFICIAL = HOLDFAST | {"ce_normaliser": "sequence", "kl_span": "sequence"}
L3 = math.log(3)


def random_batch(seed=0, rows=4, width=9, vocabulary=13, dtype=torch.float64):
    """Left-padded rows with prompt and answer; some of them flagged."""
    generator = torch.Generator().manual_seed(seed)
    policy = torch.randn(rows, width, vocabulary, generator=generator, dtype=dtype)
    reference = torch.randn(rows, width, vocabulary, generator=generator, dtype=dtype)
    labels = torch.randint(0, vocabulary, (rows, width), generator=generator)
    mask = torch.ones(rows, width, dtype=torch.long)
    for row in range(rows):
        mask[row, :row] = 0
        labels[row, : row + 2] = IGNORED
    harmful = torch.tensor([row % 2 == 0 for row in range(rows)])
    return policy, reference, labels, mask, harmful


def loop(
    policy,
    reference,
    labels,
    mask,
    harmful,
    *,
    beta,
    ce_normaliser,
    kl_span,
    kl_direction,
    safe_loss,
    kl_first_tokens,
):
    """The definition, a token at a time, in Python floats."""
    totals = []
    for i in range(len(labels)):
        nll, divergences, trained = 0.0, [], 0
        for t in range(labels.shape[1]):
            p = [math.exp(x) for x in policy[i, t].tolist()]
            p = [x / sum(p) for x in p]
            r = [math.exp(x) for x in reference[i, t].tolist()]
            r = [x / sum(r) for x in r]
            predicts = t + 1 < labels.shape[1] and labels[i, t + 1] != IGNORED
            if predicts:
                nll -= math.log(p[int(labels[i, t + 1])])
                trained += 1
            if predicts if kl_span == "response" else mask[i, t] == 1:
                if safe_loss == "mse":
                    divergences.append(sum((a - b) ** 2 for a, b in zip(p, r, strict=True)))
                elif kl_direction == "forward":
                    divergences.append(sum(b * math.log(b / a) for a, b in zip(p, r, strict=True)))
                else:
                    divergences.append(sum(a * math.log(a / b) for a, b in zip(p, r, strict=True)))
        divergences = divergences[:kl_first_tokens]
        ce = nll / (trained if ce_normaliser == "response" else int(mask[i].sum()))
        totals.append(ce + beta * bool(harmful[i]) * sum(divergences) / len(divergences))
    return totals


@pytest.mark.parametrize("kl_first_tokens", [None, 2])
@pytest.mark.parametrize("ce_normaliser", ["response", "sequence"])
@pytest.mark.parametrize("kl_span", ["response", "sequence"])
@pytest.mark.parametrize(("safe_loss", "kl_direction"), [("kl", "forward"), ("kl", "reverse"), ("mse", "forward")])
def test_every_switch_against_the_loop(ce_normaliser, kl_span, safe_loss, kl_direction, kl_first_tokens):
    switches = {
        "kl_first_tokens": kl_first_tokens,
        "ce_normaliser": ce_normaliser,
        "kl_span": kl_span,
        "safe_loss": safe_loss,
        "kl_direction": kl_direction,
    }
    policy, reference, labels, mask, harmful = random_batch()
    loss = sarft_loss(policy, reference[harmful], labels, mask, harmful, beta=0.7, **switches)
    expected = loop(policy, reference, labels, mask, harmful, beta=0.7, **switches)
    torch.testing.assert_close(loss.total, torch.tensor(expected, dtype=torch.float64), rtol=0, atol=1e-12)
    single = sarft_loss(policy.float(), reference[harmful].float(), labels, mask, harmful, beta=0.7, **switches)
    torch.testing.assert_close(single.total.double(), loss.total, rtol=1e-6, atol=1e-6)


def test_hand_worked():
    # One flagged row of two trained tokens, each predicted with 1/4; the reference is uniform.
    policy = torch.tensor([[[0.0, L3], [0.0, L3], [5.0, 5.0]]])
    reference = torch.zeros(1, 3, 2)
    labels, mask = torch.tensor([[IGNORED, 0, 0]]), torch.ones(1, 3, dtype=torch.long)
    loss = sarft_loss(policy, reference, labels, mask, torch.tensor([True]), beta=0.5, **HOLDFAST)
    ce = math.log(4)
    kl = 0.5 * math.log(0.5 / 0.25) + 0.5 * math.log(0.5 / 0.75)  # = log(2 / sqrt 3)
    assert loss.role.item() == pytest.approx(ce, abs=1e-6)
    assert loss.safety.item() == pytest.approx(kl, abs=1e-6)
    assert loss.total.item() == pytest.approx(ce + 0.5 * kl, abs=1e-6)


def test_official_preset_is_the_published_arithmetic():
    """The published step spelt out: left padding, divisions by (tokens + 1e-5), KL at every unmasked position.

    Theirs adds 1e-5 to each divisor, ours does not: a relative difference of 1e-5 / tokens, hence the widths.
    """
    policy, reference, labels, mask, harmful = random_batch(seed=3, rows=4, width=48, dtype=torch.float32)
    rows, width, vocabulary = policy.shape
    beta = 0.5

    nll = F.cross_entropy(
        policy[..., :-1, :].reshape(-1, vocabulary),
        labels[..., 1:].reshape(-1),
        reduction="none",
        ignore_index=-100,
    )
    role_losses = nll.view(rows, -1).sum(1) / (mask.sum(1) + 1e-5)
    log_probs = F.log_softmax(policy.view(-1, vocabulary), dim=-1)
    probs_ref = F.softmax(reference.view(-1, vocabulary), dim=-1)
    kl = F.kl_div(log_probs, probs_ref, reduction="none").sum(-1).view(rows, width)
    kl = (kl * mask).sum(1) / (mask.sum(1) + 1e-5)
    published = beta * (kl * harmful).mean() + role_losses.mean()

    ours = sarft_loss(policy, reference[harmful], labels, mask, harmful, beta=beta, **OFFICIAL).total.mean()
    assert ours.item() == pytest.approx(published.item(), rel=1e-6)

    probs, mse_ref = policy.softmax(-1), reference.softmax(-1)
    mse = (probs - mse_ref).square().sum(-1)
    mse = (mse * mask).sum(1) / (mask.sum(1) + 1e-5)
    published = beta * (mse * harmful).mean() + role_losses.mean()
    switches = OFFICIAL | {"safe_loss": "mse"}
    ours = sarft_loss(policy, reference[harmful], labels, mask, harmful, beta=beta, **switches).total.mean()
    assert ours.item() == pytest.approx(published.item(), rel=1e-6)


@pytest.mark.parametrize("switches", [HOLDFAST, OFFICIAL, HOLDFAST | {"kl_direction": "reverse"}])
def test_gradient_reaches_the_policy_and_never_the_reference(switches):
    policy, reference, labels, mask, harmful = random_batch(rows=3, width=5, vocabulary=4)
    flagged = reference[harmful].clone().requires_grad_()
    policy.requires_grad_()
    total = sarft_loss(policy, flagged, labels, mask, harmful, beta=0.7, **switches).total.mean()
    total.backward()
    assert flagged.grad is None
    assert policy.grad.abs().sum() > 0

    def of_policy(logits):
        return sarft_loss(logits, reference[harmful], labels, mask, harmful, beta=0.7, **switches).total

    assert torch.autograd.gradcheck(of_policy, (policy.detach().requires_grad_(),))


@pytest.mark.parametrize("switches", [HOLDFAST, OFFICIAL])
def test_policy_equal_to_reference_leaves_cross_entropy(switches):
    policy, _, labels, mask, harmful = random_batch()
    anchored = sarft_loss(policy, policy[harmful], labels, mask, harmful, beta=5.0, **switches)
    plain = sarft_loss(policy, None, labels, mask, torch.zeros_like(harmful), beta=5.0, **switches)
    torch.testing.assert_close(anchored.total, plain.total, rtol=0, atol=1e-12)
    assert anchored.safety.abs().max() < 1e-12


@pytest.mark.parametrize("switches", [HOLDFAST, OFFICIAL])
def test_padding_order_and_masked_tokens_change_nothing(switches):
    policy, reference, labels, mask, harmful = random_batch()
    loss = sarft_loss(policy, reference[harmful], labels, mask, harmful, beta=0.7, **switches).total

    wide = [F.pad(x, (0, 0, 3, 0), value=7.0) for x in (policy, reference)]
    wide_labels, wide_mask = F.pad(labels, (3, 0), value=IGNORED), F.pad(mask, (3, 0))
    padded = sarft_loss(wide[0], wide[1][harmful], wide_labels, wide_mask, harmful, beta=0.7, **switches).total
    torch.testing.assert_close(padded, loss, rtol=0, atol=1e-12)

    order = torch.tensor([2, 0, 3, 1])
    flags = harmful[order]
    shuffled = sarft_loss(
        policy[order], reference[order][flags], labels[order], mask[order], flags, beta=0.7, **switches
    ).total
    torch.testing.assert_close(shuffled, loss[order], rtol=0, atol=1e-12)

    noisy = policy.masked_fill(mask[..., None] == 0, 99.0)
    masked = sarft_loss(noisy, reference[harmful], labels, mask, harmful, beta=0.7, **switches).total
    torch.testing.assert_close(masked, loss, rtol=0, atol=1e-12)


def test_logits_of_the_answer_alone_are_enough():
    policy, reference, labels, mask, harmful = random_batch()
    whole = sarft_loss(policy, reference[harmful], labels, mask, harmful, beta=0.7, **HOLDFAST).total
    kept = policy.shape[1] - 1  # the first trained token is token 2 of row 0, predicted from position 1
    narrow = sarft_loss(
        policy[:, -kept:], reference[harmful][:, -kept:], labels, mask, harmful, beta=0.7, **HOLDFAST
    ).total
    torch.testing.assert_close(narrow, whole, rtol=0, atol=0)


def test_unflagged_rows_pay_no_divergence():
    policy, reference, labels, mask, harmful = random_batch()
    loss = sarft_loss(policy, reference[harmful], labels, mask, harmful, beta=0.7, **HOLDFAST)
    assert loss.safety[~harmful].tolist() == [0.0, 0.0]
    assert (loss.safety[harmful] > 0).all()
