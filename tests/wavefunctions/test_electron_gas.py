"""The electron gas: exact energies of plane waves, Monte Carlo of a network, and refusals."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from fusion.chemistry.electron_gas import electron_gas
from fusion.errors import InputError
from fusion.wavefunctions.diffusion.walk import Walk, place
from fusion.wavefunctions.estimators import PairDensity, Virial, build, standard
from fusion.wavefunctions.hamiltonians import Hamiltonian, Kinetic, Point, molecular
from fusion.wavefunctions.hartree_fock import hartree_fock
from fusion.wavefunctions.jets import LogPsi
from fusion.wavefunctions.periodic.cell import cell_of
from fusion.wavefunctions.periodic.mean_field import plane_wave_energies
from fusion.wavefunctions.periodic.plane_waves import PlaneWaveDeterminant
from fusion.wavefunctions.pretraining import Pretraining
from fusion.wavefunctions.proposals import ScaledElectrons
from fusion.wavefunctions.references import by_size
from fusion.wavefunctions.sampler import Metropolis, initial_electrons
from fusion_ferminet.network import FermiNet
from killable import TINY, fusion
from resuming import document

pytestmark = pytest.mark.usefixtures("double_precision")


class PlaneWaveState(nn.Module):
    """The Hartree-Fock determinant of a gas as an ansatz."""

    def __init__(self, *gas: Any) -> None:
        super().__init__()
        self.system = electron_gas(*gas)
        self.determinant = PlaneWaveDeterminant(self.system)

    def forward(self, electrons: Tensor) -> tuple[Tensor, Tensor]:
        return self.determinant.slater_log(electrons)

    def sampler(self, walkers: int) -> Metropolis:
        """Equilibrated walkers."""
        generator = torch.Generator().manual_seed(0)
        start = initial_electrons(self.system, walkers, generator)
        proposals = [ScaledElectrons(self.system)]
        sampler = Metropolis(start, generator, 0.3, proposals, cell_of(self.system))
        sampler.burn_in(self.log_density, 200)
        return sampler

    def log_density(self, electrons: Tensor) -> Tensor:
        return 2 * self(electrons)[1]


# -- Hartree-Fock ------------------------------------------------------------------------------------------------------
def test_hartree_fock_of_the_unpolarised_gas() -> None:
    """8.4914806035 Ha is the value of the coupled-cluster code cc4s for 14 electrons at r_s = 1."""
    field = hartree_fock(electron_gas(1.0, 14, 0))
    assert (field.method, field.basis, field.spin_squared) == ("RHF", "plane waves", 0)
    assert field.energy == pytest.approx(8.4914806035, abs=1e-9)


def test_large_polarised_gas_has_the_exchange_energy_of_the_infinite_one() -> None:
    """T = 3/10 k_F^2 and V = -3/(4 pi) k_F per electron, but for finite-size errors, with k_F = (9 pi / 2)^(1/3) / r_s
    for polarised spins."""
    gas = electron_gas(2.0, 341, 341)
    fermi = (9 * math.pi / 2) ** (1 / 3) / 2.0
    kinetic, coulomb = (part / 341 for part in plane_wave_energies(gas))
    assert kinetic == pytest.approx(0.3 * fermi**2, rel=0.02)
    assert coulomb == pytest.approx(-0.75 * fermi / math.pi, rel=0.02)


@pytest.mark.parametrize("gas", [(1.0, 14, 0), (2.0, 7, 7), (0.7, 8, 6)])
def test_kinetic_energy_of_plane_waves_has_no_variance(gas: tuple[float, int, int]) -> None:
    state = PlaneWaveState(*gas)
    local = molecular(state.system).evaluate(state, initial_electrons(state.system, 3, torch.Generator()), 3)
    torch.testing.assert_close(local.terms["kinetic"], torch.full((3,), plane_wave_energies(state.system)[0]))


@pytest.mark.parametrize("gas", [(1.0, 14, 0), (2.0, 7, 7)])
def test_coulomb_energy_of_plane_waves_by_monte_carlo(gas: tuple[float, int, int]) -> None:
    state = PlaneWaveState(*gas)
    sampler, ewald = state.sampler(300), molecular(state.system).terms[1]
    means = []
    for _ in range(10):
        sampler.run(state.log_density, 15)
        means.append(ewald(Point(state, sampler.electrons, 300)))
    per_walker = torch.stack(means).mean(0)
    error = float(per_walker.std()) / 300**0.5
    exact = plane_wave_energies(state.system)[1]
    assert error < 0.01 * abs(exact)
    assert abs(float(per_walker.mean()) - exact) < 4 * error


# -- networks ----------------------------------------------------------------------------------------------------------
def test_network_without_corrections_has_the_nodes_of_hartree_fock() -> None:
    gas = electron_gas(1.0, 14, 0)
    ansatz, state = FermiNet(gas, 4, 2, 1, 1, reference=by_size), PlaneWaveState(1.0, 14, 0)
    x = initial_electrons(gas, 50, torch.Generator().manual_seed(0))
    with torch.no_grad():
        for layer in ansatz.orbital:
            layer.weight.zero_()
        signs = ansatz(x)[0] * state(x)[0]
    assert len(signs.unique()) == 1


def test_pretraining_brings_orbitals_to_plane_waves() -> None:
    gas = electron_gas(1.0, 7, 7)
    ansatz = FermiNet(gas, 8, 2, 1, 1)
    generator = torch.Generator().manual_seed(0)
    sampler = Metropolis(initial_electrons(gas, 50, generator), generator, cell=cell_of(gas))
    pretraining = Pretraining(ansatz, PlaneWaveDeterminant(gas), 0.02)
    losses = [pretraining.step(sampler) for _ in range(60)]
    assert losses[-1] < 0.2 * losses[0]


def test_diffusion_in_a_cell_finds_the_exact_energy_from_a_wrong_guide() -> None:
    """A free electron has the energy 0; the guide exp(0.15 sum_m cos theta_m) has a higher one."""
    gas = electron_gas(2.0, 1, 1)
    cell = cell_of(gas)
    assert cell is not None

    class Guide(nn.Module):
        def forward(self, electrons: Tensor) -> tuple[Tensor, Tensor]:
            log = 0.15 * torch.cos(cell.angles(electrons)).sum((1, 2))
            return torch.ones_like(log), log

    guide, free = Guide(), Hamiltonian([Kinetic()])

    def measure(electrons: Tensor) -> tuple[LogPsi, Tensor]:
        local = free.evaluate(guide, electrons, len(electrons))
        return local.psi, local.total

    generator = torch.Generator().manual_seed(0)
    walk = Walk(gas, measure, 0.05, generator)
    walkers, energies = place(initial_electrons(gas, 1000, generator), measure), []
    for _ in range(300):
        step = walk.step(walkers, 0.0, 0.0, 1.0)
        energies.append(float((step.weight * step.walkers.energy).sum() / step.weight.sum()))
        chosen = torch.multinomial(step.weight, 1000, replacement=True, generator=generator)
        walkers = step.walkers.take(chosen)
    shares = cell.angles(walkers.electrons) / (2 * torch.pi)
    assert bool(((shares >= 0) & (shares <= 1)).all())
    variational = 0.5 * 3 * 0.15**2 / 2 * float(cell.reciprocal[0].square().sum())  # at least, as <|grad psi|^2> / 2
    assert abs(float(np.mean(energies[60:]))) < 0.012 < 0.2 * variational


# -- estimators --------------------------------------------------------------------------------------------------------
def test_standard_estimators_leave_out_what_a_cell_does_not_define() -> None:
    gas = electron_gas(1.0, 2, 0)
    assert [estimator.name for estimator in build(gas, standard(1))] == ["spin", "virial"]
    series = np.array([1.0, 2.0, 1.5, 1.2])
    assert "virial_ratio" not in Virial(gas).finish({"kinetic": series, "potential": -series}).details


def test_pair_correlation_of_plane_waves() -> None:
    """Antiparallel electrons of Hartree-Fock are not correlated, g = 1; parallel ones keep apart."""
    state = PlaneWaveState(1.0, 14, 0)
    sampler, estimator = state.sampler(300), PairDensity(state.system, width=0.2)
    cell = cell_of(state.system)
    assert cell is not None
    zero: Any = type("Local", (), {"total": torch.zeros(300)})
    for _ in range(10):
        sampler.run(state.log_density, 15)
        estimator(Point(state, sampler.electrons, 300), zero)
    rows = estimator.finish({}).files["pair_density.csv"].decode().splitlines()
    columns = dict(zip(rows[0].split(","), np.array([row.split(",") for row in rows[1:-1]], float).T, strict=True))
    g = {
        kind: columns[f"h_{kind}_per_bohr3"] * cell.volume / pairs
        for kind, pairs in (("parallel", 42), ("antiparallel", 49))
    }
    assert columns["u_bohr"][-1] < cell.radius
    assert np.abs(g["antiparallel"][3:] - 1).max() < 0.06
    assert g["parallel"][1] < 0.15
    assert g["parallel"][1] < g["parallel"][4] < g["parallel"][7]


# -- commands ----------------------------------------------------------------------------------------------------------
GAS = (*(word for word in TINY[:-1] if word != "system=h2"), "system=heg", "system.electrons=2")


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Directory of a trained run of two electrons at r_s = 1."""
    run = tmp_path_factory.mktemp("gas") / "run"
    assert fusion(run.parent, *GAS, "hydra.run.dir=run").complete
    return run


def test_result_of_a_run(trained: Path) -> None:
    result = document(trained)
    assert result["system"]["formula"] == "electron gas"
    assert result["vmc"]["hartree_fock"]["energy_hartree"] == pytest.approx(
        sum(plane_wave_energies(electron_gas(1.0, 2, 0))), abs=1e-9
    )
    assert result["vmc"]["orbitals_start_at"] == "plane waves"
    assert not {"dipole_e_bohr", "forces_hartree_per_bohr"} & set(result)


def test_evaluation_of_a_checkpoint(trained: Path, tmp_path: Path) -> None:
    words = (*GAS, "task=evaluate", f"ckpt={trained}", "+estimator=pair_density", "hydra.run.dir=run")
    assert fusion(tmp_path, *words).complete
    assert (tmp_path / "run" / "pair_density.csv").is_file()


def test_diffusion_from_a_checkpoint(trained: Path, tmp_path: Path) -> None:
    words = (*GAS, "task=dmc", f"ckpt={trained}", "task.steps=40", "task.equilibration=10", "hydra.run.dir=run")
    assert fusion(tmp_path, *words).complete
    assert [row["time_step_per_hartree"] for row in document(tmp_path / "run")["dmc"]["time_steps"]] == [0.02, 0.01]


@pytest.mark.parametrize("word", ["system.rs=1.1", "system.electrons=14"])
def test_checkpoint_of_another_gas_is_refused(trained: Path, tmp_path: Path, word: str) -> None:
    refused = fusion(tmp_path, *GAS, word, "task=evaluate", f"ckpt={trained}", "hydra.run.dir=run")
    assert refused.status == 2
    assert "its cell, or the density of its electron gas, differs" in refused.err


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("+method=hf", "system=heg"), "heg is an electron gas, which has no nuclei; hf needs them"),
        (("+method=ferminet", "system=heg", "task=relax"), "no forces of heg, which is periodic"),
        (("+method=ferminet", "system=heg", "reference=ci"), "reference=by_size starts at plane waves"),
        (("+method=ferminet", "system=heg", "+estimator=quadrupole"), "a quadrupole moment is not defined"),
        (("+method=ferminet", "system=heg", "+estimator=density"), "not defined in the periodic cell of heg"),
        (("+method=ferminet", "system=heg", "system.electrons=15"), "8 spin-up electrons fill no closed shell"),
        (("+method=ferminet", "system=heg", "system.rs=0"), "system.rs must be a positive number of bohr"),
    ],
)
def test_refusals_are_one_line(tmp_path: Path, words: tuple[str, ...], message: str) -> None:
    refused = fusion(tmp_path, *words, "hydra.run.dir=run")
    assert refused.status == 2
    assert message in refused.err
    assert len(refused.err.strip().splitlines()) == 1
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: electron_gas(1.0, 15, 1), "8 spin-up electrons fill no closed shell"),
        (lambda: electron_gas(1.0, 26, 0), "13 spin-up electrons"),
        (lambda: electron_gas(1.0, 14, 1), "must be even"),
    ],
)
def test_open_shells_are_refused(make: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        make()
