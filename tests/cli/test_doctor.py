"""Examination of the installation: findings, and a verdict by the exit status."""

from __future__ import annotations

from collections.abc import Iterator
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest

from fusion.cli import doctor, self_test
from processes import Program


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FUSION_CACHE", str(tmp_path / "cache"))
    for name in ("FUSION_MIRROR", "FUSION_ZOO", "FUSION_OFFLINE"):
        monkeypatch.delenv(name, raising=False)


def test_a_sound_installation(program: Program, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FUSION_CACHE", str(tmp_path / "cache"))
    done = program("doctor")
    assert done.status == 0 and "BROKEN" not in done.out and done.out.splitlines()[-1].startswith("ready")
    for text in (f"torch {metadata.version('torch')}", "cores", "fusion_ani", "cache, not created yet", "toy"):
        assert text in one_line(done.out), text
    assert list(tmp_path.iterdir()) == []


def one_line(text: str) -> str:
    """Join lines that were broken at the width of the terminal."""
    return " ".join(text.split())


def test_extras_that_are_missing_are_no_fault(program: Program, monkeypatch: pytest.MonkeyPatch) -> None:
    stated = ["numpy>=1", "nosuchpackage>=2; extra == 'fast'", "aiqm-fusion[fast]; extra == 'all'"]
    monkeypatch.setattr(metadata, "requires", lambda name: stated)
    done = program("doctor")
    assert done.status == 0 and "nosuchpackage is missing: pip install 'aiqm-fusion[fast]'" in one_line(done.out)


@pytest.mark.parametrize(
    ("requirement", "text"),
    [
        ("nosuchpackage>=2", "nosuchpackage is missing: pip install 'nosuchpackage>=2'"),
        ("numpy>=99", "is not numpy>=99: pip install 'numpy>=99'"),
        ("numpy<1", "is not numpy<1"),
    ],
)
def test_required_packages(program: Program, monkeypatch: pytest.MonkeyPatch, requirement: str, text: str) -> None:
    monkeypatch.setattr(metadata, "requires", lambda name: [requirement])
    done = program("doctor")
    assert done.status == 1 and text in " ".join(done.out.split()) and "1 thing is broken" in done.out


@pytest.mark.parametrize(
    ("variable", "value", "text"),
    [
        ("FUSION_CACHE", "~nosuchuser/x", "there is no such home directory"),
        ("FUSION_MIRROR", "file:///nowhere", "there is no such folder"),
        ("FUSION_ZOO", "/nowhere/zoo", "there is no folder /nowhere/zoo"),
        ("OMP_NUM_THREADS", "many", "OMP_NUM_THREADS must be a whole number"),
        ("FUSION_CACHE", "/dev/null/x", "not writable; set FUSION_CACHE=DIR"),
    ],
)
def test_wrong_environment(
    program: Program, monkeypatch: pytest.MonkeyPatch, variable: str, value: str, text: str
) -> None:
    monkeypatch.setenv(variable, value)
    done = program("doctor")
    assert done.status == 1 and text in " ".join(done.out.split())


def test_a_plugin_that_fails_is_broken(program: Program, monkeypatch: pytest.MonkeyPatch) -> None:
    from fusion import plugins

    discovery = plugins.discover()
    broken = plugins.Plugin("mypot", "mypot-package", "1", error="ImportError: no module named nosuch")
    monkeypatch.setattr(plugins, "_discovery", plugins.Discovery((*discovery.plugins, broken), discovery.hooks))
    done = program("doctor")
    assert done.status == 1 and "ImportError: no module named nosuch" in one_line(done.out)
    assert "pip uninstall mypot-package" in " ".join(done.out.split())


def test_the_self_test_reports_wrong_numbers_and_errors(program: Program, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails() -> float:
        raise OSError("no library")

    checks = (
        self_test.Check("right", lambda: -1.0, -1.0, 1e-6),
        self_test.Check("wrong", lambda: -1.1, -1.0, 1e-6),
        self_test.Check("failing", fails, 0.0, 1e-6),
    )
    monkeypatch.setattr(self_test, "_CHECKS", checks)
    monkeypatch.setattr(self_test, "devices", lambda: ["CPU"])
    done = program("doctor", "--test")
    assert done.status == 1 and "2 things are broken" in done.out
    assert "-1.10000 Ha, -1.00000 expected" in done.out and "OSError: no library" in done.out


@pytest.mark.slow
def test_the_self_test_passes() -> None:
    found: Iterator[Any] = self_test.run()
    assert [outcome for outcome in found if not outcome.passed] == []


def test_versions_are_compared_by_number() -> None:
    assert doctor._within("2.10.1", "x>=2.9") and not doctor._within("2.8", "x>=2.9")
    assert doctor._within("2.3.1", "x>=2.3,<2.4") and not doctor._within("2.4", "x>=2.3,<2.4")
    assert doctor._within("2.13.0+cpu", "x>=2.6") and doctor._within("1.0", "x")
