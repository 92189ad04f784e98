"""Local energies of wavefunctions that can be written down."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from exact import GaussianJastrow, Hooke, Oscillator, Slater1s, distance, molecule, radii, trap
from fusion.errors import CalculationError, InputError
from fusion.wavefunctions.hamiltonians import Coulomb, Hamiltonian, Kinetic, Point, molecular
from fusion.wavefunctions.jets import laplacian_by_autograd

pytestmark = pytest.mark.usefixtures("double_precision")


def walkers(batch: int, electrons: int) -> torch.Tensor:
    return 1.5 * torch.randn(batch, electrons, 3)


@pytest.mark.parametrize(("symbol", "charge", "z"), [("H", 0, 1), ("He", 1, 2), ("Li", 2, 3), ("C", 5, 6)])
def test_one_electron_atoms_have_zero_variance(symbol: str, charge: int, z: int) -> None:
    energy = molecular(molecule(symbol, charge=charge)).local_energy(Slater1s(float(z)), walkers(200, 1), chunk=64)
    assert energy.dtype == torch.float64
    torch.testing.assert_close(energy, torch.full((200,), -0.5 * z * z), rtol=0, atol=1e-9)


def test_local_energy_of_a_wrong_exponent_has_the_missing_cusp() -> None:
    electrons, a = walkers(50, 1), 1.3
    energy = molecular(molecule("H")).local_energy(Slater1s(a), electrons, chunk=50)
    expected = -0.5 * a * a + (a - 1) / radii(electrons).squeeze(1)
    torch.testing.assert_close(energy, expected, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize(("electrons", "levels"), [(1, 1.5), (2, 4.0), (4, 9.0)])
def test_electrons_in_a_harmonic_trap(electrons: int, levels: float) -> None:
    energy = trap(0.7, repulsion=False).local_energy(Oscillator(0.7), walkers(100, electrons), chunk=100)
    torch.testing.assert_close(energy, torch.full((100,), 0.7 * levels), rtol=0, atol=1e-8)


def test_two_repelling_electrons_in_a_harmonic_trap() -> None:
    energy = trap(0.5, repulsion=True).local_energy(Hooke(), walkers(200, 2), chunk=50)
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
    for positions, tolerance in ((electrons, 1e-12), (electrons.float(), 1e-5)):
        energy = Coulomb(system)(Point(Slater1s(1.0), positions, chunk=3))
        torch.testing.assert_close(energy, expected, rtol=tolerance, atol=0)


def approaching(separation: float) -> torch.Tensor:
    """Two electrons at a distance, the first one at the same place, far from a nucleus at the origin."""
    start, direction = torch.tensor([0.8, -0.5, 0.9]), torch.tensor([0.6, 0.0, 0.8])
    return torch.stack((start, start + separation * direction)).unsqueeze(0)


@pytest.mark.parametrize(("n_up", "n_down"), [(1, 1), (2, 0)])
def test_local_energy_stays_finite_where_electrons_meet(n_up: int, n_down: int) -> None:
    hamiltonian = molecular(molecule("He", spin=n_up - n_down))

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


class Counted(nn.Module):
    """Wavefunction that counts its evaluations."""

    def __init__(self) -> None:
        super().__init__()
        self.inner, self.calls = Slater1s(1.0), 0

    def forward(self, electrons: Tensor) -> tuple[Tensor, Tensor]:
        self.calls += 1
        log: tuple[Tensor, Tensor] = self.inner(electrons)
        return log


def test_terms_share_one_laplacian() -> None:
    ansatz, electrons = Counted(), walkers(10, 2)
    measured = molecular(molecule("He")).evaluate(ansatz, electrons, chunk=5)
    assert ansatz.calls == 2  # one per chunk
    assert list(measured.terms) == ["kinetic", "coulomb"]
    torch.testing.assert_close(measured.total, measured.terms["kinetic"] + measured.terms["coulomb"])
    torch.testing.assert_close(measured.psi.log, ansatz.inner(electrons)[1])
    point = Point(ansatz, electrons, chunk=5)
    assert point.psi is point.psi and ansatz.calls == 4
    torch.testing.assert_close(point.signs_and_logs[1], point.psi.log)
    assert ansatz.calls == 4


def test_ratios_have_the_signs_of_both_wavefunctions() -> None:
    ansatz, electrons = Oscillator(0.7), walkers(20, 2)
    point = Point(ansatz, electrons, chunk=3)
    indices = torch.arange(20)
    torch.testing.assert_close(point.ratios(indices, electrons.flip(1)), -torch.ones(20))
    assert point.ratios(indices[:0], electrons[:0]).shape == (0,)


def test_terms_of_a_wrong_shape_and_missing_terms_are_refused() -> None:
    class Wrong(nn.Module):
        name = "wrong"

        def forward(self, point: Point) -> Tensor:
            return point.electrons[..., 0]

    with pytest.raises(CalculationError, match="the term wrong"):
        Hamiltonian([Kinetic(), Wrong()]).local_energy(Slater1s(1.0), walkers(4, 1), chunk=4)
    with pytest.raises(InputError, match="one of them kinetic"):
        Hamiltonian([Wrong()])
