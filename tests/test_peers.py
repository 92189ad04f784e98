"""Environments of the programs that benchmarks compare with."""

from __future__ import annotations

import ast
import importlib
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"


@pytest.fixture
def peers(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> ModuleType:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    monkeypatch.setenv("FUSION_CACHE", str(tmp_path))
    return importlib.import_module("peers")


def test_benchmarks_of_a_peer_exist_and_its_versions_are_exact(peers: ModuleType) -> None:
    for name, peer in peers.PEERS.items():
        for benchmark in peer["benchmarks"]:
            assert name in (BENCHMARKS / f"{benchmark}.py").read_text()
        assert all("==" in package for package in peer.get("packages", ()))
        assert ("packages" in peer) != ("missing" in peer)


def test_every_benchmark_that_imports_a_peer_has_its_environment(peers: ModuleType) -> None:
    for path in BENCHMARKS.glob("*.py"):
        nodes = ast.walk(ast.parse(path.read_text()))
        modules = {node.module.partition(".")[0] for node in nodes if isinstance(node, ast.ImportFrom) and node.module}
        for name in modules & {name for name, peer in peers.PEERS.items() if "packages" in peer}:
            assert path.stem in peers.PEERS[name]["benchmarks"]


def test_an_environment_is_made_once_and_has_the_packages_of_fusion(
    peers: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[list[str]] = []
    started = subprocess.run

    def run(words: list[str], **options: object) -> None:
        calls.append(words)
        Path(words[words.index("--target") + 1], "numpy.py").write_text("peer = True\n")

    monkeypatch.setattr(subprocess, "run", run)
    monkeypatch.setitem(peers.PEERS, "other", {"benchmarks": ["compared"], "packages": ["other==1.0"]})
    python = peers.interpreter("compared")
    assert peers.interpreter("compared") == python and Path(python).is_relative_to(tmp_path)
    assert [call[-1] for call in calls] == ["other==1.0"]
    program = "import numpy, pluggy; print(numpy.peer, pluggy.__file__)"  # the environment's own come first
    done = started([python, "-c", program], capture_output=True, text=True, check=True)
    import pluggy

    assert done.stdout.split() == ["True", pluggy.__file__]


def test_an_unfinished_environment_is_made_anew(peers: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    def failing(words: list[str], **options: object) -> None:
        raise subprocess.CalledProcessError(1, words)

    monkeypatch.setattr(subprocess, "run", failing)
    with pytest.raises(subprocess.CalledProcessError):
        peers.environment("other", ["other==1.0"])
    monkeypatch.setattr(subprocess, "run", lambda words, **options: None)
    assert (peers.environment("other", ["other==1.0"]).parents[1] / "complete").is_file()


def test_a_benchmark_without_a_peer_on_an_index_runs_here(
    peers: ModuleType, capsys: pytest.CaptureFixture[str]
) -> None:
    assert peers.interpreter("regressions") == sys.executable and not capsys.readouterr().err
    assert peers.interpreter("vmc_speed") == sys.executable
    assert "without ferminet: it is not on PyPI" in capsys.readouterr().err
