"""The preference losses against hand-worked numbers and an independent loop, and what each must and must not do.

`test_preference_against_trl.py` holds them against another implementation.
"""

import inspect
import math

import pytest
import torch

from holdfast.losses.preference import PREFERENCE_LOSSES, PairLogps, bind, robust_dpo_loss

NAMES = sorted(PREFERENCE_LOSSES)
WITH_REFERENCE = [name for name in NAMES if PREFERENCE_LOSSES[name].needs_reference]
WEIGHTS = {  # neither the defaults nor 1, so that a forgotten weight shows
    "sft": {},
    "dpo": {"beta": 0.3},
    "ipo": {"beta": 0.3},
    "robust_dpo": {"beta": 0.3, "label_noise": 0.2},
    "cpo": {"beta": 0.3, "sft_weight": 0.7},
    "kto": {"beta": 0.3, "desirable_weight": 0.8, "undesirable_weight": 1.3},
    "orpo": {"beta": 0.3},
    "r_dpo": {"beta": 0.3, "alpha": 0.05},
    "simpo": {"beta": 1.7, "gamma": 0.4},
}


def random_pairs(pairs=5, dtype=torch.float64, seed=0):
    generator = torch.Generator().manual_seed(seed)
    chosen_tokens = torch.randint(1, 30, (pairs,), generator=generator)
    rejected_tokens = torch.randint(1, 30, (pairs,), generator=generator)
    policy_chosen = -(0.1 + torch.rand(pairs, generator=generator, dtype=dtype)) * chosen_tokens
    policy_rejected = -(0.1 + torch.rand(pairs, generator=generator, dtype=dtype)) * rejected_tokens
    return PairLogps(
        policy_chosen,
        policy_rejected,
        policy_chosen + torch.randn(pairs, generator=generator, dtype=dtype),
        policy_rejected + torch.randn(pairs, generator=generator, dtype=dtype),
        chosen_tokens,
        rejected_tokens,
    )


def sigmoid(x):
    return 1 / (1 + math.exp(-x))


def loop(name, logps, w):
    """Every definition, a pair at a time, in Python floats, without the stable forms."""
    pairs = list(zip(*(field.tolist() for field in logps), strict=True))
    chosen_ratio_mean = max(0.0, sum(c - rc for c, _, rc, _, _, _ in pairs) / len(pairs))
    rejected_ratio_mean = max(0.0, sum(r - rr for _, r, _, rr, _, _ in pairs) / len(pairs))
    losses = []
    for chosen, rejected, reference_chosen, reference_rejected, n, m in pairs:
        a, b = chosen - reference_chosen, rejected - reference_rejected
        p, q = math.exp(chosen / n), math.exp(rejected / m)
        if name == "sft":
            loss = -chosen / n
        elif name == "dpo":
            loss = -math.log(sigmoid(w["beta"] * (a - b)))
        elif name == "ipo":
            loss = (a / n - b / m - 1 / (2 * w["beta"])) ** 2
        elif name == "robust_dpo":
            right, wrong = (-math.log(sigmoid(w["beta"] * d)) for d in (a - b, b - a))
            e = w["label_noise"]
            loss = ((1 - e) * right - e * wrong) / (1 - 2 * e)
        elif name == "cpo":
            loss = -math.log(sigmoid(w["beta"] * (chosen - rejected))) - w["sft_weight"] * chosen / n
        elif name == "kto":
            loss = w["desirable_weight"] * (1 - sigmoid(w["beta"] * (a - rejected_ratio_mean)))
            loss += w["undesirable_weight"] * (1 - sigmoid(w["beta"] * (chosen_ratio_mean - b)))
        elif name == "orpo":
            loss = -chosen / n - w["beta"] * math.log(sigmoid(math.log((p / (1 - p)) / (q / (1 - q)))))
        elif name == "r_dpo":
            loss = -math.log(sigmoid(w["beta"] * (a - b) + w["alpha"] * n - w["alpha"] * m))
        elif name == "simpo":
            loss = -math.log(sigmoid(w["beta"] * chosen / n - w["beta"] * rejected / m - w["gamma"]))
        losses.append(loss)
    return torch.tensor(losses, dtype=torch.float64)


# One pair: 4 tokens at -0.5 against 3 tokens at -2; log-ratios 1 and -1.
HAND = PairLogps(*(torch.tensor([x]) for x in (-2.0, -6.0, -3.0, -5.0)), torch.tensor([4]), torch.tensor([3]))
LOG_ODDS = math.log(math.exp(-0.5) / (1 - math.exp(-0.5))) - math.log(math.exp(-2) / (1 - math.exp(-2)))


@pytest.mark.parametrize(
    ("name", "weights", "expected"),
    [
        ("sft", {}, 0.5),
        ("dpo", {"beta": 0.5}, 0.3132617),  # log(1 + e^-1)
        ("ipo", {"beta": 0.5}, 25 / 144),  # (1/4 + 1/3 - 1)^2
        ("robust_dpo", {"beta": 0.5, "label_noise": 0.2}, (0.8 * 0.3132617 - 0.2 * 1.3132617) / 0.6),
        ("cpo", {"beta": 0.5, "sft_weight": 2.0}, 0.1269280 + 1.0),  # log(1 + e^-2) + 2 * 0.5
        # The points are max(-1, 0) = 0 and 1: 1 - sigma(0.5) and twice 1 - sigma(1).
        ("kto", {"beta": 0.5, "desirable_weight": 1.0, "undesirable_weight": 2.0}, 0.3775407 + 2 * 0.2689414),
        ("orpo", {"beta": 0.1}, 0.5 + 0.1 * math.log(1 + math.exp(-LOG_ODDS))),
        ("r_dpo", {"beta": 0.5, "alpha": 0.25}, 0.2519296),  # log(1 + e^-(1 + 0.25))
        ("simpo", {"beta": 2.0, "gamma": 1.0}, 0.1269280),  # log(1 + e^-(3 - 1))
    ],
)
def test_hand_worked(name, weights, expected):
    assert bind(name, **weights)(HAND).tolist() == pytest.approx([expected], abs=1e-6)


@pytest.mark.parametrize("name", NAMES)
def test_against_the_loop(name):
    logps, weights = random_pairs(), WEIGHTS[name]
    exact = loop(name, logps, weights)
    torch.testing.assert_close(bind(name, **weights)(logps), exact, rtol=0, atol=1e-12)
    single = PairLogps(*(x.float() if x.is_floating_point() else x for x in logps))
    torch.testing.assert_close(bind(name, **weights)(single).double(), exact, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", NAMES)
def test_gradients(name):
    logps = random_pairs()

    # KTO's reference points count as constants, which finite differences of the whole cannot know: differences there
    # are taken at a batch whose log-ratios have negative means, where both points are 0.
    if name == "kto":
        reference = [x + 5.0 for x in logps[:2]]
        logps = logps._replace(reference_chosen_logps=reference[0], reference_rejected_logps=reference[1])

    def of_policy(chosen, rejected):
        return bind(name, **WEIGHTS[name])(PairLogps(chosen, rejected, *logps[2:]))

    policy = tuple(x.clone().requires_grad_() for x in logps[:2])
    if name == "sft":
        assert torch.autograd.gradcheck(lambda chosen: of_policy(chosen, logps[1]), policy[:1])
    else:
        assert torch.autograd.gradcheck(of_policy, policy)


@pytest.mark.parametrize("name", WITH_REFERENCE)
def test_no_gradient_reaches_the_reference(name):
    logps = PairLogps(*(x.clone().requires_grad_() for x in random_pairs()[:4]), *random_pairs()[4:])
    bind(name, **WEIGHTS[name])(logps).mean().backward()
    assert logps.reference_chosen_logps.grad is None
    assert logps.reference_rejected_logps.grad is None
    assert (logps.policy_chosen_logps.grad < 0).all()  # a more likely chosen answer lowers every loss
    assert (logps.policy_rejected_logps.grad > 0).all() or name in ("ipo", "robust_dpo")


def test_ktos_points_carry_no_gradient():
    """Else the gradients of a batch of one, whose point is its own log-ratio, would cancel."""
    policy = torch.tensor([-2.0], requires_grad=True)
    bind("kto", beta=0.5)(HAND._replace(policy_chosen_logps=policy)).sum().backward()
    assert policy.grad.item() == pytest.approx(-0.5 * sigmoid(0.5) * (1 - sigmoid(0.5)), abs=1e-6)


@pytest.mark.parametrize("name", NAMES)
def test_the_order_of_pairs_changes_nothing(name):
    logps, order = random_pairs(), torch.tensor([3, 0, 4, 1, 2])
    loss = bind(name, **WEIGHTS[name])
    shuffled = loss(PairLogps(*(x[order] for x in logps)))
    torch.testing.assert_close(shuffled, loss(logps)[order], rtol=0, atol=1e-12)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("dpo", math.log(2)),
        ("ipo", (1 / 0.6) ** 2),
        ("robust_dpo", math.log(2)),
        ("kto", (0.8 + 1.3) / 2),
        ("r_dpo", math.log(2)),
    ],
)
def test_an_untrained_policy_has_the_known_value(name, expected):
    logps = random_pairs()
    logps = logps._replace(
        reference_chosen_logps=logps.policy_chosen_logps,
        reference_rejected_logps=logps.policy_rejected_logps,
        rejected_tokens=logps.chosen_tokens,
    )
    loss = bind(name, **WEIGHTS[name])(logps)
    torch.testing.assert_close(loss, torch.full_like(loss, expected))


@pytest.mark.parametrize("name", ["sft", "ipo", "orpo", "simpo"])
def test_these_see_means_over_tokens_alone(name):
    logps, loss = random_pairs(), bind(name, **WEIGHTS[name])
    torch.testing.assert_close(loss(PairLogps(*(3 * x for x in logps))), loss(logps), rtol=0, atol=1e-12)


@pytest.mark.parametrize("name", ["dpo", "robust_dpo", "kto"])
def test_these_see_no_lengths(name):
    logps, loss = random_pairs(), bind(name, **WEIGHTS[name])
    longer = logps._replace(chosen_tokens=7 * logps.chosen_tokens)
    assert torch.equal(loss(longer), loss(logps))


def test_special_cases_are_dpo():
    logps, dpo = random_pairs(), bind("dpo", beta=0.3)(random_pairs())
    torch.testing.assert_close(bind("robust_dpo", beta=0.3, label_noise=0.0)(logps), dpo)
    torch.testing.assert_close(bind("r_dpo", beta=0.3, alpha=0.0)(logps), dpo)
    uniform = logps._replace(
        reference_chosen_logps=torch.zeros_like(dpo), reference_rejected_logps=torch.zeros_like(dpo)
    )
    torch.testing.assert_close(bind("cpo", beta=0.3, sft_weight=0.0)(logps), bind("dpo", beta=0.3)(uniform))


def test_robust_dpo_is_unbiased():
    """Over labels that are wrong with probability e, its mean is DPO's loss on the right ones."""
    logps = random_pairs()
    flipped = PairLogps(*(logps[i] for i in (1, 0, 3, 2, 5, 4)))
    right, wrong = (robust_dpo_loss(pairs, beta=0.3, label_noise=0.2) for pairs in (logps, flipped))
    torch.testing.assert_close(0.8 * right + 0.2 * wrong, bind("dpo", beta=0.3)(logps))


def test_r_dpo_learns_less_from_a_longer_chosen_answer():
    def push(chosen_tokens):
        policy = torch.tensor([-2.0], requires_grad=True)
        pair = HAND._replace(policy_chosen_logps=policy, chosen_tokens=torch.tensor([chosen_tokens]))
        bind("r_dpo", beta=0.5, alpha=0.1)(pair).sum().backward()
        return -policy.grad.item()

    assert push(1) > push(3) > push(30) > 0


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(("chosen", "rejected"), [(0.0, -1e4), (-1e4, 0.0), (0.0, 0.0), (-1e4, -1e4)])
def test_extreme_answers_stay_finite(name, chosen, rejected):
    """Certain and impossible answers, in float32: the value and its gradient."""
    policy = [torch.tensor([x], requires_grad=True) for x in (chosen, rejected)]
    reference = [torch.tensor([-50.0]), torch.tensor([-50.0])]
    loss = bind(name, **WEIGHTS[name])(PairLogps(*policy, *reference, torch.tensor([9]), torch.tensor([5])))
    loss.sum().backward()
    assert loss.isfinite().all()
    assert all(x.grad is None or x.grad.isfinite().all() for x in policy)


@pytest.mark.parametrize("name", NAMES)
def test_half_precision_is_computed_in_float32(name):
    half = PairLogps(*(x.bfloat16() if x.is_floating_point() else x for x in random_pairs()))
    single = PairLogps(*(x.float() if x.is_floating_point() else x for x in half))
    loss = bind(name, **WEIGHTS[name])
    assert loss(half).dtype == torch.float32
    assert torch.equal(loss(half), loss(single))


@pytest.mark.parametrize("name", NAMES)
def test_the_registry_tells_the_truth(name):
    entry = PREFERENCE_LOSSES[name]
    parameters = list(inspect.signature(entry.function).parameters.values())[1:]
    assert [parameter.name for parameter in parameters] == list(entry.weights)
    assert all(parameter.kind is parameter.KEYWORD_ONLY for parameter in parameters)
    assert entry.function.__name__ == f"{name}_loss"

    alone = random_pairs()._replace(reference_chosen_logps=None, reference_rejected_logps=None)
    if entry.needs_reference:
        with pytest.raises(ValueError, match="needs the reference's log-probabilities"):
            bind(name)(alone)
    else:
        assert torch.equal(bind(name)(alone), bind(name)(random_pairs()))


def test_weights_that_are_not_given_stand_at_their_defaults():
    logps = random_pairs()
    assert torch.equal(bind("simpo", gamma=0.3)(logps), bind("simpo", beta=2.0, gamma=0.3)(logps))
    assert not torch.equal(bind("simpo", gamma=0.3)(logps), bind("simpo")(logps))


@pytest.mark.parametrize(
    ("name", "weights", "message"),
    [
        ("ppo", {}, "unknown loss 'ppo'; choose one of sft, dpo"),
        ("sft", {"beta": 1.0}, "sft has no weight 'beta'; it has no weights"),
        ("r_dpo", {"gamma": 1.0}, "r_dpo has no weight 'gamma'; it has beta, alpha"),
        ("ipo", {"beta": 0.0}, "ipo: beta must be above 0, got 0.0"),
        ("robust_dpo", {"label_noise": 0.5}, r"robust_dpo: label_noise must be in \[0, 0.5\), got 0.5"),
    ],
)
def test_what_makes_no_loss_is_refused(name, weights, message):
    with pytest.raises(ValueError, match=message):
        bind(name, **weights)
