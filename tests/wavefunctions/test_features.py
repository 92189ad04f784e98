"""Distances and vectors that enter the network, and their derivatives."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from fusion.wavefunctions.features import ElectronFeatures, nuclear_vectors
from fusion.wavefunctions.jets import Jet, linear, tanh_residual_
from fusion.wavefunctions.jets.radial import Logarithmic, Plain, Radial, Soft

pytestmark = pytest.mark.usefixtures("double_precision")

NUCLEI = torch.tensor([[0.0, 0.0, 0.0], [0.3, -1.0, 2.0]])


def oracle(function: Callable[[Tensor], Tensor], electrons: torch.Tensor) -> torch.Tensor:
    """Jet (3N + 2, ...): derivatives with respect to every coordinate of one walker (N, 3), Laplacian, value."""

    def flat(x: Tensor) -> Tensor:
        return function(x.view(1, -1, 3))[0]

    x = electrons.flatten()
    value, jacobian = flat(x), torch.func.jacfwd(flat)(x)
    hessian = torch.func.jacfwd(torch.func.jacfwd(flat))(x)
    laplacian = hessian.diagonal(dim1=-2, dim2=-1).sum(-1)
    return torch.cat((jacobian.movedim(-1, 0), laplacian.unsqueeze(0), value.unsqueeze(0)))


def walker(n: int = 3) -> torch.Tensor:
    return 1.3 * torch.randn(n, 3)


def test_values_are_distances_and_vectors() -> None:
    features, electrons = ElectronFeatures(), torch.randn(2, 3, 3)
    one = features.one_electron(*nuclear_vectors(electrons, NUCLEI))
    vector = electrons[1, 2] - NUCLEI[1]
    torch.testing.assert_close(one[1, 2, 4:], torch.cat((vector.norm().view(1), vector)))
    two = features.two_electron(electrons)
    vector = electrons[1, 2] - electrons[1, 0]
    torch.testing.assert_close(two[1, 0, 2], torch.cat((vector.norm().view(1), vector)))
    assert not two[:, range(3), range(3)].any()


@pytest.mark.parametrize("size", [1e-8, 1e-3, 1.0, 100.0])
def test_rescaled_features_grow_like_a_logarithm(size: float) -> None:
    vector = size * torch.tensor([[2 / 3, -2 / 3, 1 / 3]])
    features = ElectronFeatures(Logarithmic(), Logarithmic())
    values = features.one_electron(*nuclear_vectors(vector.unsqueeze(0), torch.zeros(1, 3)))[0, 0]
    length = torch.tensor(size).log1p()
    torch.testing.assert_close(values[0], length)
    torch.testing.assert_close(values[1:], length * vector[0] / size)


@pytest.mark.parametrize("radial", [Plain(), Logarithmic(), Soft(torch.tensor([0.3, 0.8]))])
def test_one_electron_jet(radial: Radial) -> None:
    features, x = ElectronFeatures(nuclear=radial), walker()
    jet = features.one_electron_jet(*nuclear_vectors(x.unsqueeze(0), NUCLEI))
    expected = oracle(lambda r: features.one_electron(*nuclear_vectors(r, NUCLEI)), x)
    torch.testing.assert_close(jet.data[0], expected, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("radial", [Plain(), Logarithmic(), Soft(0.5)])
def test_two_electron_jet(radial: Radial) -> None:
    features, x = ElectronFeatures(electronic=radial), walker()
    jet = features.two_electron_jet(x.unsqueeze(0))[0]  # [i, :, j]
    expected = oracle(features.two_electron, x)  # [:, i, j]
    for i in range(3):
        assert not jet[i, :, i].any()
        for j in range(3):
            if i == j:
                continue
            torch.testing.assert_close(jet[i, :3, j], expected[3 * j : 3 * j + 3, i, j], rtol=1e-9, atol=1e-9)
            torch.testing.assert_close(-jet[i, :3, j], expected[3 * i : 3 * i + 3, i, j], rtol=1e-9, atol=1e-9)
            torch.testing.assert_close(2 * jet[i, 3, j], expected[-2, i, j], rtol=1e-9, atol=1e-9)
            torch.testing.assert_close(jet[i, 4, j], expected[-1, i, j], rtol=1e-9, atol=1e-9)


def test_diagonal_of_the_pairs_is_differentiable_by_autograd() -> None:
    features = ElectronFeatures(Logarithmic(), Logarithmic())
    electrons = torch.randn(2, 3, 3, requires_grad=True)
    (gradient,) = torch.autograd.grad(features.two_electron(electrons).sum(), electrons)
    assert torch.isfinite(gradient).all()


@pytest.mark.parametrize("residual", [False, True])
def test_linear_and_tanh_rules(residual: bool) -> None:
    weight, bias = torch.randn(12, 12), torch.randn(12)

    def layer(r: Tensor) -> Tensor:
        h = (r * r).flatten(1)
        h = torch.cat((h, h.sin()), dim=1)[:, :12]
        new = torch.tanh(h @ weight.T + bias)
        return (h + new) / 2**0.5 if residual else new

    def inputs(r: Tensor) -> Tensor:
        h = (r * r).flatten(1)
        return torch.cat((h, h.sin()), dim=1)[:, :12]

    x = walker(2)
    jet = Jet(oracle(inputs, x).unsqueeze(0))
    out = tanh_residual_(linear(jet, weight, bias), jet if residual else None)
    torch.testing.assert_close(out.data[0], oracle(layer, x), rtol=1e-9, atol=1e-9)


def test_radial_jet_close_to_the_origin() -> None:
    """log(1 + r) / r is smooth at 0; its derivatives lose only digits there."""
    vector = 1e-3 * torch.tensor([[2 / 3, -2 / 3, 1 / 3]])
    jet = Logarithmic().jet(vector, vector.norm(dim=-1))[0]
    torch.testing.assert_close(jet[:3, 1:], torch.eye(3), rtol=0, atol=2e-3)
    assert torch.isfinite(jet).all()
