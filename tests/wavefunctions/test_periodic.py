"""Features, Jastrow factor, orbitals and envelopes with the period of a cell, and their derivatives."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from exact import explicit_scores
from fusion.chemistry.electron_gas import electron_gas
from fusion.chemistry.system import System
from fusion.errors import InputError
from fusion.wavefunctions.ansatz import laplacian
from fusion.wavefunctions.features import ElectronFeatures, nuclear_vectors
from fusion.wavefunctions.jets import LogPsi, laplacian_by_autograd
from fusion.wavefunctions.jets.radial import Radial
from fusion.wavefunctions.periodic import (
    Angles,
    Cell,
    PeriodicJastrow,
    PeriodicPairs,
    PlaneWaveEnvelope,
    PlaneWaveOrbitals,
    cell_of,
)
from fusion.wavefunctions.periodic.cell import lattice_points
from fusion.wavefunctions.periodic.features import periodic_distance
from fusion.wavefunctions.periodic.plane_waves import PlaneWaves, wave_vectors
from fusion.wavefunctions.references import by_size
from fusion.wavefunctions.sampler import Metropolis, initial_electrons
from fusion.wavefunctions.scores import ScoreRecorder
from fusion_ferminet.network import FermiNet
from fusion_psiformer.network import Psiformer

pytestmark = pytest.mark.usefixtures("double_precision")

SKEWED = Cell(torch.tensor([[3.9, 0.0, 0.0], [0.5, 3.6, 0.2], [-0.7, 0.3, 4.1]], dtype=torch.float64))
RADIALS = [Angles(SKEWED), PeriodicPairs(SKEWED), PeriodicPairs(SKEWED, soft=1.0)]


def derivatives(function: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    """Rows (5, ...) of a function of a point (3,): three derivatives, Laplacian, value."""
    hessian = torch.func.jacfwd(torch.func.jacrev(function))(x)
    laplacian = hessian.diagonal(dim1=-2, dim2=-1).sum(-1)
    return torch.cat((torch.func.jacrev(function)(x).movedim(-1, 0), laplacian.unsqueeze(0), function(x).unsqueeze(0)))


# -- the cell ----------------------------------------------------------------------------------------------------------
def test_wrapped_points_are_in_the_cell_and_differ_by_lattice_vectors() -> None:
    x = 20 * torch.randn(50, 3)
    wrapped = SKEWED.wrap(x)
    shares = SKEWED.angles(wrapped) / (2 * torch.pi)
    assert bool(((shares >= -1e-9) & (shares <= 1 + 1e-9)).all())
    shifts = SKEWED.angles(x - wrapped) / (2 * torch.pi)
    torch.testing.assert_close(shifts, shifts.round(), atol=1e-9, rtol=0)
    torch.testing.assert_close(SKEWED.wrap(wrapped), wrapped)


def test_points_in_the_cell_keep_their_bits() -> None:
    x = (torch.rand(50, 3) @ SKEWED.vectors).float()
    assert torch.equal(SKEWED.wrap(x), x)


def test_nearest_image_of_short_vectors() -> None:
    """A vector shorter than `radius` comes back from any lattice vector added to it."""
    x = torch.nn.functional.normalize(torch.randn(200, 3), dim=-1) * 0.999 * SKEWED.radius
    shifts = torch.randint(-3, 4, (200, 3)).double() @ SKEWED.vectors
    torch.testing.assert_close(SKEWED.nearest(x + shifts), x)


def test_lattice_points_are_complete_and_sorted() -> None:
    points = lattice_points(torch.eye(3, dtype=torch.float64), 2.0)
    assert len(points) == 33
    assert sorted(lengths := (points**2).sum(1).tolist()) == lengths


# -- features ----------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("radial", RADIALS)
def test_features_have_the_period_of_the_cell(radial: Radial) -> None:
    x = 3 * torch.randn(20, 3)
    moved = x + torch.tensor([1.0, -2.0, 1.0]) @ SKEWED.vectors
    torch.testing.assert_close(radial.values(moved, x[..., 0]), radial.values(x, x[..., 0]))


@pytest.mark.parametrize("radial", RADIALS)
def test_jets_of_features(radial: Radial) -> None:
    for x in 2 * torch.randn(5, 3):
        expected = derivatives(lambda y: radial.values(y, y[0]), x)
        torch.testing.assert_close(radial.jet(x, x[0]), expected, atol=1e-9, rtol=1e-9)


@pytest.mark.parametrize("size", [1e-6, 1e-3, 1e-2])
def test_periodic_distance_is_the_distance_of_near_points(size: float) -> None:
    x = size * torch.nn.functional.normalize(torch.randn(10, 3), dim=-1)
    torch.testing.assert_close(periodic_distance(SKEWED, x), torch.full((10,), size), rtol=size**2 + 1e-9, atol=0)


def test_features_of_a_pair_vanish_for_an_electron_with_itself() -> None:
    features, x = ElectronFeatures(RADIALS[0], RADIALS[1]), torch.randn(2, 3, 3)
    with torch.enable_grad():
        x.requires_grad_()
        two = features.two_electron(x)
        (slope,) = torch.autograd.grad(two.sum(), x)
    assert not two[:, range(3), range(3)].any()
    assert bool(torch.isfinite(slope).all())
    assert not features.two_electron_jet(x.detach())[:, range(3), :, range(3)].any()


# -- Jastrow factor ----------------------------------------------------------------------------------------------------
class WithJastrow(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.jastrow = PeriodicJastrow(2, 2, SKEWED)

    def forward(self, electrons: Tensor) -> tuple[Tensor, Tensor]:
        log = self.jastrow(electrons)
        return torch.ones_like(log), log


def test_jastrow_jet() -> None:
    ansatz, x = WithJastrow(), 2 * torch.randn(3, 4, 3)
    expected = laplacian_by_autograd(ansatz, x)
    with torch.no_grad():
        value, gradient, curvature = ansatz.jastrow.jet(x)
    for number, wanted in ((value, expected.log), (gradient, expected.gradient), (curvature, expected.laplacian)):
        torch.testing.assert_close(number, wanted, atol=1e-9, rtol=1e-9)


@pytest.mark.parametrize(("second", "cusp"), [(1, 0.25), (2, 0.5)])
def test_jastrow_has_the_cusps(second: int, cusp: float) -> None:
    """dJ/dr at r = 0 for parallel and antiparallel spins, across the border of the cell; other pairs cancel."""
    jastrow, x, r = PeriodicJastrow(2, 2, SKEWED), torch.randn(1, 4, 3), 1e-6
    values = []
    for step in (r, -r, 2 * r, -2 * r):
        x[0, second] = x[0, 0] + torch.tensor([step, 0.0, 0.0]) + SKEWED.vectors[1]
        values.append(float(jastrow(x).detach()))
    near, far = values[0] + values[1], values[2] + values[3]
    assert (far - near) / (2 * r) == pytest.approx(cusp, rel=1e-3)


# -- plane waves -------------------------------------------------------------------------------------------------------
def test_plane_waves_are_orthonormal() -> None:
    """Mean over the cell by a grid that integrates all products exactly."""
    grid = torch.cartesian_prod(*[torch.arange(6) / 6] * 3) @ torch.eye(3)
    values = PlaneWaves(Cell(torch.eye(3)), 19)(grid)
    torch.testing.assert_close(values.T @ values / len(grid), torch.eye(19), atol=1e-12, rtol=0)


def test_open_shells_of_plane_waves_are_refused() -> None:
    assert len(wave_vectors(Cell(torch.eye(3)), 7)) == 3
    with pytest.raises(InputError, match="closed shell"):
        wave_vectors(Cell(torch.eye(3)), 9)


@pytest.mark.parametrize("functions", [1, 7])
def test_plane_wave_jets(functions: int) -> None:
    waves = PlaneWaves(Cell(1.3 * torch.eye(3)), functions)
    x = torch.randn(3)
    torch.testing.assert_close(waves.jet(x.view(1, 1, 3))[0, :, 0], derivatives(waves, x), atol=1e-9, rtol=1e-9)


def test_orbital_jets_of_both_spins() -> None:
    gas = electron_gas(1.0, 8, 6)
    orbitals, x = PlaneWaveOrbitals(gas), initial_electrons(gas, 1, torch.Generator().manual_seed(0))
    vector, distance = nuclear_vectors(x, torch.zeros(1, 3))
    by_spin = (7, 1)
    values, jets = (
        orbitals(vector, distance).split(by_spin, dim=1),
        orbitals.jet(vector, distance).split(by_spin, dim=2),
    )
    assert [strings.tolist() for strings in orbitals.strings] == [[list(range(7))], [[0]]]
    for value, jet, spin in zip(values, jets, (x[0, :7], x[0, 7:]), strict=True):
        for i, place in enumerate(spin):
            expected = derivatives(orbitals.waves, place)
            torch.testing.assert_close(jet[0, :, i], expected, atol=1e-9, rtol=1e-9)
            torch.testing.assert_close(value[0, i], expected[-1])


def test_envelope_starts_at_one_and_has_its_jet() -> None:
    envelope = PlaneWaveEnvelope(Cell(1.3 * torch.eye(3)), 7, 4)
    x = torch.randn(3)
    assert torch.equal(envelope(x.view(1, 1, 1, 3), x[:1])[0, 0], torch.ones(4))
    with torch.no_grad():
        envelope.weights += torch.randn(7, 4)
        jet = envelope.jet(x.view(1, 1, 1, 3), x[:1])[0, :, 0]
    expected = derivatives(lambda y: envelope(y.view(1, 1, 1, 3), y[:1])[0, 0], x)
    torch.testing.assert_close(jet, expected, atol=1e-9, rtol=1e-9)


# -- networks ----------------------------------------------------------------------------------------------------------
NETWORKS: dict[str, Callable[..., nn.Module]] = {
    "ferminet": lambda gas, reference: FermiNet(gas, 8, 4, 2, 2, reference=reference),
    "psiformer": lambda gas, reference: Psiformer(gas, 2, 4, (8,), 1, 2, reference=reference),
}
GASES = {"8, spin 6": electron_gas(1.5, 8, 6), "7, polarised": electron_gas(0.8, 7, 7), "2": electron_gas(5.0, 2, 0)}

network = pytest.mark.parametrize("network", NETWORKS)
reference = pytest.mark.parametrize("reference", [None, by_size])


def built(name: str, gas: System, reference: Any) -> tuple[nn.Module, Tensor]:
    """Network with random parameters, and three walkers."""
    ansatz = NETWORKS[name](gas, reference)
    with torch.no_grad():
        for parameter in ansatz.parameters():
            parameter += 0.1 * torch.randn_like(parameter)
    return ansatz, initial_electrons(gas, 3, torch.Generator().manual_seed(1))


@network
@reference
@pytest.mark.parametrize("gas", GASES)
def test_forward_laplacian_of_networks(network: str, reference: Any, gas: str) -> None:
    ansatz, x = built(network, GASES[gas], reference)
    expected: LogPsi = laplacian_by_autograd(ansatz, x)
    for number, wanted in zip(laplacian(ansatz, x, 2), expected, strict=True):
        torch.testing.assert_close(number, wanted, atol=1e-9, rtol=1e-9)


@network
@reference
def test_psi_has_the_period_of_the_cell(network: str, reference: Any) -> None:
    gas = GASES["8, spin 6"]
    (ansatz, x), cell = built(network, gas, reference), cell_of(gas)
    assert cell is not None
    moved = x.clone()
    moved[:, 0] += cell.vectors[0] - 2 * cell.vectors[1]
    moved[:, 7] += cell.vectors[2]
    with torch.no_grad():
        for number, wanted in zip(ansatz(moved), ansatz(x), strict=True):
            torch.testing.assert_close(number, wanted, atol=1e-9, rtol=0)


@network
@reference
def test_psi_is_antisymmetric(network: str, reference: Any) -> None:
    ansatz, x = built(network, GASES["8, spin 6"], reference)
    exchanged = x[:, [2, 1, 0, *range(3, 8)]]
    with torch.no_grad():
        (sign, log), (other_sign, other_log) = ansatz(x), ansatz(exchanged)
    torch.testing.assert_close(other_log, log, atol=1e-9, rtol=0)
    assert torch.equal(other_sign, -sign)


@network
def test_scores_of_all_parameters(network: str) -> None:
    ansatz, x = built(network, GASES["8, spin 6"], by_size)
    expected = explicit_scores(ansatz, x)
    u = torch.randn(len(x))
    transposed = ScoreRecorder(ansatz, 2)(x).transpose_apply(u)
    assert set(transposed) == set(expected)
    for name, rows in expected.items():
        torch.testing.assert_close(transposed[name], torch.einsum("b,b...->...", u, rows), atol=1e-9, rtol=1e-9)


def test_walkers_stay_in_the_cell() -> None:
    gas = GASES["2"]
    cell = cell_of(gas)
    assert cell is not None
    generator = torch.Generator().manual_seed(0)
    sampler = Metropolis(initial_electrons(gas, 100, generator), generator, width=10.0, cell=cell)
    ansatz = NETWORKS["ferminet"](gas, by_size)
    before = sampler.electrons
    sampler.run(lambda x: 2 * ansatz(x)[1], 20)
    shares = cell.angles(sampler.electrons) / (2 * torch.pi)
    assert bool(((shares >= 0) & (shares <= 1)).all())
    assert float((sampler.electrons - before).abs().amax((1, 2)).min()) > 0, "all walkers have moved"
