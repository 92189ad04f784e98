"""Methods: required and provided properties, derived forces, and the ASE calculator."""

from collections.abc import Iterable, Sequence

import ase
import ase.units
import numpy as np
import pytest
from ase.optimize import BFGS

import fusion
from fusion.chemistry import energy_zeros
from fusion.chemistry.system import System
from fusion.errors import InputError
from fusion.methods import protocol
from fusion.methods.ase_calculator import FusionCalculator, NotConverged
from fusion.runs.results import Result


class Well:
    """Method with energy k/2 (r01 - 2)^2 - charge - spin / 10 and stress 1 / volume, without forces of its own."""

    name, label, kind, energy_zero = "well", "well", "conventional", energy_zeros.TOTAL

    def __init__(self, provides: frozenset[str] = frozenset({"energy"}), status: str = "ok") -> None:
        self.provides, self.status = provides, status

    def calculate(self, systems: Sequence[System], properties: Iterable[str]) -> list[Result]:
        return [self._one(system, frozenset(properties)) for system in systems]

    def _one(self, system: System, properties: frozenset[str]) -> Result:
        assert properties <= self.provides
        stretch = np.linalg.norm(system.positions[0] - system.positions[-1]) - 2.0
        result = Result(system, self.status, float(0.15 * stretch**2 - system.charge - 0.1 * system.spin))
        if "stress" in properties:
            assert system.cell is not None
            result.properties["stress"] = np.diag([1.0, 2.0, 3.0]) / np.linalg.det(system.cell)
        return result


HYDROGEN = System("h2", ("H", "H"), np.array([[0.0, 0.0, 0.0], [0.0, 0.0, 3.0]]))


def test_forces_are_derived_in_the_core_and_marked_as_derived() -> None:
    (result,) = protocol.calculate(Well(), [HYDROGEN], {"energy", "forces"})
    np.testing.assert_allclose(result.properties["forces"], [[0, 0, 0.3], [0, 0, -0.3]], atol=1e-6)
    assert result.details["derived"]["forces"]["from"] == "energy"


def test_missing_properties_are_refused_by_name() -> None:
    with pytest.raises(
        InputError, match="task relax needs dipole and hessian, which well does not give; it gives energy"
    ):
        protocol.require(Well(), {"energy", "forces", "dipole", "hessian"}, "task relax")
    noisy = Well(frozenset({"energy", "energy_stderr"}))
    with pytest.raises(InputError, match="forces"):  # differences of noisy energies are noise
        protocol.require(noisy, {"forces"}, "task relax")


def test_failed_displacements_give_no_forces() -> None:
    class Fragile(Well):
        def _one(self, system: System, properties: frozenset[str]) -> Result:
            result = super()._one(system, properties)
            result.status = "ok" if system is HYDROGEN else "not_converged"
            return result

    (result,) = protocol.calculate(Fragile(), [HYDROGEN], {"forces"})
    assert result.status == "not_converged" and "forces" not in result.properties


def test_ase_relaxes_with_any_method() -> None:
    atoms = ase.Atoms("H2", [[0, 0, 0], [0, 0, 0.8]], calculator=FusionCalculator(Well()))
    BFGS(atoms, logfile=None).run(fmax=1e-4)
    assert atoms.get_distance(0, 1) == pytest.approx(2.0 * ase.units.Bohr, abs=1e-4)
    assert atoms.get_potential_energy() == pytest.approx(0.0, abs=1e-6)


def test_ase_charges_and_moments_reach_the_system() -> None:
    atoms = ase.Atoms("H2", [[0, 0, 0], [0, 0, 2 * ase.units.Bohr]], calculator=FusionCalculator(Well()))
    assert atoms.get_potential_energy() == pytest.approx(0.0, abs=1e-12)
    atoms.set_initial_charges([0.5, 0.5])
    assert atoms.get_potential_energy() == pytest.approx(-1.1 * ase.units.Hartree)
    atoms.set_initial_charges([0.0, 0.0])
    atoms.set_initial_magnetic_moments([1.0, 1.0])
    assert atoms.get_potential_energy() == pytest.approx(-0.2 * ase.units.Hartree)
    atoms.calc = FusionCalculator(Well(), charge=0, spin=0)
    assert atoms.get_potential_energy() == pytest.approx(0.0, abs=1e-12)


def test_ase_steps_are_checked_again_only_after_other_changes() -> None:
    """Successive geometries skip the checks; other changes, and nuclei on one spot, do not."""
    atoms = ase.Atoms("H2", [[0, 0, 0], [0, 0, 1.0]], calculator=FusionCalculator(Well(), charge=0))
    atoms.get_potential_energy()
    for distance in (0.8, 1.3):
        atoms.positions[1, 2] = distance
        alone = FusionCalculator(Well()).get_potential_energy(atoms)
        assert atoms.get_potential_energy() == pytest.approx(alone, abs=1e-12)
    atoms.calc.charge = 1
    atoms.positions[1, 2] = 2 * ase.units.Bohr
    assert atoms.get_potential_energy() == pytest.approx(-1.1 * ase.units.Hartree)
    atoms.calc.charge, atoms.positions[1, 2] = None, 0.0
    with pytest.raises(InputError, match="two nuclei on one spot"):
        atoms.get_potential_energy()
    atoms.positions[1, 2] = 2 * ase.units.Bohr
    assert atoms.get_potential_energy() == pytest.approx(0.0, abs=1e-12)
    atoms.positions[1, 2] = 0.01
    with pytest.raises(InputError, match="two nuclei on one spot"):
        atoms.get_potential_energy()
    atoms.set_initial_charges([2.0, 0.5])
    with pytest.raises(InputError, match="not to a whole number"):
        atoms.get_potential_energy()
    atoms.positions[1, 2] = 1.0
    with pytest.raises(InputError, match="not to a whole number"):
        atoms.get_potential_energy()


def test_ase_results_belong_to_the_current_state() -> None:
    atoms = ase.Atoms("H2", [[0, 0, 0], [0, 0, 2 * ase.units.Bohr]], calculator=FusionCalculator(Well()))
    ion, neutral = pytest.approx(-1.1 * ase.units.Hartree), pytest.approx(0.0, abs=1e-12)
    assert atoms.get_potential_energy() == neutral
    atoms.calc.charge = 1.0
    assert atoms.get_potential_energy() == ion
    atoms.calc.set(charge=None)
    assert atoms.get_potential_energy() == neutral
    atoms.info["Total_Charge"] = "+1"
    assert atoms.get_potential_energy() == ion
    atoms.info = {"multiplicity": 3}
    assert atoms.get_potential_energy() == pytest.approx(-0.2 * ase.units.Hartree)
    atoms.info = {"charge": 0.5}
    with pytest.raises(InputError, match=r"charge, 0\.5, is not a whole number"):
        atoms.get_potential_energy()
    for settings, words in (
        ({"basis": "sto-3g"}, "basis of a calculator cannot be changed"),
        ({"charge": 0.5}, "whole"),
    ):
        with pytest.raises(InputError, match=words):
            atoms.calc.set(**settings)


def test_settings_of_the_method_are_not_attributes_of_its_calculator() -> None:
    calculator = fusion.calculator("hf", basis="sto-3g")
    for key in ("basis", "dtype"):
        with pytest.raises(InputError, match=rf"{key} of a calculator cannot be changed; create another"):
            setattr(calculator, key, "6-31g")
    calculator.charge, calculator.label = 1, "mine"
    assert calculator.charge == 1 and calculator.label == "mine"


def test_ase_stress_has_its_order_and_unit() -> None:
    provides = frozenset({"energy", "stress"})
    atoms = ase.Atoms(
        "H2", [[0, 0, 0], [0, 0, 1]], cell=[4, 5, 6], pbc=True, calculator=FusionCalculator(Well(provides))
    )
    np.testing.assert_allclose(atoms.get_stress(), np.array([1, 2, 3, 0, 0, 0]) * ase.units.Hartree / 120.0)


def test_failures_raise_in_ase() -> None:
    atoms = ase.Atoms("H2", [[0, 0, 0], [0, 0, 1]], calculator=FusionCalculator(Well(status="not_converged")))
    with pytest.raises(NotConverged, match="not_converged"):
        atoms.get_potential_energy()
