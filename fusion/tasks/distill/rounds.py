"""Stages of a distillation: test, candidates, labels, training. Each leaves files, from which a resumed run goes on."""

from __future__ import annotations

import io
import json
import time
from copy import copy
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from omegaconf import DictConfig, OmegaConf

from fusion import datasets
from fusion.chemistry import structure_sets, units
from fusion.chemistry.system import System
from fusion.console.format import count
from fusion.console.phases import phase
from fusion.datasets import Labelled, naming
from fusion.errors import CalculationError, InputError
from fusion.evaluation.calibration import calibration
from fusion.files.atomic import make_folder, replacing, write_atomically
from fusion.methods import by_name, protocol
from fusion.methods.protocol import Method
from fusion.methods.sums.method import SumMethod
from fusion.potentials import PotentialMethod
from fusion.potentials.training import outcome
from fusion.potentials.training.task import PotentialTraining, fitted
from fusion.runs import trust
from fusion.runs.layout import CHECKPOINT, CONFIG, RESULT
from fusion.runs.results import Origin, Result, write_result
from fusion.tasks.distill.candidates import Explorer
from fusion.tasks.distill.dynamics import spreads
from fusion.tasks.distill.selection import chosen, descriptors
from fusion.tasks.distill.settings import Settings
from fusion.tasks.energy.task import Energies
from fusion.tasks.structures.output import LABELS, write_structures
from fusion.tasks.structures.task import StructuresTask

if TYPE_CHECKING:
    from fusion.runs.run import Run

STUDENT = Path("student")
"""Folder of the last training: fusion zoo add RUN_DIR/student publishes it."""

CHOSEN, GEOMETRIES = "chosen.npy", "geometries.extxyz"
_VALIDATION, _CALIBRATED, _MANY = 0.15, 20, 80
"""Share of the labels for validation; from `_MANY` labels on at least the number that calibrates the spread."""
FEWEST = 4
"""Labels that a training needs at least: two of them are for validation."""
_LABELS = frozenset({"energy", "forces"})


@dataclass(frozen=True)
class Course:
    """Parts that all stages share. `baseline` is the cheaper method of the labels' differences, None without."""

    run: Run
    settings: Settings
    system: System
    student: PotentialMethod
    teacher: Method
    teacher_config: DictConfig
    baseline: Method | None

    def random(self, *place: int) -> np.random.Generator:
        """Random numbers of one stage, which do not depend on where the run was resumed."""
        return np.random.default_rng([abs(self.run.seed), *place])

    def mover(self, student: PotentialMethod, trained: bool) -> Method | None:
        """Source of forces for dynamics: the student if it has learned anything, with the baseline if there is one."""
        if self.baseline is not None:
            return SumMethod.of("student", [self.baseline, student]) if trained else self.baseline
        return student if trained or student.weights is not None else None


def test_set(course: Course) -> Labelled:
    """Return the labelled test, calculated if it is missing."""
    folder = course.run.directory / "test"
    if not (folder / GEOMETRIES).is_file():
        explorer = Explorer(course.system, course.mover(course.student, False), course.settings.temperature_k)
        with phase("test") as bar:
            places = explorer.test(course.settings.test, course.random(0), bar)
        _write(course, folder, places, "test")
    return _labelled(course, [label(course, Path("test"))])


def select(course: Course, number: int, student: PotentialMethod) -> Path:
    """Choose the geometries of round `number` (from 1) and write them; return the folder of the round."""
    folder = Path(f"round-{number}")
    directory = course.run.directory / folder
    if (directory / GEOMETRIES).is_file():
        return folder
    settings, random = course.settings, course.random(number)
    mover = course.mover(student, number > 1)
    share = settings.shares[number - 1]
    with phase("candidates") as bar:
        places = Explorer(course.system, mover, settings.temperature_k).candidates(share, random, bar)
    if settings.selection == "random":
        picked = random.permutation(len(places))[:share]
    else:
        labelled = [np.load(course.run.directory / f"round-{k}" / CHOSEN) for k in range(1, number)]
        before = np.concatenate(labelled) if labelled else places[:0]
        known = descriptors(student, course.system, before) if len(before) else np.zeros((0, 1))
        sizes = np.full(len(places), np.nan) if mover is None else spreads(mover, course.system, places)
        picked = chosen(descriptors(student, course.system, places), sizes, known, share, random)
    _write(course, directory, places[np.sort(picked)], f"round {number}")
    return folder


def train(course: Course, number: int, student: PotentialMethod) -> tuple[PotentialMethod, dict[str, Any]]:
    """Train the student further on all labels up to round `number`; return it with its training's record."""
    folder = Path(f"round-{number}") / STUDENT
    directory = course.run.directory / folder
    labels = _labels(course, number)
    config = _config(course, "train")
    files = [str(course.run.directory / f"round-{k}" / "labels" / LABELS) for k in range(1, number + 1)]
    config.data = naming.node({"data": files[0]})
    config.data.path, config.data.baseline = files, course.settings.baseline
    held_out = max(2, round(_VALIDATION * labels), _CALIBRATED if labels >= _MANY else 0)
    config.data.split.validation, config.data.split.test = held_out, 0
    config.method.training.epochs = course.settings.epochs
    part = course.run.part(folder, config)
    own = directory / CHECKPOINT
    part = replace(part, checkpoint=own if own.is_file() else None)
    _prepare(course, directory, config)
    learner = copy(student)
    learner.training = OmegaConf.to_container(config.method.training)  # type: ignore[assignment]
    began = time.perf_counter()
    plan = PotentialTraining("train").check(learner, course.system, part)
    module = fitted(plan, part)
    result = outcome.finish(module, plan.data, plan.split, part)
    seconds = _first(directory / "seconds.json", time.perf_counter() - began)
    origin = Origin(course.student.name, course.student.kind, course.student.energy_zero, course.student.weights)
    write_result(part, origin, "train", result, seconds)
    calibrated = result.details["training"]["uncertainty"]
    further = course.student.trained_further(
        module.model.eval().requires_grad_(False),
        calibrated.get("limit_hartree_per_sqrt_atom"),
        calibrated.get("factor"),
        (calibrated.get("forces") or {}).get("factor"),
    )
    return further, {
        "structures": len(plan.data),
        "timing": {"training_s": seconds},
        "spread_factor": calibrated.get("factor"),
    }


def judge(course: Course, student: PotentialMethod, test: Labelled, path: Path) -> tuple[dict[str, Any], float]:
    """Errors of the student on the test, in kcal/mol and Angstrom, with its calibration; its seconds for one structure.

    Predictions and labels go to the file `path`.
    """
    systems = [test.system(index) for index in range(len(test))]
    protocol.calculate(student, systems[:1], _LABELS)  # compiles
    began = time.perf_counter()
    results = protocol.calculate(student, systems, _LABELS)
    seconds = (time.perf_counter() - began) / len(systems)
    kcal = units.KCAL_MOL_PER_HARTREE
    energies = np.array([np.nan if r.energy is None else r.energy for r in results])
    forces = np.concatenate([np.asarray(r.properties["forces"]) for r in results])
    assert test.forces is not None
    errors = kcal * (energies - np.asarray(test.energy))
    force_errors = kcal * units.BOHR_PER_ANGSTROM * (forces - np.asarray(test.forces))
    std = kcal * np.array([np.nan if r.energy_std is None else r.energy_std for r in results])
    with replacing(path) as file:
        np.savez(file, energy=energies, label=test.energy, forces=forces, label_forces=test.forces, std=std / kcal)
    return {
        "energy_mae_kcal": float(np.abs(errors).mean()),
        "energy_rmse_kcal": float(np.sqrt(np.square(errors).mean())),
        "forces_mae_kcal_angstrom": float(np.abs(force_errors).mean()),
        "forces_rmse_kcal_angstrom": float(np.sqrt(np.square(force_errors).mean())),
        "calibration": calibration(std, errors),
    }, seconds


def _labels(course: Course, number: int) -> int:
    """Number of labels of the rounds up to `number`; what has not converged is none. Raises CalculationError."""
    files = [course.run.directory / f"round-{k}" / "labels" / RESULT for k in range(1, number + 1)]
    labels = sum(int(json.loads(file.read_text())["structures"]["ok"]) for file in files)
    if labels < FEWEST:
        rounds = f"{number} of {course.settings.rounds} rounds"
        raise CalculationError(
            f"{course.teacher.label} gave {count(labels, 'label')} in {rounds}, and a training needs {FEWEST}"
        )
    return labels


def _first(path: Path, seconds: float) -> float:
    """Return the seconds of the first process that ended a training; a resumed run only reads its checkpoint."""
    if not path.is_file():
        write_atomically(path, json.dumps(seconds))
    return float(json.loads(path.read_text()))


def teacher_seconds(course: Course) -> tuple[int, float]:
    """Number of the teacher's calculations so far, and their seconds in all."""
    number, seconds = 0, 0.0
    for result in sorted(course.run.directory.glob(f"*/labels/{RESULT}")):
        part = json.loads(result.read_text())["structures"]
        number += part["ok"] + part["not_converged"] + part["failed"]
        seconds += part["calculation_s"]
    return number, seconds


def _write(course: Course, directory: Path, places: np.ndarray, name: str) -> None:
    """Write geometries; the extended XYZ file comes last and marks the stage as done."""
    if not len(places):
        raise CalculationError(f"{name}: no geometry with whole bonds was found near {course.system.name}")
    make_folder(directory, course.run.directory)
    buffer = io.BytesIO()
    np.save(buffer, places)
    write_atomically(directory / CHOSEN, buffer.getvalue())
    stem = name.replace(" ", "-")
    named = [(f"{stem}-{k + 1}", Result(course.system.moved(place))) for k, place in enumerate(places)]
    write_structures(directory / GEOMETRIES, named)


def label(course: Course, folder: Path) -> Path:
    """Label the geometries in `folder` by the teacher; return the file. Raises CalculationError without any label."""
    place = folder / "labels"
    directory = course.run.directory / place
    config = _config(course, "label")
    config.system.paths = str(course.run.directory / folder / GEOMETRIES)
    _prepare(course, directory, config)
    part = course.run.part(place, config)
    task = StructuresTask("label", Energies("task distill", _LABELS), labels=True)
    result = task.run(task.check(course.teacher, structure_sets.read(config.system), part), part)
    origin = Origin(course.teacher.name, course.teacher.kind, course.teacher.energy_zero, None)
    write_result(part, origin, "label", result, result.details["structures"]["calculation_s"])
    if not result.details["structures"]["ok"]:
        raise CalculationError(f"{course.teacher.label} has no label for {folder}: {result.message}")
    return directory / LABELS


def _labelled(course: Course, files: list[Path]) -> Labelled:
    node = naming.node({"data": str(files[0])})
    node.path, node.baseline = [str(file) for file in files], course.settings.baseline
    node.check = False
    return datasets.load(node, course.run.start_dir)


def _config(course: Course, task: str) -> DictConfig:
    """Configuration of a part of the run."""
    config: Any = OmegaConf.create(OmegaConf.to_container(course.run.config, resolve=True))
    config.ckpt = None
    if task == "train":
        config.task = {"_target_": "fusion.tasks.train.Train", "name": "train"}
        return config
    teacher = course.teacher_config
    config.method, config.dtype, config.weights = teacher.method, teacher.dtype, teacher.get("weights")
    config.system = {"name": "geometries", "paths": None, "charge": None, "spin": None, "multiplicity": None}
    config.task = {"_target_": "fusion.tasks.label.Label", "name": "label", "properties": sorted(_LABELS)}
    return config


def _prepare(course: Course, directory: Path, config: DictConfig) -> None:
    make_folder(directory, course.run.directory)
    write_atomically(directory / CONFIG, trust.text(config))


def teacher_of(entry: Any, seed: int) -> tuple[Method, DictConfig]:
    """Build the teacher that `task.teacher` names; return it with its configuration. Raises InputError."""
    try:
        plain: Any = OmegaConf.to_container(entry) if OmegaConf.is_config(entry) else entry
        name, options = by_name.parts(plain)
        config: Any = OmegaConf.create(OmegaConf.to_container(by_name.composed(name, options), resolve=True))
        return protocol.build(config.method), config
    except InputError as error:
        raise InputError(f"task.teacher: {error}") from error
