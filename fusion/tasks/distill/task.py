"""task=distill: a potential learns from a teacher, a method of any kind, in rounds of choice, labels and training."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fusion.console.format import count, duration, line
from fusion.errors import InputError
from fusion.files.atomic import write_atomically
from fusion.methods import protocol
from fusion.parallel import processes
from fusion.potentials import PotentialMethod
from fusion.runs.results import Result
from fusion.runs.task import Plan, Title
from fusion.tasks.distill.settings import Settings

if TYPE_CHECKING:
    from fusion.chemistry.system import System
    from fusion.methods.protocol import Method
    from fusion.runs.run import Run
    from fusion.tasks.distill.rounds import Course

CURVE, PICTURE = "curve.json", "distillation.png"

ENOUGH = 0.5
"""Share of the test that must have labels for a target to be reached: what the teacher cannot calculate is hard for the
student too."""

_SOURCES = {"dynamics": "of dynamics", "displacements": "displaced along the modes of a model Hessian"}


@dataclass(frozen=True)
class DistillPlan(Plan):
    """Distillation that has been checked."""

    course: Course


class Distill:
    """Trains the method's potential, the student, on labels of a teacher; conf/task/distill.yaml has the settings."""

    needs = frozenset({"energy", "forces"})

    def __init__(self, name: str = "distill", **settings: Any) -> None:
        self.name, self._values = name, settings

    def check(self, method: Method, system: System, run: Run) -> DistillPlan:
        """Raise InputError for a student that is no potential, a teacher without forces, or wrong settings."""
        from fusion.methods import by_name
        from fusion.tasks.distill.rounds import Course, teacher_of
        from fusion.tasks.geometry.bonds import Bonds

        settings = Settings.read(self._values)
        if not isinstance(method, PotentialMethod):
            raise InputError(f"task={self.name} trains a potential, such as +method=ani; {method.name} is none")
        if any(system.pbc) or not len(Bonds.of(system).pairs):
            raise InputError(f"task={self.name} needs one molecule with bonds; {system.name} is none")
        protocol.require(method, self.needs, f"task {self.name}", [system])
        teacher, config = teacher_of(settings.teacher, run.seed)
        protocol.require(teacher, self.needs, f"the teacher of task {self.name}", [system])
        baseline = None
        if settings.baseline is not None:
            baseline = by_name.method(settings.baseline)
            protocol.require(baseline, self.needs, "task.baseline", [system])
        course = Course(run, settings, system, method, teacher, config, baseline)
        return DistillPlan(method, system, course)

    def title(self, plan: DistillPlan, run: Run) -> Title:
        """Student, teacher, system and budget."""
        from fusion.runs.report import title_of

        settings = plan.course.settings
        learns = f"learns from {plan.course.teacher.label}"
        notes = (
            f"at most {count(settings.budget, 'label')}: {settings.test} for the test, {settings.rounds} rounds of "
            f"about {settings.shares[0]}, at up to {1.3 * settings.temperature_k:.0f} K",
        )
        return (plan.method.label, learns, title_of(plan.system), self.name), notes

    def run(self, plan: DistillPlan, run: Run) -> Result:
        """Run the rounds that are left; every stage that is done is read from its files."""
        from dataclasses import replace

        from fusion.tasks.distill import rounds

        if processes.rank() != 0:
            return Result(plan.system)
        course = replace(plan.course, run=run)
        settings = course.settings
        test = rounds.test_set(course)
        student, curve, reached = course.student, [], False
        for number in range(1, settings.rounds + 1):
            folder = rounds.select(course, number, student)
            rounds.label(course, folder)
            student, record = rounds.train(course, number, student)
            errors, seconds = rounds.judge(course, student, test, run.directory / folder / "test.npz")
            record["timing"]["student_s"] = seconds
            curve.append({"round": number, **record, **errors})
            line(f"round {number}", _described(curve[-1]))
            write_atomically(run.directory / CURVE, json.dumps(curve, indent=1))
            reached = settings.target.reached(errors) and enough(settings, len(test))
            if reached:
                break
        return self._result(course, curve, reached, len(test))

    def _result(self, course: Course, curve: list[dict[str, Any]], reached: bool, tested: int) -> Result:
        from fusion.tasks.distill import rounds

        last, settings = curve[-1], course.settings
        number, seconds = rounds.teacher_seconds(course)
        details: dict[str, Any] = {
            "teacher": course.teacher.label,
            "baseline": None if course.baseline is None else course.baseline.label,
            "selection": settings.selection,
            "temperature_k": settings.temperature_k,
            "labels": number,
            "test": tested,
            "test_from": "displacements" if course.mover(course.student, False) is None else "dynamics",
            "rounds": curve,
            "timing": {
                "teacher_s": seconds / max(1, number),
                "teacher_total_s": seconds,
                "training_total_s": sum(part["timing"]["training_s"] for part in curve),
                "speedup": seconds / max(1, number) / last["timing"]["student_s"],
            },
            "student": f"round-{last['round']}/{rounds.STUDENT}",
        }
        lack = shortfall(settings, reached, tested)
        if lack:
            message = f"{_described(last)} after {count(number, 'label')}, {lack}"
            return Result(course.system, "not_converged", details={"distillation": details}, message=message)
        where = f"{_SOURCES[details['test_from']]} at {settings.temperature_k:g} K"
        tests = f"{tested} geometries" if tested == settings.test else f"{tested} of {settings.test} geometries"
        details["verdict"] = f"{_described(last)} on {tests} {where}"
        return Result(course.system, details={"distillation": details})

    @staticmethod
    def rows(document: dict[str, Any]) -> Iterator[list[str]]:
        """Yield the errors of every round, the calibration and the costs."""
        part = document.get("distillation")
        if not part:
            return
        for entry in part["rounds"]:
            yield [f"round {entry['round']}", f"{entry['structures']} labels", _described(entry)]
        last = part["rounds"][-1]
        if last["calibration"]["structures"]:
            one, two = (100 * last["calibration"][key] for key in ("within_1", "within_2"))
            state = "" if last["spread_factor"] else ", not calibrated: too few labels"
            shares = f"{one:.0f} % within 1 σ, {two:.0f} % within 2 σ"
            yield ["spread", shares, f"errors on the test (normal: 68, 95){state}"]
        timing = part["timing"]
        labels = f"{part['labels']} labels in {duration(timing['teacher_total_s'])}"
        yield ["teacher", f"{duration(timing['teacher_s'])} each", labels]
        times = f"{timing['speedup']:.3g} times as fast, trained in {duration(timing['training_total_s'])}"
        yield ["student", f"{1e3 * last['timing']['student_s']:.2g} ms each", times]
        yield ["publish", f"fusion zoo add RUN_DIR/{part['student']} --name NAME"]

    @staticmethod
    def draw(directory: Path) -> None:
        """Draw `distillation.png`: errors against the number of labels, and the test."""
        from fusion.tasks.distill import plot

        if (directory / CURVE).is_file():
            plot.draw(directory, directory / CURVE, directory / PICTURE)

    @staticmethod
    def stands(directory: Path) -> str | None:
        """Describe the last finished round."""
        if not (directory / CURVE).is_file():
            return None
        entry = json.loads((directory / CURVE).read_text())[-1]
        return f"round {entry['round']}: {_described(entry)}"


def enough(settings: Settings, tested: int) -> bool:
    """True if the test has the labels that a target needs."""
    return tested >= ENOUGH * settings.test


def shortfall(settings: Settings, reached: bool, tested: int) -> str:
    """Reason why a stated target is not reached; empty if it is, or if there is none."""
    if reached or all(value is None for value in vars(settings.target).values()):
        return ""
    if not enough(settings, tested):
        return f"but the test has only {tested} of {count(settings.test, 'label')}"
    return "above the target"


def _described(entry: dict[str, Any]) -> str:
    """Mean absolute errors of a round."""
    energy, forces = entry["energy_mae_kcal"], entry["forces_mae_kcal_angstrom"]
    if not math.isfinite(energy):
        return "no finite energy"
    return f"E {energy:.3f} kcal/mol, F {forces:.3f} kcal/mol/Å mean absolute"
