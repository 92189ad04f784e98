"""Distillation: geometries, dynamics, choice, and whole runs that are killed at every stage."""

from __future__ import annotations

import json
import tomllib
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from ase.build import molecule

from fusion.chemistry import units
from fusion.chemistry.structures import from_atoms
from fusion.chemistry.system import System
from fusion.errors import CalculationError
from fusion.runs.results import Result
from fusion.tasks.distill.dynamics import frames
from fusion.tasks.distill.rounds import train
from fusion.tasks.distill.selection import chosen
from fusion.tasks.distill.settings import Settings
from fusion.tasks.distill.task import enough, shortfall
from fusion.tasks.geometry.bonds import Bonds, displaced, scales, turned
from fusion.tasks.geometry.normal_modes import normal_modes
from processes import Program
from resuming import Resumes, Stop

ETHANOL = from_atoms(molecule("CH3CH2OH"))
SMALL = (
    "+method=ani", "weights=null", "trainer=cpu", "dtype=float64", "method.model.members=2",
    "method.model.hidden={H: [6, 5], C: [6], N: [6], O: [6, 5], S: [6], F: [6], Cl: [6]}",
    "method.model.angular_shifts=[0.8, 1.6]", "method.model.angle_shifts=[0.4, 1.6, 2.8]",
)  # fmt: skip
DISTILL = (
    *SMALL, "task=distill", "task.teacher={method: morse}", "system=h2o", "task.budget=26", "task.test=6",
    "task.rounds=2", "task.epochs=3", "hydra.run.dir=run",
)  # fmt: skip


class Springs:
    """Method of springs between every atom and its place, hartree/bohr^2, with a spread that grows with distance."""

    name, kind, label, energy_zero = "springs", "conventional", "springs", "total"
    provides = frozenset({"energy", "forces", "hessian"})

    def __init__(self, places: np.ndarray, constant: float = 0.3) -> None:
        self.places, self.constant = places, constant

    def calculate(self, systems: Any, properties: Any) -> list[Result]:
        results = []
        for system in systems:
            moved = system.positions - self.places
            energy = 0.5 * self.constant * float(np.square(moved).sum())
            hessian = self.constant * np.eye(moved.size)
            more = {"forces": -self.constant * moved, "hessian": hessian}
            results.append(Result(system, energy=energy, energy_std=1e-3 * float(np.abs(moved).max()), properties=more))
        return results


def test_ethanol_turns_about_two_bonds() -> None:
    bonds = Bonds.of(ETHANOL)
    assert len(bonds.pairs) == 8
    turning = {frozenset((a, b)): {ETHANOL.symbols[atom] for atom in beyond} for a, b, beyond in bonds.rotatable}
    names = {"".join(sorted(ETHANOL.symbols[atom] for atom in pair)) for pair in turning}
    assert names == {"CC", "CO"}
    for places in turned(bonds, 5, np.random.default_rng(0)):
        lengths = np.linalg.norm(places[bonds.pairs[:, 0]] - places[bonds.pairs[:, 1]], axis=1)
        np.testing.assert_allclose(lengths, bonds.lengths, atol=1e-9)
        assert np.abs(places - ETHANOL.positions).max() > 0.5


def test_rings_and_lone_atoms_do_not_turn() -> None:
    assert Bonds.of(from_atoms(molecule("C6H6"))).rotatable == []
    assert Bonds.of(from_atoms(molecule("CH4"))).rotatable == []


def test_broken_bonds_and_clashes_are_found() -> None:
    bonds = Bonds.of(ETHANOL)
    broken, crushed = ETHANOL.positions.copy(), ETHANOL.positions.copy()
    broken[-1] += 5.0
    far = int(np.argmax(np.linalg.norm(crushed - crushed[-1], axis=1)))
    crushed[far] = crushed[-1] + 0.3
    assert bonds.intact(np.stack((ETHANOL.positions, broken, crushed))).tolist() == [True, False, False]


def test_displacements_have_the_energy_of_their_temperature() -> None:
    """Half k T in each vibration on average."""
    springs = Springs(ETHANOL.positions)
    modes = normal_modes(springs.constant * np.eye(27), ETHANOL.positions, ETHANOL.nuclear_masses)
    places = displaced(ETHANOL.positions, scales(modes), 300.0, 4000, np.random.default_rng(1))
    energies = 0.5 * springs.constant * np.square(places - ETHANOL.positions).sum(axis=(1, 2))
    expected = 0.5 * 21 * 300.0 * units.HARTREE_PER_KELVIN
    assert energies.mean() == pytest.approx(expected, rel=0.03)


def test_dynamics_has_its_temperature_and_stops_where_bonds_break() -> None:
    """The potential energy of springs is 3 A k T / 2 on average."""
    springs, bonds = Springs(ETHANOL.positions, 0.5), Bonds.of(ETHANOL)
    starts = displaced(ETHANOL.positions, np.eye(27) / np.sqrt(0.5), 400.0, 40, np.random.default_rng(4))
    found = frames(springs, bonds, starts, (400.0, 400.0), 1200, 30, np.random.default_rng(2), lambda step: None)
    energies = 0.25 * np.square(found - ETHANOL.positions).sum(axis=(1, 2))
    assert energies.mean() == pytest.approx(0.5 * 27 * 400.0 * units.HARTREE_PER_KELVIN, rel=0.05)
    hot = frames(springs, bonds, starts, (2e4, 2e4), 400, 10, np.random.default_rng(3), lambda step: None)
    assert len(hot) < 40 * 40 and bonds.intact(hot).all()
    limited = frames(springs, bonds, starts, (400.0, 400.0), 400, 10, np.random.default_rng(2), lambda step: None, 1e-6)
    assert len(limited) == 0  # the spread exceeds its limit at once


def test_the_choice_is_uncertain_and_spread_out() -> None:
    vectors = np.array([[0.0], [0.1], [5.0], [9.0], [9.1], [20.0]])
    spreads = np.array([3.0, 3.0, 3.0, 3.0, 0.1, 0.1])
    picked = chosen(vectors, spreads, np.array([[0.0]]), 2, np.random.default_rng(0))
    assert sorted(picked.tolist()) == [2, 3]  # far from 0, and certain ones are left out
    unknown = chosen(vectors, np.full(6, np.nan), np.array([[0.0]]), 1, np.random.default_rng(0))
    assert unknown.tolist() == [5]


@pytest.mark.slow
def test_a_student_learns_from_its_teacher(pictures: None, program: Program, tmp_path: Path) -> None:
    done = program(*DISTILL)
    assert done.status == 0, done
    document = json.loads((tmp_path / "run" / "result.json").read_text())["distillation"]
    assert "on 6 geometries displaced along the modes of a model Hessian at 500 K" in done.out
    assert document["labels"] == 26 and [entry["structures"] for entry in document["rounds"]] == [10, 20]
    assert document["teacher"] == "morse, untrained" and document["timing"]["teacher_total_s"] > 0
    assert (tmp_path / "run" / "distillation.png").stat().st_size > 10_000
    added = program("zoo", "add", "run/round-2/student", "--name", "student", "--zoo", "zoo", "--licence", "MIT")
    assert added.status == 0, added
    card = tomllib.loads((tmp_path / "zoo" / "student-1.toml").read_text())
    assert card["training"] == {"data": "labels.extxyz", "level_of_theory": document["teacher"]}
    with np.load(tmp_path / "run" / "round-2" / "test.npz") as test:
        errors = units.KCAL_MOL_PER_HARTREE * np.abs(test["energy"] - test["label"])
    assert document["rounds"][-1]["energy_mae_kcal"] == pytest.approx(errors.mean())


@pytest.mark.slow
def test_a_run_killed_at_every_stage_ends_as_an_uninterrupted_one(resumes: Resumes) -> None:
    place = "fusion.tasks.distill"
    stops = (
        Stop(f"{place}.rounds:select", 0),
        Stop(f"{place}.selection:chosen", 0),
        Stop("fusion.tasks.structures.records:Records.add", 0),
        Stop(f"{place}.rounds:judge", 0),
        Stop("fusion.potentials.training.outcome:finish", 1),
    )
    resumes(DISTILL, *stops, files=("round-2/geometries.extxyz", "round-2/labels/labels.extxyz"), note="")


@pytest.mark.slow
def test_differences_to_a_baseline_are_learned(program: Program, tmp_path: Path) -> None:
    words = [word for word in DISTILL if "teacher" not in word]
    teacher = "task.teacher={method: morse, model.depth: 0.2}"
    done = program(*words, teacher, "task.baseline={method: morse, dtype: float64}")
    assert done.status == 0, done
    document = json.loads((tmp_path / "run" / "result.json").read_text())["distillation"]
    assert document["baseline"] == "morse, untrained"
    assert document["rounds"][-1]["energy_mae_kcal"] < 20


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("task.teacher=null",), "task.teacher is missing"),
        (("task.teacher=nobody",), "task.teacher: no method 'nobody'"),
        (("task.teacher=ferminet",), "the teacher of task distill needs exact forces"),
        (("task.budget=20",), "task.budget=20 is too small"),
        (("task.selection=best",), "task.selection must be uncertain or random"),
        (("task.temperature_k=0",), "task.temperature_k must be a positive number"),
        (("task.target={energy_kcal: -1}",), "task.target.energy_kcal must be a positive number"),
        (("system=he",), "needs one molecule with bonds"),
    ],
)
def test_refusals(program: Program, tmp_path: Path, words: tuple[str, ...], message: str) -> None:
    keys = {word.partition("=")[0] for word in words}
    done = program(*(word for word in DISTILL if word.partition("=")[0] not in keys), *words)
    assert done.status == 2 and message in done.err and not (tmp_path / "run").exists(), done


@pytest.mark.slow
def test_a_target_that_is_missed_is_said(program: Program) -> None:
    done = program(*DISTILL, "task.target.energy_kcal=1e-6")
    assert done.status == 1 and "NOT CONVERGED" in done.out and "above the target" in done.out


def test_a_target_needs_a_test_with_labels() -> None:
    settings = settings_of(target={"energy_kcal": 1.0}, test=50)
    assert not enough(settings, 3) and shortfall(settings, False, 3) == "but the test has only 3 of 50 labels"
    assert enough(settings, 40) and shortfall(settings, True, 40) == ""
    assert shortfall(settings, False, 40) == "above the target"
    assert shortfall(settings_of(target={}, test=50), False, 3) == ""  # the verdict has the number


def settings_of(**values: Any) -> Settings:
    others = {"teacher": "hf", "budget": 300, "test": 50, "rounds": 4, "temperature_k": 500.0, "selection": "random"}
    return Settings.read({**others, "epochs": 3, "target": None, "baseline": None, **values})


def test_a_round_without_labels_is_said(tmp_path: Path) -> None:
    place = tmp_path / "round-1" / "labels"
    place.mkdir(parents=True)
    (place / "result.json").write_text('{"structures": {"ok": 3}}')
    course: Any = SimpleNamespace(
        run=SimpleNamespace(directory=tmp_path), settings=settings_of(), teacher=SimpleNamespace(label="HF/sto-3g")
    )
    with pytest.raises(CalculationError, match="HF/sto-3g gave 3 labels in 1 of 4 rounds, and a training needs 4"):
        train(course, 1, None)  # type: ignore[arg-type]


def test_only_a_potential_learns(program: Program) -> None:
    done = program("+method=hf", "task=distill", "task.teacher=dft", "system=h2o")
    assert done.status == 2 and "trains a potential, such as +method=ani; hf is none" in done.err


def test_one_water_is_no_chain() -> None:
    water = System("w", ("O", "H", "H"), np.array([[0.0, 0, 0], [1.8, 0, 0], [-0.5, 1.7, 0]]))
    bonds = Bonds.of(water)
    assert len(bonds.pairs) == 2 and turned(bonds, 3, np.random.default_rng(0)).shape == (3, 3, 3)
