"""Intrinsic reaction coordinates, and structures that are not transition states."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ase import Atoms
from ase.io import read, write
from scipy.optimize import brentq

from fusion.chemistry.structures import from_atoms
from fusion.tasks.ts.reaction_path import bond_changes, same
from processes import Program

IRC = ("task=irc", "hydra.run.dir=run")


def result(directory: Path) -> dict[str, Any]:
    document: dict[str, Any] = json.loads((directory / "result.json").read_text())
    return document


def test_both_sides_of_a_torsional_barrier_are_its_minima(program: Program, tmp_path: Path) -> None:
    chain = Atoms("HOOH", [[0.9, 0.6, 0.3], [0, 0.7, 0], [0, -0.75, 0], [0.8, -0.9, -0.4]])
    chain.set_dihedral(0, 1, 2, 3, 5, indices=[3])
    write(tmp_path / "guess.xyz", chain)
    assert program("+method=torsion", "task=ts", "system=guess.xyz", "hydra.run.dir=ts").status == 0
    done = program("+method=torsion", *IRC, "system=ts/ts.xyz")
    assert done.status == 0 and "it connects two minima, conformers" in done.out, done
    document = result(tmp_path / "run")
    ends = [read(tmp_path / "run" / f"irc_{way}.xyz").get_dihedral(0, 1, 2, 3) for way in ("backward", "forward")]
    assert sorted(ends) == pytest.approx([109.47, 250.53], abs=0.2)
    exact = 0.008 + 0.006 + 0.006 + 0.008**2 / 0.048
    assert document["barriers"]["forward_hartree"] == pytest.approx(exact, abs=1e-6)
    assert not document["irc"]["bonds_made"] and document["irc"]["backward"]["arrived"]


ROW = ("+method=morse", *IRC, "system=inline", "system.unit=bohr")


def test_a_slope_is_not_a_transition_state(program: Program) -> None:
    slope = program(*ROW, "system.atoms=Ar 0 0 0; Ar 0 0 7.5; Ar 0 0 15")
    assert slope.status == 1 and "not a stationary point" in slope.out


def test_a_hilltop_is_not_a_transition_state(program: Program, tmp_path: Path) -> None:
    """Three argon atoms in a row, at rest along it: two bends are imaginary."""
    rest = _rest_of_a_row()
    atoms = f"system.atoms=Ar 0 0 0; Ar 0 0 {rest}; Ar 0 0 {2 * rest}"
    top = program(*ROW[:2], *ROW[3:], "hydra.run.dir=top", atoms, "task.noise_cm1=0.5")
    document = result(tmp_path / "top")
    assert top.status == 1 and document["transition_state"]["n_imaginary"] == 2
    assert "2 imaginary modes" in document["message"] and "irc" not in document


def test_structures_and_bonds_are_distinguished() -> None:
    system = from_atoms(Atoms("HOOH", [[0.9, 0.6, 0.3], [0, 0.7, 0], [0, -0.75, 0], [0.8, -0.9, -0.4]]))
    mirrored = system.moved(system.positions * [1.0, 1.0, -1.0])
    assert same(system, system.moved(system.positions[:, [2, 0, 1]] + 3.0)) and not same(system, mirrored)
    apart = system.positions.copy()
    apart[3] += 5.0
    assert bond_changes(system, system.moved(apart)) == ([], ["O3-H4"])
    assert bond_changes(system.moved(apart), system) == (["O3-H4"], [])


def _rest_of_a_row() -> float:
    """Distance (bohr) of neighbours at which three Morse atoms in a row have no forces."""

    def slope(r: float) -> float:
        def one(x: float) -> float:
            return float(2.0 * np.exp(-1.1 * (x - 7.0)) * (1.0 - np.exp(-1.1 * (x - 7.0))))

        return one(r) + one(2.0 * r)

    return float(brentq(slope, 6.0, 8.0, xtol=1e-14))
