"""Muon: momentum, made orthogonal, for a model's hidden matrices. It halves the steps that a base model needs.

Source: Jordan et al. 2024, https://kellerjordan.github.io/posts/muon/. torch.optim.Muon takes one matrix at a
time and in bfloat16, which costs more than the whole backward pass of a tiny model on a CPU; this one takes all
matrices of one shape together, in float32.
"""

from collections.abc import Iterable

import torch
from torch import Tensor

NEWTON_SCHULZ = (3.4445, -4.7750, 2.0315)  # a quintic that drives all singular values to about 1
NEWTON_SCHULZ_STEPS = 5


class Muon:
    """Steps the given matrices; `learning_rate` is the size of an update's singular values.

    Args:
        matrices: two-dimensional parameters, none of them an embedding or an output head.
        momentum: of the gradient's running mean, in Nesterov's form.
        weight_decay: decoupled, times the learning rate.
    """

    def __init__(self, matrices: Iterable[Tensor], *, momentum: float = 0.95, weight_decay: float = 0.01):
        self.momentum, self.weight_decay = momentum, weight_decay
        self._groups: dict[tuple[int, ...], list[Tensor]] = {}
        for matrix in matrices:
            self._groups.setdefault(tuple(sorted(matrix.shape)), []).append(matrix)
        self._running = {
            shape: torch.zeros(len(group), *shape) for shape, group in self._groups.items()
        }  # (matrices, short side, long side)

    @torch.no_grad()
    def step(self, learning_rate: float) -> None:
        """Update every matrix from its gradient."""
        for shape, group in self._groups.items():
            gradients = torch.stack([lying(matrix.grad) for matrix in group if matrix.grad is not None])
            running = self._running[shape].lerp_(gradients, 1 - self.momentum)
            updates = orthogonal(gradients.lerp(running, self.momentum))
            for matrix, update in zip(group, updates, strict=True):
                tall = max(1.0, matrix.shape[0] / matrix.shape[1]) ** 0.5
                matrix.mul_(1 - learning_rate * self.weight_decay)
                matrix.sub_(update if matrix.shape[0] <= matrix.shape[1] else update.T, alpha=learning_rate * tall)


def lying(matrix: Tensor) -> Tensor:
    """The matrix with its long side last."""
    return matrix if matrix.shape[0] <= matrix.shape[1] else matrix.T


def orthogonal(matrices: Tensor) -> Tensor:
    """(N, short, long) matrices with their singular values moved to about 1, by Newton-Schulz steps."""
    a, b, c = NEWTON_SCHULZ
    x = matrices / (matrices.norm(dim=(1, 2), keepdim=True) + 1e-7)
    for _ in range(NEWTON_SCHULZ_STEPS):
        squared = x @ x.mT
        x = torch.baddbmm(x, torch.baddbmm(squared, squared, squared, beta=b, alpha=c), x, beta=a)
    return x
