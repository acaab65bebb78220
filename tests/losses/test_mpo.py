"""MPO's loss against hand-worked numbers, an independent loop, and the published code's arithmetic."""

import math

import pytest
import torch
from torch import nn

from holdfast.losses.logprobs import IGNORED, summed_logps, trained_token_counts
from holdfast.losses.mpo import mpo_loss, reward_gaps

PUBLISHED = {
    "beta": 1.0,
    "retention_weight": 1.0,
    "huber_delta": None,
    "one_sided": False,
    "reference_target_gaps": None,
}


def random_terms(seed=0, pairs=4, width=6, dtype=torch.float64):
    """Gaps of the policy and of the reference, hidden states of both, and the reference's gaps on the targets."""
    generator = torch.Generator().manual_seed(seed)
    policy, reference, own = torch.randn(3, pairs, generator=generator, dtype=dtype)
    moved, held = torch.randn(2, pairs, width, generator=generator, dtype=dtype)
    return policy, reference, moved, held, own


def loop(policy, reference, moved, held, own, *, beta, retention_weight, huber_delta, one_sided):
    """The definition, a number at a time, in Python floats."""
    totals = []
    for i in range(len(policy)):
        gap = policy[i].item() - (0.0 if own is None else own[i].item())
        error = abs(beta * gap - reference[i].item())
        loss = error**2
        if huber_delta is not None and error > huber_delta:
            loss = huber_delta * (2 * error - huber_delta)
        if one_sided and beta * gap > reference[i].item():
            loss = 0.0
        if moved is not None:
            squares = [(a - b) ** 2 for a, b in zip(moved[i].tolist(), held[i].tolist(), strict=True)]
            loss += retention_weight * sum(squares) / len(squares)
        totals.append(loss)
    return torch.tensor(totals, dtype=torch.float64)


def test_hand_worked():
    counts = (torch.tensor([4]), torch.tensor([3]))
    logps = (torch.tensor([-2.0]), torch.tensor([-6.0]))
    gaps = reward_gaps(*logps, *counts, length_normalise=True)
    assert gaps.tolist() == [1.5]  # -1/2 + 2
    assert reward_gaps(*logps, *counts, length_normalise=False).tolist() == [4.0]

    hidden, held = torch.tensor([[1.0, 2.0]]), torch.zeros(1, 2)
    switches = PUBLISHED | {"beta": 2.0, "retention_weight": 0.5}
    loss = mpo_loss(gaps, torch.tensor([2.0]), hidden, held, **switches)
    assert (loss.gap.item(), loss.retention.item()) == (1.0, 2.5)  # (2 * 1.5 - 2)^2 and (1 + 4) / 2
    assert loss.total.item() == 2.25
    linear = mpo_loss(gaps, torch.tensor([2.0]), hidden, held, **switches | {"huber_delta": 0.5})
    assert linear.gap.item() == 0.75  # 0.5 * (2 * 1 - 0.5)
    relative = mpo_loss(
        gaps, torch.tensor([2.0]), hidden, held, **switches | {"reference_target_gaps": torch.tensor([1.25])}
    )
    assert relative.gap.item() == 2.25  # (2 * 0.25 - 2)^2


@pytest.mark.parametrize("huber_delta", [None, 0.8])
@pytest.mark.parametrize("one_sided", [False, True])
@pytest.mark.parametrize("relative", [False, True])
@pytest.mark.parametrize("retained", [False, True])
def test_every_switch_against_the_loop(huber_delta, one_sided, relative, retained):
    policy, reference, moved, held, own = random_terms(pairs=9)
    moved, held = (moved, held) if retained else (None, None)
    own = own if relative else None
    weights = {"beta": 1.5, "retention_weight": 0.7, "huber_delta": huber_delta, "one_sided": one_sided}
    loss = mpo_loss(policy, reference, moved, held, **weights, reference_target_gaps=own)
    expected = loop(policy, reference, moved, held, own, **weights)
    torch.testing.assert_close(loss.total, expected, rtol=0, atol=1e-12)

    singles = [None if x is None else x.float() for x in (policy, reference, moved, held, own)]
    single = mpo_loss(*singles[:4], **weights, reference_target_gaps=singles[4])
    torch.testing.assert_close(single.total.double(), expected, rtol=1e-6, atol=1e-6)


def test_the_published_arithmetic():
    """Its step spelt out: right padding, log-probabilities over the valid length, means over all positions of the
    chosen and the rejected sequence, padding included, and two MSELosses added up; here on a batch of three."""
    generator = torch.Generator().manual_seed(3)
    pairs, width, vocabulary, hidden_size, beta = 3, 10, 13, 5, 1.5

    def sequences():
        labels = torch.randint(0, vocabulary, (2 * pairs, width), generator=generator)
        labels[:, :3] = IGNORED
        for row in range(2 * pairs):
            labels[row, width - row :] = IGNORED  # padding
        return labels

    def outputs():
        logits = torch.randn(2 * pairs, width, vocabulary, generator=generator)
        return logits, torch.randn(2 * pairs, width, hidden_size, generator=generator)

    def concatenated_forward(logits, hidden, labels):
        labels = labels[:, 1:].clone()
        valid = labels != IGNORED
        labels[~valid] = 0
        per_token = torch.gather(logits[:, :-1].log_softmax(-1), 2, labels.unsqueeze(2)).squeeze(2)
        chosen, rejected = ((per_token * valid).sum(-1) / valid.sum(-1)).split(pairs)
        return chosen, rejected, hidden.mean(dim=1)

    source, target = sequences(), sequences()
    (_, moved), (policy_logits, _), (reference_logits, held) = outputs(), outputs(), outputs()
    target_chosen, target_rejected, _ = concatenated_forward(policy_logits, moved, target)
    source_chosen, source_rejected, held_means = concatenated_forward(reference_logits, held, source)
    published = nn.MSELoss()(beta * (target_chosen - target_rejected), source_chosen - source_rejected)
    published = published + nn.MSELoss()(moved.mean(dim=1), held_means)

    def gaps(logits, labels):
        counts = trained_token_counts(labels).chunk(2)
        return reward_gaps(*summed_logps(logits, labels).chunk(2), *counts, length_normalise=True)

    def by_pair(hidden):
        """(B, 2 * H): the means of a pair's two sequences side by side, as MPOTrainer holds them."""
        return torch.cat(hidden.mean(1).chunk(2), dim=-1)

    ours = mpo_loss(
        gaps(policy_logits, target),
        gaps(reference_logits, source),
        by_pair(moved),
        by_pair(held),
        **PUBLISHED | {"beta": beta},
    )
    assert ours.total.mean().item() == pytest.approx(published.item(), rel=1e-6)


@pytest.mark.parametrize("huber_delta", [None, 0.8])
def test_gradient_reaches_the_policy_and_never_the_reference(huber_delta):
    policy, reference, moved, held, own = (x.requires_grad_() for x in random_terms())
    switches = {"beta": 1.5, "retention_weight": 0.7, "huber_delta": huber_delta, "one_sided": False}
    loss = mpo_loss(policy, reference, moved, held, **switches, reference_target_gaps=own)
    loss.total.mean().backward()
    assert reference.grad is None
    assert held.grad is None
    assert own.grad is None
    assert (policy.grad != 0).all()
    assert (moved.grad != 0).all()
    assert not loss.gap.requires_grad
    assert not loss.retention.requires_grad

    def of_policy(gaps, hidden):
        return mpo_loss(gaps, reference, hidden, held, **switches, reference_target_gaps=own).total

    inputs = (policy.detach().requires_grad_(), moved.detach().requires_grad_())
    assert torch.autograd.gradcheck(of_policy, inputs)


def test_each_term_is_zero_where_it_must_be():
    policy, reference, moved, held, _ = random_terms()
    reached = mpo_loss(reference / 2, reference, moved, held, **PUBLISHED | {"beta": 2.0})
    assert reached.gap.tolist() == [0.0] * 4
    assert (reached.retention > 0).all()
    unmoved = mpo_loss(policy, reference, held, held, **PUBLISHED)
    assert unmoved.retention.tolist() == [0.0] * 4
    assert torch.equal(unmoved.total, unmoved.gap)
    nothing = mpo_loss(policy, reference, None, None, **PUBLISHED)
    assert nothing.retention.tolist() == [0.0] * 4
    assert torch.equal(nothing.total, unmoved.total)


def test_an_untrained_policy_has_a_dpo_style_gap_of_zero():
    """The error is then the dominant gap itself: the ablation asks a target to move by all of it."""
    _, reference, moved, _, own = random_terms()
    loss = mpo_loss(own, reference, moved, moved, **PUBLISHED | {"reference_target_gaps": own})
    torch.testing.assert_close(loss.total, reference**2)


def test_order_and_size_of_the_batch_change_nothing():
    terms = random_terms()
    order = torch.tensor([2, 0, 3, 1])
    whole = mpo_loss(*terms[:4], **PUBLISHED).total
    torch.testing.assert_close(mpo_loss(*(x[order] for x in terms[:4]), **PUBLISHED).total, whole[order])
    alone = [mpo_loss(*(x[i : i + 1] for x in terms[:4]), **PUBLISHED).total for i in range(4)]
    torch.testing.assert_close(torch.cat(alone), whole)


def test_means_over_tokens_know_no_length():
    logps, counts = (torch.tensor([-3.0]), torch.tensor([-8.0])), (torch.tensor([3]), torch.tensor([4]))
    longer = [7 * x for x in (*logps, *counts)]
    normalised = reward_gaps(*logps, *counts, length_normalise=True)
    assert torch.equal(reward_gaps(*longer, length_normalise=True), normalised)
    sums = reward_gaps(*logps, *counts, length_normalise=False)
    assert torch.equal(reward_gaps(*longer, length_normalise=False), 7 * sums)


def test_huber_bounds_the_pull_of_one_wrong_pair():
    """Below the threshold it is the square; beyond, the gradient stays at 2 * delta; there is no jump between."""
    errors = torch.tensor([0.3, 1.0, 1.0 + 1e-4, 100.0], requires_grad=True)
    loss = mpo_loss(errors, torch.zeros(4), None, None, **PUBLISHED | {"huber_delta": 1.0})
    loss.total.sum().backward()
    assert loss.gap.tolist() == pytest.approx([0.09, 1.0, 1.0002, 199.0], rel=1e-5)
    assert errors.grad.tolist() == pytest.approx([0.6, 2.0, 2.0, 2.0], rel=1e-5)


def test_one_sided_pulls_narrow_gaps_only():
    gaps = torch.tensor([1.0, 3.0], requires_grad=True)
    loss = mpo_loss(gaps, torch.full((2,), 2.0), None, None, **PUBLISHED | {"one_sided": True})
    loss.total.sum().backward()
    assert loss.gap.tolist() == [1.0, 0.0]
    assert gaps.grad.tolist() == [-2.0, 0.0]


def test_half_precision_is_computed_in_float32():
    halves = [x.bfloat16() for x in random_terms()]
    loss = mpo_loss(*halves[:4], **PUBLISHED | {"beta": 1.3, "reference_target_gaps": halves[4]})
    singles = [x.float() for x in halves]
    expected = mpo_loss(*singles[:4], **PUBLISHED | {"beta": 1.3, "reference_target_gaps": singles[4]})
    assert loss.total.dtype == torch.float32
    assert torch.equal(loss.total, expected.total)


def test_extreme_gaps_stay_finite():
    gaps = torch.tensor([1e6, -1e6], requires_grad=True)
    loss = mpo_loss(gaps, torch.zeros(2), None, None, **PUBLISHED)
    loss.total.sum().backward()
    assert loss.total.tolist() == pytest.approx([1e12, 1e12])
    assert all(math.isfinite(x) for x in gaps.grad.tolist())
