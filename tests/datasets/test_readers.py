"""Readers of all formats give the same structures in atomic units."""

from __future__ import annotations

import os
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch
from ase import Atoms
from ase.db import connect
from ase.units import GPa
from molecules import (
    BOHR,
    HARTREE,
    KCAL,
    energies,
    forces,
    frames,
    load,
    write_extxyz,
    write_folder,
    write_hdf5,
    write_npz,
)

from fusion import datasets
from fusion.datasets import loading
from fusion.datasets.naming import absolute, node
from fusion.errors import InputError
from fusion.potentials.batch import batch_of, collate

DATA = os.environ.get("FUSION_TEST_DATA")


def _database(path: Path, many: list[Atoms]) -> Path:
    with connect(path / "data.db") as database:
        for atoms in many:
            database.write(atoms)
    return path / "data.db"


FILES = {
    "extxyz": (write_extxyz, {}),
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
    mixed = load(write_extxyz(tmp_path, frames(9)))
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
    data = load(write_extxyz(tmp_path, [atoms, charged]))
    assert data.cell is not None and data.stress is not None
    np.testing.assert_allclose(np.diag(data.cell[0]) * BOHR, [5, 6, 7])
    np.testing.assert_allclose(data.stress[0, 0] * HARTREE / BOHR**3, [0, 5, 4], atol=1e-12)
    assert np.isnan(data.stress[1]).all() and not data.cell[1].any()
    pascal = load(write_extxyz(tmp_path, [atoms]), stress={"unit": "GPa", "sign": -1}).stress
    assert pascal is not None
    np.testing.assert_allclose(pascal[0] / GPa, -data.stress[0], rtol=1e-9, atol=1e-15)
    assert (data.system(1).charge, data.system(1).spin, data.system(0).pbc) == (1, 3, (True, True, True))


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


def test_links_inside_an_hdf5_file_are_followed(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "data.h5", "w") as file:
        file["m/species"], file["m/coordinates"] = [b"H", b"H"], np.random.default_rng(1).normal(size=(4, 2, 3))
        file["labels"] = [1.0, 2.0, 3.0, 4.0]
        file["m/energies"], file["m/energy"] = h5py.SoftLink("energy"), h5py.SoftLink("/labels")
    np.testing.assert_array_equal(load(tmp_path / "data.h5").energy, [1.0, 2.0, 3.0, 4.0])


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


def test_a_mixture_has_the_levels_of_theory_that_all_its_files_state(tmp_path: Path) -> None:
    from ase.calculators.singlepoint import SinglePointCalculator
    from ase.io import write

    entries = []
    for name, level in (("one", "HF/sto-3g"), ("two", "MP2/sto-3g"), ("none", None)):
        frames = []
        for length in (0.7, 0.8, 0.9):
            atoms = Atoms("H2", [[0, 0, 0], [0, 0, length]])
            atoms.calc = SinglePointCalculator(atoms, energy=-31.0 + length)
            atoms.info |= {"level_of_theory": level} if level else {}
            frames.append(atoms)
        write(tmp_path / f"{name}.extxyz", frames)
        entries.append({"name": name, "path": f"{name}.extxyz", "check": False})
    assert loading.load({"entries": entries[:2]}, tmp_path).report.level_of_theory == "HF/sto-3g + MP2/sto-3g"
    assert loading.load({"entries": entries}, tmp_path).report.level_of_theory is None


def test_files_of_different_levels_of_theory_are_not_mixed_unasked(tmp_path: Path) -> None:
    for name, level in (("a", "HF/sto-3g"), ("b", "MP2/sto-3g")):
        comment = f'Properties=species:S:1:pos:R:3 level_of_theory="{level}" energy=-30.0'
        (tmp_path / f"{name}.xyz").write_text(f"2\n{comment}\nH 0 0 0\nH 0 0 0.74\n")
    for path in (str(tmp_path), [str(tmp_path / "a.xyz"), str(tmp_path / "b.xyz")]):
        with pytest.raises(InputError, match="more than one level of theory: HF/sto-3g and MP2/sto-3g"):
            loading.load({"path": path}, tmp_path)
        assert len(loading.load({"path": path, "check": False}, tmp_path)) == 2


@pytest.mark.parametrize(("stated", "zero"), [("correction", "difference"), ("atomization",) * 2, ("own", "total")])
def test_labels_state_their_zero(stated: str, zero: str, tmp_path: Path) -> None:
    comment = f"Properties=species:S:1:pos:R:3 energy_zero={stated} energy=-0.1"
    (tmp_path / "a.xyz").write_text(f"2\n{comment}\nH 0 0 0\nH 0 0 0.74\n")
    assert loading.load({"path": str(tmp_path / "a.xyz"), "check": False}, tmp_path).energy_zero == zero
