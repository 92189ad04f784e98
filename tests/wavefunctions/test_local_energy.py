"""Local energies of wavefunctions that can be written down."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from exact import GaussianJastrow, Hooke, Oscillator, Slater1s, Trap, distance, molecule, radii
from fusion.wavefunctions.hamiltonian import Hamiltonian
from fusion.wavefunctions.laplacian import laplacian_by_autograd

pytestmark = pytest.mark.usefixtures("double_precision")


def walkers(batch: int, electrons: int) -> torch.Tensor:
    return 1.5 * torch.randn(batch, electrons, 3)


@pytest.mark.parametrize(("symbol", "charge", "z"), [("H", 0, 1), ("He", 1, 2), ("Li", 2, 3), ("C", 5, 6)])
def test_one_electron_atoms_have_zero_variance(symbol: str, charge: int, z: int) -> None:
    energy = Hamiltonian(molecule(symbol, charge=charge)).local_energy(Slater1s(float(z)), walkers(200, 1), chunk=64)
    assert energy.dtype == torch.float64
    torch.testing.assert_close(energy, torch.full((200,), -0.5 * z * z), rtol=0, atol=1e-9)


def test_local_energy_of_a_wrong_exponent_has_the_missing_cusp() -> None:
    electrons, a = walkers(50, 1), 1.3
    energy = Hamiltonian(molecule("H")).local_energy(Slater1s(a), electrons, chunk=50)
    expected = -0.5 * a * a + (a - 1) / radii(electrons).squeeze(1)
    torch.testing.assert_close(energy, expected, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize(("electrons", "levels"), [(1, 1.5), (2, 4.0), (4, 9.0)])
def test_electrons_in_a_harmonic_trap(electrons: int, levels: float) -> None:
    energy = Trap(0.7, repulsion=False).local_energy(Oscillator(0.7), walkers(100, electrons), chunk=100)
    torch.testing.assert_close(energy, torch.full((100,), 0.7 * levels), rtol=0, atol=1e-8)


def test_two_repelling_electrons_in_a_harmonic_trap() -> None:
    energy = Trap(0.5, repulsion=True).local_energy(Hooke(), walkers(200, 2), chunk=50)
    torch.testing.assert_close(energy, torch.full((200,), 2.0), rtol=0, atol=1e-9)


def test_potential_of_lithium_hydride() -> None:
    system = molecule("Li H", 3.0)
    electrons = walkers(3, 4)
    nuclei = torch.tensor([[0.0, 0, 0], [0, 0, 3]])
    expected = torch.ones(3)  # 3 * 1 / 3
    for i in range(4):
        for z, nucleus in zip((3, 1), nuclei, strict=True):
            expected -= z / (electrons[:, i] - nucleus).norm(dim=-1)
        for j in range(i):
            expected += 1 / distance(electrons, i, j)
    torch.testing.assert_close(Hamiltonian(system).potential(electrons), expected)
    torch.testing.assert_close(Hamiltonian(system).potential(electrons.float()), expected, rtol=1e-5, atol=0)


def approaching(separation: float) -> torch.Tensor:
    """Two electrons at a distance, the first one at the same place, far from a nucleus at the origin."""
    start, direction = torch.tensor([0.8, -0.5, 0.9]), torch.tensor([0.6, 0.0, 0.8])
    return torch.stack((start, start + separation * direction)).unsqueeze(0)


@pytest.mark.parametrize(("n_up", "n_down"), [(1, 1), (2, 0)])
def test_local_energy_stays_finite_where_electrons_meet(n_up: int, n_down: int) -> None:
    hamiltonian = Hamiltonian(molecule("He", spin=n_up - n_down))

    def energy(separation: float, jastrow: bool) -> float:
        ansatz = GaussianJastrow(n_up, n_down, jastrow)
        return float(hamiltonian.local_energy(ansatz, approaching(separation), chunk=1))

    for separation in (1e-3, 1e-4, 1e-5):
        assert energy(separation, False) == pytest.approx(1 / separation, rel=0.05)
        assert abs(energy(separation, True) - energy(1e-2, True)) < 0.1


def test_gradient_and_laplacian_oracle_on_a_polynomial() -> None:
    def log_psi(x: Tensor) -> tuple[Tensor, Tensor]:
        log = (x[:, 0, 0] ** 3 * x[:, 1, 1]) + x[:, 0, 2] * x[:, 1, 2] ** 2
        return torch.ones_like(log), log

    x = torch.randn(5, 2, 3)
    psi = laplacian_by_autograd(log_psi, x)
    expected = torch.zeros(5, 2, 3)
    expected[:, 0, 0] = 3 * x[:, 0, 0] ** 2 * x[:, 1, 1]
    expected[:, 1, 1] = x[:, 0, 0] ** 3
    expected[:, 0, 2] = x[:, 1, 2] ** 2
    expected[:, 1, 2] = 2 * x[:, 0, 2] * x[:, 1, 2]
    torch.testing.assert_close(psi.gradient, expected.flatten(1))
    torch.testing.assert_close(psi.laplacian, 6 * x[:, 0, 0] * x[:, 1, 1] + 2 * x[:, 0, 2])
