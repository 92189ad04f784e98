"""Observables of wavefunctions with known values."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from exact import Slater1s, molecule
from fusion.chemistry.system import System
from fusion.wavefunctions.checkpoint import series_of
from fusion.wavefunctions.estimators import Dipole, Estimates, Estimator, Forces, Quadrupole, Virial, build, standard
from fusion.wavefunctions.estimators.forces import nuclear_slopes
from fusion.wavefunctions.hamiltonians import Point, molecular
from fusion.wavefunctions.orbital_ansatz import OrbitalAnsatz
from fusion_ferminet.network import FermiNet

pytestmark = pytest.mark.usefixtures("double_precision")

EXPONENT, BOND = 1.1, 2.0


class TwoCentres(nn.Module):
    """exp(-a r_A) + exp(-a r_B), one electron in H2+, E in closed form."""

    nuclei: Tensor

    def __init__(self, system: System) -> None:
        super().__init__()
        self.register_buffer("nuclei", torch.tensor(system.positions))

    def forward(self, electrons: Tensor) -> tuple[Tensor, Tensor]:
        return self.at_nuclei(electrons, self.nuclei.expand(len(electrons), -1, -1))

    def at_nuclei(self, electrons: Tensor, nuclei: Tensor) -> tuple[Tensor, Tensor]:
        log = torch.logsumexp(-EXPONENT * torch.linalg.vector_norm(electrons - nuclei, dim=-1), dim=-1)
        return torch.ones_like(log), log


def two_centre_energy(bond: float) -> float:
    """Energy of `TwoCentres` (Pauling & Wilson, section 42) for exponent a = EXPONENT."""
    a, w = EXPONENT, EXPONENT * bond
    overlap = np.exp(-w) * (1 + w + w * w / 3)
    coulomb = a * (1 / w - np.exp(-2 * w) * (1 + 1 / w))  # <A| 1/r_B |A>
    exchange = a * np.exp(-w) * (1 + w)  # <A| 1/r_A |B>
    kinetic_aa = a * a / 2
    kinetic_ab = -a * a * overlap / 2 + a * exchange
    energy = (kinetic_aa + kinetic_ab - a - coulomb - 2 * exchange) / (1 + overlap)
    return float(energy + 1 / bond)


def two_centre_sample(n: int) -> Tensor:
    """Independent electrons (B, 1, 3) from |psi|^2, by rejection from the two atomic densities."""
    generator = np.random.default_rng(0)
    directions = generator.normal(size=(n, 3))
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)
    x = directions * generator.gamma(3, 1 / (2 * EXPONENT), size=(n, 1))
    x[: n // 2, 2] += BOND
    r = np.linalg.norm(x, axis=1), np.linalg.norm(x - [0, 0, BOND], axis=1)
    a, b = (np.exp(-EXPONENT * distance) for distance in r)
    kept = generator.random(n) < (a + b) ** 2 / (2 * (a**2 + b**2))
    return torch.tensor(generator.permutation(x[kept])).unsqueeze(1)


def measured(estimator: Estimator, ansatz: nn.Module, system: System, electrons: Tensor, parts: int = 1) -> Estimates:
    """Values from independent walkers, as if they were ``parts`` iterations."""
    point = Point(ansatz, electrons, len(electrons))
    rows = estimator(point, molecular(system).at(point))
    assert set(rows) == set(estimator.measures)
    return estimator.finish(
        {key: np.array([part.mean(0).numpy() for part in values.chunk(parts)]) for key, values in rows.items()}
    )


def test_forces_of_an_approximate_wavefunction_are_the_slopes_of_its_energy() -> None:
    """H2+ with an exponent that is not optimal for its orbital: both parts of the force are needed."""
    system = molecule("H H", BOND, charge=1)
    result = measured(Forces(system), TwoCentres(system), system, two_centre_sample(60_000), parts=200)
    forces, stderr = (np.asarray(result.properties[key]) for key in ("forces", "forces_stderr"))
    slope = (two_centre_energy(BOND + 1e-4) - two_centre_energy(BOND - 1e-4)) / 2e-4
    expected = np.array([[0, 0, slope], [0, 0, -slope]])
    assert stderr.max() < 4e-3
    assert np.all(np.abs(forces - expected) < 4 * stderr)
    parts = result.details["forces"]
    assert np.all(
        np.abs(parts["sum_hartree_per_bohr"]["value"]) < 4 * np.array(parts["sum_hartree_per_bohr"]["stderr"])
    )


def test_an_exact_atom_has_no_force_for_any_walker() -> None:
    system = molecule("He", charge=1)
    result = measured(Forces(system), Slater1s(2.0), system, torch.randn(50, 1, 3))
    value = result.details["forces"]["zero_variance_hartree_per_bohr"]["value"]
    assert np.array(value) == pytest.approx(np.zeros((1, 3)), abs=1e-12)


def test_forces_without_the_pulay_term_are_not_stated() -> None:
    """A wavefunction that cannot move its nuclei has only the zero-variance part, which may be far from the force."""
    system = molecule("He", charge=1)
    result = measured(Forces(system), Slater1s(2.0), system, torch.randn(50, 1, 3))
    assert {key for key in result.details["forces"] if "pulay" in key} == set()
    assert not {"forces", "forces_stderr"} & set(result.properties)


def test_derivatives_with_respect_to_nuclei_match_differences() -> None:
    torch.manual_seed(0)
    system = molecule("Li H", 3.0)
    ansatz: OrbitalAnsatz = FermiNet(system, one_electron=8, two_electron=4, layers=2, determinants=2)
    electrons = torch.randn(6, 4, 3)
    with torch.no_grad():  # as in a run
        slopes = nuclear_slopes(Point(ansatz, electrons, 1), ansatz.nuclei)
    nuclei = ansatz.nuclei.expand(6, -1, -1)
    step = torch.zeros_like(nuclei)
    step[:, 1, 0] = 1e-5
    with torch.no_grad():
        logs = [ansatz.at_nuclei(electrons, nuclei + sign * step)[1] for sign in (1, -1)]
    torch.testing.assert_close(slopes[:, 1, 0], (logs[0] - logs[1]) / 2e-5, rtol=1e-6, atol=1e-7)


def test_virial_of_an_exact_atom() -> None:
    system = molecule("He", charge=1)
    radius = np.random.default_rng(0).gamma(3, 1 / 4, size=(20_000, 1, 1))
    electrons = torch.tensor(radius) * nn.functional.normalize(torch.randn(20_000, 1, 3), dim=-1)
    ratio = measured(Virial(system), Slater1s(2.0), system, electrons, parts=100).details["virial_ratio"]
    assert ratio["value"] == pytest.approx(2.0, abs=4 * ratio["stderr"])
    assert ratio["stderr"] < 0.05


def test_moments_of_nuclei_and_electrons() -> None:
    """Two electrons at known places around a bare lithium hydride."""
    system = molecule("Li H", 3.0, charge=2)
    electrons = torch.tensor([[[0.0, 0.0, 1.0], [1.0, 0.0, 0.0]]])
    point = Point(Slater1s(1.0), electrons, 1)
    local = molecular(system).at(point)
    dipole = Dipole(system)(point, local)["dipole"]
    torch.testing.assert_close(dipole, torch.tensor([[-1.0, 0.0, 3.0 - 1.0]]))
    quadrupole = Quadrupole(system)(point, local)["quadrupole"][0]
    torch.testing.assert_close(quadrupole, torch.diag(torch.tensor([-4.5 + 0.5 - 1, -4.5 + 0.5 + 0.5, 9 - 1 + 0.5])))


def test_estimators_can_be_left_out() -> None:
    system = molecule("He")
    names = [estimator.name for estimator in build(system, {**standard(5), "forces": None, "quadrupole": Quadrupole})]
    assert names == ["spin", "dipole", "virial", "quadrupole"]


def test_series_of_earlier_checkpoints() -> None:
    old = {"variances": [0.1] * 3, "acceptances": [0.5] * 3, "spins": [0.75]}
    assert series_of(old) == {"spin_squared": [0.75], "variance": [0.1] * 3, "acceptance": [0.5] * 3}
