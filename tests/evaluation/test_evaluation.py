"""Errors of a method on labels: the measures agree with the textbook, and every structure is accounted for."""

from __future__ import annotations

import csv
import json
import math
import re
from collections import Counter
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import h5py
import numpy as np
import pytest
from ase import Atoms, units
from ase.build import bulk
from ase.calculators.emt import EMT
from ase.calculators.singlepoint import SinglePointCalculator
from ase.io import write

from fusion.chemistry.units import KCAL_MOL_PER_HARTREE as KCAL
from fusion.evaluation.calibration import calibration
from fusion.evaluation.predictions import Predictions
from fusion.runs.report import redraw
from processes import Program
from resuming import Resumes, Stop

WORDS = ("+method=morse", "task=evaluate", "hydra.run.dir=run")
D, A = 0.17, 1.1  # the toy potential
RADII = {"H": 0.7, "C": 1.4, "N": 1.4, "O": 1.1, "Ar": 3.5}


def morse(atoms: Atoms) -> tuple[float, np.ndarray]:
    """Energy and forces of the toy potential, hartree and bohr."""
    positions, energy = atoms.positions / units.Bohr, 0.0
    forces = np.zeros_like(positions)
    for i in range(len(atoms)):
        for j in range(i):
            vector = positions[i] - positions[j]
            distance = float(np.linalg.norm(vector))
            decay = np.exp(-A * (distance - RADII[atoms.symbols[i]] - RADII[atoms.symbols[j]]))
            energy += D * ((1 - decay) ** 2 - 1)
            pull = -2 * D * A * (1 - decay) * decay * vector / distance
            forces[i] += pull
            forces[j] -= pull
    return energy, forces


def structures(number: int = 12, seed: int = 0) -> list[Atoms]:
    random = np.random.default_rng(seed)
    frames = []
    for index in range(number):
        symbols = ("OHH", "CO", "NHHH")[index % 3]
        atoms = Atoms(symbols.replace("OHH", "OH2").replace("NHHH", "NH3"), np.zeros((len(symbols), 3)))
        atoms.positions = random.normal(size=(len(symbols), 3)) + 1.1 * np.arange(len(symbols))[:, None]
        frames.append(atoms)
    return frames


def labelled(
    frames: list[Atoms], energy: float = units.Hartree, sign: float = 1.0, offset: float = 0.0, noise: float = 0.0
) -> list[Atoms]:
    """The frames with labels of the toy potential: energies in a unit of `energy` per hartree, shifted by `offset`
    hartree per atom, and forces with `noise` in hartree/bohr."""
    random = np.random.default_rng(5)
    for atoms in frames:
        value, forces = morse(atoms)
        forces = forces + noise * random.choice([-1.0, 1.0], forces.shape)
        labels = {"energy": (value + offset * len(atoms)) * energy, "forces": sign * forces * energy / units.Bohr}
        atoms.calc = SinglePointCalculator(atoms, **labels)
    return frames


def evaluation(directory: Path) -> dict[str, Any]:
    summary: dict[str, Any] = json.loads((directory / "result.json").read_text())["evaluation"]
    return summary


def test_own_labels_give_no_error_and_units_are_converted(pictures: None, program: Program, tmp_path: Path) -> None:
    for unit, value in (("eV", units.Hartree), ("kcal/mol", KCAL), ("hartree", 1.0)):
        write(tmp_path / "data.xyz", labelled(structures(), value), format="extxyz")
        done = program(*WORDS, "data=data.xyz", f"data.energy_unit={unit}")
        assert done.status == 0, done.err
        summary = evaluation(tmp_path / "run")
        assert summary["compared"] == 12 and "left_out" not in summary
        assert summary["energy"]["total"]["largest"] < 1e-4 and summary["forces"]["total"]["largest"] < 1e-3
        assert summary["forces"]["correlation"] == pytest.approx(1.0)
    assert (tmp_path / "run" / "parity.png").stat().st_size > 20_000 and "structures.csv" in done.out


def test_another_energy_zero_is_distinguished_from_noise(program: Program, tmp_path: Path) -> None:
    write(tmp_path / "data.xyz", labelled(structures(), offset=-0.5, noise=0.001), format="extxyz")
    assert program(*WORDS, "data=data.xyz").status == 0
    energy, forces = (evaluation(tmp_path / "run")[key] for key in ("energy", "forces"))
    assert energy["total"]["mae"] == pytest.approx(0.5 * 3 * KCAL, rel=1e-6)  # three atoms on average
    assert energy["total"]["mean"] == pytest.approx(0.5 * 3 * KCAL, rel=1e-6)
    assert energy["shifted"]["rmse"] == pytest.approx(0.5 * (2 / 3) ** 0.5 * KCAL, rel=1e-6)
    assert energy["composition_fitted"]["largest"] < 1e-4 and energy["within_molecules"]["largest"] < 1e-4
    for part in (forces["total"], *forces["by_element"].values()):
        assert part["mae"] == pytest.approx(0.001 * KCAL / units.Bohr, rel=1e-4)
        assert part["rmse"] == pytest.approx(part["mae"], rel=1e-4)
    assert {symbol: part["atoms"] for symbol, part in forces["by_element"].items()} == {"H": 20, "C": 4, "N": 4, "O": 8}


def test_gradients_are_recognised(program: Program, tmp_path: Path) -> None:
    write(tmp_path / "data.xyz", labelled(structures(), sign=-1.0), format="extxyz")
    done = program(*WORDS, "data=data.xyz")
    assert done.status == 2 and "gradients" in done.err and "data.forces.sign=-1" in done.err
    assert not (tmp_path / "run").exists()
    assert program(*WORDS, "data=data.xyz", "data.forces.sign=-1").status == 0
    assert evaluation(tmp_path / "run")["forces"]["total"]["largest"] < 1e-3


@pytest.mark.parametrize(("unit", "value"), [("hartree", 1.0), ("kcal/mol", KCAL), ("kJ/mol", KCAL * 4.184)])
def test_another_unit_is_recognised(program: Program, tmp_path: Path, unit: str, value: float) -> None:
    write(tmp_path / "data.xyz", labelled(structures(), value), format="extxyz")
    done = program(*WORDS, "data=data.xyz")
    assert done.status == 2 and f"data.energy_unit={unit}" in done.err
    assert program(*WORDS, "data=data.xyz", f"data.energy_unit={unit}").status == 0


def test_structures_that_cannot_be_compared_are_counted_and_named(program: Program, tmp_path: Path) -> None:
    frames = labelled(structures(9))
    frames[3].calc = None
    frames[4].calc.results["forces"][0] = np.nan
    frames[5].positions[1] = frames[5].positions[0]
    del frames[6].calc.results["forces"]
    del frames[7].calc.results["energy"]
    write(tmp_path / "data.xyz", frames, format="extxyz")
    done = program(*WORDS, "data=data.xyz")
    assert done.status == 0, done.err
    summary = evaluation(tmp_path / "run")
    assert summary["structures"] == 9 and summary["compared"] == 6
    reasons = {group["first"]: group["reason"] for group in summary["left_out"]}
    assert reasons["H2O #4"] == "no energy and no forces" and "finite" in reasons["CO #5"]
    assert "two nuclei on one spot" in reasons["NH3 #6"]
    assert done.out.count("LEFT OUT") == 3
    with (tmp_path / "run" / "structures.csv").open() as file:
        rows = {row["structure"]: row for row in csv.DictReader(file)}
    assert len(rows) == 9 and rows["H2O #4"]["problem"] and not rows["H2O #4"]["energy_hartree"]
    assert rows["H2O #7"]["energy_hartree"] and not rows["H2O #7"]["forces_mae_hartree_per_bohr"]
    assert rows["CO #8"]["forces_mae_hartree_per_bohr"] and not rows["CO #8"]["label_hartree"]


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        ((), "data=NAME or data=FILE"),
        (("data=good.xyz", "task=energy"), "task=energy reads no data"),
        (("data=nowhere.xyz",), "no file"),
        (("data=bare.xyz",), "no energy and no forces (H2 #1); labels in the file: dft (set data.energy=NAME"),
        (("data=good.xyz", "data.energy_unit=erg"), "eV, hartree, kcal/mol or kJ/mol, not 'erg'"),
        (("data=broken.xyz",), "it has 1 of 3 atoms: the file is cut off"),
        (("data=broken.h5",), "not an HDF5 file"),
    ],
)
def test_wrong_settings_are_refused(program: Program, tmp_path: Path, words: tuple[str, ...], complaint: str) -> None:
    bare = Atoms("H2", [[0, 0, 0], [0, 0, 1]])
    bare.info["dft"] = -1.0
    write(tmp_path / "bare.xyz", bare, format="extxyz")
    write(tmp_path / "good.xyz", labelled(structures(2)), format="extxyz")
    for name in ("broken.xyz", "broken.h5"):
        (tmp_path / name).write_text("3\nProperties=species:S:1:pos:R:3\nO 0 0")
    chosen = {word.partition("=")[0]: word for word in (*WORDS, *words)}
    done = program(*chosen.values())
    assert done.status == 2 and complaint in done.err and done.err.count("\n") == 1, done.err
    assert not (tmp_path / "run").exists()


def test_labels_in_hdf5(program: Program, tmp_path: Path) -> None:
    frames = structures(9)[::3]
    with h5py.File(tmp_path / "data.h5", "w") as file:
        group = file.create_group("set/water")
        group["species"] = np.array([b"O", b"H", b"H"])
        group["coordinates"] = np.array([atoms.positions for atoms in frames])
        group["energies"] = [morse(atoms)[0] for atoms in frames]
        group["forces"] = [-morse(atoms)[1] / units.Bohr for atoms in frames]
    assert program(*WORDS, "data=data.h5", "data.energy_unit=hartree", "data.forces.sign=-1").status == 0
    summary = evaluation(tmp_path / "run")
    assert summary["compared"] == 3 and summary["forces"]["total"]["largest"] < 1e-3


def test_labels_under_other_keys(program: Program, tmp_path: Path) -> None:
    frames = structures(9)[::3]
    for atoms in frames:
        atoms.info["dft"], forces = morse(atoms)
        atoms.arrays["pull"] = forces
    write(tmp_path / "data.xyz", frames, format="extxyz")
    keys = ("data.energy=dft", "data.forces.key=pull", "data.energy_unit=hartree", "data.forces.unit=hartree/bohr")
    assert program(*WORDS, "data=data.xyz", *keys).status == 0
    assert evaluation(tmp_path / "run")["energy"]["total"]["largest"] < 1e-4


def test_a_resumed_evaluation_gives_the_same_result(resumes: Resumes, tmp_path: Path) -> None:
    write(tmp_path / "data.xyz", labelled(structures(12), noise=0.01), format="extxyz")
    (resumed,) = resumes((*WORDS, "data=data.xyz"), Stop("toy.morse:Morse.forward", 3), files=("structures.csv",))
    assert re.search("resuming after [137] of 12", resumed.out), resumed
    (tmp_path / "run" / "parity.png").unlink()
    redraw(tmp_path / "run")
    assert (tmp_path / "run" / "parity.png").is_file()


def test_only_a_part_of_the_split_is_compared(program: Program, tmp_path: Path) -> None:
    write(tmp_path / "one.xyz", labelled(structures(30)), format="extxyz")
    split = ("task.part=test", "data.split.test=8", "data.split.validation=0")
    assert program(*WORDS, "data=one.xyz", *split).status == 0
    summary = evaluation(tmp_path / "run")
    assert summary["compared"] == 8 and summary["part"] == "test"


def test_sources_of_a_mixture_are_counted_apart(program: Program, tmp_path: Path) -> None:
    write(tmp_path / "one.xyz", labelled(structures(30)), format="extxyz")
    write(tmp_path / "two.xyz", labelled(structures(9, seed=1), KCAL, offset=0.3), format="extxyz")
    entries = "data=[one.xyz,{data: two.xyz, energy_unit: kcal/mol}]"
    done = program(*WORDS[:2], entries, "hydra.run.dir=both")
    assert done.status == 0, done.err
    energy = evaluation(tmp_path / "both")["energy"]
    assert energy["counted"] == "composition_fitted", "one of the two has another zero"
    assert energy["composition_fitted"]["largest"] < 1e-4 < energy["total"]["mae"]
    with (tmp_path / "both" / "structures.csv").open() as file:
        assert Counter(row["source"] for row in csv.DictReader(file)) == {"one": 30, "two": 9}
    with (tmp_path / "both" / "molecules.csv").open() as file:
        assert {row["molecule"]: row["structures"] for row in csv.DictReader(file)} == dict.fromkeys(
            ("H2O", "CO", "NH3"), "13"
        )


@pytest.mark.parametrize("factor", [0.25, 1.0, 3.0])
def test_calibration_of_a_known_spread(factor: float) -> None:
    random = np.random.default_rng(2)
    spread = np.exp(random.normal(size=20_000))
    fitted = calibration(spread, factor * spread * random.normal(size=20_000))
    assert fitted["scale"] == pytest.approx(factor, rel=0.02)
    for sigmas, key in ((1.0, "within_1"), (2.0, "within_2")):
        assert fitted[key] == pytest.approx(math.erf(sigmas / factor / math.sqrt(2.0)), abs=0.01)
    for part in fitted["bins"]:
        assert part["rmse_kcal_mol"] == pytest.approx(factor * part["spread_kcal_mol"], rel=0.1)
    assert fitted["rank_correlation"] > 0.4
    unrelated = calibration(spread, random.normal(size=20_000))
    assert abs(unrelated["rank_correlation"]) < 0.03


def copper(number: int = 8) -> list[Atoms]:
    """Strained copper by effective medium theory, with stress labels off by +-1 meV/A^3; the last frame has no stress
    label."""
    random, frames = np.random.default_rng(0), []
    for index in range(number):
        atoms = bulk("Cu", cubic=True)
        atoms.set_cell(atoms.cell @ (np.eye(3) + 0.02 * random.normal(size=(3, 3))), scale_atoms=True)
        atoms.rattle(0.05, rng=random)
        atoms.calc = EMT()
        stress = atoms.get_stress() + 1e-3 * random.choice([-1.0, 1.0], 6)
        labels = {"energy": atoms.get_potential_energy()} | ({"stress": stress} if index < number - 1 else {})
        atoms.calc = SinglePointCalculator(atoms, **labels)
        frames.append(atoms)
    return frames


def test_errors_of_the_stress(program: Program, tmp_path: Path) -> None:
    write(tmp_path / "data.xyz", copper(), format="extxyz")
    emt = ("+method=ase", "method.calculator=emt", *WORDS[1:], "data=data.xyz")
    done = program(*emt)
    assert done.status == 0, done.err
    summary = evaluation(tmp_path / "run")
    assert summary["compared"] == 8 and summary["energy"]["total"]["largest"] < 1e-4
    assert summary["stress"]["structures"] == 7
    for name in ("mae", "rmse", "largest"):
        assert summary["stress"][f"{name}_mev_angstrom3"] == pytest.approx(1.0, rel=1e-4)
    assert "stress, MAE" in done.out and "1 meV/Å³" in done.out and "stress.npz" in done.out
    with (tmp_path / "run" / "structures.csv").open() as file:
        column = [row["stress_mae_hartree_per_bohr3"] for row in csv.DictReader(file)]
    assert column[-1] == "" and float(column[0]) == pytest.approx(1e-3 * units.Bohr**3 / units.Hartree, rel=1e-4)
    with np.load(tmp_path / "run" / "stress.npz") as arrays:
        assert arrays["label"].shape == (7, 3, 3) and arrays["structure"].tolist() == list(range(7))
    done = program(*emt, "data.stress.sign=-1", "hydra.run.dir=other")
    assert done.status == 2 and "Set data.stress.sign=1" in done.err and not (tmp_path / "other").exists()


def test_dipoles_of_molecules_beside_crystals(pictures: None, program: Program, tmp_path: Path) -> None:
    """Bonds of the toy have dipoles in closed form; a crystal has none, even if it has a label."""
    frames = structures(12)
    for atoms in frames:
        vectors = atoms.positions[0] - atoms.positions[1:]
        lengths = np.linalg.norm(vectors, axis=1)[:, None]
        moments = (0.1 + 0.4 * lengths / units.Bohr) * vectors / lengths
        atoms.info |= {"mu": moments.sum(axis=0) * units.Bohr / units.Debye, "zero": 0.0}
    frames[0].info["mu"] = np.full(3, np.nan)
    frames.append(Atoms("CO", [[0, 0, 0], [0, 0, 1.1]], cell=[9, 9, 9], pbc=True, info={"mu": np.ones(3), "zero": 0.0}))
    write(tmp_path / "data.xyz", frames, format="extxyz")
    chosen = ("+method=bonds", *WORDS[1:], "data=data.xyz", "data.energy=zero", "data.dipole.key=mu")
    done = program(*chosen, "data.dipole.unit=debye")
    assert done.status == 0, done.err
    summary = evaluation(tmp_path / "run")
    assert summary["compared"] == 13 and summary["dipole"]["structures"] == 11
    assert summary["dipole"]["largest_debye"] < 1e-5 and "dipoles, MAE" in done.out
    assert (tmp_path / "run" / "parity.png").stat().st_size > 20_000
    with (tmp_path / "run" / "molecules.csv").open() as file:
        assert all(float(row["dipole_mae_debye"]) < 1e-5 for row in csv.DictReader(file))
    done = program(*chosen)
    assert done.status == 2 and "they look like debye. Set data.dipole.unit=debye" in done.err


@pytest.mark.parametrize(
    ("labels", "ratio"), [([0.0, 0.0], None), ([2.0, 4.0], 2.0), ([0.0, 4.0], 2.0), ([2.0, 2.0], None)]
)
def test_labels_of_zero_say_nothing_about_their_unit(labels: list[float], ratio: float | None) -> None:
    predictions: Any = SimpleNamespace(data=SimpleNamespace(energy=labels), energy=np.array([1.0, 2.0]))
    assert Predictions.energy_ratio(predictions) == ratio
