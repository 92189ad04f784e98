"""Dry runs: the checks of a run and its description, and no files."""

from __future__ import annotations

from pathlib import Path

import pytest

from processes import Program

REFUSED = {
    "method": ["+method=toi"],
    "setting": ["+method=toy", "method.energi=3"],
    "system": ["+method=toy", "system=h2", "system.spin=1"],
    "file": ["+method=toy", "system=nowhere.xyz"],
    "check of the method": ["+method=toy", "method.basis=none"],
    "check of the task": ["+method=bonds", "task=relax", "task.fmax=-1"],
}


@pytest.mark.parametrize("case", REFUSED)
def test_it_refuses_what_a_run_refuses(program: Program, tmp_path: Path, case: str) -> None:
    dry, run = program(*REFUSED[case], "--dry-run"), program(*REFUSED[case])
    assert dry.status == run.status == 2
    assert dry.err == run.err and dry.err.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


def test_it_describes_a_run_and_writes_nothing(program: Program, tmp_path: Path) -> None:
    done = program("+method=bonds", "task=relax", "system=h2o", "task.fmax=1e-3", "--dry-run")
    assert done.status == 0 and done.err == ""
    assert "relax" in done.out.splitlines()[0] and "H2O" in done.out.splitlines()[0]
    assert "task.fmax=0.001    default 0.0001" in done.out
    assert f"directory        {tmp_path}/runs/" in done.out and "result.json" in done.out
    assert "all checks passed" in done.out
    assert list(tmp_path.iterdir()) == []


def test_default_settings_are_not_listed(program: Program) -> None:
    assert "settings         all have their defaults" in program("+method=toy", "--dry-run").out


def test_it_says_what_happens_to_an_earlier_run(program: Program, tmp_path: Path) -> None:
    words = ["+method=toy", "hydra.run.dir=here"]
    assert program(*words).status == 0
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "here").rglob("*")}
    assert "earlier run      its files would be moved to previous/" in program(*words, "seed=1", "--dry-run").out
    assert "earlier run      finished: its result would be printed" in program(*words, "ckpt=last", "--dry-run").out
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "here").rglob("*")} == before


def test_a_directory_that_cannot_be_used_is_refused(program: Program) -> None:
    done = program("+method=toy", "hydra.run.dir=/dev/null/x", "--dry-run")
    assert done.status == 2 and "/dev/null/x cannot be created" in done.err


def test_every_job_of_a_sweep_is_checked(program: Program, tmp_path: Path) -> None:
    done = program("-m", "+method=toy", "system=he,lihh", "--dry-run")
    assert done.status == 2 and done.out.count("all checks passed") == 1
    assert done.err.count("no system 'lihh'") == 1 and "job 1: +method=toy system=lihh" in done.out
    assert list(tmp_path.iterdir()) == []


def test_other_options_are_refused(program: Program) -> None:
    done = program("--config-dir", "mine", "+method=toy", "--dry-run")
    assert done.status == 2 and done.err.count("\n") == 1 and "remove --config-dir" in done.err


def test_the_memory_of_a_correlated_method_is_foretold(program: Program) -> None:
    out = program("+method=ccsd", "system=h2o", "method.basis=sto-3g", "--dry-run").out
    assert "memory           about " in out and "for the amplitudes" in out


def test_a_model_that_is_missing_is_named_and_not_downloaded(
    program: Program, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FUSION_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("FUSION_MIRROR", "http://127.0.0.1:9/")
    monkeypatch.delenv("FUSION_OFFLINE", raising=False)
    done = program("+method=ani", "--dry-run")
    assert done.status == 0 and "download         ani-2x@1, 55 MB" in done.out and "all checks passed" not in done.out
    assert list(tmp_path.iterdir()) == []
    monkeypatch.setenv("FUSION_OFFLINE", "1")
    done = program("+method=ani", "--dry-run")
    assert done.status == 2 and "FUSION_OFFLINE forbids downloading" in done.err
