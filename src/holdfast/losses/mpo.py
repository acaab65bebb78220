"""MPO: reward gaps of target languages pulled to the dominant language's, whose hidden states are held.

Paper: "MPO: Multilingual Safety Alignment via Reward Gap Optimization", https://arxiv.org/abs/2505.16869. (In TRL's
documentation MPO is another method, Mixed Preference Optimization.)
"""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from holdfast.losses.deferred import at_least_float32


class MPOLoss(NamedTuple):
    """Per-pair terms, each (B,). A batch's loss is the mean of `total`; the others carry no gradient."""

    total: Tensor  # gap + retention_weight * retention
    gap: Tensor  # L1
    retention: Tensor  # L2, 0 where nothing is held


def reward_gaps(
    chosen_logps: Tensor,
    rejected_logps: Tensor,
    chosen_tokens: Tensor,
    rejected_tokens: Tensor,
    *,
    length_normalise: bool,
) -> Tensor:
    """(B,) RG(x, y_w, y_l): the safe answer's log-probability minus the unsafe one's, in nats.

    Args:
        chosen_logps, rejected_logps: (B,) summed over the answers' tokens.
        chosen_tokens, rejected_tokens: (B,) how many these are.
        length_normalise: means over tokens (the paper's) instead of sums (its ablation).
    """
    if not length_normalise:
        return chosen_logps - rejected_logps
    return chosen_logps / chosen_tokens - rejected_logps / rejected_tokens


def mpo_loss(
    policy_target_gaps: Tensor,
    reference_dominant_gaps: Tensor,
    policy_hidden: Tensor | None,
    reference_hidden: Tensor | None,
    *,
    beta: float,
    retention_weight: float,
    huber_delta: float | None,
    one_sided: bool,
    reference_target_gaps: Tensor | None,
) -> MPOLoss:
    """L_i = L1_i + retention_weight * L2_i.

    L1_i = e_i^2 with e_i = beta * RG_theta(target i) - RG_ref(dominant i). With `huber_delta` d the error counts
    e^2 up to |e| = d and d * (2 |e| - d) beyond it, so that single pairs with a wrong answer pull less. With
    `one_sided` a gap that is wider than the dominant's is no error: max(e, 0) counts nothing.
    L2_i = mean over the elements of (h_theta - h_ref)^2, for the dominant pair of row i.

    Args:
        policy_target_gaps: (B,) reward gaps of the policy; the gradient flows through them and `policy_hidden`.
        reference_dominant_gaps: (B,) reward gaps of the frozen reference on each row's dominant pair.
        policy_hidden, reference_hidden: (B, H) hidden states on the dominant pair, None where nothing is held.
        beta: scale of the policy's gap.
        retention_weight: weight of L2 (published: 1).
        huber_delta: None squares every error, as published.
        one_sided: only gaps that are too small are errors; False as published.
        reference_target_gaps: (B,) the reference's gap on the target pair itself, for the DPO-style gap of the
            paper's ablation: the policy's gap is then taken relative to it. What it is pulled to stays the plain
            dominant gap: taken relative to the reference, which it is computed with, that would be 0.
    """
    gaps = at_least_float32(policy_target_gaps)
    if reference_target_gaps is not None:
        gaps = gaps - reference_target_gaps.detach()
    wanted = at_least_float32(reference_dominant_gaps.detach())
    scaled = beta * gaps
    if one_sided:
        scaled = torch.minimum(scaled, wanted)
    if huber_delta is None:
        gap = F.mse_loss(scaled, wanted, reduction="none")
    else:
        gap = 2 * F.huber_loss(scaled, wanted, reduction="none", delta=huber_delta)
    if policy_hidden is None or reference_hidden is None:
        return MPOLoss(gap, gap.detach(), gap.new_zeros(gap.shape))
    held = at_least_float32(reference_hidden.detach())
    retention = (at_least_float32(policy_hidden) - held).square().mean(-1)  # (B,)
    return MPOLoss(gap + retention_weight * retention, gap.detach(), retention.detach())
