"""The wheel in an environment of its own, with nothing but the packages that it declares, runs what README prints."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
import venv
from collections.abc import Callable
from pathlib import Path

import pytest
from readme import COMMANDS, PYTHON

ROOT = Path(__file__).parents[2]
LONG = ("ferminet", "task=compare", "task=train")
"""Words of commands that take minutes and more: here `--dry-run` composes, builds and checks them."""
Command = Callable[..., str]
NAMES = """
from ase import Atoms
from pyscf import gto
mol = gto.M(atom="H 0 0 0; H 0 0 0.74", verbose=0)
atoms = Atoms("H2O", [[0, 0, 0], [0, 0, 1], [0, 1, 0]])
"""


def run(words: list[str], place: Path, **variables: str) -> str:
    """Run a program outside the repository; returns what it printed. Raises AssertionError if it fails."""
    given = {name: value for name, value in os.environ.items() if not name.startswith(("FUSION_", "PYTHON"))}
    done = subprocess.run(words, cwd=place, env=given | variables, capture_output=True, text=True, check=False)
    assert done.returncode == 0, (words, done.stdout, done.stderr)
    return done.stdout


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of the programs of a new environment with the wheel and what pip installs with it, from the index."""
    place = tmp_path_factory.mktemp("wheel")
    build = ["-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation", "--no-index", "--wheel-dir"]
    run([sys.executable, *build, str(place / "wheels"), str(ROOT)], place)
    (wheel,) = (place / "wheels").glob("*.whl")
    venv.create(place / "venv", with_pip=True)
    python = place / "venv" / "bin" / "python"
    install = ["-m", "pip", "install", "--quiet", "--no-compile", "--constraint"]
    run([str(python), *install, str(ROOT / "constraints.txt"), str(wheel)], place)
    return python.parent


@pytest.fixture
def command(installed: Path, files: Path) -> Command:
    """`command("fusion", ...)` runs a program of the environment in a folder with the files that README mentions."""

    def call(program: str, *words: str) -> str:
        mirror = f"file://{os.environ['FUSION_TEST_DATA']}/weights"
        variables = {"FUSION_MIRROR": mirror, "FUSION_CACHE": os.environ["FUSION_CACHE"], "OMP_NUM_THREADS": "1"}
        return run([str(installed / program), *words], files, MPLBACKEND="Agg", **variables)

    return call


@pytest.mark.slow
def test_the_sources_of_the_repository_are_not_seen(command: Command, installed: Path) -> None:
    place = Path(command("python", "-c", "import fusion; print(fusion.__file__)").strip())
    assert place.is_relative_to(installed.parent)
    command("python", "-m", "pip", "check")


@pytest.mark.slow
@pytest.mark.parametrize("line", COMMANDS)
def test_a_command_of_the_readme_works(command: Command, line: str) -> None:
    _, *words = shlex.split(line)
    long = any(word in line for word in LONG)
    printed = command("fusion", *words, *(["--dry-run"] if long else ["hydra.run.dir=run"]))
    assert printed
    if not long:
        assert json.loads(Path("run/result.json").read_text())["status"] == "ok", printed


@pytest.mark.slow
@pytest.mark.parametrize("block", PYTHON)
def test_python_of_the_readme_works(command: Command, block: str) -> None:
    assert "ok" in command("python", "-c", NAMES + block)


@pytest.mark.slow
def test_files_of_the_package_are_at_hand(command: Command) -> None:
    """Settings with comments, model cards, the template of plugins, and the viewer of molecules."""
    assert "angstrom" in command("fusion", "+method=ani", "task=relax", "--help").lower()
    assert "ani-2x" in command("fusion", "zoo", "list")
    assert "ready" in command("fusion", "doctor")
    command("fusion", "new-plugin", "mymethod", "--kind", "ansatz")
    command("fusion", "+method=ani", "task=vibrations", "system=ethanol", "hydra.run.dir=run")
    command("fusion", "report", "run", "--html", "page.html")
    assert "3Dmol" in Path("page.html").read_text()
    assert "@article" in command("fusion", "cite", "run")
