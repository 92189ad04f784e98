"""Runs that are killed at any moment and resumed give the same bits as uninterrupted ones."""

from __future__ import annotations

import signal
import time
from pathlib import Path

import pytest

from killable import TINY, assert_same, at, fusion
from processes import Running
from resuming import Stop, document, killed_and_resumed

slow = pytest.mark.slow

# 12 iterations of pretraining, 13 of optimisation, 12 of evaluation; a checkpoint after every 5, and at the end.
MOMENTS = [
    pytest.param(at("step", 2), "starting from the beginning", id="before the first checkpoint"),
    pytest.param(at("step", 9), "pretraining step 5 of 12", id="pretraining", marks=slow),
    pytest.param(at("step", 12), "pretraining step 10 of 12", id="burn-in", marks=slow),
    pytest.param(at("step", 18), "step 3 of 13", id="optimisation"),
    pytest.param(at("step", 33), "evaluation step 5 of 12", id="evaluation", marks=slow),
    pytest.param(at("saving", 4), "step 8 of 13", id="half a checkpoint"),
    pytest.param(at("logging", 23), "step 8 of 13", id="half a row", marks=slow),
    pytest.param(at("result", 0), "evaluation step 12 of 12", id="before the result"),
]


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("uninterrupted")
    ended = fusion(place, *TINY)
    assert ended.complete, ended
    return place / "run"


@pytest.mark.parametrize(("stop", "message"), MOMENTS)
def test_killed_and_resumed(uninterrupted: Path, tmp_path: Path, stop: Stop, message: str) -> None:
    (resumed,) = killed_and_resumed(tmp_path, TINY, [stop])
    assert resumed.status in (0, 1) and resumed.err == "", resumed
    start = "no checkpoints/last.ckpt yet: " if stop.call == 2 else "resuming from "
    assert f"{start}{message}" in resumed.out
    assert_same(uninterrupted, tmp_path / "run")
    left = {path.name for path in (tmp_path / "run" / "checkpoints").iterdir()}
    assert left == {"last.ckpt"}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("optimiser", "dtype"),
    [
        ("kfac", "float32"),
        pytest.param("adam", "float32", marks=slow),
        pytest.param("spring", "float64", marks=slow),
        pytest.param("kfac", "float64", marks=slow),
        pytest.param("adam", "float64", marks=slow),
    ],
)
def test_the_state_of_every_optimiser_is_saved(tmp_path: Path, optimiser: str, dtype: str) -> None:
    """Kill a run twice in the middle of the optimisation."""
    words = (*TINY, f"optimiser={optimiser}", f"dtype={dtype}")
    assert fusion(tmp_path / "whole", *words).complete
    _, resumed = killed_and_resumed(tmp_path, words, [at("step", 18), at("step", 8)])
    assert resumed.status in (0, 1) and "resuming from step 8 of 13 (checkpoints/last.ckpt)" in resumed.out
    assert_same(tmp_path / "whole" / "run", tmp_path / "run")


@pytest.mark.slow
def test_configurations_are_saved(tmp_path: Path) -> None:
    words = (*(word for word in TINY if not word.startswith("system=")), "system=be", "reference=ci")
    assert fusion(tmp_path / "whole", *words).complete
    (resumed,) = killed_and_resumed(tmp_path, words, [at("step", 8)])
    assert resumed.status in (0, 1) and "resuming from step 5 of 13 (checkpoints/last.ckpt)" in resumed.out
    assert_same(tmp_path / "whole" / "run", tmp_path / "run")


@pytest.mark.slow
def test_an_evaluation_up_to_an_error_bar_continues(tmp_path: Path) -> None:
    """The error decides the length, here between the first estimate after 100 iterations and the limit of 3000."""
    words = (*TINY, "method.evaluation.steps=3000", "method.evaluation.stderr=30mHa")
    assert fusion(tmp_path / "whole", *words).complete
    killed_and_resumed(tmp_path, words, [at("step", 130)])
    assert_same(tmp_path / "whole" / "run", tmp_path / "run")
    assert 100 < document(tmp_path / "run")["vmc"]["evaluation"]["iterations"] < 3000
    assert document(tmp_path / "run")["energy"]["stderr"] <= 0.048


@pytest.mark.slow
def test_an_optimisation_up_to_a_remaining_error_ends_early(tmp_path: Path) -> None:
    assert fusion(tmp_path, *TINY, "method.optimisation.steps=400", "method.optimisation.until=9").complete
    assert document(tmp_path / "run")["vmc"]["optimisation"]["iterations"] == 50


@slow
def test_rotations_for_core_potentials_continue(tmp_path: Path) -> None:
    words = (*TINY, "system=be", "system.ecp=ccecp")
    assert fusion(tmp_path / "whole", *words).complete
    _, resumed = killed_and_resumed(tmp_path, words, [at("step", 18), at("step", 14)])
    assert resumed.status in (0, 1), resumed
    assert_same(tmp_path / "whole" / "run", tmp_path / "run")


@slow
@pytest.mark.parametrize("optimiser", ["kfac", "adam"])
def test_rejected_steps_are_in_checkpoints(tmp_path: Path, optimiser: str) -> None:
    """Kill runs before, between and after undone steps, at learning rates that cause them."""
    words = (*TINY, f"optimiser={optimiser}", "method.optimiser.learning_rate.rate=2", "method.optimisation.steps=60")
    words += ("method.optimiser.max_norm=100",) if optimiser == "kfac" else ()
    assert fusion(tmp_path / "whole", *words).complete
    assert killed_and_resumed(tmp_path, words, [at("step", moment) for moment in (17, 11, 13, 12)])[-1].status in (0, 1)
    assert_same(tmp_path / "whole" / "run", tmp_path / "run")
    assert document(tmp_path / "run")["vmc"]["optimisation"]["rejected_steps"] > 0


@pytest.mark.parametrize("number", [signal.SIGINT, pytest.param(signal.SIGTERM, marks=slow)])
def test_stop_signals_finish_the_iteration(uninterrupted: Path, tmp_path: Path, number: signal.Signals) -> None:
    """The current iteration is finished and saved."""
    stopped = fusion(tmp_path, *TINY, stop=at("step", 18, number))
    assert stopped.status == 128 + number
    assert stopped.err == f"\nstopped; fusion resume {tmp_path / 'run'} continues the run\n"
    assert fusion(tmp_path, "resume", "run", stop=at("step", 3, number)).status == 128 + number
    resumed = fusion(tmp_path, "resume", "run")
    assert "resuming from step 11 of 13" in resumed.out
    assert_same(uninterrupted, tmp_path / "run")


def test_finished_run_prints_its_result(uninterrupted: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in uninterrupted.rglob("*") if path.suffix != ".png"}
    for words in (("resume", "run"), (*TINY, "ckpt=last")):
        again = fusion(uninterrupted.parent, *words)
        assert again.complete and "optimising" not in again.out
    assert {path: path.stat().st_mtime_ns for path in before} == before


def killed_after(rows: int, place: Path, *words: str) -> bool:
    """Start the program in `place` and kill it once its table has that many rows; False if it ended before the kill."""
    running, table = Running(words, place), place / "run" / "metrics.csv"
    while running.alive and not (table.is_file() and len(table.read_bytes().splitlines()) >= rows):
        time.sleep(0.002)
    running.kill()
    return running.done().status == -signal.SIGKILL


@pytest.mark.slow
def test_real_process_killed_from_outside(tmp_path: Path) -> None:
    """Kill a run at an arbitrary moment; try again if a busy machine delays the kill until the run has finished."""
    words = (*TINY, "method.optimisation.steps=150")
    assert fusion(tmp_path / "whole", *words).complete
    places = (tmp_path / f"killed{number}" for number in range(5))
    place = next(place for place in places if killed_after(40, place, *words))
    assert not (place / "run" / "result.json").exists()
    assert fusion(place, "resume", "run").complete
    assert_same(tmp_path / "whole" / "run", place / "run")
