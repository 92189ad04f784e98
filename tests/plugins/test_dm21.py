"""DM21: published values, hand-written derivatives against autograd, both orders of spins, vanishing densities."""

from __future__ import annotations

import os
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from fusion.functionals import DensityFeatures
from fusion_dm21.convert import convert
from fusion_dm21.descriptors import OMEGAS, swapped
from fusion_dm21.network import DM21

DATA = os.environ.get("FUSION_TEST_DATA")
VARIANTS = ("DM21", "DM21m", "DM21mc", "DM21mu")
DTYPES = (torch.float32, torch.float64)
needs_data = pytest.mark.skipif(DATA is None, reason="FUSION_TEST_DATA names no directory of published weights")


def random_model(seed: int = 0, **arguments: Any) -> DM21:
    torch.manual_seed(seed)
    model = DM21(**arguments)
    with torch.no_grad():
        for block in model.blocks:
            block.norm.weight.normal_(1.0, 0.3)
            block.norm.bias.normal_(0.0, 0.3)
    return model.double()


def random_features(points: int, seed: int = 0) -> DensityFeatures:
    """Random features in the range of molecules, with unequal spins."""
    generator = torch.Generator().manual_seed(seed)

    def numbers(*shape: int) -> Tensor:
        exponents = 5.0 * torch.rand(*shape, points, generator=generator, dtype=torch.float64) - 4.0
        return 10.0**exponents

    signs = torch.randint(0, 2, (2, 3, points), generator=generator) * 2.0 - 1.0
    exchange = {omega: -numbers(2) for omega in OMEGAS}
    return DensityFeatures(rho=numbers(2), grad=numbers(2, 3) * signs, tau=numbers(2), hfx=exchange)


def by_autograd(model: DM21, features: DensityFeatures) -> tuple[Tensor, list[Tensor]]:
    variables = [tensor.detach().clone().requires_grad_() for tensor in features.variables()]
    energy = model.energy_density(features.with_variables(variables))
    return energy.detach(), list(torch.autograd.grad(energy.sum(), variables))


@cache
def reference() -> tuple[dict[str, np.ndarray], DensityFeatures]:
    data = dict(np.load(Path(str(DATA)) / "reference" / "dm21_direct_eval.npz"))
    spins = (data["rho_a"], data["rho_b"])
    exchange = np.stack([data["hfx_a"], data["hfx_b"]])
    features = DensityFeatures(
        rho=torch.tensor(np.stack([rho[0] for rho in spins])),
        grad=torch.tensor(np.stack([rho[1:4] for rho in spins])),
        tau=torch.tensor(np.stack([rho[5] for rho in spins])),
        hfx={omega: torch.tensor(exchange[:, :, place]) for place, omega in enumerate(OMEGAS)},
    )
    return data, features


@cache
def published(variant: str) -> dict[str, Tensor]:
    return convert(Path(str(DATA)) / "weights" / "dm21" / "checkpoints" / variant)


@needs_data
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("variant", VARIANTS)
def test_published_values(variant: str, dtype: torch.dtype) -> None:
    """Values equal those of the original implementation at points of several molecules and atoms."""
    model = DM21()
    model.load_state_dict(published(variant))
    data, features = reference()
    energy, computed = model.to(dtype).derivatives(features.map(lambda tensor: tensor.to(dtype)))
    assert computed.grad is not None and computed.tau is not None and features.grad is not None
    of_a, of_b, of_total = torch.tensor(data[f"{variant}_vsigma"], dtype=torch.float64)
    total = features.grad.sum(dim=0)
    gradient = torch.stack([2 * of_a * features.grad[0], 2 * of_b * features.grad[1]]) + 2 * of_total * total
    exchange = torch.stack([computed.hfx[omega] for omega in OMEGAS], dim=2)
    pairs = {
        "exc": (energy.double() / (features.rho.sum(dim=0) + 1e-12), data[f"{variant}_exc"], 1e-6),
        "vrho": (computed.rho, data[f"{variant}_vrho"], 5e-5),
        "vsigma": (computed.grad, gradient, 5e-5),
        "vtau": (computed.tau, data[f"{variant}_vtau"], 5e-5),
        "vhf": (exchange * torch.tensor(data["grid_weights"])[:, None], data[f"{variant}_vhf_weighted"], 5e-5),
    }
    for name, (values, expected, bound) in pairs.items():
        expected = torch.as_tensor(expected).double()
        difference = (values.double() - expected).abs()
        assert difference.max() <= bound * expected.abs().max(), name
        assert (difference / expected.abs().clamp(min=1e-12 * float(expected.abs().max()))).median() <= 1e-5, name


@pytest.fixture
def two_threads() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


@pytest.mark.parametrize("points", [1, 48, 49, 1001])
def test_results_with_two_threads(points: int, two_threads: None) -> None:
    model, features = random_model(width=33, depth=3), random_features(points)
    expected, gradients = by_autograd(model, features)
    energy, computed = model.derivatives(features)
    torch.testing.assert_close(energy, expected, rtol=1e-12, atol=1e-12)
    for one, other in zip(computed.variables(), gradients, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-10, atol=1e-10 * float(other.abs().max()))


@pytest.mark.parametrize("symmetrize", [False, True])
@pytest.mark.parametrize("arguments", [{}, {"width": 32, "depth": 2}, {"width": 40, "depth": 1}, {"width": 7}])
def test_derivatives_match_the_energy(arguments: dict[str, int], symmetrize: bool) -> None:
    model, features = random_model(**arguments, symmetrize=symmetrize), random_features(203)
    expected, gradients = by_autograd(model, features)
    energy, computed = model.derivatives(features)
    torch.testing.assert_close(energy, expected, rtol=1e-12, atol=1e-12)
    for one, other in zip(computed.variables(), gradients, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-10, atol=1e-10 * float(other.abs().max()))


def test_single_precision_agrees_with_double() -> None:
    model, features = random_model(), random_features(1000)
    expected, gradients = model.derivatives(features)
    energy, computed = model.float().derivatives(features.map(Tensor.float))
    assert energy.dtype == torch.float32
    torch.testing.assert_close(energy.double(), expected, rtol=1e-5, atol=0)
    for one, other in zip(computed.variables(), gradients.variables(), strict=True):
        torch.testing.assert_close(one.double(), other, rtol=0, atol=2e-5 * float(other.abs().max()))


def test_energy_is_differentiable_twice() -> None:
    model, features = random_model(width=8, depth=2), random_features(4, seed=1)

    def energy(*variables: Tensor) -> Tensor:
        return model.energy_density(features.with_variables(variables))

    variables = tuple(tensor.clamp(-1.0, 1.0).requires_grad_() for tensor in features.variables())
    assert torch.autograd.gradcheck(energy, variables, eps=1e-7, atol=1e-5, rtol=1e-4)
    assert torch.autograd.gradgradcheck(energy, variables, eps=1e-7, atol=1e-4, rtol=1e-3)


@pytest.mark.parametrize("dtype", DTYPES)
def test_empty_space_and_one_empty_spin(dtype: torch.dtype) -> None:
    """Values up to second derivatives are finite; the energy of an empty spin has a finite slope."""
    model = random_model().to(dtype)
    features = random_features(6).map(lambda tensor: tensor.to(dtype))
    for tensor in features.variables():
        tensor[..., :2] = 0.0  # nothing at all
        tensor[1, ..., 2:4] = 0.0  # spin up alone
        tensor[..., 4] *= 1e-30
    energy, computed = model.derivatives(features)
    expected, gradients = by_autograd(model, features)
    torch.testing.assert_close(energy, expected, rtol=1e-5, atol=1e-7)
    assert energy[:2].tolist() == [0.0, 0.0]
    variables = [tensor.clone().requires_grad_() for tensor in features.variables()]
    slopes = torch.autograd.grad(
        model.energy_density(features.with_variables(variables)).sum(), variables, create_graph=True
    )
    second = torch.autograd.grad(
        sum((slope * value.detach()).sum() for slope, value in zip(slopes, variables, strict=True)), variables
    )
    for one, other, curvature in zip(computed.variables(), gradients, second, strict=True):
        assert torch.isfinite(one).all() and torch.isfinite(curvature).all()
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-4 * float(other.abs().max()))


def test_spins_in_either_order() -> None:
    model, features = random_model(symmetrize=True), random_features(50)
    energy, computed = model.derivatives(features)
    other_energy, other = model.derivatives(swapped(features))
    torch.testing.assert_close(energy, other_energy, rtol=1e-12, atol=1e-14)
    for one, two in zip(computed.variables(), swapped(other).variables(), strict=True):
        torch.testing.assert_close(one, two, rtol=1e-10, atol=1e-12)
    model.symmetrize = False
    assert float((model.derivatives(swapped(features))[0] - model.derivatives(features)[0]).abs().max()) > 1e-3


def test_a_closed_shell_has_equal_derivatives_when_symmetric() -> None:
    model, features = random_model(symmetrize=True), random_features(50)
    closed = features.with_variables([tensor[:1].expand_as(tensor) for tensor in features.variables()])
    expected, gradients = by_autograd(model, closed)
    energy, computed = model.derivatives(closed)
    torch.testing.assert_close(energy, expected, rtol=1e-12, atol=1e-14)
    for one, other in zip(computed.variables(), gradients, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-10, atol=1e-12)
        torch.testing.assert_close(one[0], one[1], rtol=1e-13, atol=1e-14)


def test_derivatives_follow_the_weights() -> None:
    model, features = random_model(width=32, depth=2), random_features(20)
    before, _ = model.derivatives(features)
    model.blocks[0].linear.weight.data.mul_(1.5)  # past what autograd counts
    after, _ = model.derivatives(features)
    torch.testing.assert_close(after, model.energy_density(features).detach(), rtol=1e-12, atol=1e-14)
    assert float((after - before).abs().max()) > 1e-4


def test_small_functional_can_be_trained() -> None:
    """A small functional learns the exchange of the uniform gas by the differentiable path."""
    model, features = random_model(width=16, depth=2), random_features(200)
    target = DM21(width=4, depth=1).double()
    with torch.no_grad():
        target.output.weight.zero_()
        target.output.bias.copy_(torch.tensor([0.0, -40.0, -40.0]))
    expected = target.energy_density(features).detach()
    optimiser = torch.optim.Adam(model.parameters(), lr=1e-2)
    losses = []
    for _ in range(60):
        optimiser.zero_grad()
        loss = ((model.energy_density(features) / expected - 1.0) ** 2).mean()
        loss.backward()
        optimiser.step()
        losses.append(float(loss.detach()))
    assert losses[-1] < 0.2 * losses[0]
    torch.testing.assert_close(
        model.derivatives(features)[0], model.energy_density(features).detach(), rtol=1e-12, atol=1e-14
    )
