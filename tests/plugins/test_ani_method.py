"""The published ANI models for users: names, refusals, warnings, known errors."""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import pytest
from ase import Atoms
from ase.build import molecule

import fusion
from fusion.errors import InputError
from processes import Program

S66X8 = Path(os.environ.get("FUSION_TEST_DATA", ""), "data/ani/s66x8_wb97x_dev.h5")


def result(directory: Path) -> dict:
    (file,) = directory.glob("runs/*/*/result.json")
    return json.loads(file.read_text())


def test_a_model_is_a_calculator_and_a_module(zoo_cache: Path) -> None:
    atoms = molecule("H2O")
    atoms.calc = fusion.calculator("ani-2x", dtype="float64")
    pinned = fusion.calculator("ani", weights="ani-2x@1", dtype="float64")
    assert atoms.get_potential_energy() == pinned.get_potential_energy(molecule("H2O"))
    assert 0 < atoms.calc.results["energy_std"] < 0.1
    assert tuple(fusion.load("ani-2x").elements) == ("H", "C", "N", "O", "S", "F", "Cl")  # type: ignore[arg-type]


def test_molecules_outside_a_published_model_are_refused(zoo_cache: Path) -> None:
    with pytest.raises(InputError, match=r"ani-1x covers H C N O; .* S \(atom 2\)\. weights=ani-2x covers"):
        fusion.calculator("ani-1x").get_potential_energy(molecule("CH3SH"))
    with pytest.raises(InputError, match=r"P \(atom 1\)\. \+method=so3lr weights=so3lr covers"):
        fusion.calculator("ani-2x").get_potential_energy(molecule("PH3"))
    with pytest.raises(InputError, match="neutral closed-shell molecules; charge 1 is outside"):
        fusion.calculator("ani-2x", charge=1).get_potential_energy(molecule("NH3"))
    with pytest.raises(InputError, match="spin 2"):
        fusion.calculator("ani-2x", spin=2).get_potential_energy(molecule("O2"))
    with pytest.raises(InputError, match=r"atoms 1 \(H\) and 2 \(H\) .* 0\.090 Angstrom apart"):
        fusion.calculator("ani-2x").get_potential_energy(Atoms("H2", [[0, 0, 0], [0, 0, 0.09]]))


def test_weights_of_another_method_are_refused(zoo_cache: Path) -> None:
    with pytest.raises(InputError, match=r"ani-2x@1 is a model of \+method=ani"):
        fusion.calculator("ani/ani1", weights="ani-2x").get_potential_energy(molecule("CH3SH"))


def test_atoms_close_to_periodic_images_are_refused(zoo_cache: Path) -> None:
    atoms = Atoms("H2", [[0.02, 0, 0], [4.98, 0, 0]], cell=[5.0, 5.0, 5.0], pbc=True)
    with pytest.raises(InputError, match=r"0\.040 Angstrom apart"):
        fusion.calculator("ani-2x").get_potential_energy(atoms)


def test_odd_numbers_of_electrons_are_open_shells_with_or_without_a_spin(zoo_cache: Path) -> None:
    radical = molecule("CH3")
    radical.set_initial_magnetic_moments(np.zeros(4))
    for spin in (None, 1):
        with pytest.raises(InputError, match=r"9 electrons is an odd number: .* \(spin 1\) .* system\.charge="):
            fusion.calculator("ani-2x", spin=spin).get_potential_energy(radical)


def test_a_result_far_from_the_training_data_has_a_warning(program: Program, zoo_cache: Path, tmp_path: Path) -> None:
    done = program("+method=ani", "system=inline", "system.atoms='C 0 0 0; O 0 0 2; F 0 1 0; F 1 0 0'")
    assert done.status == 0 and "outside what the model was trained on" in done.out
    document = result(tmp_path)
    assert document["domain"]["outside"] and document["weights"]["name"] == "ani-2x"
    assert document["reference"] is None, "total energies of a potential have a zero of their own"


def test_errors_on_dimers_are_the_published_ones(program: Program, zoo_cache: Path, tmp_path: Path) -> None:
    done = program("+method=ani", "task=evaluate", f"data={S66X8}", "data.forces.sign=-1")
    assert done.status == 0, done.err
    total = result(tmp_path)["evaluation"]["energy"]["total"]  # kcal/mol
    assert (total["mae"], total["rmse"]) == (pytest.approx(0.411, abs=0.002), pytest.approx(0.544, abs=0.002))


def test_hessian_is_the_mean_over_members(zoo_cache: Path) -> None:
    from fusion.chemistry.structures import from_atoms
    from fusion.methods import protocol

    method = fusion.calculator("ani-2x", dtype="float64").method
    system = from_atoms(molecule("H2O"))
    (calculated,) = protocol.calculate(method, [system], {"hessian", "hessian_members"})
    members = calculated.properties["hessian_members"]
    np.testing.assert_allclose(members.mean(axis=0), calculated.properties["hessian"], atol=1e-10)  # type: ignore[union-attr]
    step = 1e-3

    def energies(shift: float) -> np.ndarray:
        positions = system.positions.copy()
        positions[1, 1] += shift
        (one,) = protocol.calculate(method, [system.with_positions(positions)], {"energy_members"})
        return np.asarray(one.properties["energy_members"])

    curvature = (energies(step) - 2 * energies(0.0) + energies(-step)) / step**2
    np.testing.assert_allclose(np.asarray(members)[:, 4, 4], curvature, atol=1e-3)  # CELU's kinks
