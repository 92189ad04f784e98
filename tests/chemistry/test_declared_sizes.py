"""Structure files that declare more than they hold are refused early; valid files of each kind are read."""

from __future__ import annotations

import bz2
import gzip
import lzma
import os
import sqlite3
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
from ase.build import molecule
from ase.db import connect
from ase.io import write

from fusion import datasets
from fusion.chemistry.structure_files import read_file
from fusion.datasets.naming import absolute, node
from fusion.errors import InputError

CELL = "1.0\n1 0 0\n0 1 0\n0 0 1\nH\n"
ARRAY = '{"1": {"numbers": {"__ndarray__": [[%s], "int64", [1]]}}, "ids": [1], "nextid": 2}'
FILES = {
    "big.xyz": ("1000000000000\n\nH 0 0 0\n", "it has 1 of 1000000000000 atoms"),
    "columns.xyz": ("1\nProperties=species:S:1:pos:R:3000000000\nH 0 0 0\n", "declares 3,000,000,001 columns"),
    "POSCAR": (f"x\n{CELL}1000000000000\nDirect\n0 0 0\n", "declares 1,000,000,000,000 atoms in"),
    "CONTCAR": (f"x\n{CELL}1 600000000 600000000\nDirect\n0 0 0\n", "declares 1,200,000,001 atoms in"),
    "XDATCAR": (f"x\n{CELL}1000000000000\nDirect configuration= 1\n0 0 0\n", "declares 1,000,000,000,000 atoms in"),
    "x.lammpstrj": ("ITEM: TIMESTEP\n0\nITEM: NUMBER OF ATOMS\n9999999999\n", "declares 9,999,999,999 atoms in"),
    "x.cfg": ("Number of particles = 9999999999\nA = 1.0 Angstrom\n", "declares 9,999,999,999 atoms in"),
    "x.cube": ("a\nb\n9999999999 0 0 0\n1 1 0 0\n", "declares 9,999,999,999 atoms in"),
    "array.json": (ARRAY % "1000000000", "declare 1,000,000,000 numbers"),
    "arrays.json": (ARRAY % "-50000, 50000", "declare 2,500,000,000 numbers"),
    "hidden.json": (ARRAY.replace("__nd", r"\u005f_nd") % "1000000000", "hides plain characters"),
    "deep.json": ("[" * 200_000, "recursion"),
    "empty.db": ("", "not a database of ASE"),
    "text.db": ("some text" * 100, "not a database"),
    "bomb.xyz.gz": (gzip.compress(bytes(2**25)), "unpack to more than"),
    "bomb.xyz.bz2": (bz2.compress(bytes(2**25)), "unpack to more than"),
    "bomb.vasp.xz": (lzma.compress(bytes(2**25)), "unpack to more than"),
}


@pytest.mark.parametrize("name", FILES)
def test_files_that_declare_more_than_they_hold_are_refused(tmp_path: Path, name: str) -> None:
    content, words = FILES[name]
    path = tmp_path / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    size = path.stat().st_size
    with pytest.raises(InputError, match=words) as caught:
        read_file(name, None, tmp_path)
    assert "\n" not in str(caught.value) and path.stat().st_size == size
    with pytest.raises(InputError):
        datasets.load(absolute(node({"data": str(path)}), tmp_path), tmp_path)


def test_databases_with_code_or_incomplete_arrays_are_refused(tmp_path: Path) -> None:
    with closing(sqlite3.connect(tmp_path / "view.db")) as database:
        endless = "WITH RECURSIVE c(id) AS (SELECT 1 UNION ALL SELECT id + 1 FROM c) SELECT * FROM c"
        database.execute(f"CREATE VIEW systems AS {endless}")
    with connect(tmp_path / "hollow.db") as rows:
        rows.write(molecule("H2O"), energy_0=1.0, data={"honest": np.zeros(30)})
    assert len(read_file("hollow.db", None, tmp_path)) == 3
    with closing(sqlite3.connect(tmp_path / "hollow.db")) as database:
        text = '{"a": {"__ndarray__": [[1000000000], "float64", [1]]}}'
        database.execute("UPDATE systems SET key_value_pairs = ?", (text,))
        database.commit()
    for name, words in (("view.db", "it has views"), ("hollow.db", "declare 1,000,000,000 numbers")):
        with pytest.raises(InputError, match=words):
            read_file(name, None, tmp_path)


@pytest.mark.parametrize("name", ["w.xyz", "w.traj", "w.json", "w.db", "POSCAR", "XDATCAR", "w.cube", "w.cfg"])
@pytest.mark.parametrize("packed", [False, True])
def test_valid_files_are_read(tmp_path: Path, name: str, packed: bool) -> None:
    water = molecule("H2O", vacuum=4.0, pbc=True)
    write(tmp_path / name, [water] if name == "XDATCAR" else water)
    if packed:
        if name in ("w.json", "w.db", "w.traj"):  # ASE does not unpack these
            return
        (tmp_path / f"{name}.gz").write_bytes(gzip.compress((tmp_path / name).read_bytes()))
        name = f"{name}.gz"
    read = read_file(name, None, tmp_path)
    assert sorted(read.symbols) == ["H", "H", "O"] and abs(read.get_distance(0, 1) - read.get_distance(0, 2)) < 0.8


def test_a_pipe_is_refused_as_a_structure(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.xyz")
    os.mkfifo(tmp_path / "pipe.npz")
    os.mkfifo(tmp_path / "pipe.h5")
    with pytest.raises(InputError):
        read_file("pipe.xyz", None, tmp_path)
    for name in ("pipe.xyz", "pipe.npz", "pipe.h5"):
        with pytest.raises(InputError, match="regular file"):
            datasets.load(absolute(node({"data": name, "energy_unit": "eV"}), tmp_path), tmp_path)


def test_one_incomplete_structure_of_many_is_counted(tmp_path: Path) -> None:
    good = "2\nenergy=-30.0\nH 0 0 0\nH 0 0 0.74\n"
    bad = "1\nProperties=species:S:1:pos:R:3000000000 energy=1\nH 0 0 0\n"
    (tmp_path / "d.xyz").write_text(good + bad + good.replace("0.74", "0.8") + "999999999999\nenergy=1\nH 0 0 0\n")
    data = datasets.load(absolute(node({"data": "d.xyz"}), tmp_path), tmp_path)
    assert len(data) == 2 and len(data.report.left_out) == 2
