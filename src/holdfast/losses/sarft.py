"""SaRFT: role cross-entropy on every row, divergence from the aligned reference on the flagged rows.

Paper: "Beware of Your Po! Measuring and Mitigating AI Safety Risks in Role-Play Fine-Tuning of LLMs",
https://arxiv.org/abs/2502.20968, section on Role-Safety Balance Optimization (RBO).
"""

from typing import Literal, NamedTuple

import torch.nn.functional as F
from torch import Tensor

from holdfast.losses.logprobs import (
    answer_tokens,
    at_least_float32,
    predicts_trained_token,
    summed_by_row,
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
    policy = at_least_float32(policy_logits)
    reference = at_least_float32(reference_logits.detach())
    if kind == "mse":
        return (policy.softmax(-1) - reference.softmax(-1)).square().sum(-1)
    policy_logps, reference_logps = policy.log_softmax(-1), reference.log_softmax(-1)
    if direction == "forward":
        pointwise = F.kl_div(policy_logps, reference_logps, reduction="none", log_target=True)
    else:
        pointwise = F.kl_div(reference_logps, policy_logps, reduction="none", log_target=True)
    return pointwise.sum(-1)


def sarft_loss(
    policy_logits: Tensor,
    reference_logits: Tensor | None,
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
    kept = policy_logits.shape[1]
    kept_labels, kept_mask = labels[:, -kept:], attention_mask[:, -kept:]

    tokens = answer_tokens(policy_logits, kept_labels)
    nll = F.cross_entropy(tokens.logits, tokens.labels, reduction="none")  # (N,)
    trained = trained_token_counts(kept_labels)  # (B,)
    counted = trained if ce_normaliser == "response" else attention_mask.sum(1)
    role = summed_by_row(nll, tokens.row, labels.shape[0]) / counted

    if reference_logits is None:
        return SaRFTLoss(role, role.detach(), role.new_zeros(role.shape))

    flagged = harmful.nonzero(as_tuple=True)[0]  # (F,)
    spanned = predicts_trained_token(kept_labels) if kl_span == "response" else kept_mask.bool()
    if kl_first_tokens is not None:
        spanned = spanned & (spanned.cumsum(1) <= kl_first_tokens)
    row, position = spanned[flagged].nonzero(as_tuple=True)  # (M,), (M,)
    divergence = divergence_from_reference(
        policy_logits[flagged[row], position],
        reference_logits[row, position],
        kind=safe_loss,
        direction=kl_direction,
    )
    per_flagged = summed_by_row(divergence, row, len(flagged)) / spanned[flagged].sum(1).clamp(min=1)  # (F,)
    safety = per_flagged.new_zeros(labels.shape[0]).index_add(0, flagged, per_flagged)
    return SaRFTLoss(role + beta * safety, role.detach(), safety.detach())
