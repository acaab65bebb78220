"""SaRFT: role cross-entropy on every row, divergence from the aligned reference on the flagged rows.

Paper: "Beware of Your Po! Measuring and Mitigating AI Safety Risks in Role-Play Fine-Tuning of LLMs",
https://arxiv.org/abs/2502.20968, section on Role-Safety Balance Optimization (RBO).
"""

from collections.abc import Callable
from typing import Literal, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from holdfast.losses.deferred import (
    DeferredLogits,
    Logits,
    at_least_float32,
    deferred,
    negative_logps,
    over_tokens,
)
from holdfast.losses.logprobs import (
    IGNORED,
    AnswerTokens,
    next_labels,
    summed_by_row,
    summed_logps,
    trained_token_counts,
)
from holdfast.losses.top_k import Direction, TopKLogps, divergence_from_top_k

Span = Literal["response", "sequence"]
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
    reference: Logits | TopKLogps | None,
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
        reference: logits (F, K, V) for the F flagged rows only, in the batch's order; or what was kept of them at
            the anchored positions, row by row and position by position, for which D_i is the KL over k + 1 outcomes
            (`losses.top_k`); None when F = 0.
        labels: (B, T), IGNORED where a token is not trained.
        attention_mask: (B, T), 1 for a token and 0 for padding, on either side.
        harmful: (B,) bool.
        beta: weight of the safety term.
        ce_normaliser, kl_span, kl_direction, safe_loss, kl_first_tokens: see above and docs/deviations.md.

    Raises ValueError for top-k values with `safe_loss="mse"`, or for another number of positions.
    """
    policy = deferred(policy_logits)
    rows, kept = policy.hidden.shape[:2]
    following, kept_mask = next_labels(labels[:, -kept:]), attention_mask[:, -kept:]
    counted = trained_token_counts(labels) if ce_normaliser == "response" else attention_mask.sum(1)
    if reference is None:
        role = -summed_logps(policy, labels[:, -kept:]) / counted
        return SaRFTLoss(role, role.detach(), role.new_zeros(role.shape))

    spanned = anchored_positions(following, kept_mask, harmful, kl_span, kl_first_tokens)
    anchored, plain = _tokens_at(spanned, following), _tokens_at((following != IGNORED) & ~spanned, following)
    tokens = AnswerTokens(*map(torch.cat, zip(anchored, plain, strict=True)))  # one head call for both
    if isinstance(reference, TopKLogps):
        anchor = _anchored_to_top_k(reference, anchored, safe_loss, kl_direction)
    else:
        among_flagged = harmful.cumsum(0) - 1  # (B,) a row's number among the flagged ones
        place = among_flagged[anchored.row] * kept + anchored.place % kept
        anchor = _anchored_to_logits(deferred(reference), place, safe_loss, kl_direction)
    hidden = policy.at(tokens.place)

    def terms(start: int, stop: int) -> Tensor:
        """(n, 2) cross-entropy and divergence of a range of tokens."""
        middle = min(max(start, len(anchored.place)), stop)  # the anchored ones come first
        held, free = policy.head(hidden[start:stop]).split([middle - start, stop - middle])
        logps = held.log_softmax(-1)
        divergence = anchor.divergence(logps, *(own[start:middle] for own in anchor.held))
        nll = F.nll_loss(logps, tokens.labels[start:middle], reduction="none", ignore_index=IGNORED)
        nll = torch.cat([nll, negative_logps(free, tokens.labels[middle:stop])])
        return torch.stack([nll, F.pad(divergence, (0, stop - middle))], dim=1)

    both = over_tokens(terms, len(hidden), vocabulary=policy.vocabulary, copies=2)
    role, divergence = (summed_by_row(values, tokens.row, rows) for values in both.unbind(1))
    role = role / counted
    safety = divergence / spanned.sum(1).clamp(min=1)
    return SaRFTLoss(role + beta * safety, role.detach(), safety.detach())


class _Anchor(NamedTuple):
    """What M anchored tokens are held to."""

    held: tuple[Tensor, ...]  # each (M, ...)
    divergence: Callable[..., Tensor]  # of the policy's log-probabilities (n, V) and slices of `held`; (n,)


def _anchored_to_logits(reference: DeferredLogits, place: Tensor, kind: SafeLoss, direction: Direction) -> _Anchor:
    """`place` (M,) are the anchored tokens' positions among the reference's."""

    def divergence(policy_logps: Tensor, hidden: Tensor) -> Tensor:
        with torch.no_grad():
            reference_logps = reference.head(hidden).log_softmax(-1)
        return _divergence(policy_logps, reference_logps, kind, direction)

    return _Anchor((reference.at(place),), divergence)


def _anchored_to_top_k(
    reference: TopKLogps, tokens: AnswerTokens, kind: SafeLoss, direction: Direction
) -> _Anchor:
    if kind == "mse":
        raise ValueError("safe_loss mse needs the reference's whole distribution, top-k values are not enough")
    if len(reference.tokens) != len(tokens.place):
        raise ValueError(
            f"the reference's top-k values are of {len(reference.tokens)} positions, {len(tokens.place)} are anchored"
        )

    def divergence(policy_logps: Tensor, *held: Tensor) -> Tensor:
        return divergence_from_top_k(policy_logps, TopKLogps(*held), direction=direction)

    return _Anchor(tuple(reference), divergence)


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
