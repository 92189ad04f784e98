"""Structures from files of many formats: what a file states is read, or refused in one line, never dropped."""

from pathlib import Path

import numpy as np
import pytest
from ase.db import connect
from structure_files import LINES, PDB, V2000, V3000, hydronium, read

from fusion.chemistry import system_input
from fusion.chemistry.structures import from_atoms
from fusion.errors import InputError
from fusion.runs.results import Result
from fusion.tasks.geometry.structures import write_structure


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


def test_the_multiplicity_of_a_file_belongs_to_its_charge(tmp_path: Path) -> None:
    text = f"4\ncharge=1 multiplicity=3\n{LINES}"
    assert read(tmp_path, "a.xyz", text, charge=1).spin == 2
    other = read(tmp_path, "a.xyz", text, charge=-1)
    assert other.spin == 0 and "is not used" in other.notes[0]


def test_an_odd_molecule_is_refused_in_a_format_whose_charge_is_not_read(tmp_path: Path) -> None:
    coordinates = "$coord\n0 0 0 o\n0 0 1.83 h\n$end\n"
    with pytest.raises(InputError, match="its charge is not read from a file of the format turbomole"):
        read(tmp_path, "coord", coordinates)
    assert read(tmp_path, "coord", coordinates, charge=-1).charge == -1


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
