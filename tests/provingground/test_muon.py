"""Muon against its definition, one matrix at a time in float64."""

import torch

from holdfast.provingground.muon import NEWTON_SCHULZ, NEWTON_SCHULZ_STEPS, Muon, orthogonal


def expected_update(gradient: torch.Tensor) -> torch.Tensor:
    a, b, c = NEWTON_SCHULZ
    x = gradient.double()
    x = x if x.shape[0] <= x.shape[1] else x.T
    x = x / x.norm()
    for _ in range(NEWTON_SCHULZ_STEPS):
        s = x @ x.T
        x = a * x + (b * s + c * s @ s) @ x
    return x if gradient.shape[0] <= gradient.shape[1] else x.T


def test_singular_values_move_to_about_one():
    torch.manual_seed(0)
    values = torch.linalg.svdvals(orthogonal(torch.randn(3, 16, 32)))
    assert values.min() > 0.6
    assert values.max() < 1.3


def test_two_steps_agree_with_the_definition():
    torch.manual_seed(1)
    matrices = [torch.nn.Parameter(torch.randn(shape)) for shape in ((8, 8), (16, 8), (8, 16), (8, 8))]
    expected = [matrix.detach().double() for matrix in matrices]
    running = [torch.zeros_like(matrix) for matrix in expected]
    muon = Muon(matrices, momentum=0.9, weight_decay=0.1)
    for rate in (0.1, 0.05):
        for i, matrix in enumerate(matrices):
            matrix.grad = torch.randn_like(matrix)
            gradient = matrix.grad.double()
            running[i] = 0.9 * running[i] + 0.1 * gradient
            update = expected_update(0.1 * gradient + 0.9 * running[i])
            tall = max(1.0, matrix.shape[0] / matrix.shape[1]) ** 0.5
            expected[i] = expected[i] * (1 - 0.1 * rate) - rate * tall * update
        muon.step(rate)
    for matrix, wanted in zip(matrices, expected, strict=True):
        torch.testing.assert_close(matrix.detach().double(), wanted, atol=1e-4, rtol=1e-4)
