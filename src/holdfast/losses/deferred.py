"""Logits that are made where they are needed, some tokens at a time: hidden states, and the head that projects them.

With a vocabulary of 256,000 the logits of one answer token are a megabyte in float32, and a loss keeps several tensors
of that size. Here only the tokens that a loss asks for get logits, a chunk at a time; of the chunks the first are kept
for the backward pass, and those beyond a fixed size are computed again there.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

Head = Callable[[Tensor], Tensor]  # (n, H) hidden states to (n, V) logits, at least float32

CHUNK_BYTES = 2**26  # float32 logits that are made at once
KEPT_BYTES = 2**28  # of them stay for the backward pass; what is beyond is computed again


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
    function: Callable[..., Tensor], tensors: Sequence[Tensor], *, vocabulary: int, copies: int = 1
) -> Tensor:
    """`function(*tensors)`, a chunk of tokens at a time: the same values and gradients in bounded memory.

    Args:
        function: of slices (n, ...) of the tensors; returns (n, ...), one entry a token that depends on it alone.
        tensors: each (N, ...).
        vocabulary: V; the function makes tensors (n, V).
        copies: how many of these it keeps for the backward pass.
    """
    tokens = len(tensors[0])
    token_bytes = 4 * vocabulary * copies
    chunks = max(1, -(-tokens * token_bytes // CHUNK_BYTES))
    results = []
    kept = 0
    for own in zip(*(tensor.tensor_split(chunks) for tensor in tensors), strict=True):
        kept += len(own[0]) * token_bytes
        if torch.is_grad_enabled() and kept > KEPT_BYTES:
            results.append(checkpoint(function, *own, use_reentrant=False, preserve_rng_state=False))
        else:
            results.append(function(*own))
    return torch.cat(results)
