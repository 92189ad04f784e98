"""Runs from their settings to their files: exit statuses and resuming."""

from __future__ import annotations

import json
import os
import signal
import time
from pathlib import Path
from typing import Any

import pytest
from omegaconf import OmegaConf

import fusion
from fusion.errors import CalculationError, InputError
from processes import Program, Running
from resuming import Resumes, Stop

FIT = ("+method=toy", "task=fit", "callbacks.checkpoint.every_n_steps=7")


def document(directory: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((directory / "result.json").read_text())
    return content


def test_result_and_settings_are_written(program: Program, tmp_path: Path) -> None:
    done = program("+method=toy", "seed=5", "method.energy=-2.5", "hydra.run.dir=r")
    assert done.status == 0 and done.err == ""
    assert "toy · He (2 electrons, singlet) · energy" in done.out and "-2.500000 Ha" in done.out
    result = document(tmp_path / "r")
    assert result["schema"] == 1 and result["status"] == "ok" and result["energy"] == {"value": -2.5, "stderr": None}
    assert (result["method"], result["kind"], result["task"], result["seed"]) == ("toy", "conventional", "energy", 5)
    assert result["reference"]["difference_mhartree"] == pytest.approx(1000 * (-2.5 - result["reference"]["value"]))
    assert result["system"]["positions"] == [[0.0, 0.0, 0.0]] and result["settings"]["method"]["energy"] == -2.5
    assert {"fusion", "torch", "pyscf"} <= set(result["versions"]) and result["timing"]["wall_s"] > 0
    assert OmegaConf.load(tmp_path / "r" / "config.yaml").method.energy == -2.5
    assert not (tmp_path / "r" / ".hydra").exists()


def test_default_directories_are_unique(program: Program, tmp_path: Path) -> None:
    for _ in range(3):  # within a second, mostly
        assert program("+method=toy").status == 0
    runs = list((tmp_path / "runs").glob("*/*-toy-he*"))
    assert len(runs) == 3 and all((run / "result.json").is_file() for run in runs)


def test_failures_have_exit_status_1(program: Program, tmp_path: Path) -> None:
    done = program("+method=toy", "method.failure=the SCF diverged", "hydra.run.dir=failed")
    assert done.status == 1 and done.err == "error: the SCF diverged\n"
    assert document(tmp_path / "failed")["status"] == "failed"
    done = program("+method=toy", "method.status=not_converged", "hydra.run.dir=loose")
    assert done.status == 1 and done.err == "" and "NOT CONVERGED" in done.out
    assert document(tmp_path / "loose")["energy"]["value"] == -2.0
    assert program("resume", "loose").status == 1


def test_a_sweep_survives_a_failing_job(program: Program, tmp_path: Path) -> None:
    done = program("-m", "+method=toy", "method.basis=none,sto-3g", "seed=1,2", "hydra.sweep.dir=s")
    assert done.status == 2 and done.err == "error: no basis none\n" * 2
    assert sorted(path.name for path in (tmp_path / "s").iterdir()) == ["2", "3", "multirun.yaml"]
    done = program("-m", "+method=toy", "method.failure=null,boom", "hydra.sweep.dir=f")
    assert done.status == 1 and done.err == "error: boom\n"
    assert document(tmp_path / "f" / "0")["status"] == "ok"


def test_run_in_process(with_toy: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for energy in (-1.0, -2.0):
        result = fusion.run(["+method=toy", f"method.energy={energy}", f"hydra.run.dir={tmp_path}/r{energy}"])
        assert result.energy == energy and result.system.formula == "He"
    with pytest.raises(InputError, match=r"Did you mean .toy."):
        fusion.run(["+method=toi"])
    with pytest.raises(InputError, match=r"no setting .method\.x."):
        fusion.run(["+method=toy", "method.x=1"])
    with pytest.raises(CalculationError, match="boom"):
        fusion.run(["+method=toy", "method.failure=boom", "hydra.run.dir=b"])
    assert fusion.run(["+method=toy", "method.status=not_converged", "hydra.run.dir=n"]).status == "not_converged"


def test_output_of_libraries_goes_to_the_log(program: Program, tmp_path: Path) -> None:
    done = program(*FIT, "hydra.run.dir=r")
    assert done.status == 0 and done.err == ""
    assert "Lightning" not in done.out and "stopped: `max_epochs=1`" in (tmp_path / "r" / "log.txt").read_text()


def test_a_killed_run_resumes_to_the_same_result(resumes: Resumes, tmp_path: Path) -> None:
    resumes(FIT, Stop("fusion.runs.metrics:log", 33), files=("metrics.csv",), note="28/40")
    assert (tmp_path / "run" / "metrics.csv").read_text().count("\n") == 41


def test_a_finished_run_prints_its_result(program: Program, tmp_path: Path) -> None:
    first = program(*FIT, "hydra.run.dir=r")
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "r").iterdir() if path.suffix != ".png"}
    for words in (("resume", "r"), (*FIT, "hydra.run.dir=r", "ckpt=last")):
        done = program(*words)
        assert done.status == 0 and first.out.splitlines()[-3:] == done.out.splitlines()[-3:]
    assert {path: path.stat().st_mtime_ns for path in before} == before


def test_a_run_without_a_checkpoint_starts_from_the_beginning(program: Program, tmp_path: Path) -> None:
    done = program(*FIT, "hydra.run.dir=r", "ckpt=last")
    assert done.status == 0 and "starting from the beginning" in done.out
    (tmp_path / "r" / "result.json").unlink()
    (tmp_path / "r" / "checkpoints" / "last.ckpt").unlink()
    done = program("resume", "r")
    assert done.status == 0 and "starting from the beginning" in done.out
    assert (tmp_path / "r" / "metrics.csv").read_text().count("\n") == 41


def test_a_run_starts_from_a_checkpoint_file(program: Program, tmp_path: Path) -> None:
    assert program(*FIT, "hydra.run.dir=r").status == 0
    for word in ("r/checkpoints/last.ckpt", "r"):
        assert program(*FIT, f"ckpt={word}", f"hydra.run.dir=from-{len(word)}").status == 0
        result = document(tmp_path / f"from-{len(word)}")
        assert result["fit"] == document(tmp_path / "r")["fit"]
        assert result["settings"]["ckpt"] == str(tmp_path / word)


def test_a_new_run_in_an_old_directory_keeps_the_old_checkpoint(program: Program, tmp_path: Path) -> None:
    for energy in (-1, -4):
        assert program(*FIT, f"method.energy={energy}", "hydra.run.dir=r").status == 0
    assert sorted(path.name for path in (tmp_path / "r" / "checkpoints").iterdir()) == ["last.ckpt", "previous.ckpt"]
    assert document(tmp_path / "r")["energy"]["value"] < -3
    assert (tmp_path / "r" / "metrics.csv").read_text().count("\n") == 41


def test_settings_that_are_not_yaml_are_refused(program: Program, tmp_path: Path) -> None:
    assert program("+method=toy", "hydra.run.dir=r").status == 0
    (tmp_path / "r" / "config.yaml").write_text("a: [b")
    done = program("resume", "r")
    assert done.status == 2 and "config.yaml" in done.err and len(done.err.splitlines()) == 1


def test_ctrl_c_prints_the_command_to_resume(environment: dict[str, str], tmp_path: Path) -> None:
    running = Running((*FIT, "task.steps=1000000", "hydra.run.dir=r"), tmp_path, environment)
    checkpoint = tmp_path / "r" / "checkpoints" / "last.ckpt"
    while not checkpoint.exists() and running.alive:
        time.sleep(0.05)
    os.kill(running.pid, signal.SIGINT)
    done = running.done()
    assert done.status == 130
    assert "fusion resume" in done.err and "Traceback" not in done.err
