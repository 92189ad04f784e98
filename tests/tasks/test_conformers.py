"""Conformers: which geometries are the same, and a run to the minima of a torsion."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from ase.build import molecule

from fusion.chemistry.structures import from_atoms
from fusion.tasks.conformers.duplicates import different, distance
from fusion.tasks.geometry.bonds import Bonds, turned
from processes import Program
from resuming import Resumes, Stop

BUTANE = from_atoms(molecule("trans-butane"))
RUN = ("+method=morse", "task=conformers", "system=h2o", "task.number=4", "hydra.run.dir=run", "dtype=float64")


def rotated(positions: np.ndarray) -> np.ndarray:
    turn, _ = np.linalg.qr(np.random.default_rng(0).normal(size=(3, 3)))
    return np.asarray(positions @ (turn * np.sign(np.linalg.det(turn))) + 3.0)


def test_rotations_and_exchanged_hydrogens_are_the_same_geometry() -> None:
    order = np.arange(len(BUTANE.symbols))
    methyl = [atom for atom in range(len(order)) if BUTANE.symbols[atom] == "H"][:3]
    order[methyl] = np.roll(methyl, 1)
    other = BUTANE.moved(rotated(BUTANE.positions)[order])
    assert distance(BUTANE, other) == pytest.approx(0, abs=1e-6)


def test_mirror_images_and_turned_bonds_are_different() -> None:
    places = turned(Bonds.of(BUTANE), 1, np.random.default_rng(1))[0]
    gauche = BUTANE.moved(places)
    mirror = BUTANE.moved(places * np.array([1.0, 1.0, -1.0]))
    assert distance(gauche, mirror) > 0.3 and distance(BUTANE, gauche) > 0.3
    groups = different([gauche, mirror, BUTANE, gauche], [0.1, 0.1, 0.0, 0.1 + 1e-9], 1e-4, 0.2)
    assert groups == [[2], [0, 3], [1]]
    assert different([gauche, gauche], [0.0, 0.1], 1e-4, 0.2) == [[0], [1]]  # energies tell them apart


def test_one_minimum_is_one_conformer(pictures: None, program: Program, tmp_path: Path) -> None:
    done = program(*RUN)
    assert done.status == 0 and "conformer 1      0.00 kcal/mol" in done.out, done
    part = json.loads((tmp_path / "run" / "result.json").read_text())["conformers"]
    assert part["number"] == 1 and part["conformers"][0]["population"] == 1.0
    assert part["conformers"][0]["energy_hartree"] == pytest.approx(-3 * 0.17, abs=1e-6)
    assert (tmp_path / "run" / "conformers.png").stat().st_size > 5_000


def test_geometries_whose_bonds_broke_are_no_conformers(program: Program) -> None:
    """The toy's bonds are much longer than these: at its minimum they are broken."""
    atoms = "system.atoms=O 0 0 0; H 0 0 0.6; H 0 0.6 0"
    done = program(*(word for word in RUN if word != "system=h2o"), "system=inline", atoms)
    assert done.status == 1 and "relaxed geometries have other bonds than" in done.err + done.out, done


@pytest.mark.slow
def test_a_killed_run_ends_as_an_uninterrupted_one(resumes: Resumes) -> None:
    resumes(RUN, Stop("toy.morse:Morse.forward", 5), files=("conformers.csv", "conformers.extxyz"))


@pytest.mark.slow
def test_butane_has_one_anti_and_two_gauche_conformers(program: Program, zoo_cache: Path, tmp_path: Path) -> None:
    words = ("+method=ani", "system=butane", "task=conformers", "task.number=24", "hydra.run.dir=run")
    assert program(*words).status == 0
    rows = json.loads((tmp_path / "run" / "result.json").read_text())["conformers"]["conformers"]
    energies = [row["relative_kcal_mol"] for row in rows[:3]]
    assert energies[1] == pytest.approx(energies[2], abs=0.02) and 0.3 < energies[1] < 1.0
    assert rows[1]["population"] == pytest.approx(rows[2]["population"], rel=0.05)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("task.number=1",), "task.number must be a whole number of at least 2"),
        (("task.embed=magic",), "task.embed must be torsions or rdkit"),
        (("task.same={energy_kcal: 0, rmsd_angstrom: 0.2}",), "task.same.energy_kcal must be a positive number"),
        (("task.temperature_k=-1",), "task.temperature_k must be a positive number"),
    ],
)
def test_refusals(program: Program, tmp_path: Path, words: tuple[str, ...], message: str) -> None:
    keys = {word.partition("=")[0] for word in words}
    done = program(*(word for word in RUN if word.partition("=")[0] not in keys), *words)
    assert done.status == 2 and message in done.err and not (tmp_path / "run").exists(), done
