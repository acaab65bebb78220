"""Logits that are made where they are needed, some tokens at a time: hidden states, and the head that projects them.

With a vocabulary of 256,000 the logits of one answer token are a megabyte in float32, and a loss keeps several tensors
of that size. Here only the tokens that a loss asks for get logits. Up to a fixed size they are kept for the backward
pass; where there are more they are made a chunk at a time, and each chunk is made again in the backward pass.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.utils.checkpoint import checkpoint

Head = Callable[[Tensor], Tensor]  # (n, H) hidden states to (n, V) logits, at least float32

CHUNK_BYTES = 2**28  # of float32 tensors (n, V) that a loss may keep for the backward pass
SCORED_BYTES = 2**26  # of logits made at once where there is none; the pages of smaller tensors are used again


@dataclass(frozen=True, eq=False)
class DeferredLogits:
    """Logits (B, K, V) of the last K positions of a batch, not computed yet.

    Attributes:
        hidden: (B, K, H), what the head is given.
        head: makes logits of hidden states.
        vocabulary: V.
    """

    hidden: Tensor
    head: Head
    vocabulary: int

    @property
    def device(self) -> torch.device:
        """Where the hidden states are."""
        return self.hidden.device

    def at(self, place: Tensor) -> Tensor:
        """(N, H) hidden states of the places (N,), each row * K + position."""
        return self.hidden.flatten(0, 1)[place]


Logits = Tensor | DeferredLogits  # every loss takes either


def at_least_float32(tensor: Tensor) -> Tensor:
    """Half precision to float32; float64 stays, so that a test can check the arithmetic in it."""
    return tensor if tensor.dtype == torch.float64 else tensor.float()


def deferred(logits: Logits) -> DeferredLogits:
    """Logits that are there already, in the form that the losses work on."""
    if isinstance(logits, DeferredLogits):
        return logits
    return DeferredLogits(logits, at_least_float32, logits.shape[-1])


def over_tokens(
    function: Callable[[int, int], Tensor], tokens: int, *, vocabulary: int, copies: int = 1
) -> Tensor:
    """`function(0, tokens)`, in chunks where it would keep more than CHUNK_BYTES: the same values and gradients.

    One chunk is best where it can be: each has a whole gradient of the head's weights, and in mixed precision a copy
    of them, which is why no chunk is kept where there are several.

    Args:
        function: of a range of tokens, start and stop; returns (n, ...), one entry a token that depends on it alone.
        tokens: N.
        vocabulary: V; the function makes tensors (n, V).
        copies: how many of these it keeps for the backward pass.
    """
    training = torch.is_grad_enabled()
    at_once = CHUNK_BYTES // copies if training else SCORED_BYTES
    chunk = max(1, at_once // (4 * vocabulary))
    if tokens <= chunk:
        return function(0, tokens)
    ranges = [(start, min(start + chunk, tokens)) for start in range(0, tokens, chunk)]
    if not training:
        return torch.cat([function(*own) for own in ranges])
    return torch.cat([checkpoint(function, *own, use_reentrant=False, preserve_rng_state=False) for own in ranges])


class _NegativeLogps(torch.autograd.Function):
    """-log p(label) of logits (n, V); its backward makes one tensor of their size, torch's cross-entropy two."""

    @staticmethod
    def forward(ctx: Any, logits: Tensor, labels: Tensor) -> Tensor:
        logps = logits.log_softmax(-1)
        ctx.save_for_backward(logps, labels)
        return -logps.gather(1, labels.unsqueeze(1)).squeeze(1)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        logps, labels = ctx.saved_tensors
        gradient = gradient.unsqueeze(1)
        by_logits = logps.exp().mul_(gradient)  # p - 1 at the label, p elsewhere
        return by_logits.scatter_add_(1, labels.unsqueeze(1), -gradient), None


def negative_logps(logits: Tensor, labels: Tensor) -> Tensor:
    """(n,) -log p(label), of logits (n, V), at least float32, and labels (n,)."""
    return _NegativeLogps.apply(logits, labels)
