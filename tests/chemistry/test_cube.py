"""Gaussian cube files, against those of PySCF."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from pyscf import gto
from pyscf.tools import cubegen

from fusion.chemistry import cube
from fusion.errors import InputError


def example() -> cube.Cube:
    """LiH with eight numbers of different sizes along the last axis."""
    values = np.random.default_rng(0).normal(size=(2, 3, 8)) * 10.0 ** np.arange(-4, 4)
    return cube.Cube(
        values,
        np.array([-1.0, -2.0, 0.5]),
        np.diag([0.2, 0.3, 0.25]),
        np.array([3, 1]),
        np.array([3.0, 1.0]),
        np.array([[0.0, 0.0, 0.0], [0.0, 0.0, 3.015]]),
    )


def test_pyscf_reads_the_same_field(tmp_path: Path) -> None:
    written = example()
    (tmp_path / "field.cube").write_bytes(cube.content(written, "one", "two"))
    pyscf_cube = cubegen.Cube(gto.M(atom="He 0 0 0", verbose=0))
    field = pyscf_cube.read(str(tmp_path / "field.cube"))
    np.testing.assert_allclose(field, written.values, rtol=1e-5)
    np.testing.assert_allclose(pyscf_cube.boxorig, written.origin)
    np.testing.assert_allclose(pyscf_cube.box, written.steps * np.array(written.values.shape)[:, None])
    assert [pyscf_cube.mol.atom_symbol(atom) for atom in range(2)] == ["Li", "H"]
    np.testing.assert_allclose(pyscf_cube.mol.atom_coords(), written.positions)


def test_a_field_of_pyscf_is_read(tmp_path: Path) -> None:
    mol = gto.M(atom="Li 0 0 0; H 0 0 1.6", basis="sto-3g", verbose=0)
    density = cubegen.density(mol, str(tmp_path / "field.cube"), np.eye(mol.nao), nx=4, ny=5, nz=7)
    read = cube.read(tmp_path / "field.cube")
    np.testing.assert_allclose(read.values, density, rtol=1e-5)
    np.testing.assert_allclose(read.positions, mol.atom_coords(), atol=1e-6)
    np.testing.assert_allclose(read.origin, mol.atom_coords().min(0) - cubegen.BOX_MARGIN, atol=1e-6)
    assert read.numbers.tolist() == [3, 1]


def test_a_file_that_was_written_is_read_back(tmp_path: Path) -> None:
    written = example()
    (tmp_path / "field.cube").write_bytes(cube.content(written, "one", "two"))
    read = cube.read(tmp_path / "field.cube")
    np.testing.assert_allclose(read.values, written.values, rtol=1e-5)
    for name in ("origin", "steps", "numbers", "charges", "positions"):
        np.testing.assert_allclose(getattr(read, name), getattr(written, name))
    assert read.volume == pytest.approx(0.2 * 0.3 * 0.25)


@pytest.mark.parametrize(
    ("old", "new", "reason"),
    [
        ("    2   -1.000000", "   -2   -1.000000", "only a single field"),
        ("    8    0.000000", "   -8    0.000000", "only a single field"),
        ("    8    0.000000", "    9    0.000000", "it declares 54 values and has 48"),
        ("    3    3.000000", "   Li    3.000000", "could not convert"),
        ("    3    3.000000    0.000000", "    3    3.000000", ""),
    ],
)
def test_a_damaged_file_is_named(tmp_path: Path, old: str, new: str, reason: str) -> None:
    path = tmp_path / "field.cube"
    text = cube.content(example(), "one", "two").decode()
    assert old in text
    path.write_text(text.replace(old, new, 1))
    with pytest.raises(InputError, match=f"field.cube cannot be read as a cube file: .*{reason}"):
        cube.read(path)


def test_an_empty_file_is_damaged(tmp_path: Path) -> None:
    (tmp_path / "field.cube").touch()
    with pytest.raises(InputError, match="cannot be read as a cube file"):
        cube.read(tmp_path / "field.cube")
