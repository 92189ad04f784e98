"""Units and signs that contradict the data are refused with the right setting; consistent data pass."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ase import Atoms
from ase.calculators.singlepoint import SinglePointCalculator
from ase.io import write
from molecules import BOHR, HARTREE, frames, write_npz

from fusion import datasets
from fusion.chemistry.units import KCAL_MOL_PER_HARTREE as KCAL
from fusion.datasets.displacements import compare
from fusion.datasets.naming import absolute, node
from fusion.errors import InputError


def load(path: Path, **options: Any) -> datasets.Labelled:
    return datasets.load(absolute(node({"data": str(path), **options}), path.parent), path.parent)


def made(
    path: Path, energy: float = 1.0, force: float = 1.0, length: float = 1.0, noise: float = 0.0, turn: bool = False
) -> Path:
    """Write structures whose units of energy, force and length are multiples of eV, eV/Angstrom and Angstrom."""
    random, many = np.random.default_rng(1), frames(90)
    for atoms in many:
        results = atoms.calc.results
        results["energy"] = results["energy"] / energy
        results["forces"] = (results["forces"] + noise * random.normal(size=results["forces"].shape)) / force
        if turn:  # rotate positions and forces: similar structures then have different coordinates
            q, _ = np.linalg.qr(random.normal(size=(3, 3)))
            q *= np.sign(np.linalg.det(q))
            atoms.positions, results["forces"] = atoms.positions @ q, results["forces"] @ q
        atoms.calc.atoms.positions = atoms.positions = atoms.positions / length
    write(path / "data.xyz", many, format="extxyz")
    return path / "data.xyz"


@pytest.mark.parametrize("turn", [False, True])
def test_the_work_of_the_forces_equals_the_energy_difference(turn: bool, tmp_path: Path) -> None:
    data = load(made(tmp_path, turn=turn))
    computed = compare(data)
    assert computed is not None and computed.certain
    assert computed.slope == pytest.approx(1.0, abs=0.03) and computed.correlation > 0.99
    assert any("forces agree" in text for text in data.report.checks)
    assert any("energies agree in size" in text for text in data.report.checks)


@pytest.mark.parametrize("turn", [False, True])
def test_gradients_are_refused_unless_their_sign_is_set(turn: bool, tmp_path: Path) -> None:
    path = made(tmp_path, force=-1.0, turn=turn)
    with pytest.raises(InputError, match=r"look like gradients.* Set data\.forces.sign=-1") as error:
        load(path)
    assert "\n" not in str(error.value)
    right, turned = load(path, forces={"sign": -1}), load(made(tmp_path, turn=turn))
    assert right.forces is not None and turned.forces is not None
    np.testing.assert_allclose(right.forces, turned.forces)
    assert load(path, check=False).report.checks == []


EV_PER_KCAL = HARTREE / KCAL
UNITS = [
    ({"energy": HARTREE, "force": HARTREE}, "data.energy_unit=hartree", {"energy_unit": "hartree"}),
    ({"energy": EV_PER_KCAL, "force": EV_PER_KCAL}, "data.energy_unit=kcal/mol", {"energy_unit": "kcal/mol"}),
    (
        {"energy": EV_PER_KCAL / 4.184, "force": EV_PER_KCAL / 4.184},
        "data.energy_unit=kJ/mol",
        {"energy_unit": "kJ/mol"},
    ),
    ({"force": EV_PER_KCAL}, "data.forces.unit=kcal/mol/angstrom", {"forces": {"unit": "kcal/mol/angstrom"}}),
    ({"force": HARTREE / BOHR}, "data.forces.unit=hartree/bohr", {"forces": {"unit": "hartree/bohr"}}),
    ({"length": BOHR}, "data.length_unit=bohr", {"length_unit": "bohr", "forces": {"unit": "eV/angstrom"}}),
]


@pytest.mark.parametrize(("units", "complaint", "mended"), UNITS)
def test_a_wrong_unit_is_refused_and_the_right_one_named(
    units: dict[str, float], complaint: str, mended: dict[str, Any], tmp_path: Path
) -> None:
    path = made(tmp_path, **units)
    with pytest.raises(InputError, match=complaint):
        load(path)
    right, reference = load(path, **mended), load(made(tmp_path))
    np.testing.assert_allclose(right.energy, reference.energy, rtol=1e-7)
    assert right.forces is not None and reference.forces is not None
    np.testing.assert_allclose(right.forces, reference.forces, atol=1e-6)
    np.testing.assert_allclose(right.positions, reference.positions, atol=1e-6)


def test_undecided_checks_refuse_nothing(tmp_path: Path) -> None:
    noisy = load(made(tmp_path, noise=60.0))
    assert any("cannot be told" in text for text in noisy.report.checks)
    write(tmp_path / "few.xyz", frames(3), format="extxyz")
    assert any("cannot be told" in text for text in load(tmp_path / "few.xyz").report.checks)
    argon = [Atoms("Ar2", [[0, 0, 0], [0, 0, 3.7 + 0.02 * step]]) for step in range(20)]
    for atoms in argon:
        atoms.calc = SinglePointCalculator(atoms, energy=-28680.0)
    write(tmp_path / "argon.xyz", argon, format="extxyz")
    assert len(load(tmp_path / "argon.xyz")) == 20, "not bonded: far apart in any unit"
    many = frames(30)
    for atoms in many:
        atoms.calc.results["energy"] = -3.0 * len(atoms)  # for example of pseudo-atoms
        del atoms.calc.results["forces"]
    write(tmp_path / "valence.xyz", many, format="extxyz")
    assert any("cannot be checked" in text for text in load(tmp_path / "valence.xyz").report.checks)


def test_atomisation_energies_of_wrong_size_or_sign_are_refused(tmp_path: Path) -> None:
    path = write_npz(tmp_path / "data.npz", frames(30), True)
    with np.load(path) as content:
        arrays = dict(content) | {"energies": -100.0 * (content["Z"] > 0).sum(axis=1)}  # kcal/mol
    del arrays["forces"]
    np.savez(path, **arrays)
    options = {"energy_zero": "atomization"}
    assert load(path, energy_unit="kcal/mol", **options).energy[1] == pytest.approx(-200.0 / KCAL)
    for wrong in ("eV", "hartree"):
        with pytest.raises(InputError, match=r"data\.energy_unit=kcal/mol"):
            load(path, energy_unit=wrong, **options)
    np.savez(path, **arrays | {"energies": -arrays["energies"]})
    with pytest.raises(InputError, match="are positive"):
        load(path, energy_unit="kcal/mol", **options)
