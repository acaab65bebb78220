"""Constrained SFT: cross-entropy whose pull fades on tokens that outrun the aligned model, soonest on the first ones.

Paper: "Safety Alignment Should Be Made More Than Just a Few Tokens Deep", https://arxiv.org/abs/2406.05946, the
token-wise constrained objective (equation 3):

    L_i = sum_t (2 / beta_t) * -log sigmoid( beta_t * D_t ),   D_t = log theta(y_t|x,y_<t) - log ref(y_t|x,y_<t)

Its gradient is that of cross-entropy with every token's share times w_t = 2 * sigmoid(-beta_t * D_t): 1 where policy
and reference agree, 0 for a token that the policy has made far likelier than the reference does. As beta_t goes to 0
the loss becomes cross-entropy, but for a constant.
"""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from holdfast.losses.deferred import Logits
from holdfast.losses.logprobs import IGNORED, answer_tokens, summed_by_row, token_logps, trained_token_counts


class ConstrainedLoss(NamedTuple):
    """Per-row terms, each (B,), means over the row's trained tokens. A batch's loss is the mean of `total`."""

    total: Tensor  # (2 / beta_t) * -log sigmoid(beta_t * D_t)
    role: Tensor  # CE_i, what the tokens cost without the constraint; without a gradient
    weight: Tensor  # w_t, how much of cross-entropy's pull is left; without a gradient


def position_betas(
    labels: Tensor,
    *,
    first_beta: float,
    early_beta: float,
    later_beta: float,
    early_tokens: int,
    dtype: torch.dtype = torch.float32,
) -> Tensor:
    """(B, T) beta of each trained token: the first, the others of the first `early_tokens`, and those after them.

    Every answer of a conversation counts its own tokens from 1: an answer is an unbroken run of trained tokens, and
    the next turn's header is never trained. What stands at untrained positions means nothing.

    Args:
        labels: (B, T), IGNORED where a token is not trained.
        first_beta, early_beta, later_beta: the betas; the paper's are 0.5, 2 and 0.1.
        early_tokens: how many tokens are held back; the paper's 5.
        dtype: of the result.
    """
    trained = labels != IGNORED
    so_far = trained.cumsum(1)
    before_answer = so_far.masked_fill(trained, 0).cummax(1).values  # trained tokens of the turns before
    place = so_far - before_answer  # 1 on an answer's first token
    betas = torch.full(labels.shape, later_beta, dtype=dtype, device=labels.device)
    return betas.masked_fill(place <= early_tokens, early_beta).masked_fill(place == 1, first_beta)


def constrained_sft_loss(
    policy_logits: Logits,
    reference_logps: Tensor,
    labels: Tensor,
    *,
    first_beta: float,
    early_beta: float,
    later_beta: float,
    early_tokens: int,
) -> ConstrainedLoss:
    """L_i of the paper, divided by the row's trained tokens as every row loss here is (docs/deviations.md).

    Where policy = reference, a token's share of `total` is (2 / beta_t) * log 2 and its `weight` 1.

    Args:
        policy_logits: (B, K, V) for the last K positions of the batch; K reaches back to the position before the
            first trained token.
        reference_logps: (B, K) log ref of each trained token, at the token's own position; no gradient flows into it,
            and what stands at untrained positions means nothing.
        labels: (B, K), IGNORED where a token is not trained.
        first_beta, early_beta, later_beta, early_tokens: see `position_betas`; the betas are above 0.
    """
    tokens = answer_tokens(labels)
    policy = token_logps(policy_logits, tokens)  # (N,)
    trained = labels[:, 1:] != IGNORED  # in the order of `tokens`: by row, then by position
    reference = reference_logps.detach()[:, 1:][trained].to(policy.dtype)  # (N,)
    betas = position_betas(
        labels,
        first_beta=first_beta,
        early_beta=early_beta,
        later_beta=later_beta,
        early_tokens=early_tokens,
        dtype=policy.dtype,
    )
    beta = betas[:, 1:][trained]  # (N,)

    scaled_gain = beta * (policy - reference)
    constrained = -2 / beta * F.logsigmoid(scaled_gain)
    weight = 2 * torch.sigmoid(-scaled_gain.detach())
    counts = trained_token_counts(labels)
    total, role, left = (
        summed_by_row(values, tokens.row, len(labels)) / counts
        for values in (constrained, -policy.detach(), weight)
    )
    return ConstrainedLoss(total, role, left)
