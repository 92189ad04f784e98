"""Unusable structures are counted and left out; unreadable or hostile files are refused in one line."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from ase.io import write
from molecules import (
    KCAL,
    frames,
    load,
    write_extxyz,
    write_hdf5,
    write_npz,
)

from fusion.errors import InputError


@pytest.mark.parametrize(
    ("info", "reason"),
    [
        ({"charge": 0.5}, "its charge, 0.5, is not a whole number"),
        ({"charge": "plus"}, "its charge, plus, is not a whole number"),
        ({"charge": 30}, "its charge, 30, is more than that of its nuclei"),
        ({"unpaired": 1}, "unpaired=1 is impossible with 10 electrons (charge 0)"),
        ({"dipole": 1.5}, "its dipole is not 3 numbers"),
    ],
)
def test_structures_with_impossible_states_are_left_out(tmp_path: Path, info: dict[str, Any], reason: str) -> None:
    many = [atoms for atoms in frames(12) if len(atoms) == 3]
    many[1].info |= info
    data = load(write_extxyz(tmp_path, many))
    assert len(data) == len(many) - 1 and data.report.left_out == [("H2O #2", reason)]


def test_broken_structures_are_counted_and_the_others_are_used(tmp_path: Path) -> None:
    path = write_hdf5(tmp_path / "data.h5", frames(30))
    with h5py.File(path, "a") as file:
        water, ammonia = file["set/OH2"], file["set/NH3"]
        water["energies"][1], water["coordinates"][2, 0, 0] = np.nan, np.inf
        water["forces"][3, 1, 1] = np.nan
        water["forces"][4] = np.nan
        water["coordinates"][5, 1] = water["coordinates"][5, 0]
        ammonia["species"][0] = b"Q"
    data = load(path)
    reasons = {one["reason"]: one["structures"] for one in data.report.grouped()}
    assert len(data) == 16 and data.report.read == 30
    assert reasons["unknown element 'Q'"] == 10 and reasons["its energy is not a finite number"] == 1
    assert reasons["a coordinate is not a finite number"] == reasons["two nuclei on one spot"] == 1
    assert reasons["its forces are not three finite numbers per atom"] == 1
    assert data.report.without == {"forces": 1} and len(list(data.report.notes())) >= 2


def test_conformations_of_a_damaged_molecule_are_all_counted(tmp_path: Path) -> None:
    path = write_hdf5(tmp_path / "data.h5", frames(30))
    with h5py.File(path, "a") as file:
        water = file["set/OH2"]
        energies = water["energies"][()]
        del water["energies"]
        water.create_dataset("energies", data=energies, compression="gzip", chunks=(10,))
        chunk = water["energies"].id.get_chunk_info(0)
    content = bytearray(path.read_bytes())
    content[chunk.byte_offset : chunk.byte_offset + chunk.size] = b"\xff" * chunk.size
    path.write_bytes(content)
    data = load(path)
    assert len(data) == 20 and data.report.read == 30 and data.report.grouped()[0]["structures"] == 10


@pytest.mark.parametrize("array", [3.0, [b"a"] * 4, np.zeros((4, 2)), np.zeros(4, dtype=[("x", "f8")])])
def test_labels_that_are_not_numbers_exclude_one_molecule(tmp_path: Path, array: Any) -> None:
    with h5py.File(tmp_path / "data.h5", "w") as file:
        for name, energies_ in (("good", np.zeros(4)), ("bad", array)):
            positions = np.random.default_rng(1).normal(size=(4, 2, 3))
            file[f"{name}/species"], file[f"{name}/coordinates"] = [b"H", b"H"], positions
            file[f"{name}/energies"] = energies_
    data = load(tmp_path / "data.h5")
    assert len(data) == 4 and {name.split()[0] for name, _ in data.report.left_out} == {"bad"}


def test_a_broken_structure_of_an_xyz_file_does_not_affect_the_others(tmp_path: Path) -> None:
    lines = write_extxyz(tmp_path, frames(9, shapes=("OHH",))).read_text().splitlines(keepends=True)
    parts = [lines[start : start + 5] for start in range(0, 45, 5)]
    value = parts[1][1].split("energy=")[1].split()[0]
    parts[1][1] = parts[1][1].replace(f"energy={value}", "energy=nan")
    parts[2][2] = parts[2][2].replace("O ", "Qq", 1)
    parts[3][1] = parts[3][1].replace(f"energy={parts[3][1].split('energy=')[1].split()[0]}", "")
    parts[4][3] = "H 0.0 zero 0.0\n"
    parts[8] = parts[8][:3]
    path = tmp_path / "data.xyz"
    path.write_text("".join(line for part in parts for line in part))
    data = load(path)
    assert data.place.tolist() == [1, 4, 6, 7, 8] and data.report.read == 9
    reasons = [reason for _, reason in data.report.left_out]
    assert reasons[0] == "its energy is not a finite number" and reasons[1] == "unknown element 'Qq'"
    assert (
        reasons[2].startswith("4 of 7 columns") and "cut off" in reasons[3] and data.report.without == {"an energy": 1}
    )
    path.write_text("".join([*lines[:5], "and now for something else\n", *lines[5:]]))
    with pytest.raises(InputError, match="structure 2 begins with 'and now"):
        load(path)


def test_duplicates_and_outliers_are_reported(tmp_path: Path) -> None:
    many = frames(60, shapes=("OHH",))
    again = many[3].copy()
    again.calc = many[3].calc
    far = many[4].copy()
    far.positions[1] += [4.0, 0, 0]
    far.calc = many[4].calc
    far.calc.results["energy"] += 300.0
    data = load(write_extxyz(tmp_path, [*many, again, many[5].copy(), far]))
    assert (data.report.duplicates, data.report.contradictions) == (1, 0)
    assert data.report.outliers[0][0] in ("H2O #5", "H2O #63") and len(data.report.left_out) == 1


@pytest.mark.parametrize(
    ("name", "options", "complaint"),
    [
        ("cut.h5", {}, "it is truncated"),
        ("text.h5", {}, "not an HDF5 file"),
        ("text.npz", KCAL, "not a numpy archive"),
        ("good.npz", {}, "data.energy_unit="),
        ("good.npz", KCAL | {"energy": "dft"}, r"data.energy=dft|can be used"),
        ("good.xyz", {"forces": {"key": "pull"}}, "data.forces.key=pull: no structure"),
        ("good.xyz", {"energy_unit": "erg"}, "eV, hartree, kcal/mol or kJ/mol"),
        ("good.xyz", {"forces": {"unit": "eV"}}, "an energy per length"),
        ("good.xyz", {"forces": {"unit": "kcal/mol"}}, "an energy per length"),
        ("good.xyz", {"limit": 0}, "data.limit"),
        ("good.xyz", {"energi": "x"}, "Did you mean 'data.energy'"),
        ("nowhere.xyz", {}, "no file"),
        ("empty", {}, "holds no .xyz"),
    ],
)
def test_unreadable_data_are_refused_in_one_line(
    name: str, options: dict[str, Any], complaint: str, tmp_path: Path
) -> None:
    write_hdf5(tmp_path / "good.h5", frames(12))
    (tmp_path / "cut.h5").write_bytes((tmp_path / "good.h5").read_bytes()[:-500])
    for text in ("text.h5", "text.npz"):
        (tmp_path / text).write_text("nothing of the kind")
    (tmp_path / "empty").mkdir()
    write_npz(tmp_path / "good.npz", frames(12), True)
    write(tmp_path / "good.xyz", frames(12), format="extxyz")
    before = (tmp_path / name).stat() if (tmp_path / name).exists() else None
    with pytest.raises(InputError, match=complaint) as error:
        load(tmp_path / name, **options)
    assert "\n" not in str(error.value)
    assert before is None or (tmp_path / name).stat().st_size == before.st_size


HDF5: dict[str, Callable[[Any], object]] = {
    "is a link that leads out of the file": lambda file: file["m"].update(energies=h5py.ExternalLink("o.h5", "/m/e")),
    "/n/energies in /m is a link that leads out": lambda file: (
        file["m"].update(energies=h5py.SoftLink("/n/energies")),
        file.update(n=h5py.ExternalLink("o.h5", "/m")),
    ),
    "is a link that leads out of the file, or nowhere": lambda file: file["m"].update(
        energies=h5py.SoftLink("energies")
    ),
    "the numbers of /m/energies lie in another file": lambda file: file["m"].create_dataset(
        "energies", (4,), dtype="f8", external=[("o.bin", 0, 32)]
    ),
    "the numbers of /m/forces lie in another file": lambda file: file["m"].create_virtual_dataset(
        "forces", h5py.VirtualLayout((4, 2, 3), "f8")
    ),
    r"/m/energies has the shape \(1000000000,\)": lambda file: file["m"].create_dataset(
        "energies", (10**9,), dtype="f8", chunks=(1000,), compression="gzip"
    ),
    r"in chunks \(500000000,\)": lambda file: file["m"].create_dataset(
        "energies", (4,), dtype="f8", chunks=(5 * 10**8,), maxshape=(None,)
    ),
}


@pytest.mark.parametrize("words", HDF5)
def test_links_and_declared_sizes_of_hdf5_are_refused(tmp_path: Path, words: str) -> None:
    """Every file declares numbers that it does not hold."""
    np.zeros(4).tofile(tmp_path / "o.bin")
    with h5py.File(tmp_path / "o.h5", "w") as file:
        file["m/e"] = file["m/energies"] = np.zeros(4)
    with h5py.File(tmp_path / "data.h5", "w") as file:
        file["m/species"], file["m/coordinates"] = [b"H", b"H"], np.random.default_rng(1).normal(size=(4, 2, 3))
        HDF5[words](file)
    with pytest.raises(InputError, match=f"data: '.*data.h5' is refused: .*{words}") as caught:
        load(tmp_path / "data.h5")
    assert "\n" not in str(caught.value)


def test_an_impossible_datatype_of_hdf5_is_refused(tmp_path: Path) -> None:
    path = write_hdf5(tmp_path / "data.h5", frames(4))
    float64 = bytes.fromhex("4000340b0034")
    assert float64 in path.read_bytes()
    path.write_bytes(path.read_bytes().replace(float64, bytes.fromhex("4000100b0034")))  # exponent within the mantissa
    with pytest.raises(InputError, match="cannot be read: it is not an HDF5 file, or damaged"):
        load(path)
