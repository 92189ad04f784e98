"""Several processes, started by Lightning (also in a sweep) or by torchrun: only the first one writes and prints."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from fusion.parallel import processes

DDP = ("+method=toy", "task=fit", "task.steps=5", "trainer=ddp", "trainer.devices=2", "trainer.accelerator=cpu")
FILES = {".files", "checkpoints", "config.yaml", "log.txt", "metrics.csv", "result.json"}


def sum_of_ranks(directory: Path) -> int:
    result = json.loads((directory / "result.json").read_text())
    assert {path.name for path in directory.iterdir()} == FILES
    assert (directory / "metrics.csv").read_text().count("\n") == 6
    return int(result["fit"]["sum_of_ranks"])


def python(environment: dict[str, str], directory: Path, *words: str) -> subprocess.CompletedProcess[str]:
    """Start an interpreter, since Lightning starts the other ranks by the words of the first one's."""
    command = [sys.executable, *words]
    return subprocess.run(command, env=environment, cwd=directory, capture_output=True, text=True, timeout=600)


@pytest.mark.slow
def test_a_sweep_runs_on_several_ranks(environment: dict[str, str], tmp_path: Path) -> None:
    done = python(environment, tmp_path, "-m", "fusion", "-m", *DDP, "seed=1,2", "hydra.sweep.dir=s")
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("toy · He") == 2 and done.stderr == ""
    assert [sum_of_ranks(tmp_path / "s" / job) for job in "01"] == [1 + 2, 1 + 2]
    assert {path.name for path in tmp_path.iterdir()} == {"s"}
    assert {path.name for path in (tmp_path / "s").iterdir()} == {"0", "1", "multirun.yaml"}


@pytest.mark.slow
def test_torchrun_starts_several_processes(environment: dict[str, str], tmp_path: Path) -> None:
    done = python(environment, tmp_path, "-m", "torch.distributed.run", "--nproc-per-node", "2", "-m", "fusion", *DDP)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("toy · He") == 1
    (directory,) = (tmp_path / "runs").glob("*/*")
    assert sum_of_ranks(directory) == 3


def test_the_environment_is_restored(tmp_path: Path) -> None:
    before, arguments = dict(os.environ), list(sys.argv)
    with processes.job(tmp_path, None, relaunch=False):
        os.environ |= {"MASTER_PORT": "1", "WORLD_SIZE": "2"}
        sys.argv[1:] = ["x"]
    assert dict(os.environ) == before and sys.argv == arguments
