"""Workers of many structures in one process: what they record, spare, repeat and give up."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fusion.chemistry.system import System
from fusion.errors import CalculationError
from fusion.methods import by_name
from fusion.runs.results import Result
from fusion.tasks.energy.task import Energies
from fusion.tasks.structures.records import Record, Records
from fusion.tasks.structures.worker import ATTEMPTS, Job, work

WATER = np.array([[0.0, 0, 0.23], [0, 1.44, -0.91], [0, -1.44, -0.91]])  # bohr


class Counting:
    """`Calculation` that counts its structures and fails for chosen formulas."""

    def __init__(self, failing: str = "", error: Exception | None = None) -> None:
        self.failing, self.seen, self.error = failing, Counter[str](), error or CalculationError("no convergence")

    def check(self, method: Any, systems: Sequence[System]) -> None:
        """Accept all."""

    def calculate(self, method: Any, systems: Sequence[System]) -> list[Result]:
        self.seen.update(system.name for system in systems)
        if any(system.formula == self.failing for system in systems):
            raise self.error
        return [Result(system, energy=float(len(system.symbols))) for system in systems]


def job(calculation: Any, number: int = 7) -> Job:
    systems = [
        System(f"s{index}", ("O", "H", "H")[: 3 - index % 3], WATER[: 3 - index % 3], spin=index % 3 % 2)
        for index in range(number)
    ]
    return Job(None, calculation, tuple(systems))  # type: ignore[arg-type]


def nothing(*_: Any) -> None:
    """Do nothing."""


def test_a_failure_is_recorded_with_its_reason_and_spares_the_others(tmp_path: Path) -> None:
    records = work(job(Counting(failing="HO")), tmp_path, nothing, nothing)
    assert {index: record.status for index, record in records.done.items()} == {
        index: "failed" if index % 3 == 1 else "ok" for index in range(7)
    }
    assert records.done[1].message == "no convergence"


def test_an_unexpected_error_of_one_structure_spares_the_others_and_that_of_the_disk_does_not(tmp_path: Path) -> None:
    records = work(job(Counting("HO", KeyError("shell"))), _made(tmp_path / "one"), nothing, nothing)
    assert [records.done[index].status for index in range(3)] == ["ok", "failed", "ok"]
    assert records.done[1].message == "KeyError: 'shell'"
    with pytest.raises(OSError, match="no space"):
        work(job(Counting("HO", OSError("no space"))), _made(tmp_path / "two"), nothing, nothing)


def _made(folder: Path) -> Path:
    folder.mkdir()
    return folder


def test_a_state_does_not_depend_on_the_structure_before(tmp_path: Path) -> None:
    """The state of a rectangle of hydrogen atoms is excited, by 0.17 hartree, if it is followed through the square."""
    method = by_name.method({"method": "hf", "basis": "sto-3g"})
    systems = [
        System(f"{a}", ("H",) * 4, np.array([[0.0, 0, 0], [a, 0, 0], [a, 4.8 - a, 0], [0, 4.8 - a, 0]]))
        for a in (2.2, 2.3, 2.5, 2.6)
    ]
    done = work(Job(method, Energies("a test"), tuple(systems)), tmp_path, nothing, nothing).done
    assert done[3].energy == pytest.approx(done[0].energy, abs=1e-8)
    assert done[2].energy == pytest.approx(done[1].energy, abs=1e-8)


def test_a_result_that_is_not_finite_is_none(tmp_path: Path) -> None:
    class Infinite(Counting):
        def calculate(self, method: Any, systems: Sequence[System]) -> list[Result]:
            return [Result(system, energy=np.nan if system.formula == "HO" else -1.0) for system in systems]

    done = work(job(Infinite()), tmp_path, nothing, nothing).done
    assert (done[1].status, done[1].energy, done[1].message) == ("failed", None, "its energy is not finite")
    assert done[0].status == "ok"


def test_records_survive_a_line_that_was_cut_off_and_nothing_is_repeated(tmp_path: Path) -> None:
    first = Counting()
    work(job(first), tmp_path, nothing, nothing)
    (file,) = (tmp_path / "records").glob("*.jsonl")
    lines = file.read_bytes().splitlines(keepends=True)
    file.write_bytes(b"".join(lines[:-1]) + lines[-1][:20])
    second = Counting()
    records = work(job(second), tmp_path, nothing, nothing)
    assert len(records.done) == 7 and sum(first.seen.values()) == 7 and sum(second.seen.values()) == 1


def test_a_structure_that_ends_its_workers_is_given_up(tmp_path: Path) -> None:
    records = Records(tmp_path)
    for _ in range(ATTEMPTS):
        records.begin([2])
    records.begin([3])
    records.begin([3], -1)  # stopped by a signal
    records.close()
    done = work(job(Counting()), tmp_path, nothing, nothing).done
    assert done[2].status == "failed" and f"{ATTEMPTS} workers" in str(done[2].message)
    assert all(done[index].status == "ok" for index in range(7) if index != 2)


def test_a_record_holds_the_result_exactly() -> None:
    start = System("w", ("O", "H", "H"), WATER)
    moved = start.moved(start.positions + 1 / 3)
    result = Result(
        moved, energy=-1 / 3, energy_std=1e-17 / 3, properties={"forces": np.random.default_rng(0).normal(size=(3, 3))}
    )
    again = Record(**json.loads(json.dumps(vars(Record.of(4, start, result, 1.0, "w"))))).result(start)
    assert again.energy == result.energy and again.energy_std == result.energy_std
    np.testing.assert_array_equal(again.system.positions, moved.positions)
    np.testing.assert_array_equal(again.properties["forces"], result.properties["forces"])
