"""Sums of determinants: values beyond the range of numbers, derivatives, and singular matrices."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from fusion.wavefunctions.determinants import laplacian_of_determinants, sum_of_determinants
from fusion.wavefunctions.jets import Jet, laplacian_by_autograd

pytestmark = pytest.mark.usefixtures("double_precision")


def plain(blocks: list[Tensor]) -> Tensor:
    psi = torch.ones(blocks[0].shape[:2])
    for block in blocks:
        psi = psi * torch.linalg.det(block)
    return psi.sum(1)


@pytest.mark.parametrize("sizes", [(3,), (1,), (2, 2), (1, 1), (3, 1)])
def test_sign_and_log_of_the_sum(sizes: Any) -> None:
    blocks = [torch.randn(20, 4, n, n) for n in sizes]
    sign, log = sum_of_determinants(blocks)
    torch.testing.assert_close(sign * log.exp(), plain(blocks))


def test_sum_beyond_the_range_of_numbers() -> None:
    blocks = [torch.randn(5, 3, 4, 4)]
    _, log = sum_of_determinants(blocks)
    for scale in (1e-200, 1e200):
        torch.testing.assert_close(sum_of_determinants([scale * blocks[0]])[1] - 4 * torch.tensor(scale).log(), log)


class Orbitals:
    """Smooth orbitals that depend on all electrons, and their jets by automatic differentiation."""

    def __init__(self, sizes: tuple[int, ...], determinants: int) -> None:
        self.sizes, self.determinants, self.n = sizes, determinants, max(sum(sizes), max(sizes))
        self.weights = [torch.randn(3 * self.n, n * determinants * n) for n in sizes]

    def __call__(self, electrons: Tensor) -> list[Tensor]:
        """Orbitals (B, n, K, n) per block."""
        x = electrons.flatten(1)
        shapes = [(n, self.determinants, n) for n in self.sizes]
        return [torch.sin(x @ w).view(-1, *shape) for w, shape in zip(self.weights, shapes, strict=True)]

    def log_psi(self, electrons: Tensor) -> tuple[Tensor, Tensor]:
        return sum_of_determinants([block.transpose(1, 2) for block in self(electrons)])

    def jets(self, electrons: Tensor) -> list[Jet]:
        x = electrons.flatten(1)
        jets = []
        for w, block in zip(self.weights, self(electrons), strict=True):
            y = x @ w
            jacobian = torch.cos(y).unsqueeze(1) * w
            laplacian = -torch.sin(y) * w.square().sum(0)
            rows = torch.cat((jacobian, laplacian.unsqueeze(1), torch.sin(y).unsqueeze(1)), dim=1)
            jets.append(Jet(rows.view(len(x), -1, *block.shape[1:])))
        return jets


@pytest.mark.parametrize("sizes", [(3,), (2, 1), (1, 1), (2, 2), (1,)])
def test_forward_laplacian_matches_autograd(sizes: Any) -> None:
    orbitals = Orbitals(sizes, determinants=3)
    electrons = torch.randn(4, orbitals.n, 3)
    forward = laplacian_of_determinants(orbitals.jets(electrons))
    for got, expected in zip(forward, laplacian_by_autograd(orbitals.log_psi, electrons), strict=True):
        torch.testing.assert_close(got, expected, rtol=1e-9, atol=1e-9)


def test_a_singular_determinant_has_no_weight() -> None:
    orbitals = Orbitals((3,), determinants=3)
    electrons = torch.randn(4, 3, 3)
    jets = orbitals.jets(electrons)
    jets[0].data[1, :, :, 0] = 0  # one of three determinants of one walker vanishes with all its derivatives
    psi = laplacian_of_determinants(jets)
    rest = laplacian_of_determinants([Jet(jets[0].data[1:2, :, :, 1:])])
    for got, expected in zip(psi, rest, strict=True):
        assert torch.isfinite(got).all()
        torch.testing.assert_close(got[1:2], expected)


def test_a_walker_with_only_singular_determinants_does_not_affect_others() -> None:
    orbitals = Orbitals((3,), determinants=2)
    jets = orbitals.jets(torch.randn(4, 3, 3))
    jets[0].data[2] = 0
    psi = laplacian_of_determinants(jets)
    assert psi.log[2] == -torch.inf
    others = torch.tensor([0, 1, 3])
    assert all(torch.isfinite(part[others]).all() for part in psi)


def test_gradient_at_a_vanishing_one_by_one_block() -> None:
    value = torch.tensor([[0.0], [0.3]], requires_grad=True)
    others = torch.tensor([[1.5], [0.7]])
    blocks = torch.cat((value, others), dim=1)[:, :, None, None]
    _, log = sum_of_determinants([blocks])
    torch.testing.assert_close(log.detach(), torch.tensor([1.5, 1.0]).log())
    (gradient,) = torch.autograd.grad(log[1], value)
    torch.testing.assert_close(gradient[1], torch.tensor([1.0]))
