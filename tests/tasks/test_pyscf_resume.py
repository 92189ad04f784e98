"""Resumed tasks of several geometries with PySCF end bit for bit the same, because the SCF's memory is recorded."""

from pathlib import Path
from typing import Any

import pytest

import fusion
from fusion import app
from fusion.chemistry.system import System
from fusion.runs import report
from fusion.runs.results import Result, read_result
from fusion_conventional.method import PySCFMethod

WATER = ["system=inline", "system.atoms='O 0 0 0; H 0 0.8 0.65; H 0 -0.75 0.55'"]
RADICAL = ["system=inline", "system.atoms='O 0 0 0; H 0 0.1 1.1'", "system.spin=1"]
HF = ["+method=hf", "method.basis=sto-3g", "method.conv_tol=1e-6"]
CASES = {
    "relax": [*HF, *WATER, "task=relax"],
    "relax unrestricted": [*HF, *RADICAL, "task=relax"],
    "relax mp2": ["+method=mp2", "method.basis=sto-3g", "method.conv_tol=1e-6", *WATER, "task=relax"],
    "relax of a sum": ["+method=sum", "method.terms=[{method: hf, basis: sto-3g},d3]", *RADICAL, "task=relax"],
    "scan": [*HF, *WATER, "task=scan", "task.atoms=[1,2]", "task.stop=1.4", "task.points=3"],
    "vibrations": [*HF, "method.dispersion=d3bj", *RADICAL, "task=vibrations"],
    "vibrations in a solvent": [
        *(*HF, *RADICAL, "task=vibrations", "task.relax=false", "task.fmax=1", "solvent=water", "executor.workers=1")
    ],
    "md": [*HF, *WATER, "task=md", "task.steps=6", "task.time_ps=0.003"],
    "thermochemistry": [*HF, "task=thermochemistry", "task.reaction='H2 + F2 -> 2 HF'"],
}
STOPPED_AFTER = 3


def interrupted(patch: pytest.MonkeyPatch) -> None:
    """Interrupt the fourth calculation."""
    calculate, done = PySCFMethod._calculate, 0

    def counting(self: PySCFMethod, system: System, wanted: frozenset[str]) -> Result:
        nonlocal done
        if done == STOPPED_AFTER:
            raise KeyboardInterrupt
        done += 1
        return calculate(self, system, wanted)

    patch.setattr(PySCFMethod, "_calculate", counting)


def numbers(directory: Path) -> dict[str, Any]:
    """All results of a run except times and paths."""
    document = dict(read_result(directory) or {})
    for key in ("timing", "settings", "threads", "md"):
        document.pop(key, None)
    return document


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[pytest.mark.slow] if "solvent" in name else []) for name in CASES]
)
def test_a_resumed_run_ends_bit_for_bit_the_same(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(report, "redraw", lambda directory: None)
    fusion.run([*CASES[name], "hydra.run.dir=whole"])
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        interrupted(patch)
        fusion.run([*CASES[name], "hydra.run.dir=parted"])
    app.resume(tmp_path / "parted")
    assert numbers(tmp_path / "parted") == numbers(tmp_path / "whole")
    for file in (tmp_path / "whole").glob("*.extxyz"):
        assert (tmp_path / "parted" / file.name).read_bytes() == file.read_bytes()
