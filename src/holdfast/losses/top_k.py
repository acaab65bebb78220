"""What a reference says of a token in k + 1 outcomes: each of its k likeliest tokens, and all the others together.

With q the reference, p the policy and r the tokens that are not among q's k likeliest, q_r and p_r their mass:

    forward: sum_top q (log q - log p) + q_r (log q_r - log p_r)
    reverse: sum_top p (log p - log q) + p_r (log p_r - log q_r)

By the data-processing inequality neither is above the KL of the full distributions. By the chain rule exactly this is
left out: q_r * KL( q(.|r) || p(.|r) ) forward, p_r * KL( p(.|r) || q(.|r) ) reverse, the divergence among the others,
weighted with their mass. So the mass of the others is held, how it is shared among them is not.
"""

from typing import Literal, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

Direction = Literal["forward", "reverse"]


class TopKLogps(NamedTuple):
    """A distribution over V tokens at each of M positions, in k + 1 outcomes; log-probabilities in nats."""

    tokens: Tensor  # (M, k) the likeliest tokens, integers
    logps: Tensor  # (M, k) their log-probabilities
    rest: Tensor  # (M,) log of the mass of all others; -inf where k = V leaves none


def top_k_of(logits: Tensor, k: int) -> TopKLogps:
    """The k likeliest of V tokens, 1 <= k <= V, likeliest first, of logits (M, V), in their precision.

    The mass of the others is summed over themselves: as 1 less the mass of the k it would drown in rounding.
    """
    logps, tokens = logits.log_softmax(-1).topk(k)
    normaliser = logits.logsumexp(-1)
    return TopKLogps(tokens, logps, _log_mass_without(logits, tokens) - normaliser)


def divergence_from_top_k(policy_logps: Tensor, reference: TopKLogps, *, direction: Direction) -> Tensor:
    """KL over k + 1 outcomes at each position, (M,) in nats; the formulas are the module's.

    Args:
        policy_logps: (M, V), normalised. The gradient flows into them.
        reference: the M positions' outcomes, as constants.
        direction: `forward` KL(reference || policy), `reverse` KL(policy || reference).
    """
    tokens = reference.tokens.long()
    held, policy = reference.logps, policy_logps.gather(-1, tokens)  # (M, k)
    if tokens.shape[-1] < policy_logps.shape[-1]:
        held = torch.cat([held, reference.rest.unsqueeze(-1)], dim=-1)  # (M, k + 1)
        policy = torch.cat([policy, _log_mass_without(policy_logps, tokens).unsqueeze(-1)], dim=-1)
    held = held.detach().to(policy.dtype)
    # F.kl_div(a, b) is KL(b || a).
    first, second = (policy, held) if direction == "forward" else (held, policy)
    return F.kl_div(first, second, reduction="none", log_target=True).sum(-1)


def _log_mass_without(logits: Tensor, tokens: Tensor) -> Tensor:
    """(M,) logsumexp over the tokens that are not among `tokens` (M, k)."""
    return logits.scatter(-1, tokens, -torch.inf).logsumexp(-1)
