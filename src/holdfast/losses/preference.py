"""Preference losses over the same four log-probability tensors: the baselines that MPO is compared with.

Each is a pure function of `PairLogps` and its weights, and returns one value a pair; a batch's loss is their mean.
Notation: w the chosen and l the rejected answer, pi the policy, ref the frozen reference, |y| tokens,
logp summed and mean_logp averaged over an answer's tokens, sigma the logistic function.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from holdfast.losses.deferred import at_least_float32


class PairLogps(NamedTuple):
    """B pairs. Log-probabilities are summed over the answers' tokens, in nats."""

    policy_chosen_logps: Tensor  # (B,)
    policy_rejected_logps: Tensor  # (B,)
    reference_chosen_logps: Tensor | None  # (B,), None where a loss needs no reference
    reference_rejected_logps: Tensor | None  # (B,)
    chosen_tokens: Tensor  # (B,)
    rejected_tokens: Tensor  # (B,)


def chosen_means(logps: PairLogps) -> Tensor:
    """(B,) mean_logp of the chosen answers under the policy."""
    return at_least_float32(logps.policy_chosen_logps) / logps.chosen_tokens


def rejected_means(logps: PairLogps) -> Tensor:
    """(B,) mean_logp of the rejected answers under the policy."""
    return at_least_float32(logps.policy_rejected_logps) / logps.rejected_tokens


def log_ratios(logps: PairLogps) -> tuple[Tensor, Tensor]:
    """(B,), (B,) log pi(y)/ref(y) of the chosen and the rejected answers; no gradient into the reference."""
    if logps.reference_chosen_logps is None or logps.reference_rejected_logps is None:
        raise ValueError("this loss needs the reference's log-probabilities")
    return (
        at_least_float32(logps.policy_chosen_logps) - logps.reference_chosen_logps.detach(),
        at_least_float32(logps.policy_rejected_logps) - logps.reference_rejected_logps.detach(),
    )


def sft_loss(logps: PairLogps) -> Tensor:
    """-mean_logp(w): plain fine-tuning on the chosen answers.

    Each row weighs the same. TRL averages over the tokens of the batch, which weighs row i by |w_i|.
    """
    return -chosen_means(logps)


def dpo_loss(logps: PairLogps, *, beta: float) -> Tensor:
    """-log sigma(beta * [log pi(w)/ref(w) - log pi(l)/ref(l)]), equation 7 of https://arxiv.org/abs/2305.18290."""
    chosen, rejected = log_ratios(logps)
    return -F.logsigmoid(beta * (chosen - rejected))


def ipo_loss(logps: PairLogps, *, beta: float) -> Tensor:
    """(h - 1 / (2 beta))^2, equation 17 of https://arxiv.org/abs/2310.12036 (there tau).

    h is the difference of the log-ratios averaged over the answers' tokens, as the authors recommend to
    implementers and as TRL does; the paper writes sums.
    """
    chosen, rejected = log_ratios(logps)
    return (chosen / logps.chosen_tokens - rejected / logps.rejected_tokens - 1 / (2 * beta)).square()


def robust_dpo_loss(logps: PairLogps, *, beta: float, label_noise: float) -> Tensor:
    """[(1 - e) * dpo(w, l) - e * dpo(l, w)] / (1 - 2 e), https://arxiv.org/abs/2403.00409.

    `label_noise` e, below 0.5, is the share of pairs believed to be the wrong way round; the estimate is unbiased.
    """
    chosen, rejected = log_ratios(logps)
    margin = beta * (chosen - rejected)
    return (-(1 - label_noise) * F.logsigmoid(margin) + label_noise * F.logsigmoid(-margin)) / (
        1 - 2 * label_noise
    )


def cpo_loss(logps: PairLogps, *, beta: float, sft_weight: float) -> Tensor:
    """-log sigma(beta * [logp(w) - logp(l)]) - sft_weight * mean_logp(w), https://arxiv.org/abs/2401.08417.

    DPO with a uniform reference, which cancels, and a fine-tuning term, which is `sft_loss`: a mean over the answer's
    tokens where the paper writes their sum and TRL averages over the tokens of the batch.
    """
    margin = beta * (at_least_float32(logps.policy_chosen_logps) - logps.policy_rejected_logps)
    return -F.logsigmoid(margin) - sft_weight * chosen_means(logps)


def kto_loss(logps: PairLogps, *, beta: float, desirable_weight: float, undesirable_weight: float) -> Tensor:
    """KTO on pairs, https://arxiv.org/abs/2402.01306, summed over a pair's two answers.

    d * [1 - sigma(beta * (r_w - z_l))] + u * [1 - sigma(beta * (z_w - r_l))] with r the log-ratio. The paper's
    reference point z is KL(pi || ref), estimated from mismatched prompts and answers, which costs another forward.
    Here z_w and z_l are the batch means of the chosen and rejected log-ratios, cut at 0 and without a gradient: the
    paired form that TRL had as `kto_pair`. It needs several pairs in a batch. TRL's KTOTrainer has one z for both
    kinds, and averages over the 2B answers where this sums a pair's two.
    """
    chosen, rejected = log_ratios(logps)
    chosen_point, rejected_point = (ratio.detach().mean().clamp(min=0) for ratio in (chosen, rejected))
    desirable = 1 - torch.sigmoid(beta * (chosen - rejected_point))
    undesirable = 1 - torch.sigmoid(beta * (chosen_point - rejected))
    return desirable_weight * desirable + undesirable_weight * undesirable


def orpo_loss(logps: PairLogps, *, beta: float) -> Tensor:
    """-mean_logp(w) - beta * log sigma(log odds(w) / odds(l)), equations 6 and 7 of https://arxiv.org/abs/2403.07691.

    odds(y) = p / (1 - p) with p = exp(mean_logp(y)); beta is the paper's lambda. The first term is over the answer;
    TRL's is over prompt and answer, and over the tokens of the batch.
    """
    chosen, rejected = chosen_means(logps), rejected_means(logps)
    log_odds = (chosen - rejected) - (_log1mexp(chosen) - _log1mexp(rejected))
    return -chosen - beta * F.logsigmoid(log_odds)


def r_dpo_loss(logps: PairLogps, *, beta: float, alpha: float) -> Tensor:
    """-log sigma(beta * [log pi(w)/ref(w) - log pi(l)/ref(l)] + alpha * (|w| - |l|)), https://arxiv.org/abs/2403.19159.

    Length-regularised DPO: the reward r(y) less alpha * |y| is maximised, hence r = beta * log pi/ref + alpha * |y|
    up to a constant. A chosen answer's extra length explains a part of its win, and the policy learns less from it.
    """
    chosen, rejected = log_ratios(logps)
    longer_by = (logps.chosen_tokens - logps.rejected_tokens).to(chosen.dtype)  # (B,); alpha * int64 is float32
    return -F.logsigmoid(beta * (chosen - rejected) + alpha * longer_by)


def simpo_loss(logps: PairLogps, *, beta: float, gamma: float) -> Tensor:
    """-log sigma(beta * [mean_logp(w) - mean_logp(l)] - gamma), equation 6 of https://arxiv.org/abs/2405.14734."""
    return -F.logsigmoid(beta * (chosen_means(logps) - rejected_means(logps)) - gamma)


def _log1mexp(logp: Tensor) -> Tensor:
    """log(1 - exp(logp)) for logp < 0; an answer that is certain counts as one that is nearly so."""
    return torch.log(-torch.expm1(logp.clamp(max=-1e-6)))


@dataclass(frozen=True)
class PreferenceLoss:
    """A loss, its weights with their defaults, and where it comes from."""

    function: Callable[..., Tensor]
    needs_reference: bool
    weights: Mapping[str, float]
    source: str


# The defaults are the values that the papers, or SimPO's comparison of all of them, recommend to start from.
PREFERENCE_LOSSES: dict[str, PreferenceLoss] = {
    "sft": PreferenceLoss(sft_loss, False, {}, "fine-tuning on the safe answers"),
    "dpo": PreferenceLoss(dpo_loss, True, {"beta": 0.1}, "DPO, arXiv 2305.18290"),
    "ipo": PreferenceLoss(ipo_loss, True, {"beta": 0.1}, "IPO, arXiv 2310.12036"),
    "robust_dpo": PreferenceLoss(
        robust_dpo_loss, True, {"beta": 0.1, "label_noise": 0.1}, "robust DPO, arXiv 2403.00409"
    ),
    "cpo": PreferenceLoss(cpo_loss, False, {"beta": 0.1, "sft_weight": 1.0}, "CPO, arXiv 2401.08417"),
    "kto": PreferenceLoss(
        kto_loss,
        True,
        {"beta": 0.1, "desirable_weight": 1.0, "undesirable_weight": 1.0},
        "KTO in its paired form, arXiv 2402.01306",
    ),
    "orpo": PreferenceLoss(orpo_loss, False, {"beta": 0.1}, "ORPO, arXiv 2403.07691"),
    "r_dpo": PreferenceLoss(r_dpo_loss, True, {"beta": 0.1, "alpha": 0.01}, "R-DPO, arXiv 2403.19159"),
    "simpo": PreferenceLoss(simpo_loss, False, {"beta": 2.0, "gamma": 1.0}, "SimPO, arXiv 2405.14734"),
}


def bind(name: str, **weights: float) -> Callable[[PairLogps], Tensor]:
    """The loss `name` with the given weights, the others at their defaults.

    Raises ValueError for an unknown name or weight, or a weight that makes no loss.
    """
    if name not in PREFERENCE_LOSSES:
        raise ValueError(f"unknown loss {name!r}; choose one of {', '.join(PREFERENCE_LOSSES)}")
    loss = PREFERENCE_LOSSES[name]
    unknown = sorted(set(weights) - set(loss.weights))
    if unknown:
        known = ", ".join(loss.weights) or "no weights"
        raise ValueError(f"{name} has no weight {unknown[0]!r}; it has {known}")
    bound = dict(loss.weights) | weights
    if bound.get("beta", 1.0) <= 0:
        raise ValueError(f"{name}: beta must be above 0, got {bound['beta']}")
    if not 0 <= bound.get("label_noise", 0.0) < 0.5:
        raise ValueError(f"{name}: label_noise must be in [0, 0.5), got {bound['label_noise']}")
    return partial(loss.function, **bound)
