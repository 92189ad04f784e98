"""Many structures: reading, processes that share them and die, relaxation together, labels for training, refusals."""

from __future__ import annotations

import csv
import json
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import Future
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
from ase import Atoms
from ase.io import read, write

from fusion.chemistry import structure_sets
from fusion.chemistry.system import System
from fusion.datasets import load
from fusion.runs.results import Result
from fusion.tasks.structures import executors
from fusion.tasks.structures.executors import share
from fusion.tasks.structures.output import write_structures
from processes import Done, Program, Running, fusion

BOHR = 0.529177210903
MORSE = ("+method=morse", "hydra.run.dir=run")
WATER = np.array([[0.0, 0, 0.12], [0, 0.76, -0.48], [0, -0.76, -0.48]])


def shaken(number: int, seed: int = 0) -> list[Atoms]:
    """Water and hydrogen molecules out of equilibrium, in turn."""
    generator = np.random.default_rng(seed)
    frames = []
    for index in range(number):
        if index % 3:
            frames.append(Atoms("OH2", WATER + generator.normal(0, 0.08, (3, 3))))
        else:
            frames.append(Atoms("H2", [[0, 0, 0], [0, 0, 0.7 + 0.1 * generator.random()]]))
    return frames


def document(directory: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((directory / "result.json").read_text())
    return content


def table(directory: Path) -> list[dict[str, str]]:
    with (directory / "structures.csv").open() as file:
        return list(csv.DictReader(file))


def test_a_set_has_every_structure_with_its_state_or_the_reason(tmp_path: Path) -> None:
    one, two = tmp_path / "a.xyz", tmp_path / "b.extxyz"
    write(one, Atoms("H2", [[0, 0, 0], [0, 0, 0.74]]), format="xyz")
    two.write_text(
        "1\nname=ion charge=1\nLi 0 0 0\n1\nmultiplicity=3\nO 0 0 0\n2\n\nH 0 0 0\nH 0 0\n1\ncharge=0.5\nH 0 0 0\n"
    )
    found = structure_sets.read({"paths": str(tmp_path)})
    assert [entry.name for entry in found.entries] == ["a", "ion", "b-2", "b-3", "b-4"]
    assert [(s.formula, s.charge, s.spin) for s in found.systems] == [("H2", 0, 0), ("Li", 1, 0), ("O", 0, 2)]
    assert "column" in found.entries[3].reason and "0.5" in found.entries[4].reason
    assert len(structure_sets.read({"paths": str(tmp_path / "*.xyz")})) == 1
    assert structure_sets.read({"paths": str(one), "charge": 1}).systems[0].charge == 1


def test_energies_of_all_go_into_one_file_and_one_table(program: Program, tmp_path: Path) -> None:
    write(tmp_path / "many.xyz", shaken(9))
    done = program(*MORSE, "systems=many.xyz")
    assert done.status == 0 and "9 of 9" in done.out
    frames = read(tmp_path / "run" / "structures.extxyz", ":")
    for frame, row, start in zip(frames, table(tmp_path / "run"), shaken(9), strict=True):
        single = program("+method=morse", f"system={_file(tmp_path, start)}", "hydra.run.dir=single")
        assert single.status == 0
        expected = document(tmp_path / "single")
        assert float(row["energy_hartree"]) == pytest.approx(expected["energy"]["value"], abs=1e-9)
        assert frame.get_potential_energy() / 27.211386245988 == pytest.approx(float(row["energy_hartree"]), abs=1e-8)
        forces = np.array(expected["forces_hartree_per_bohr"]) * 27.211386245988 / BOHR
        np.testing.assert_allclose(frame.get_forces(), forces, atol=1e-5)
    assert "system" not in document(tmp_path / "run") and document(tmp_path / "run")["structures"]["ok"] == 9
    assert "9 structures of" in program("report", "run").out


def _file(folder: Path, atoms: Atoms) -> Path:
    write(folder / "single.xyz", atoms)
    return folder / "single.xyz"


def test_names_are_unique(tmp_path: Path) -> None:
    file = tmp_path / "many.extxyz"
    file.write_text("".join(f"1\nname={name}\nHe 0 0 0\n" for name in ("a", "a", "a-1", "b")))
    names = [entry.name for entry in structure_sets.read({"paths": str(file)}).entries]
    assert names[2:] == ["a-1", "b"] and len(set(names)) == 4


def test_an_empty_file_of_a_folder_is_counted(tmp_path: Path) -> None:
    write(tmp_path / "b.xyz", shaken(1))
    (tmp_path / "a.xyz").touch()
    (tmp_path / "notes.md").write_text("# Notes\n")
    (tmp_path / "empty.txt").touch()
    first = structure_sets.read({"paths": str(tmp_path)}).entries[0]
    assert (first.name, first.system, first.reason) == ("a", None, "the file holds no structure")


@pytest.mark.parametrize("resumed", [False, True])
def test_records_of_other_structures_are_not_taken(program: Program, tmp_path: Path, resumed: bool) -> None:
    """A file that changes between two commands would give the new structures the results of the previous ones."""
    write(tmp_path / "many.xyz", shaken(3))
    words = (*MORSE, "task=label", "systems=many.xyz")
    assert program(*words).status == 0
    labels = (tmp_path / "run" / "labels.extxyz").read_text()
    write(tmp_path / "many.xyz", shaken(5, seed=1))
    if resumed:
        assert program("resume", "run").status == 0  # a finished run has its result
        (tmp_path / "run" / "result.json").unlink()
        done = program("resume", "run")
    else:
        done = program(*words)
    assert done.status == 2 and "many.xyz' has changed since the run began" in done.err, done
    assert (tmp_path / "run" / "labels.extxyz").read_text() == labels
    write(tmp_path / "many.xyz", shaken(3))
    assert program(*words).status == 0 and (tmp_path / "run" / "labels.extxyz").read_text() == labels


@pytest.mark.slow
def test_workers_share_a_directory_and_the_killed_one_loses_nothing(
    environment: dict[str, str], tmp_path: Path
) -> None:
    """Three commands on one directory, two of them killed: every structure has one record, as one worker gives it."""
    write(tmp_path / "many.xyz", shaken(24))
    words = ("+method=morse", "task=label", "systems=many.xyz", "method.model.seconds=0.15", "method.batch_size=1")
    words = (*words, "hydra.run.dir=run")
    running = [Running(words, tmp_path, environment) for _ in range(3)]
    _wait_for(lambda: _recorded(tmp_path / "run") >= 4)
    for one in running[:2]:
        one.kill()
    ends = [one.done() for one in running]
    assert [done.status for done in ends] == [-9, -9, 0], ends
    counts = Counter(line["index"] for line in _lines(tmp_path / "run") if "index" in line)
    assert counts == Counter(range(24))
    assert fusion(tmp_path, *words[:-1], "hydra.run.dir=alone", environment=environment).status == 0
    assert (tmp_path / "run" / "labels.extxyz").read_text() == (tmp_path / "alone" / "labels.extxyz").read_text()
    again = fusion(tmp_path, *words, environment=environment)  # the same command prints the result
    assert again.status == 0 and "24 of 24" in again.out
    other = fusion(tmp_path, *words, "method.model.depth=0.2", environment=environment)
    assert (
        other.status == 2 and "belongs to another calculation of many structures (its method is different)" in other.err
    )


def _lines(directory: Path) -> list[dict[str, Any]]:
    files = (directory / "records").glob("*.jsonl")
    return [json.loads(line) for file in files for line in file.read_text().split("\n")[:-1]]


def _recorded(directory: Path) -> int:
    return sum("index" in line for line in _lines(directory))


def _wait_for(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 120
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


@pytest.mark.slow
@pytest.mark.parametrize(
    "words",
    [
        ("executor.workers=2",),
        ("executor=other", "executor._target_=concurrent.futures.ProcessPoolExecutor", "executor.workers=2"),
        ("executor=submitit", "executor.cluster=local", "executor.workers=2"),
    ],
)
def test_executors_start_workers(environment: dict[str, str], tmp_path: Path, words: tuple[str, ...]) -> None:
    if "submitit" in words[0]:
        pytest.importorskip("submitit")
    write(tmp_path / "many.xyz", shaken(6))
    # The usual test processes may not start processes, as this executor does.
    command = [sys.executable, "-m", "fusion", *MORSE, "task=label", "systems=many.xyz", *words]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0 and "2 workers with" in done.stdout, done
    workers = {line["worker"] for line in _lines(tmp_path / "run") if "index" in line}
    assert workers and all(worker.split("-")[-1].isdecimal() for worker in workers)
    assert len(read(tmp_path / "run" / "labels.extxyz", ":")) == 6


def test_workers_without_a_group_executor_are_those_of_this_machine(
    environment: dict[str, str], tmp_path: Path
) -> None:
    write(tmp_path / "many.xyz", [Atoms("H2", [[0, 0, 0], [0, 0, length]]) for length in (0.7, 0.74)])
    command = [sys.executable, "-m", "fusion", "+method=hf", "method.basis=sto-3g", "systems=many.xyz", "~executor"]
    threads = {"OMP_NUM_THREADS": "1"}  # hence a worker for each core
    done = subprocess.run(command, cwd=tmp_path, env=environment | threads, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0 and "all 2 structures" in done.stdout, done


class Uncancellable(Future[str]):
    """Future like Parsl's."""

    def cancel(self) -> bool:
        raise NotImplementedError


class Elsewhere:
    """Executor whose jobs stay queued."""

    ended: ClassVar[list[bool]] = []

    def submit(self, *call: Any) -> Uncancellable:
        return Uncancellable()

    def shutdown(self, wait: bool = True) -> None:
        self.ended.append(wait)


def test_an_executor_without_cancellation_is_shut_down(tmp_path: Path) -> None:
    workers = executors.Workers({"_target_": f"{__name__}.Elsewhere"}, tmp_path, share(2, batched=False))
    assert not workers.over and not workers.failure()
    workers.stop()
    assert Elsewhere.ended == [False]


def test_structures_relax_together_as_each_does_alone(program: Program, tmp_path: Path) -> None:
    # near the minimum, because paths that lead over barriers depend on rounding
    frames, generator = shaken(5), np.random.default_rng(0)
    for frame in (frames[1], frames[2], frames[4]):
        noise = generator.normal(0, 0.05, (3, 3))
        frame.positions = np.array([[0, 0, 0], [0, 0.88, 0.37], [0, 0.88, -0.37]]) + noise
    frames[1].info["name"] = "held"
    held = frames[1].copy()
    from ase.constraints import FixAtoms

    held.set_constraint(FixAtoms([0]))
    frames[1] = held
    write(tmp_path / "many.xyz", frames)
    done = program(*MORSE, "task=relax", "task.fmax=1e-5", "dtype=float64", "systems=many.xyz")
    assert done.status == 0, done
    rows, ends = table(tmp_path / "run"), read(tmp_path / "run" / "structures.extxyz", ":")
    for index, (row, end) in enumerate(zip(rows, ends, strict=True)):
        alone = program(
            "+method=morse", "task=relax", "task.fmax=1e-5", "dtype=float64", "system=many.xyz",
            f"system.frame={index}", f"hydra.run.dir=alone{index}",
        )  # fmt: skip
        assert alone.status == 0
        expected = document(tmp_path / f"alone{index}")
        assert float(row["energy_hartree"]) == pytest.approx(expected["energy"]["value"], abs=1e-8)
        assert int(row["steps"]) <= expected["relaxation"]["steps"]
        there = Atoms(end.symbols, expected["system"]["positions"])
        np.testing.assert_allclose(end.get_all_distances(), there.get_all_distances(), atol=2e-4)
    np.testing.assert_allclose(ends[1].positions[0], frames[1].positions[0], atol=1e-7)


def test_vibrations_of_all_are_columns(program: Program, tmp_path: Path) -> None:
    write(tmp_path / "many.xyz", shaken(3))
    assert program(*MORSE, "task=vibrations", "systems=many.xyz").status == 0
    rows = table(tmp_path / "run")
    assert [len(row["frequencies_cm1"].split()) for row in rows] == [1, 3, 3]
    assert (
        program("+method=morse", "task=vibrations", "system=many.xyz", "system.frame=1", "hydra.run.dir=one").status
        == 0
    )
    expected = document(tmp_path / "one")
    np.testing.assert_allclose(
        [float(value) for value in rows[1]["frequencies_cm1"].split()], expected["frequencies_cm1"], atol=0.5
    )
    assert float(rows[1]["gibbs_hartree"]) == pytest.approx(expected["thermochemistry"]["gibbs_hartree"], abs=1e-6)


def test_labels_are_read_as_they_are(program: Program, tmp_path: Path) -> None:
    write(tmp_path / "many.xyz", shaken(6))
    assert program(*MORSE, "task=label", "systems=many.xyz").status == 0
    data = load({"path": str(tmp_path / "run" / "labels.extxyz"), "check": False}, tmp_path)
    energies = [float(row["energy_hartree"]) for row in table(tmp_path / "run")]
    np.testing.assert_allclose(data.energy, energies, atol=1e-9)
    assert data.forces is not None and data.energy_zero == "total"
    assert "the file states the level of theory morse, untrained" in data.report.checks


def test_stresses_are_labels(tmp_path: Path) -> None:
    stress = 1e-3 * np.array([[1.0, 0.1, 0.2], [0.1, 2.0, 0.3], [0.2, 0.3, 3.0]])
    crystal = System("h", ("H",), np.zeros((1, 3)), spin=1, cell=6.0 * np.eye(3), pbc=(True, True, True))
    result = Result(crystal, energy=-0.5, properties={"forces": np.zeros((1, 3)), "stress": stress})
    write_structures(tmp_path / "labels.extxyz", [("h", result)])
    data = load({"path": str(tmp_path / "labels.extxyz"), "check": False}, tmp_path)
    assert data.stress is not None
    np.testing.assert_allclose(data.stress[0], stress, rtol=1e-9)
    frame = read(tmp_path / "labels.extxyz")
    np.testing.assert_allclose(frame.get_stress(voigt=False), stress * 27.211386245988 / BOHR**3, rtol=1e-8)


def test_energies_without_convergence_are_no_labels(tmp_path: Path) -> None:
    hydrogen = System("h", ("H", "H"), np.array([[0.0, 0, 0], [0, 0, 1.4]]))
    results = [Result(hydrogen, status, energy=-1.1) for status in ("ok", "not_converged", "failed")]
    write_structures(tmp_path / "structures.extxyz", [("h", result) for result in results])
    data = load({"path": str(tmp_path / "structures.extxyz"), "check": False}, tmp_path)
    assert len(data) == 1
    assert [reason.split(",")[1].strip() for _, reason in data.report.left_out] == ["not_converged", "failed"]


def test_reasons_to_doubt_a_label_are_in_its_files(program: Program, tmp_path: Path) -> None:
    write(tmp_path / "many.xyz", [Atoms("H2", [[0, 0, 0], [0, 0, length]]) for length in (0.74, 2.5)])
    done = program(
        "+method=hf", "method.basis=sto-3g", "task=label", "systems=many.xyz", "executor.workers=1", "hydra.run.dir=run"
    )
    assert done.status == 0 and "remarks          on 1 of them" in done.out, done
    first, second = table(tmp_path / "run")
    assert not first["message"] and "solution is unstable" in second["message"]
    assert "solution is unstable" in read(tmp_path / "run" / "labels.extxyz", 1).info["message"]


def test_structures_that_a_method_lacks_are_left_out_and_counted(program: Program, tmp_path: Path) -> None:
    write(tmp_path / "many.xyz", [*shaken(2), Atoms("H2", [[0, 0, 0], [0, 0, 0.01]])])
    done = program(*MORSE, "systems=many.xyz")
    assert done.status == 1 and "1 of 3 structures have no result" in done.out
    assert (tmp_path / "run" / "failures.csv").read_text().splitlines()[1].startswith("many-3,refused,")
    assert len(read(tmp_path / "run" / "structures.extxyz", ":")) == 2


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("systems=empty.xyz",), "holds no structure that can be used"),
        (("systems=none.xyz",), "there is no file"),
        (("systems=many.xyz", "task=md"), "task=md has one structure"),
        (("task=label",), "task=label labels many structures"),
        (("systems=many.xyz", "task=label", "task.properties=[hessian]"), "hessian is no label"),
        (("systems=many.xyz", "executor=slurm"), "no executor 'slurm'"),
        (("systems=many.xyz", "executor=submitit"), "submitit"),
        (("systems=many.xyz", "executor=other", "executor._target_=nothing.Here"), "executor._target_=nothing.Here"),
        (("systems=many.xyz", "executor.workers=0"), "executor.workers must be a whole number"),
        (("systems=many.xyz", "task=relax", "task.optimiser._target_=ase.optimize.FIRE"), "L-BFGS"),
        (("systems=many.xyz", "task=relax", "task.fmax=0"), "task.fmax"),
        (("systems=many.xyz", "executor=other"), "executor._target_ is missing"),
        (("systems=many.xyz", "task=label", "task.properties=energy"), "task.properties=[energy]"),
        (("systems=[many.xyz,empty.xyz]",), "systems takes one file, folder or pattern"),
    ],
)  # fmt: skip
def test_refusals(program: Program, tmp_path: Path, words: tuple[str, ...], message: str) -> None:
    write(tmp_path / "many.xyz", shaken(2))
    (tmp_path / "empty.xyz").touch()
    done: Done = program(*MORSE, *words)
    assert done.status == 2 and message in done.err and not (tmp_path / "run").exists(), done


def test_one_worker_for_batches_otherwise_one_for_each_core(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    assert share(None, batched=True).workers == 1
    assert share(None, batched=False).workers * share(None, batched=False).threads >= 1
    assert share(5, batched=True) == share(5, batched=False)
