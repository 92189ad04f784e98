"""Spin of wavefunctions with known spin."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from exact import GaussianJastrow, Oscillator, Slater1s, molecule
from fusion.wavefunctions.estimators.spin import spin_squared
from fusion.wavefunctions.gaussian_orbitals import GaussianOrbitals
from fusion.wavefunctions.hamiltonians import Point
from fusion.wavefunctions.hartree_fock import hartree_fock
from fusion.wavefunctions.sampler import Metropolis

pytestmark = pytest.mark.usefixtures("double_precision")


class Slater(nn.Module):
    """Hartree-Fock determinant as an ansatz."""

    def __init__(self, orbitals: GaussianOrbitals) -> None:
        super().__init__()
        self.slater = orbitals

    def forward(self, electrons: Tensor) -> tuple[Tensor, Tensor]:
        return self.slater.slater_log(electrons)


class OpenSinglet(nn.Module):
    """s(1) p(2) +- p(1) s(2): the singlet and the triplet with one electron of either spin."""

    def __init__(self, sign: float) -> None:
        super().__init__()
        self.sign = sign

    def forward(self, electrons: Tensor) -> tuple[Tensor, Tensor]:
        psi = electrons[:, 1, 0] + self.sign * electrons[:, 0, 0]
        return torch.sign(psi), psi.abs().log() - electrons.square().sum((1, 2))


def value(ansatz: nn.Module, n: int, n_up: int) -> torch.Tensor:
    values = spin_squared(Point(ansatz, torch.randn(20, n, 3), 20), n_up)
    assert values.dtype == torch.float64
    return values


def constant(number: float) -> torch.Tensor:
    return torch.full((20,), number)


@pytest.mark.parametrize(("n", "expected"), [(1, 0.75), (2, 2.0), (3, 3.75), (4, 6.0)])
def test_all_spins_up(n: int, expected: float) -> None:
    torch.testing.assert_close(value(Oscillator(1.0), n, n), constant(expected))


def test_singlets_and_triplets_of_two_electrons() -> None:
    for singlet in (Slater1s(1.3), GaussianJastrow(1, 1, jastrow=True), OpenSinglet(+1)):
        torch.testing.assert_close(value(singlet, 2, 1), constant(0.0), rtol=0, atol=1e-12)
    torch.testing.assert_close(value(OpenSinglet(-1), 2, 1), constant(2.0))


def test_restricted_determinants_are_eigenfunctions() -> None:
    orbitals = hartree_fock(molecule("Be"), "6-31G").orbitals
    torch.testing.assert_close(value(Slater(orbitals), 4, 2), constant(0.0), rtol=0, atol=1e-9)


def test_spin_of_unrestricted_lithium_matches_pyscf() -> None:
    field = hartree_fock(molecule("Li"), "6-31G")
    ansatz, generator = Slater(field.orbitals), torch.Generator().manual_seed(0)
    metropolis = Metropolis(torch.randn(1000, 3, 3, generator=generator), generator, 0.5)
    metropolis.burn_in(lambda x: 2 * ansatz(x)[1], 200)
    values = []
    for _ in range(20):
        metropolis.run(lambda x: 2 * ansatz(x)[1], 20)
        values.append(spin_squared(Point(ansatz, metropolis.electrons, 1000), 2))
    values = torch.stack(values)
    error = float(values.mean(0).std()) / 1000**0.5
    assert error < 0.02
    assert float(values.mean()) == pytest.approx(field.spin_squared, abs=4 * error)
