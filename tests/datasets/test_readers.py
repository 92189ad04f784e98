"""Readers of all formats give the same structures in atomic units; unusable structures are counted."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import torch
from ase import Atoms
from ase.db import connect
from ase.io import write
from ase.units import GPa
from molecules import BOHR, HARTREE, energies, forces, frames, write_folder, write_hdf5, write_npz

from fusion import datasets
from fusion.datasets import loading
from fusion.datasets.naming import absolute, node
from fusion.errors import InputError
from fusion.potentials.batch import batch_of, collate

DATA = os.environ.get("FUSION_TEST_DATA")


def load(path: Path, **options: Any) -> datasets.Labelled:
    return datasets.load(absolute(node({"data": str(path), **options}), path.parent), path.parent)


def _extxyz(path: Path, many: list[Atoms]) -> Path:
    write(path / "data.xyz", many, format="extxyz")
    return path / "data.xyz"


def _database(path: Path, many: list[Atoms]) -> Path:
    with connect(path / "data.db") as database:
        for atoms in many:
            database.write(atoms)
    return path / "data.db"


KCAL = {"energy_unit": "kcal/mol"}
FILES = {
    "extxyz": (_extxyz, {}),
    "database": (_database, {}),
    "folder": (lambda path, many: write_folder(path / "folder", many), {}),
    "pyanitools": (lambda path, many: write_hdf5(path / "data.h5", many), {}),
    "ani1x": (lambda path, many: write_hdf5(path / "data.h5", many, "ani1x"), {}),
    "padded npz": (lambda path, many: write_npz(path / "data.npz", many, True), KCAL),
}


@pytest.mark.parametrize("streamed", [False, True])
@pytest.mark.parametrize("kind", FILES)
def test_all_formats_give_the_same_structures(
    kind: str, streamed: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FUSION_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(loading, "STREAM_FROM", 0 if streamed else 1e9)
    many = frames()
    maker, options = FILES[kind]
    path = maker(tmp_path, many)
    for _ in range(2):  # the second time from the cache
        data = load(path, **options)
        order = _order(data, many)
        same = [many[index] for index in order]
        np.testing.assert_allclose(data.energy, energies(same), rtol=1e-9)
        assert data.forces is not None
        np.testing.assert_allclose(data.forces, forces(same), atol=1e-7)
        np.testing.assert_allclose(data.positions, np.concatenate([one.positions for one in same]) / BOHR, atol=1e-6)
        assert len(data.groups) == 3 and data.report.read == 24 and not data.report.left_out
        assert isinstance(data.energy, np.memmap) == streamed and path.exists()
    if streamed:
        path.touch()
        (tmp_path / "copy").mkdir()
        copy = path.rename(tmp_path / "copy" / path.name)
        assert len(list((tmp_path / "cache" / "data").glob("[0-9a-f]*"))) == 1
        load(copy, **options)
        assert len(list((tmp_path / "cache" / "data").glob("[0-9a-f]*"))) == 1, "the same contents, the same place"


def _order(data: datasets.Labelled, many: list[Atoms]) -> list[int]:
    """Index of the frame that each structure comes from, by its first distance."""
    indices = []
    for index in range(len(data)):
        start = int(data.offsets[index])
        first = np.array(data.positions[start : start + 2]) * BOHR
        errors = [np.abs(atoms.positions[:2] - first).max() + (len(atoms) != data.sizes[index]) for atoms in many]
        indices.append(int(np.argmin(errors)))
        assert min(errors) < 1e-5
    assert sorted(indices) == list(range(len(many)))
    return indices


def test_one_molecule_of_an_npz(tmp_path: Path) -> None:
    many = frames(6, shapes=("NHHH",))
    data = load(write_npz(tmp_path / "data.npz", many, False), **KCAL)
    np.testing.assert_allclose(data.energy, energies(many), rtol=1e-9)


def test_batches_and_selections_keep_the_order(tmp_path: Path) -> None:
    mixed = load(_extxyz(tmp_path, frames(9)))
    chosen = np.array([7, 0, 5])
    batch, expected = batch_of(mixed, chosen, torch.float64), collate([mixed.system(int(i)) for i in chosen])
    for name in ("numbers", "positions", "mask", "cell", "pbc", "charge", "spin"):
        torch.testing.assert_close(getattr(batch, name), getattr(expected, name))
    part = mixed.select(chosen)
    assert [part.name(i) for i in range(3)] == [mixed.name(int(i)) for i in chosen]
    assert part.forces is not None and mixed.forces is not None
    np.testing.assert_array_equal(part.forces, mixed.forces[mixed.atoms(chosen)])


def test_conformations_of_high_energy_are_read_on_request(tmp_path: Path) -> None:
    path = write_hdf5(tmp_path / "data.h5", frames(24), high=2)
    data = load(path)
    assert len(data) == 18 and list(data.report.excluded.values()) == [6]
    whole = load(path, high_energies=True)
    assert len(whole) == 24 and len(set(whole.ids.tolist())) == 24
    assert whole.report.without == {"forces": 6}


def test_labels_of_ani1x_have_one_level_of_theory(tmp_path: Path) -> None:
    """Forces and dipoles have the level of the energies; without those of that level there are none."""
    path = write_hdf5(tmp_path / "data.h5", frames(12), "ani1x")
    with h5py.File(path, "a") as file:
        for group in file.values():
            number = len(group["coordinates"])
            group["ccsd(t)_cbs.energy"] = group["wb97x_dz.energy"][()] + 0.1
            group["wb97x_tz.energy"], group["wb97x_tz.dipole"] = group["wb97x_dz.energy"][()], np.full((number, 3), 2.0)
            group["wb97x_dz.dipole"] = np.ones((number, 3))
    usual, triple = load(path), load(path, energy="wb97x_tz.energy")
    assert usual.forces is not None and usual.dipole is not None and triple.forces is None
    np.testing.assert_allclose(usual.dipole, 1.0 / BOHR, rtol=1e-9)
    np.testing.assert_allclose(triple.dipole, 2.0 / BOHR, rtol=1e-9)
    coupled = load(path, energy="ccsd(t)_cbs.energy")
    np.testing.assert_allclose(coupled.energy, usual.energy + 0.1)
    assert coupled.forces is None and coupled.dipole is None


def test_cells_charges_and_spins_are_read(tmp_path: Path) -> None:
    atoms = frames(1)[0]
    atoms.set_cell([5.0, 6.0, 7.0])
    atoms.pbc = True
    atoms.calc.results["stress"] = np.arange(6.0)
    charged = frames(1)[0]
    charged.info |= {"charge": 1, "multiplicity": 4}
    data = load(_extxyz(tmp_path, [atoms, charged]))
    assert data.cell is not None and data.stress is not None
    np.testing.assert_allclose(np.diag(data.cell[0]) * BOHR, [5, 6, 7])
    np.testing.assert_allclose(data.stress[0, 0] * HARTREE / BOHR**3, [0, 5, 4], atol=1e-12)
    assert np.isnan(data.stress[1]).all() and not data.cell[1].any()
    pascal = load(_extxyz(tmp_path, [atoms]), stress={"unit": "GPa", "sign": -1}).stress
    assert pascal is not None
    np.testing.assert_allclose(pascal[0] / GPa, -data.stress[0], rtol=1e-9, atol=1e-15)
    assert (data.system(1).charge, data.system(1).spin, data.system(0).pbc) == (1, 3, (True, True, True))


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
    data = load(_extxyz(tmp_path, many))
    assert len(data) == len(many) - 1 and data.report.left_out == [("H2O #2", reason)]


@pytest.mark.parametrize("kind", ["npz", "hdf5"])
def test_charges_and_spins_are_read_from_array_files(kind: str, tmp_path: Path) -> None:
    many = frames(4, shapes=("OHH",))
    if kind == "npz":
        path = write_npz(tmp_path / "d.npz", many, True)
        with np.load(path) as content:
            np.savez(path, **content, Q=[1, 1, 0, 0.5], multiplicity=[2, 4, 1, 1])
        data = load(path, **KCAL)
    else:
        path = write_hdf5(tmp_path / "d.h5", many)
        with h5py.File(path, "a") as file:
            group = file["set/OH2"]
            group["Total_Charge"], group["multiplicity"] = [1, 1, 0, 0.5], [2, 4, 1, 1]
        data = load(path)
    assert data.charge.tolist()[:3] == [1, 1, 0] and data.spin.tolist()[:3] == [1, 3, 0]
    assert data.place.tolist()[:3] == [1, 2, 3]
    if kind == "hdf5":  # Q may be the name of something else
        assert len(data) == 3 and "0.5, is not a whole number" in data.report.left_out[0][1]


def test_numpy_archives_with_symbols_or_wrong_shapes(tmp_path: Path) -> None:
    many = [atoms for atoms in frames(12) if len(atoms) == 3]
    path = write_npz(tmp_path / "data.npz", many, padded=False)
    with np.load(path) as content:
        arrays = dict(content)
    words = {"energy_unit": "kcal/mol"}
    expected = load(path, **words)
    np.savez(path, **arrays | {"nuclear_charges": np.array(["O", "H", "H"])})
    np.testing.assert_array_equal(load(path, **words).numbers, expected.numbers)
    np.savez(path, **arrays | {"energies": arrays["energies"][:, None]})
    np.testing.assert_array_equal(load(path, **words).energy, expected.energy)
    for wrong, said in (
        ({"nuclear_charges": np.array(["O", "Q", "H"])}, "unknown element 'Q'"),
        ({"energies": np.ones((len(many), 2))}, "its energy is not one number"),
    ):
        np.savez(path, **arrays | wrong)
        with pytest.raises(InputError, match=said):
            load(path, **words)
    np.savez(path, **arrays | {"mu": np.ones((len(many), 3))})
    with pytest.raises(InputError, match="does not state its dipole unit"):
        load(path, **words, dipole={"key": "mu"})


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


def test_links_inside_an_hdf5_file_are_followed(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "data.h5", "w") as file:
        file["m/species"], file["m/coordinates"] = [b"H", b"H"], np.random.default_rng(1).normal(size=(4, 2, 3))
        file["labels"] = [1.0, 2.0, 3.0, 4.0]
        file["m/energies"], file["m/energy"] = h5py.SoftLink("energy"), h5py.SoftLink("/labels")
    np.testing.assert_array_equal(load(tmp_path / "data.h5").energy, [1.0, 2.0, 3.0, 4.0])


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
    lines = _extxyz(tmp_path, frames(9, shapes=("OHH",))).read_text().splitlines(keepends=True)
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
    data = load(_extxyz(tmp_path, [*many, again, many[5].copy(), far]))
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


@pytest.mark.skipif(not DATA, reason="FUSION_TEST_DATA is not set")
def test_named_data_are_downloaded_from_the_mirror(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FUSION_CACHE", str(tmp_path))
    monkeypatch.setenv("FUSION_MIRROR", f"file://{DATA}/weights")
    data = datasets.load(absolute(node("ani1"), tmp_path), tmp_path)
    assert len(data) == 10800 + 39388 and list(data.report.excluded.values()) == [398]
    fine = datasets.load(absolute(node("s66x8"), tmp_path), tmp_path)
    assert any("dE is 1.0" in text for text in fine.report.checks)
    with pytest.raises(InputError, match=r"look like gradients.* Set data\.forces.sign=-1"):
        datasets.load(absolute(node({"data": "s66x8", "forces": {"sign": 1}}), tmp_path), tmp_path)
    folds = datasets.load(absolute(node("qm7"), tmp_path), tmp_path)
    assert folds.fold is not None and np.bincount(folds.fold).tolist() == [1420] * 4


def test_an_impossible_datatype_of_hdf5_is_refused(tmp_path: Path) -> None:
    path = write_hdf5(tmp_path / "data.h5", frames(4))
    float64 = bytes.fromhex("4000340b0034")
    assert float64 in path.read_bytes()
    path.write_bytes(path.read_bytes().replace(float64, bytes.fromhex("4000100b0034")))  # exponent within the mantissa
    with pytest.raises(InputError, match="cannot be read: it is not an HDF5 file, or damaged"):
        load(path)
