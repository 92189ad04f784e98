"""Students and a teacher: `python benchmarks/distillation.py RUN_DIR ...` writes distillation_TEACHER.md.

The runs are finished ones of `task=distill` for one molecule and one teacher, also with `task.selection=random`. The
table has the errors of every round on geometries of dynamics that were never trained on. With `--vibrations DIRECTORY`,
for files of it, the student of the first run is published, and its vibrations stand beside the teacher's. The teacher
starts at the student's minimum, with its default `conv_tol`: labels tolerate a looser SCF than second derivatives do.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np

from fusion.console.format import duration
from fusion.tasks.relax.relaxation import STRUCTURE
from runs import machine, run, write_table

COLUMNS = (
    "selection",
    "seed",
    "round",
    "labels",
    "energy MAE / kcal/mol",
    "forces MAE / kcal/mol/Å",
    "within 1 σ / %",
    "within 2 σ / %",
)


def document(directory: Path) -> dict[str, Any]:
    """Content of result.json."""
    content: dict[str, Any] = json.loads((directory / "result.json").read_text())
    return content


def rows(directory: Path) -> list[tuple[str, ...]]:
    """One row for every round."""
    content = document(directory)
    part = content["distillation"]
    table = []
    for entry in part["rounds"]:
        within = entry["calibration"]
        calibrated = entry["spread_factor"] is not None
        shares = [
            f"{100 * within[key]:.0f}" + ("" if calibrated else " (not calibrated)") for key in ("within_1", "within_2")
        ]
        first = entry["round"] == 1
        errors = (f"{entry['energy_mae_kcal']:.3f}", f"{entry['forces_mae_kcal_angstrom']:.3f}")
        identity = (part["selection"] if first else "", str(content["settings"]["seed"]) if first else "")
        table.append((*identity, str(entry["round"]), str(entry["structures"]), *errors, *shares))
    return table


def vibrations(directory: Path, run_dir: Path) -> str:
    """Sentence on the frequencies of student and teacher, each at its own minimum."""
    content = document(run_dir)
    settings = content["settings"]
    zoo, student = directory / "zoo", run_dir / content["distillation"]["student"]
    command = [sys.executable, "-m", "fusion", "zoo", "add", str(student), "--name", "student", "--zoo", str(zoo)]
    subprocess.run([*command, "--licence", "MIT"], check=True, env=os.environ)
    os.environ["FUSION_ZOO"] = str(zoo)
    teacher = dict(settings["task"]["teacher"])
    teacher.pop("conv_tol", None)
    words = [f"+method={teacher.pop('method')}", *(f"method.{key}={value}" for key, value in teacher.items())]
    system = f"system={settings['system'].get('path') or settings['system']['name']}"
    by_student = run(
        ("+method=ani", "weights=student", "task=vibrations", system, "dtype=float64"), directory / "student", 1
    )
    minimum = f"system={directory / 'student' / STRUCTURE}"
    by_teacher = run((*words, "task=vibrations", minimum, "executor.workers=2"), directory / "teacher", 1)
    ours, theirs = (np.array(each.result["frequencies_cm1"]) for each in (by_student, by_teacher))
    difference = np.abs(ours - theirs)
    return (
        f"Vibrations of the student at its minimum, beside those of the teacher at its own: mean difference "
        f"{difference.mean():.1f} cm-1, largest {difference.max():.1f} cm-1 of {len(ours)} modes; "
        f"{duration(by_teacher.cpu_s)} of processor time by the teacher, {duration(by_student.cpu_s)} by the student."
    )


def main(runs: list[Path], directory: Path | None) -> None:
    """Write the table."""
    content = document(runs[0])
    part, settings = content["distillation"], content["settings"]
    timing = part["timing"]
    name, task = Path(settings["system"]["name"]).stem, settings["task"]
    teacher = ", ".join(f"{key}: {value}" for key, value in task["teacher"].items())
    aims = [f"task.teacher={{{teacher}}}", *(f"task.{key}={task[key]}" for key in ("budget", "test", "rounds"))]
    aims += [f"task.target.{key}={value:g}" for key, value in (task["target"] or {}).items() if value is not None]
    last = 1e3 * part["rounds"][-1]["timing"]["student_s"]
    notes = (
        f"ANI-2x learns from {part['teacher']} on {name} (`{' '.join(aims)}`; one thread a process, other work beside; "
        f"{machine()}). The test has {part['test']} geometries of dynamics at "
        f"{part['temperature_k']:g} K. {part['labels']} labels of {timing['teacher_s']:.1f} s each, training "
        f"{duration(timing['training_total_s'])}, the whole command {duration(content['timing']['wall_s'])}; the "
        f"student then takes {last:.2g} ms, {timing['speedup']:.0f} times less."
    )
    if directory is not None:
        directory.mkdir(parents=True, exist_ok=True)
        notes += f" {vibrations(directory, runs[0])}"
    output = Path(__file__).with_name(f"distillation_{task['teacher']['method']}.md")
    notes += f"\n\n![Errors of the student]({output.with_suffix('.png').name})"
    shutil.copyfile(runs[0] / "distillation.png", output.with_suffix(".png"))
    table = [cells for each in runs for cells in rows(each)]
    write_table(output, "From teacher to student", notes, COLUMNS, table)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("runs", type=Path, nargs="+")
    parser.add_argument("--vibrations", type=Path)
    given = parser.parse_args()
    main(given.runs, given.vibrations)
