"""Cells, constraints and crystal sites: impossible or unsupported ones are refused, placeholders ignored."""

from pathlib import Path

import numpy as np
import pytest
from ase import Atoms
from ase.constraints import FixAtoms, FixBondLength, FixCartesian, FixedPlane, FixScaled
from ase.io import write
from structure_files import PDB, hydronium, read

from fusion import datasets
from fusion.chemistry.structures import from_atoms
from fusion.datasets.naming import node
from fusion.errors import InputError


def test_constraints_become_fixed_coordinates() -> None:
    atoms = hydronium()
    atoms.set_cell([10.0, 10.0, 12.0])
    atoms.set_constraint([FixAtoms([0]), FixCartesian([1], [True, False, False]), FixedPlane([2], [0, 0, 2])])
    fixed = from_atoms(atoms, charge=1).fixed
    assert fixed is not None and fixed.astype(int).tolist() == [[1, 1, 1], [1, 0, 0], [0, 0, 1], [0, 0, 0]]
    atoms.set_constraint(FixScaled([3], [True, True, False]))
    assert from_atoms(atoms, charge=1).fixed.astype(int).tolist()[3] == [1, 1, 0]
    for bad in (FixBondLength(0, 1), FixedPlane([1], [1, 1, 0])):
        atoms.set_constraint(bad)
        with pytest.raises(InputError, match=f"h3o has the constraint {type(bad).__name__}"):
            from_atoms(atoms, charge=1)
    atoms.set_cell([[10.0, 5.0, 0], [0, 10.0, 0], [0, 0, 12.0]])
    atoms.set_constraint(FixScaled([3], [False, True, True]))
    with pytest.raises(InputError, match="FixScaled"):
        from_atoms(atoms, charge=1)


CELLS = [
    (np.zeros((3, 3)), (True,) * 3, "periodic along xyz, but a cell vector is zero"),
    (np.diag([5.0, 0, 5.0]), (True, True, False), "periodic along xy, but a cell vector is zero"),
    (np.full((3, 3), np.nan), (True,) * 3, "not a finite number"),
    (np.ones((3, 3)), (True,) * 3, "linearly dependent"),
    (np.diag([5.0, 5.0, 0.01]), (True,) * 3, "0.01 Angstrom thickness"),
    (np.eye(3), (True,) * 3, "too small for its 4 atoms"),
    (np.diag([5.0, 5.0, 1e9]), (True,) * 3, "cell vector of 1e"),
]


@pytest.mark.parametrize(("cell", "pbc", "words"), CELLS)
def test_impossible_cells_are_refused(cell: np.ndarray, pbc: tuple[bool, bool, bool], words: str) -> None:
    atoms = hydronium(charge=1)
    atoms.set_cell(cell)
    atoms.pbc = pbc
    with pytest.raises(InputError, match=words):
        from_atoms(atoms)
    atoms.pbc = False
    assert from_atoms(atoms).cell is None


def test_slabs_and_wires_need_the_cell_of_their_directions_only() -> None:
    atoms = Atoms("He", cell=np.diag([3.0, 0.0, 0.0]), pbc=(True, False, False))
    assert from_atoms(atoms).pbc == (True, False, False)


@pytest.mark.parametrize("lengths", ["1.000    1.000    1.000", "0.000    0.000    0.000", "1.800    1.800    1.800"])
def test_the_placeholder_cell_of_a_pdb_file_is_ignored(tmp_path: Path, lengths: str) -> None:
    head = f"CRYST1    {lengths}  90.00  90.00  90.00 P 1           1\n"
    system = read(tmp_path, "a.pdb", head + PDB)
    assert not any(system.pbc) and system.cell is None
    assert "placeholder: ignored" in system.notes[0]
    crystal = head.replace(lengths, "9.000    9.000    9.000")
    assert read(tmp_path, "a.pdb", crystal + PDB).pbc == (True, True, True)


def test_frames_with_impossible_cells_are_left_out_of_data(tmp_path: Path) -> None:
    images = []
    for cell in (None, 9.0 * np.eye(3), np.zeros((3, 3)), 0.01 * np.eye(3)):
        image = hydronium(charge=1.0)
        image.pbc = cell is not None
        image.set_cell(cell)
        image.set_constraint(FixBondLength(0, 1))  # of no account for labels
        image.info["energy"] = -10.0
        images.append(image)
    write(tmp_path / "d.extxyz", images)
    data = datasets.load(node({"data": str(tmp_path / "d.extxyz")}), tmp_path)
    assert len(data) == 2 and data.charge.tolist() == [1, 1]
    assert [what for _, what in data.report.left_out] == [
        "it is periodic along xyz, but a cell vector is zero",
        "it has a cell of 0.01 Angstrom thickness; at least 0.5 are needed",
    ]


def test_space_groups_that_are_not_expanded_are_refused(tmp_path: Path) -> None:
    head = "CRYST1    9.000    9.000    9.000  90.00  90.00  90.00 P 21 21 21    4\n"
    with pytest.raises(InputError, match="space group P 21 21 21"):
        read(tmp_path, "a.pdb", head + PDB)


def test_partly_occupied_sites_are_refused() -> None:
    site = Atoms("Na", cell=4.0 * np.eye(3), pbc=True, info={"occupancy": {"0": {"Na": 0.5, "K": 0.5}}})
    with pytest.raises(InputError, match=r"partly occupied \(Na 0\.5, K 0\.5\)"):
        from_atoms(site)
