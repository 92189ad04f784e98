"""Frequencies known in closed form, published thermochemistry, and runs that are killed and resumed."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ase import Atoms
from ase.build import molecule

from fusion.chemistry import units
from fusion.chemistry.system import System
from fusion.methods import protocol
from fusion.potentials import PotentialMethod
from fusion.runs.results import Result
from fusion.tasks.geometry.normal_modes import normal_modes, spread
from fusion.tasks.vibrations.infrared import KM_MOL, intensities
from fusion.tasks.vibrations.symmetry import point_group
from fusion.tasks.vibrations.thermochemistry import thermochemistry
from processes import Program
from resuming import Resumes, Stop

DEPTH, WIDTH = 0.17, 1.1  # of the toy potential's Morse bonds
CONSTANT = 2.0 * DEPTH * WIDTH**2  # hartree/bohr^2
ARGON = 39.948  # dalton
MORSE = ("+method=morse", "task=vibrations", "hydra.run.dir=run")
N2 = "system=inline", "system.atoms=N 0 0 0; N 0.4 0.9 1.0"
TRIANGLE = "system=inline", "system.atoms=Ar 0 0 0; Ar 3.7 0 0; Ar 1.85 3.2 0.1"


def wavenumber(constant: float, mass: float) -> float:
    """Wavenumber in cm^-1 of sqrt(k / m), k in hartree/bohr^2, m in dalton."""
    return float(np.sqrt(constant / (mass * units.ELECTRON_MASSES_PER_DALTON)) * units.CM1_PER_HARTREE)


def result(directory: Path) -> dict[str, Any]:
    document: dict[str, Any] = json.loads((directory / "result.json").read_text())
    return document


def water(positions: np.ndarray | None = None) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Hessian, positions and masses of a water-like molecule away from its minimum."""
    from toy.morse import Morse

    given = np.array([[0.0, 0.1, 0.0], [1.5, 0.0, 1.1], [-1.4, 0.2, 1.0]]) if positions is None else positions
    system = System("h2o", ("O", "H", "H"), given)
    (calculated,) = PotentialMethod("morse", Morse(DEPTH, WIDTH)).calculate([system], {"hessian"})
    return np.asarray(calculated.properties["hessian"]), given, np.array([15.999, 1.008, 1.008])


def test_a_diatomic_has_the_frequency_of_its_force_constant(program: Program, tmp_path: Path) -> None:
    done = program(*MORSE, *N2, "task.fmax=1e-8")
    assert done.status == 0, done
    document = result(tmp_path / "run")
    vibrations, thermo = document["vibrations"], document["thermochemistry"]
    assert document["frequencies_cm1"] == pytest.approx([wavenumber(CONSTANT, 14.007 / 2)], rel=1e-6)
    assert vibrations["removed_translations_and_rotations"] == 5 and vibrations["n_imaginary"] == 0
    assert np.abs(vibrations["residual_of_removed_cm1"]).max() < 0.5
    assert (thermo["point_group"], thermo["symmetry_number"]) == ("D∞h", 2)
    assert document["zero_point_energy_hartree"] * units.CM1_PER_HARTREE == pytest.approx(
        document["frequencies_cm1"][0] / 2
    )
    assert "no imaginary modes: a minimum" in done.out
    assert [path.name for path in (tmp_path / "run" / "modes").iterdir()] == ["06.xyz"]
    # One heavy isotope: the frequency falls by the root of the reduced masses, and the ends differ.
    assert program(*MORSE[:2], *N2, "task.fmax=1e-8", "task.masses={2:15.0001}", "hydra.run.dir=heavy").status == 0
    heavy = result(tmp_path / "heavy")
    reduced = 14.007 * 15.0001 / (14.007 + 15.0001)
    ratio = heavy["frequencies_cm1"][0] / document["frequencies_cm1"][0]
    assert ratio == pytest.approx(np.sqrt(14.007 / 2 / reduced), rel=1e-9)
    assert heavy["thermochemistry"]["symmetry_number"] == 1


def test_modes_of_a_triangle_agree_with_group_theory(pictures: None, program: Program, tmp_path: Path) -> None:
    assert program(*MORSE, *TRIANGLE, "task.fmax=1e-8").status == 0
    document = result(tmp_path / "run")
    bend, breathe = wavenumber(1.5 * CONSTANT, ARGON), wavenumber(3.0 * CONSTANT, ARGON)
    assert document["frequencies_cm1"] == pytest.approx([bend, bend, breathe], rel=1e-6)
    assert document["thermochemistry"]["point_group"] == "D3h"
    assert (tmp_path / "run" / "modes.png").stat().st_size > 10_000


def test_an_atom_does_not_vibrate(program: Program, tmp_path: Path) -> None:
    assert program(*MORSE, "system=ar").status == 0
    thermo = result(tmp_path / "run")["thermochemistry"]
    assert result(tmp_path / "run")["frequencies_cm1"] == []
    assert thermo["entropy_j_per_mol_k"] == pytest.approx(154.846, abs=0.01)  # CODATA, Sackur-Tetrode
    assert thermo["heat_capacity_cp_j_per_mol_k"] == pytest.approx(20.786, abs=0.001)


def test_entropy_of_nitrogen_agrees_with_the_published_one() -> None:
    atoms = Atoms("N2", [[0, 0, 0], [0, 0, 1.0977]])
    thermo = thermochemistry(atoms, 0.0, np.array([2329.9]), "linear", 2, 0, 298.15, 1.0)
    assert thermo["entropy_j_per_mol_k"] == pytest.approx(191.609, abs=0.1)  # CODATA
    assert thermo["heat_capacity_cp_j_per_mol_k"] == pytest.approx(29.124, abs=0.02)
    high = thermochemistry(atoms, 0.0, np.array([2329.9]), "linear", 2, 0, 298.15, 10.0)
    assert thermo["entropy_j_per_mol_k"] - high["entropy_j_per_mol_k"] == pytest.approx(8.31446 * np.log(10.0))
    assert "quasi_rrho" not in thermo


def test_frequencies_do_not_depend_on_orientation(with_toy: None) -> None:
    hessian, positions, masses = water()
    turn = np.linalg.qr(np.random.default_rng(1).normal(size=(3, 3)))[0]
    turned, _, _ = water(positions @ turn.T + 5.0)
    one = normal_modes(hessian, positions, masses)
    other = normal_modes(turned, positions @ turn.T + 5.0, masses)
    np.testing.assert_allclose(one.frequencies, other.frequencies, atol=1e-6)
    np.testing.assert_allclose(one.reduced_masses, other.reduced_masses, atol=1e-8)
    np.testing.assert_allclose(np.linalg.norm(one.displacements, axis=(1, 2)), 1.0)
    # No mode moves the centre of mass or turns the molecule.
    momentum = np.einsum("a,nai->ni", masses, one.displacements)
    np.testing.assert_allclose(momentum, 0.0, atol=1e-12)
    centred = positions - masses @ positions / masses.sum()
    angular = np.einsum("a,nai->ni", masses, np.cross(centred, one.displacements))
    np.testing.assert_allclose(angular, 0.0, atol=1e-12)


def test_numerical_and_analytic_hessians_agree(with_toy: None) -> None:
    from toy.morse import Morse, WithoutHessian

    system = System("h2o", ("O", "H", "H"), water()[1])
    (calculated,) = protocol.calculate(WithoutHessian("morse", Morse(DEPTH, WIDTH)), [system], {"hessian"})
    np.testing.assert_allclose(np.asarray(calculated.properties["hessian"]), water()[0], atol=3e-5)
    said = calculated.details["derived"]["hessian"]
    assert said["displaced"] == 18 and said["asymmetry_hartree_per_bohr2"] < 1e-5


class Charged(PotentialMethod):
    """A potential whose dipole comes only from fixed charges on the nuclei."""

    @property
    def provides(self) -> frozenset[str]:
        return super().provides - {"hessian"} | {"dipole"}

    def calculate(self, systems: Sequence[System], properties: Iterable[str]) -> list[Result]:
        results = super().calculate(systems, frozenset(properties) - {"dipole"})
        for calculated in results:
            charges = np.array([{"H": 0.3, "O": -0.6, "F": -0.3}[symbol] for symbol in calculated.system.symbols])
            calculated.properties["dipole"] = charges @ calculated.system.positions
        return results


def test_infrared_intensities_of_fixed_charges(with_toy: None) -> None:
    """The intensity of a diatomic is q^2 / reduced mass in every orientation; charges like the masses give none."""
    from toy.morse import Morse

    assert pytest.approx(42.2561 * 4.803204**2, rel=1e-5) == KM_MOL
    method = Charged("morse", Morse(DEPTH, WIDTH))
    system = System("hf", ("H", "F"), np.array([[0.0, 0.0, 0.0], [0.0, 1.2, 1.4]]))
    (calculated,) = protocol.calculate(method, [system], {"hessian", "dipole_derivatives"})
    assert calculated.details["derived"]["dipole_derivatives"]["displaced"] == 12
    modes = normal_modes(np.asarray(calculated.properties["hessian"]), system.positions, np.array([1.008, 18.998]))
    expected = KM_MOL * 0.3**2 / (1.008 * 18.998 / 20.006)
    assert intensities(modes, np.asarray(calculated.properties["dipole_derivatives"])) == pytest.approx(
        [expected], rel=1e-6
    )
    hessian, positions, masses = water()
    modes = normal_modes(hessian, positions, masses)
    slopes = np.kron(np.array([-0.6, 0.3, 0.3]), np.eye(3)).T
    turn = np.linalg.qr(np.random.default_rng(1).normal(size=(3, 3)))[0]
    turned = normal_modes(water(positions @ turn.T)[0], positions @ turn.T, masses)
    np.testing.assert_allclose(intensities(turned, slopes), intensities(modes, slopes), atol=1e-6)
    np.testing.assert_allclose(intensities(modes, np.kron(masses, np.eye(3)).T), 0.0, atol=1e-12)


def test_spread_follows_the_motion_not_the_order_of_frequencies(with_toy: None) -> None:
    """Two members exchange the force constants of two motions, so that their sorted frequencies are equal."""
    masses, positions = np.ones(2), np.array([[0.0, 0.0, 0.0], [0.0, 0.0, 2.0]])
    across, along = np.diag([0.1, 0.0, 0.0]), np.diag([0.0, 0.0, 0.4])
    pair = np.array([[1.0, -1.0], [-1.0, 1.0]])
    members = np.stack([np.kron(pair, across + along), np.kron(pair, 4.0 * across + 0.25 * along)])
    mean = normal_modes(members[0] + 1e-3 * members[1], positions, masses, periodic=True)
    deviations = spread(members, mean, positions, masses, periodic=True)
    step = wavenumber(0.8, 1.0) - wavenumber(0.2, 1.0)
    assert deviations[1:] == pytest.approx([step / np.sqrt(2)] * 2, rel=1e-6) and deviations[0] == pytest.approx(
        0.0, abs=1e-6
    )


def test_an_ensemble_gives_the_deviation_of_every_frequency(program: Program, tmp_path: Path) -> None:
    words = ("method._target_=toy.morse.Ensemble", "task.fmax=1e-8")
    assert "± model" in program(*MORSE, *TRIANGLE, *words).out
    document = result(tmp_path / "run")
    share = np.std(np.sqrt([0.9, 1.0, 1.1]), ddof=1)
    assert document["frequencies_std_cm1"] == pytest.approx(share * np.array(document["frequencies_cm1"]), rel=1e-9)
    assert "± model" in program("report", "run").out
    without = program(*MORSE[:2], *TRIANGLE, *words, "task.spread=false", "hydra.run.dir=without")
    assert "± model" not in without.out and "frequencies_std_cm1" not in result(tmp_path / "without")


def test_imaginary_modes_are_named(program: Program, tmp_path: Path) -> None:
    """Methane without angle terms is a saddle point, because its hydrogens attract each other."""
    done = program(*MORSE, "system=ch4", "task.fmax=1e-7")
    document = result(tmp_path / "run")
    assert done.status == 0 and document["vibrations"]["n_imaginary"] == 5
    assert document["frequencies_cm1"][:5] == sorted(document["frequencies_cm1"])[:5]
    assert "i cm⁻¹" in done.out and "moves H" in done.out and "neither minimum nor transition state" in done.out
    real = [value for value in document["frequencies_cm1"] if value > 0]
    assert document["zero_point_energy_hartree"] == pytest.approx(sum(real) / 2 / units.CM1_PER_HARTREE)
    # Noise is not called a transition state.
    quiet = program(*MORSE[:2], "system=ch4", "task.noise_cm1=5000", "hydra.run.dir=quiet")
    assert quiet.status == 0 and result(tmp_path / "quiet")["vibrations"]["n_imaginary"] == 0
    assert "near zero" in quiet.out and "5 imaginary modes below 5000 cm⁻¹ are noise" in quiet.out


def test_a_structure_away_from_a_stationary_point_does_not_converge(program: Program, tmp_path: Path) -> None:
    done = program(*MORSE, "task.relax=false")
    document = result(tmp_path / "run")
    assert done.status == 1 and document["status"] == "not_converged" and len(document["frequencies_cm1"]) == 3
    assert "not a stationary point: largest force" in document["message"] and "NOT CONVERGED" in done.out
    short = program(*MORSE[:2], "task.steps=2", "hydra.run.dir=short")
    assert short.status == 1 and "after 2 steps" in result(tmp_path / "short")["message"]


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (("task.temperature_k=0",), "task.temperature_k must be positive"),
        (("task.pressure_bar=-1",), "task.pressure_bar must be positive"),
        (("task.temperature_k=warm",), "task.temperature_k must be positive"),
        (("task.noise_cm1=-1",), "task.noise_cm1 must be a number of at least 0, not -1"),
        (("task.symmetry_number=0",), "task.symmetry_number must be a whole number"),
        (("task.masses={4:2.0}",), "no atom 4 in H2O"),
        (("task.masses={2:-2.0}",), "2.014 for deuterium"),
    ],
)
def test_wrong_settings_are_refused(program: Program, tmp_path: Path, words: Any, complaint: str) -> None:
    done = program(*MORSE, *words)
    assert done.status == 2 and complaint in done.err and not (tmp_path / "run").exists()


def test_a_method_without_forces_is_refused(program: Program) -> None:
    done = program("+method=toy", "task=vibrations")
    assert done.status == 2 and "task vibrations needs hessian, which toy does not give" in done.err


@pytest.mark.slow
def test_a_run_killed_during_the_differences_resumes_to_the_same_result(resumes: Resumes) -> None:
    words = (*MORSE, "method._target_=toy.morse.WithoutHessian")
    (resumed,) = resumes(words, Stop("toy.morse:Morse.forward", 17), files=("relaxed.xyz",), rel=1e-9)
    assert resumed.status == 0


@pytest.mark.parametrize(
    ("name", "group", "number"),
    [
        ("H", "Kh", 1),
        ("HCN", "C∞v", 1),
        ("CO2", "D∞h", 2),
        ("CH3CH2OH", "Cs", 1),
        ("H2O2", "C2", 2),
        ("H2O", "C2v", 2),
        ("NH3", "C3v", 3),
        ("butadiene", "C2h", 2),
        ("C2H4", "D2h", 4),
        ("BF3", "D3h", 6),
        ("C6H6", "D6h", 12),
        ("C3H4_D2d", "D2d", 4),
        ("C2H6", "D3d", 6),
        ("CH4", "Td", 12),
        ("C60", "Ih", 60),
    ],
)
def test_point_groups(name: str, group: str, number: int) -> None:
    """Point groups, also of structures that deviate from the ideal as much as relaxed ones."""
    atoms = molecule(name)
    rng = np.random.default_rng(3)
    exact = atoms.positions * units.BOHR_PER_ANGSTROM
    rough = exact @ np.linalg.qr(rng.normal(size=(3, 3)))[0] + 2e-3 * rng.normal(size=exact.shape)
    for positions in (exact, rough):
        symmetry = point_group(positions, atoms.numbers.tolist())
        assert (symmetry.name, symmetry.symmetry_number) == (group, number)


def test_an_isotope_lowers_the_symmetry() -> None:
    atoms = molecule("CH4")
    kinds = ["C", "D", "H", "H", "H"]
    assert point_group(atoms.positions * units.BOHR_PER_ANGSTROM, kinds).symmetry_number == 3
