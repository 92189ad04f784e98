"""Structures from files and from ASE Atoms: a stated charge or spin is read, or refused in one line, never dropped."""

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ase import Atoms
from ase.calculators.singlepoint import SinglePointCalculator
from ase.constraints import FixAtoms, FixBondLength, FixCartesian, FixedPlane, FixScaled
from ase.db import connect
from ase.io import write

from fusion import datasets
from fusion.chemistry import structures, system_input
from fusion.chemistry.structures import from_atoms
from fusion.chemistry.system import System
from fusion.datasets.naming import node
from fusion.errors import InputError
from fusion.runs import report
from fusion.runs.results import Result
from fusion.tasks.geometry.structures import write_structure

HYDRONIUM = [[0, 0, 0], [0.94, 0, -0.3], [-0.47, 0.814, -0.3], [-0.47, -0.814, -0.3]]
LINES = "".join(f"{s} {x} {y} {z}\n" for s, (x, y, z) in zip("OHHH", HYDRONIUM, strict=True))


def hydronium(**info: Any) -> Atoms:
    return Atoms("OH3", positions=HYDRONIUM, info=info)


def read(folder: Path, name: str, text: str, **keys: Any) -> System:
    (folder / name).write_text(text)
    return system_input.read({"name": "file", "path": name, **keys}, folder)


@pytest.mark.parametrize(
    ("info", "spin"),
    [
        ({"charge": 1.0, "multiplicity": 3}, 2),
        ({"Total_Charge": "+1", "Spin_Multiplicity": "triplet"}, 2),
        ({"molecular_charge": np.float32(1), "SPIN": 2}, 2),  # N_up - N_down of an even number of electrons
        ({"CHARGE": np.array([1]), "spin": 3}, 2),  # 2S + 1
        ({"q": 1, "uhf": np.int64(2)}, 2),
        ({"net charge": "1+", "multiplicity": 1, "spin": 0}, 0),
        ({"charge": 1}, None),
    ],
)
def test_spellings_of_charge_and_spin(info: dict[str, Any], spin: int | None) -> None:
    system = from_atoms(hydronium(**info))
    assert (system.charge, system.spin, system.spin_assumed) == (1, spin or 0, spin is None)


@pytest.mark.parametrize(
    ("info", "words"),
    [
        ({"charge": 0.5}, "its charge, 0.5, is not a whole number"),
        ({"charge": "abc"}, "its charge, abc, is not a whole number"),
        ({"charge": 1, "total_charge": 2}, "charge=1 and total_charge=2 contradict each other"),
        ({"charge": 1, "multiplicity": 2}, "multiplicity=2 is impossible with 10 electrons"),
        ({"charge": 1, "multiplicity": 3, "spin": 1}, "contradict"),
        ({"charge": True}, "its charge, True, is not a whole number"),
        ({"spin": 0}, "its spin, 0, is neither N_up - N_down nor 2S + 1 of 11 electrons"),
    ],
)
def test_unusable_charges_and_spins_are_refused(info: dict[str, Any], words: str) -> None:
    with pytest.raises(InputError, match="^h3o: .*" + words.replace("+", r"\+")):
        from_atoms(hydronium(**info))
    assert from_atoms(hydronium(**info), charge=1, spin=2).spin == 2  # the user's words go before them


def test_charges_and_moments_of_atoms_are_summed() -> None:
    charged = hydronium()
    charged.set_initial_charges([-0.5, 0.5, 0.5, 0.5])
    charged.set_initial_magnetic_moments([-2.0, 0, 0, 0])
    system = from_atoms(charged)
    assert (system.charge, system.spin, system.spin_assumed) == (1, 2, False)
    charged.set_initial_charges([1.0, 0, 0, 0])
    charged.set_initial_magnetic_moments([1.0, -1.0, 0, 0])
    assert (from_atoms(charged).spin, from_atoms(charged).spin_assumed) == (0, False)


def test_sums_of_atoms_that_contradict_the_molecule_are_refused() -> None:
    charged = hydronium()
    charged.set_initial_charges([-0.5, 0.5, 0.5, 0.5])
    charged.set_initial_magnetic_moments([-2.0, 0, 0, 0])
    for info in ({"charge": 0}, {"charge": 1, "multiplicity": 1}):
        charged.info = info
        with pytest.raises(InputError, match="sum to"):
            from_atoms(charged)
    charged.info = {}
    charged.set_initial_charges([0.4, 0, 0, 0])
    with pytest.raises(InputError, match=r"initial charges sum to 0\.400, not to a whole number"):
        from_atoms(charged)


def test_a_computed_moment_sets_the_spin() -> None:
    computed = Atoms("O2", positions=[[0, 0, 0], [0, 0, 1.2]])
    computed.calc = SinglePointCalculator(computed, magmom=2.0)
    assert from_atoms(computed).multiplicity == 3


def test_the_multiplicity_of_a_file_belongs_to_its_charge(tmp_path: Path) -> None:
    text = f"4\ncharge=1 multiplicity=3\n{LINES}"
    assert read(tmp_path, "a.xyz", text, charge=1).spin == 2
    other = read(tmp_path, "a.xyz", text, charge=-1)
    assert other.spin == 0 and "is not used" in other.notes[0]


V2000 = """x
 x

  2  1  0  0  0  0  0  0  0  0999 V2000
    0.0000    0.0000    0.0000 O   0  5  0  0  0  0
    0.0000    0.0000    0.9700 H   1  0  0  0  0  0
  1  2  1  0
"""
V3000 = """x
 x

  0  0  0     0  0            999 V3000
M  V30 BEGIN CTAB
M  V30 COUNTS 2 1 0 0 0
M  V30 BEGIN ATOM
M  V30 1 O 0 0 0 0 CHG=-1
M  V30 2 H 0 0 0.97 0 MASS=2
M  V30 END ATOM
M  V30 END CTAB
M  END
"""
PDB = "HETATM    1  O   HOH A   1       0.000   0.000   0.000  1.00  0.00           O1-\n"
PDB += "HETATM    2  H   HOH A   1       0.000   0.000   0.970  1.00  0.00           H  \nEND\n"


@pytest.mark.parametrize(
    ("name", "text", "charge", "spin"),
    [
        ("a.sdf", V2000 + "M  END\n$$$$\n", -1, 0),
        ("a.mol", V2000 + "M  CHG  1   1   1\nM  RAD  1   1   3\nM  END\n", 1, 2),  # goes before the column
        ("b.sdf", V2000.replace("  5  0", "  0  0") + "M  RAD  1   1   2\nM  END\n> <total_charge>\n0\n", 0, 1),
        ("c.sdf", V3000, -1, 0),
        ("a.pdb", PDB, -1, 0),
        ("a.gjf", "#p hf\n\nhydroxide\n\n-1 3\nO 0.0 0.0 0.0\nH 0.0 0.0 0.97\n\n", -1, 2),
        ("a.xyz", "2\n-1 3\nO 0 0 0\nH 0 0 0.97\n", -1, 2),
        ("b.xyz", "2\nhydroxide, charge: -1, multiplicity: 3\nO 0 0 0\nH 0 0 0.97\n", -1, 2),
        ("e.xyz", '2\n{"charge": -1, "multiplicity": 1}\nO 0 0 0\nH 0 0 0.97\n', -1, 0),
        ("c.xyz", "2\nProperties=species:S:1:pos:R:3:initial_charges:R:1\nO 0 0 0 -1\nH 0 0 0.97 0\n", -1, 0),
        ("d.xyz", "2\nProperties=species:S:1:pos:R:3:charge:R:1\nO 0 0 0 -1.1\nH 0 0 0.97 0.1\n", -1, 0),
        ("noext", "2\ncharge=-1\nO 0 0 0\nH 0 0 0.97\n", -1, 0),
        ("coord", "$coord\n0 0 0 o\n0 0 1.83 h\n$eht charge=-1 unpaired=2\n$end\n", -1, 2),
    ],
)
def test_charge_and_spin_are_read_from_other_formats(
    tmp_path: Path, name: str, text: str, charge: int, spin: int
) -> None:
    system = read(tmp_path, name, text)
    assert (system.formula, system.charge, system.spin) == ("HO", charge, spin)


def test_isotopes_of_molfiles_and_several_records(tmp_path: Path) -> None:
    masses = read(tmp_path, "a.sdf", V3000).masses
    assert masses is not None and masses[1] == pytest.approx(2.0141, abs=1e-4)
    assert read(tmp_path, "b.sdf", V2000 + "M  ISO  1   2   3\nM  END\n").masses[1] == pytest.approx(3.016, abs=1e-3)
    with pytest.raises(InputError, match="holds 2 structures"):
        read(tmp_path, "c.sdf", f"{V3000}$$$$\n{V3000}$$$$\n")


@pytest.mark.parametrize(
    ("comment", "said"), [("1 1 hydronium", True), ("-1 1", True), ("0 1 water", False), ("1 2 charge=0", False)]
)
def test_a_pair_of_numbers_at_the_start_of_a_comment_line_gives_a_note(
    tmp_path: Path, comment: str, said: bool
) -> None:
    system = read(tmp_path, "w.xyz", f"3\n{comment}\nO 0 0 0\nH 0 0 0.96\nH 0.93 0 -0.24\n")
    assert (system.charge, system.spin) == (0, 0)
    assert any("is not read as charge and multiplicity" in note for note in system.notes) == said


def test_comment_lines_with_words_or_contradictions(tmp_path: Path) -> None:
    assert read(tmp_path, "a.xyz", f"4\nno charge is meant here\n{LINES}").charge == 0
    for line, words in (("charge=1 charge=2", "states charge=1 and charge=2"), ("charge=T", "charge, True, is not")):
        with pytest.raises(InputError, match=words):
            read(tmp_path, "a.xyz", f"4\n{line}\n{LINES}")


def test_an_odd_molecule_is_refused_in_a_format_whose_charge_is_not_read(tmp_path: Path) -> None:
    coordinates = "$coord\n0 0 0 o\n0 0 1.83 h\n$end\n"
    with pytest.raises(InputError, match="its charge is not read from a file of the format turbomole"):
        read(tmp_path, "coord", coordinates)
    assert read(tmp_path, "coord", coordinates, charge=-1).charge == -1


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


@pytest.mark.parametrize(
    ("symbols", "charge", "words"),
    [
        ("O2", 0, r"a singlet; its ground state is a triplet \(multiplicity=3\)"),
        ("SO", 0, "triplet"),
        ("C", 0, "triplet"),
        ("N", 1, "triplet"),  # isoelectronic with carbon
        ("Cr", 0, r"septet \(multiplicity=7\)"),
        ("FeO", 0, "Fe may have more unpaired electrons"),
        ("OH", 0, "odd: a radical, unless a charge was left out"),
        ("N2", 1, "13, is odd"),
    ],
)
def test_a_doubtful_assumed_spin_gives_a_note(symbols: str, charge: int, words: str) -> None:
    atoms = Atoms(symbols)
    atoms.positions[:, 2] = 1.2 * np.arange(len(atoms))
    system = from_atoms(atoms, charge=charge)
    assert len(system.notes) == 1
    assert re.search(words, system.notes[0])
    assert not from_atoms(atoms, charge=charge, spin=system.spin + 2).notes


@pytest.mark.parametrize("symbols", ["H2", "N2", "CO", "F2", "H", "Na", "He", "LiH", "ClF", "HF"])
def test_usual_closed_shells_and_doublet_atoms_give_no_note(symbols: str) -> None:
    atoms = Atoms(symbols)
    atoms.positions[:, 2] = 1.1 * np.arange(len(atoms))
    assert not from_atoms(atoms).notes


def test_written_structures_are_read_back(tmp_path: Path) -> None:
    for charge, spin, cell in ((1, 0, None), (1, 2, 8.0 * np.eye(3)), (0, None, None)):
        atoms = hydronium()
        if cell is not None:
            atoms.set_cell(cell)
            atoms.pbc = (True, True, False)
        system = from_atoms(atoms, charge=charge, spin=spin)
        write_structure(tmp_path / "out.xyz", Result(system, energy=-75.0))
        back = system_input.read({"name": "file", "path": "out.xyz"}, tmp_path)
        assert (back.charge, back.spin, back.spin_assumed) == (system.charge, system.spin, system.spin_assumed)
        assert back.pbc == system.pbc and (back.cell is None) == (cell is None)
        np.testing.assert_allclose(back.positions, system.positions, atol=1e-7)


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


def test_titles_name_the_periodic_directions() -> None:
    atoms = hydronium(charge=1)
    assert report.title_of(from_atoms(atoms)) == "H3O (10 electrons, singlet, charge +1)"
    atoms.set_cell(9.0 * np.eye(3))
    atoms.pbc = (True, True, False)
    assert report.title_of(from_atoms(atoms)) == "H3O (10 electrons, singlet, charge +1, periodic in xy)"


def test_another_geometry_must_have_the_same_charge_and_spin() -> None:
    system = from_atoms(hydronium(), charge=1)
    assert structures.in_state_of(hydronium(), system, "p.xyz").charge == 1
    with pytest.raises(InputError, match=r"p\.xyz states the charge -1, but the system has 1"):
        structures.in_state_of(hydronium(charge=-1), system, "p.xyz")
    with pytest.raises(InputError, match=r"p\.xyz states the multiplicity 3, but the system has 1"):
        structures.in_state_of(hydronium(charge=1, mult=3), system, "p.xyz")


GAUSSIAN = "%mem=1GB\n#p hf/6-31g*\n opt\n\n 1 1\n\n-1,3 ! triplet\nO 0.0 0.0 0.0\nH(iso=2) -1 0.0 0.0 0.97\n\n"


def test_gaussian_inputs_state_isotopes_and_frozen_atoms(tmp_path: Path) -> None:
    system = read(tmp_path, "a.gjf", GAUSSIAN)
    assert (system.formula, system.charge, system.multiplicity) == ("HO", -1, 3)  # not the 1 1 of the title
    assert system.masses is not None and system.masses[1] == pytest.approx(2.0141, abs=1e-4)
    assert system.fixed is not None and system.fixed.astype(int).tolist() == [[0, 0, 0], [1, 1, 1]]
    bohr = read(tmp_path, "b.com", "# hf units=au\n\nt\n\n-1 1\nO 0.0 0.0 0.0\nH 0.0 0.0 1.8\n\n")
    assert np.ptp(bohr.positions[:, 2]) == pytest.approx(1.8)
    z_matrix = read(tmp_path, "c.com", "# hf\n\nt\n\n0 1\nO\nH 1 r\nH 1 r 2 a\n\nr=0.96\na=104.5\n\n")
    assert z_matrix.formula == "H2O"


def test_deuterium_by_its_symbol(tmp_path: Path) -> None:
    water = "3\n\nO 0 0 0\nD 0.76 0 0.59\nT -0.76 0 0.59\n"
    inline = system_input.read({"atoms": water.split("\n\n")[1]})
    for system in (read(tmp_path, "a.xyz", water), inline):
        assert system.masses is not None and system.formula == "H2O"
        assert system.masses.round(3).tolist() == [15.999, 2.014, 3.016]


@pytest.mark.parametrize(
    ("column", "values", "expected"),
    [
        ("fixed:L:1", "T F", [[1, 1, 1], [0, 0, 0]]),
        ("Frozen:I:1", "0 1", [[0, 0, 0], [1, 1, 1]]),
        ("selective_dynamics:L:3", "FTF TTT", [[1, 0, 1], [0, 0, 0]]),
    ],
)
def test_columns_fix_atoms(tmp_path: Path, column: str, values: str, expected: list[list[int]]) -> None:
    rows = zip(("O 0 0 0", "H 0 0 0.97"), values.split(), strict=True)
    lines = "\n".join(f"{row} {' '.join(flags)}" for row, flags in rows)
    system = read(tmp_path, "a.xyz", f"2\nProperties=species:S:1:pos:R:3:{column} charge=-1\n{lines}\n")
    assert system.fixed is not None and system.fixed.astype(int).tolist() == expected
    with pytest.raises(InputError, match=r"fixed_atoms=.* is not supported"):
        read(tmp_path, "a.xyz", "2\nfixed_atoms=0 charge=-1\nO 0 0 0\nH 0 0 0.97\n")


def test_key_value_pairs_of_databases(tmp_path: Path) -> None:
    with connect(tmp_path / "a.db") as rows:
        rows.write(hydronium(), charge=1, multiplicity=3)
    system = system_input.read({"path": "a.db"}, tmp_path)
    assert (system.charge, system.multiplicity) == (1, 3)


def test_the_location_of_the_highest_occupancy_is_used(tmp_path: Path) -> None:
    both = PDB.replace("O   HOH", "O  AHOH").replace("END\n", "")
    both += "HETATM    3  O  BHOH A   1       0.300   0.000   0.000  0.10  0.00           O1-\nEND\n"
    system = read(tmp_path, "a.pdb", both)
    assert system.formula == "HO" and "alternative location A" in system.notes[0]


def test_space_groups_that_are_not_expanded_are_refused(tmp_path: Path) -> None:
    head = "CRYST1    9.000    9.000    9.000  90.00  90.00  90.00 P 21 21 21    4\n"
    with pytest.raises(InputError, match="space group P 21 21 21"):
        read(tmp_path, "a.pdb", head + PDB)


def test_partly_occupied_sites_are_refused() -> None:
    site = Atoms("Na", cell=4.0 * np.eye(3), pbc=True, info={"occupancy": {"0": {"Na": 0.5, "K": 0.5}}})
    with pytest.raises(InputError, match=r"partly occupied \(Na 0\.5, K 0\.5\)"):
        from_atoms(site)


GOOD = "2\nw\nO 0 0 0\nH 0 0 0.97\n"


@pytest.mark.parametrize("text", [GOOD.replace("\n", "\r\n"), GOOD + "\n\n", GOOD.replace(" ", "\t"), "\ufeff" + GOOD])
def test_line_ends_blanks_tabs_and_byte_order_marks_are_accepted(tmp_path: Path, text: str) -> None:
    (tmp_path / "a.xyz").write_bytes(text.encode())
    assert system_input.read({"path": "a.xyz", "charge": -1}, tmp_path).formula == "HO"


@pytest.mark.parametrize(
    ("name", "text", "words"),
    [
        ("a.xyz", GOOD.replace("2", "two"), "instead of its number of atoms; an XYZ file has it alone"),
        ("a.xyz", GOOD.replace("2\n", "1\n"), r"structure 2 begins with 'H 0 0 0.97' .* too small \(line 4\)"),
        ("a.xyz", GOOD.replace("0.97", "abc"), r"'abc' stands where a coordinate belongs \(line 4\)"),
        ("a.xyz", GOOD.replace(" 0.97", ""), r"3 of 4 columns, symbol x y z \(line 4\)"),
        ("a.xyz", GOOD.replace("H", "Hx"), r"unknown element 'Hx' \(line 4\)"),
        ("a.xyz", GOOD.replace("w", "pbc=maybe"), "its pbc, 'maybe', is not three of T or F"),
        ("a.xyz", GOOD.replace("w", 'Lattice="1 0 0"'), "its Lattice is not nine numbers"),
        ("a.xyz", GOOD.replace("w", "Properties=pos:R:3"), "do not have species:S:1 and pos:R:3"),
        ("a.xyz", "9" * 5000, "instead of its number of atoms"),
        ("a.xyz", GOOD.encode("utf-16"), "not text in UTF-8"),
        ("a.cif", "", "it is empty"),
        ("POSCAR", "x\n1\n2 0 0\n0 2\n", "a line is missing, or has too few or too many columns"),
        ("a.mol", V2000 + "M  CHG  1   7  -1\nM  END\n", "is not pairs of an atom, 1 ... 2"),
        ("a.pdb", PDB.replace("0.970", "x.970"), r"columns 31-38, 39-46 and 47-54.*\(line 2\)"),
        ("a.com", "#hf\n\nt\n\nO 0.0 0.0 0.0\n\n", "instead of charge and multiplicity"),
        ("coord", "$coord\n0 0 0 o\n", "is missing: the file is cut off"),
        ("a.foo", "hello\n", "its format is not known"),
    ],
)
def test_broken_files_are_refused_with_a_clear_message(
    tmp_path: Path, name: str, text: str | bytes, words: str
) -> None:
    (tmp_path / name).write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(InputError, match=words) as refused:
        system_input.read({"path": name}, tmp_path)
    assert "\n" not in str(refused.value) and len(str(refused.value)) < 300
