"""Result of a run in Python: HTML, pictures, tables, Atoms and trajectories."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
from ase import Atoms, units
from ase.build import molecule

import fusion
from fusion.app.run_tables import columns_of
from fusion.console.units import Units
from fusion.errors import InputError


@pytest.fixture
def here(with_toy: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_a_relaxation_of_atoms_gives_atoms_trajectory_and_report(
    here: Path, pictures: None, capsys: pytest.CaptureFixture[str]
) -> None:
    water = molecule("H2O")
    water.positions += np.random.default_rng(0).normal(scale=0.02, size=(3, 3))
    result = fusion.relax(water, "morse", units="eV", fmax=1e-6, dtype="float64")
    assert capsys.readouterr().out == ""
    assert result.directory.is_relative_to(here / "runs") and (result.directory / "result.json").is_file()
    assert result.energy is not None and result.status == "ok"
    atoms = result.atoms
    assert atoms.get_potential_energy() == pytest.approx(result.energy * units.Hartree, rel=1e-15)
    assert np.abs(atoms.get_forces()).max() < 1e-6 * units.Hartree / units.Bohr
    steps = result.trajectory
    assert len(steps) > 2 and np.allclose(steps[0].positions, water.positions, atol=1e-7)
    assert np.allclose(steps[-1].positions, atoms.positions, atol=1e-7)
    html = result._repr_html_()
    assert f"{result.energy * units.Hartree:.5f} eV" in html and "eV/Å, asked for" in html and "image/png" in html
    assert str(here) not in html and str(here) not in repr(result)
    assert result.pictures == ["relaxation.png"] == [result.figure("relaxation").path.name]
    assert result.figure()._repr_png_().startswith(b"\x89PNG")
    with pytest.raises(InputError, match=r"no picture 'relax'\. Did you mean 'relaxation\.png'"):
        result.figure("relax")

    again = fusion.result(result.directory)
    assert again.energy == result.energy and again._repr_html_() == html
    assert np.allclose(again.system.positions, result.system.positions, rtol=0, atol=1e-15)
    assert np.array_equal(again.atoms.get_forces(), atoms.get_forces())


def test_positions_reach_the_method_unrounded(here: Path) -> None:
    atoms = Atoms("H2", [[0.1, 1 / 3, 0], [0.1, 1 / 3, np.pi / 4]])
    result = fusion.energy(atoms, "morse", progress=True)
    assert np.array_equal(result.system.positions, atoms.get_positions() / units.Bohr) or np.array_equal(
        result.system.positions, atoms.get_positions() * (1 / units.Bohr)
    )


def test_progress_prints_the_lines_of_the_command_line(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    result = fusion.energy("h2o", "morse", progress=True, directory="mine")
    assert result.directory == here / "mine"
    out = capsys.readouterr().out
    assert f"{result.energy:.6f} Ha" in out and out.splitlines()[1] == "  mine"


def test_many_structures_are_a_table(here: Path) -> None:
    stretched = [Atoms("H2", [[0, 0, 0], [0, 0, r]], info={"name": f"r{r}"}) for r in (0.7, 0.8, 0.9)]
    result = fusion.energy(stretched, "morse", units="eV")
    columns = columns_of(result.directory, result.document, Units("eV"), None)
    assert columns["name"] == ["r0.7", "r0.8", "r0.9"] and columns["status"] == ["ok"] * 3
    assert "message" not in columns and repr(result).startswith("RunResult(3 structures, ok")
    trajectory = [atoms.get_potential_energy() for atoms in result.trajectory]
    assert columns["energy_ev"] == pytest.approx(trajectory, abs=1e-8)
    with pytest.raises(InputError, match=r"many structures; they are in \.trajectory"):
        _ = result.atoms
    assert fusion.result(result.directory).system.formula == "H2"


def test_modes_and_single_results_are_tables(here: Path) -> None:
    modes = fusion.vibrations("h2o", "morse", dtype="float64")
    columns = columns_of(modes.directory, modes.document, Units("hartree"), None)
    assert columns["mode"] == [7, 8, 9] and columns["frequencies_cm1"] == modes.document["frequencies_cm1"]
    assert {len(cells) for cells in columns.values()} == {3}
    (energy,) = columns_of((one := fusion.energy("h2o", "morse")).directory, one.document, Units("kJ/mol"), None)[
        "energy_kj_mol"
    ]
    assert energy == pytest.approx((one.energy or 0.0) * units.Hartree * units.mol / units.kJ, rel=1e-14)
    with pytest.raises(InputError, match="no table 'x' in"):
        columns_of(one.directory, one.document, Units("eV"), "x")


def test_a_data_frame_needs_pandas(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    result = fusion.energy("h2o", "morse")
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(InputError, match=r"pip install 'aiqm-fusion\[notebook\]'"):
        result.to_frame()
    monkeypatch.undo()
    pytest.importorskip("pandas")
    frame = result.to_frame()
    assert frame.shape[0] == 1 and frame["energy_hartree"][0] == result.energy


def test_a_directory_without_result_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"has no result\.json"):
        fusion.result(tmp_path)


def test_the_functions_are_public_names() -> None:
    assert {"energy", "relax", "vibrations", "scan", "ts", "md", "conformers", "compare", "result"} <= set(dir(fusion))
