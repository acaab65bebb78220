"""Divergence over k + 1 outcomes: worked by hand, against a float64 loop, and beside the full one."""

import math

import pytest
import torch

from holdfast.losses.sarft import divergence_from_reference, sarft_loss
from holdfast.losses.top_k import TopKLogps, divergence_from_top_k, top_k_of
from tests.losses.test_sarft import HOLDFAST, OFFICIAL, random_batch

DIRECTIONS = ("forward", "reverse")


def random_logits(positions=50, vocabulary=11, scale=3.0, seed=0, dtype=torch.float64):
    """Of a policy and a reference."""
    generator = torch.Generator().manual_seed(seed)
    shape = (2, positions, vocabulary)
    return torch.unbind(scale * torch.randn(shape, generator=generator, dtype=dtype))


def full_kl(policy, reference, direction):
    return divergence_from_reference(policy, reference, kind="kl", direction=direction)


def top_k_kl(policy, reference, k, direction):
    return divergence_from_top_k(policy.log_softmax(-1), top_k_of(reference, k), direction=direction)


def test_worked_by_hand_with_one_token():
    # q = (1/2, 1/4, 1/4) and p = (1/4, 1/4, 1/2): the likeliest token of q, and 1/2 against 3/4 for the rest.
    reference, policy = torch.tensor([[0.5, 0.25, 0.25]]).log(), torch.tensor([[0.25, 0.25, 0.5]]).log()
    kept = top_k_of(reference + 7.0, 1)  # logits, not normalised
    assert kept.tokens.tolist() == [[0]]
    assert kept.logps.item() == pytest.approx(math.log(0.5), abs=1e-6)
    assert kept.rest.item() == pytest.approx(math.log(0.5), abs=1e-6)
    forward = 0.5 * math.log(0.5 / 0.25) + 0.5 * math.log(0.5 / 0.75)
    reverse = 0.25 * math.log(0.25 / 0.5) + 0.75 * math.log(0.75 / 0.5)
    for direction, expected in (("forward", forward), ("reverse", reverse)):
        assert divergence_from_top_k(policy, kept, direction=direction).item() == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("direction", DIRECTIONS)
@pytest.mark.parametrize("k", [1, 4, 10])
def test_a_float64_loop(k, direction):
    policy, reference = random_logits(positions=6)
    found = top_k_kl(policy, reference, k, direction)
    for position in range(6):
        p, q = ([math.exp(x) for x in logits[position].tolist()] for logits in (policy, reference))
        p, q = [x / sum(p) for x in p], [x / sum(q) for x in q]
        best = sorted(range(len(q)), key=lambda token: -q[token])[:k]
        outcomes = [(p[token], q[token]) for token in best] + [
            tuple(sum(x[token] for token in range(len(q)) if token not in best) for x in (p, q))
        ]
        if direction == "forward":
            expected = sum(b * math.log(b / a) for a, b in outcomes)
        else:
            expected = sum(a * math.log(a / b) for a, b in outcomes)
        assert found[position].item() == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("direction", DIRECTIONS)
@pytest.mark.parametrize("k", [10, 11])
def test_with_all_tokens_but_one_it_is_the_full_divergence(k, direction):
    policy, reference = random_logits(dtype=torch.float32)
    torch.testing.assert_close(
        top_k_kl(policy, reference, k, direction), full_kl(policy, reference, direction), rtol=1e-5, atol=1e-5
    )


@pytest.mark.parametrize("direction", DIRECTIONS)
def test_a_lower_bound_that_grows_with_k_and_lacks_what_the_module_says(direction):
    policy, reference = random_logits(positions=200)
    full = full_kl(policy, reference, direction)
    below = torch.zeros_like(full)
    for k in (1, 2, 5, 9):
        found = top_k_kl(policy, reference, k, direction)
        assert (found <= full + 1e-12).all()
        assert (found >= below - 1e-12).all()
        below = found

        others = torch.ones_like(reference, dtype=torch.bool).scatter(1, top_k_of(reference, k).tokens, False)
        p, q = (logits.softmax(-1)[others].view(200, -1) for logits in (policy, reference))
        mass = (q if direction == "forward" else p).sum(-1)
        p, q = p / p.sum(-1, keepdim=True), q / q.sum(-1, keepdim=True)
        within = (q * (q / p).log() if direction == "forward" else p * (p / q).log()).sum(-1)
        torch.testing.assert_close(full - found, mass * within, rtol=0, atol=1e-10)


@pytest.mark.parametrize("direction", DIRECTIONS)
@pytest.mark.parametrize("k", [1, 3, 6, 7])
def test_gradient(k, direction):
    policy, reference = random_logits(positions=5, vocabulary=7)
    kept = top_k_of(reference, k)
    assert torch.autograd.gradcheck(
        lambda logits: divergence_from_top_k(logits.log_softmax(-1), kept, direction=direction),
        (policy.clone().requires_grad_(),),
    )


@pytest.mark.parametrize("direction", DIRECTIONS)
def test_no_gradient_reaches_the_reference(direction):
    policy, reference = (logits.requires_grad_() for logits in random_logits(positions=5))
    top_k_kl(policy, reference, 3, direction).sum().backward()
    assert reference.grad is None
    assert policy.grad.abs().sum() > 0


@pytest.mark.parametrize("direction", DIRECTIONS)
@pytest.mark.parametrize("reference_gap", [20.0, 100.0, 300.0])
@pytest.mark.parametrize("policy_gap", [0.0, 20.0, 100.0])
def test_masses_that_float32_cannot_tell_from_none(reference_gap, policy_gap, direction):
    """Log of the rest's mass is exact however small it is, where 1 less the likeliest token's is 0."""
    policy, reference = torch.zeros(1, 6), torch.zeros(1, 6)
    policy[0, 2], reference[0, 2] = policy_gap, reference_gap
    assert top_k_of(reference, 1).rest.item() == pytest.approx(math.log(5) - reference_gap, abs=1e-5)
    policy.requires_grad_()
    found = top_k_kl(policy, reference, 1, direction)
    found.sum().backward()
    gradient = policy.grad.clone()
    policy.grad = None
    exact = policy.detach().double().requires_grad_()
    expected = full_kl(exact, reference.double(), direction)  # the others are alike, so nothing is left out
    expected.sum().backward()
    torch.testing.assert_close(found.double(), expected, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(gradient.double(), exact.grad, rtol=1e-5, atol=1e-6)


# --- within SaRFT's loss

REVERSE = HOLDFAST | {"kl_direction": "reverse"}
FIRST = HOLDFAST | {"kl_first_tokens": 2}
SWITCHES = [HOLDFAST, OFFICIAL, REVERSE, FIRST]


def at_anchored(reference, labels, mask, harmful, k, switches):
    """The reference's k likeliest tokens, row by row and position by position, found by a loop."""
    kept = []
    for i in range(len(labels)):
        if not harmful[i]:
            continue
        places = [
            t
            for t in range(labels.shape[1])
            if (
                mask[i, t] == 1
                if switches["kl_span"] == "sequence"
                else t + 1 < labels.shape[1] and labels[i, t + 1] != -100
            )
        ]
        kept += [reference[i, t] for t in places[: switches["kl_first_tokens"]]]
    return top_k_of(torch.stack(kept), k)


@pytest.mark.parametrize("switches", SWITCHES)
@pytest.mark.parametrize("k", [12, 13])
def test_sarft_with_all_tokens_is_sarft_with_the_reference_s_logits(k, switches):
    policy, reference, labels, mask, harmful = random_batch()
    kept = at_anchored(reference, labels, mask, harmful, k, switches)
    whole = sarft_loss(policy, reference[harmful], labels, mask, harmful, beta=0.7, **switches)
    ours = sarft_loss(policy, kept, labels, mask, harmful, beta=0.7, **switches)
    for found, expected in zip(ours, whole, strict=True):
        torch.testing.assert_close(found, expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize("switches", SWITCHES)
def test_sarft_s_safety_is_the_mean_of_the_divergence_and_never_above_the_full_one(switches):
    policy, reference, labels, mask, harmful = random_batch()
    kept = at_anchored(reference, labels, mask, harmful, 3, switches)
    of_policy = at_anchored(policy, labels, mask, harmful, 13, switches)  # its logps at the same positions
    policy_logps = torch.empty_like(of_policy.logps).scatter(1, of_policy.tokens, of_policy.logps)
    divergences = divergence_from_top_k(policy_logps, kept, direction=switches["kl_direction"])
    counts = [
        len(at_anchored(reference, labels, mask, harmful & (torch.arange(4) == i), 1, switches).tokens)
        for i in harmful.nonzero().flatten().tolist()
    ]
    ours = sarft_loss(policy, kept, labels, mask, harmful, beta=0.7, **switches)
    expected = torch.stack([own.mean() for own in divergences.split(counts)])
    torch.testing.assert_close(ours.safety[harmful], expected, rtol=0, atol=1e-12)
    assert ours.safety[~harmful].tolist() == [0.0, 0.0]
    whole = sarft_loss(policy, reference[harmful], labels, mask, harmful, beta=0.7, **switches)
    assert (ours.safety[harmful] < whole.safety[harmful]).all()
    torch.testing.assert_close(ours.role, whole.role, rtol=0, atol=1e-12)


@pytest.mark.parametrize("switches", SWITCHES)
def test_sarft_s_gradient(switches):
    policy, reference, labels, mask, harmful = random_batch(rows=3, width=5, vocabulary=4)
    kept = at_anchored(reference, labels, mask, harmful, 2, switches)
    assert torch.autograd.gradcheck(
        lambda logits: sarft_loss(logits, kept, labels, mask, harmful, beta=0.7, **switches).total,
        (policy.requires_grad_(),),
    )


def test_stored_types_do():
    """int32 tokens and float32 log-probabilities, as they are kept on disk, for a policy in any precision."""
    policy, reference, labels, mask, harmful = random_batch()
    kept = at_anchored(reference, labels, mask, harmful, 3, HOLDFAST)
    stored = TopKLogps(kept.tokens.int(), kept.logps.float(), kept.rest.float())
    exact = sarft_loss(policy, kept, labels, mask, harmful, beta=0.7, **HOLDFAST).total
    for logits in (policy, policy.float(), policy.bfloat16()):
        found = sarft_loss(logits, stored, labels, mask, harmful, beta=0.7, **HOLDFAST).total
        torch.testing.assert_close(
            found.double(), exact, rtol=0.02 if logits.dtype == torch.bfloat16 else 1e-6, atol=0
        )


def test_mse_and_other_positions_are_refused():
    policy, reference, labels, mask, harmful = random_batch()
    kept = at_anchored(reference, labels, mask, harmful, 3, HOLDFAST)
    with pytest.raises(ValueError, match="mse needs the reference's whole distribution"):
        sarft_loss(policy, kept, labels, mask, harmful, beta=0.7, **HOLDFAST | {"safe_loss": "mse"})
    with pytest.raises(ValueError, match=r"of 12 positions, 16 are anchored"):
        sarft_loss(policy, kept, labels, mask, harmful, beta=0.7, **OFFICIAL)
