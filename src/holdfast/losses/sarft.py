"""SaRFT: role cross-entropy on every row, divergence from the aligned reference on the flagged rows.

Paper: "Beware of Your Po! Measuring and Mitigating AI Safety Risks in Role-Play Fine-Tuning of LLMs",
https://arxiv.org/abs/2502.20968, section on Role-Safety Balance Optimization (RBO).
"""

from typing import Literal, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from holdfast.losses.deferred import Logits, at_least_float32, deferred, over_tokens
from holdfast.losses.logprobs import (
    IGNORED,
    AnswerTokens,
    next_labels,
    summed_by_row,
    token_logps,
    trained_token_counts,
)

Span = Literal["response", "sequence"]
Direction = Literal["forward", "reverse"]
SafeLoss = Literal["kl", "mse"]


class SaRFTLoss(NamedTuple):
    """Per-row terms, each (B,). A batch's loss is the mean of `total`."""

    total: Tensor  # role + beta * safety
    role: Tensor  # CE_i
    safety: Tensor  # harmful_i * D_i, 0 on unflagged rows


def divergence_from_reference(
    policy_logits: Tensor,
    reference_logits: Tensor,
    *,
    kind: SafeLoss,
    direction: Direction,
) -> Tensor:
    """Full-vocabulary divergence at each of N positions, both logits (N, V) -> (N,).

    `kl` forward is KL(reference || policy), reverse is KL(policy || reference), in nats; `mse` is the squared
    difference of the probabilities summed over the vocabulary (the paper's ablation; it has no direction).
    No gradient flows into the reference.
    """
    policy = at_least_float32(policy_logits).log_softmax(-1)
    reference = at_least_float32(reference_logits.detach()).log_softmax(-1)
    return _divergence(policy, reference, kind, direction)


def _divergence(policy_logps: Tensor, reference_logps: Tensor, kind: SafeLoss, direction: Direction) -> Tensor:
    if kind == "mse":
        return (policy_logps.exp() - reference_logps.exp()).square().sum(-1)
    if direction == "forward":
        pointwise = F.kl_div(policy_logps, reference_logps, reduction="none", log_target=True)
    else:
        pointwise = F.kl_div(reference_logps, policy_logps, reduction="none", log_target=True)
    return pointwise.sum(-1)


def sarft_loss(
    policy_logits: Logits,
    reference_logits: Logits | None,
    labels: Tensor,
    attention_mask: Tensor,
    harmful: Tensor,
    *,
    beta: float,
    ce_normaliser: Span,
    kl_span: Span,
    kl_direction: Direction,
    safe_loss: SafeLoss,
    kl_first_tokens: int | None,
) -> SaRFTLoss:
    """L_i = CE_i + beta * harmful_i * D_i (RBO). The mean over the batch counts unflagged rows, which add 0.

    CE_i = sum over trained tokens of -log p(token) / n_i, n_i the trained tokens (`response`) or all tokens of
    the row (`sequence`, as the published code divides).
    D_i  = mean of the divergence over the positions that predict a trained token (`response`), or over every
    unmasked position of the row (`sequence`, as the published code does); of these the first `kl_first_tokens`
    alone if that is given (ours, after the finding that alignment is a few tokens deep, arXiv 2406.05946).

    Args:
        policy_logits: (B, K, V) for the last K <= T positions of the batch (a model's `logits_to_keep`).
            K must reach back to the position before the first trained token, and K = T for `kl_span="sequence"`.
        reference_logits: (F, K, V) for the F flagged rows only, in the batch's order; None when F = 0.
        labels: (B, T), IGNORED where a token is not trained.
        attention_mask: (B, T), 1 for a token and 0 for padding, on either side.
        harmful: (B,) bool.
        beta: weight of the safety term.
        ce_normaliser, kl_span, kl_direction, safe_loss, kl_first_tokens: see above and docs/deviations.md.
    """
    policy = deferred(policy_logits)
    rows, kept = policy.hidden.shape[:2]
    following, kept_mask = next_labels(labels[:, -kept:]), attention_mask[:, -kept:]
    counted = trained_token_counts(labels) if ce_normaliser == "response" else attention_mask.sum(1)
    anchored = anchored_positions(following, kept_mask, harmful, kl_span, kl_first_tokens)
    if reference_logits is None:
        anchored = torch.zeros_like(anchored)

    plain = _tokens_at((following != IGNORED) & ~anchored, following)
    nll = -token_logps(policy, plain)
    role = summed_by_row(nll, plain.row, rows) / counted
    if reference_logits is None:
        return SaRFTLoss(role, role.detach(), role.new_zeros(role.shape))

    tokens = _tokens_at(anchored, following)
    reference = deferred(reference_logits)
    among_flagged = harmful.cumsum(0) - 1  # (B,) a row's number among the flagged ones

    def terms(hidden: Tensor, reference_hidden: Tensor, token_labels: Tensor) -> Tensor:
        """(n, 2) cross-entropy and divergence, from one softmax of the policy."""
        logps = policy.head(hidden).log_softmax(-1)
        with torch.no_grad():
            reference_logps = reference.head(reference_hidden).log_softmax(-1)
        own = F.nll_loss(logps, token_labels, reduction="none", ignore_index=IGNORED)
        return torch.stack([own, _divergence(logps, reference_logps, safe_loss, kl_direction)], dim=1)

    reference_place = among_flagged[tokens.row] * kept + tokens.place % kept
    both = over_tokens(
        terms,
        (policy.at(tokens.place), reference.at(reference_place), tokens.labels),
        vocabulary=policy.vocabulary,
        copies=3,
    )
    spanned = anchored.sum(1).clamp(min=1)  # (B,)
    role = role + summed_by_row(both[:, 0], tokens.row, rows) / counted
    safety = summed_by_row(both[:, 1], tokens.row, rows) / spanned
    return SaRFTLoss(role + beta * safety, role.detach(), safety.detach())


def anchored_positions(
    following: Tensor, attention_mask: Tensor, harmful: Tensor, span: Span, first_tokens: int | None
) -> Tensor:
    """(B, K) bool: where the divergence is taken; `following` are the next tokens' labels, see `sarft_loss`."""
    spanned = following != IGNORED if span == "response" else attention_mask.bool()
    if first_tokens is not None:
        spanned = spanned & (spanned.cumsum(1) <= first_tokens)
    return spanned & harmful.unsqueeze(1)


def _tokens_at(chosen: Tensor, following: Tensor) -> AnswerTokens:
    """The chosen positions (B, K) bool; a token that is not trained keeps the label IGNORED."""
    place = chosen.flatten().nonzero().squeeze(1)
    return AnswerTokens(place, following.flatten()[place], place // chosen.shape[1])
