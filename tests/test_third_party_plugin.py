"""Separate package with a method of each kind, built, installed and used as by a user."""

import json
import math
import os
import shutil
import subprocess
import sys
import sysconfig
import threading
import venv
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from processes import fusion

SOURCE = Path(__file__).parent / "third_party_plugin"
REPOSITORY = Path(__file__).parents[1]
HARTREE, BOHR = 27.211386024367243, 0.5291772105638411


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Environment of a Python with the plugin installed, built from a copy outside the sources."""
    place = tmp_path_factory.mktemp("plugin")
    shutil.copytree(SOURCE, place / "source")
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-build-isolation", "--no-index"]
    subprocess.run([*pip, "--target", place / "site", place / "source"], check=True, capture_output=True)
    path = os.pathsep.join([str(place / "site"), str(REPOSITORY), str(REPOSITORY / "plugins")])
    return os.environ | {"PYTHONPATH": path, "OMP_NUM_THREADS": "1"}


def result(environment: dict[str, str], directory: Path, *words: str, status: int = 0) -> dict[str, Any]:
    done = fusion(directory, *words, "hydra.run.dir=run", environment=environment)
    assert done.status == status, done.out + done.err
    document: dict[str, Any] = json.loads((directory / "run" / "result.json").read_text())
    return document


def test_methods_are_listed_with_their_kind(environment: dict[str, str], tmp_path: Path) -> None:
    listing = fusion(tmp_path, "methods", environment=environment).out
    for name, kind in [
        ("dummy_potential", "potential"),
        ("dummy_functional", "functional"),
        ("dummy_ansatz", "ansatz"),
    ]:
        assert any(name in line and kind in line for line in listing.splitlines()), listing


def test_potential_of_a_plugin(environment: dict[str, str], tmp_path: Path) -> None:
    document = result(environment, tmp_path, "+method=dummy_potential", "method.model.depth=0.2", "system.distance=2.0")
    decay = math.exp(-0.6)
    assert document["kind"] == "potential" and document["status"] == "ok"
    assert document["energy"]["value"] == pytest.approx(0.2 * ((1 - decay) ** 2 - 1), abs=1e-9)
    assert document["energy_std_hartree"] == pytest.approx(0.01 * abs((1 - decay) ** 2 - 1), abs=1e-9)
    assert document["reference"] is None  # not at 1.401 bohr
    pull = 0.4 * (1 - decay) * decay
    assert document["forces_hartree_per_bohr"][1] == pytest.approx([0.0, 0.0, -pull], abs=1e-9)


def test_functional_of_a_plugin(environment: dict[str, str], tmp_path: Path) -> None:
    from pyscf import dft, gto

    document = result(environment, tmp_path, "+method=dummy_functional", "system=li", "method.grid_level=2")
    mean_field = dft.UKS(gto.M(atom="Li", spin=1, basis="6-31g", verbose=0), xc="lda,")
    mean_field.grids.level = 2
    assert document["energy"]["value"] == pytest.approx(mean_field.kernel(), abs=1e-8)
    assert document["kohn_sham"]["basis"] == "6-31g"
    assert document["reference"]["value"] == -7.47806032391


SHORT = ("method.walkers=64", "method.sampling.burn_in=50", "dtype=float64", "system=inline", "system.unit=bohr")


def test_ansatz_with_the_exact_wavefunction_has_no_variance(environment: dict[str, str], tmp_path: Path) -> None:
    steps = ("method.optimisation.steps=3", "method.evaluation.steps=4", "system.atoms=He 0 0 0", "system.charge=1")
    document = result(environment, tmp_path, "+method=dummy_ansatz", "method.model.zeta=2.0", *SHORT, *steps)
    assert document["kind"] == "ansatz" and document["task"] == "train"
    assert document["energy"]["value"] == pytest.approx(-2.0, abs=1e-6)
    assert document["energy"]["stderr"] < 1e-6
    assert document["vmc"]["variance_hartree2"] < 1e-10


@pytest.mark.slow
def test_ansatz_is_optimised_and_evaluated_without_bias(environment: dict[str, str], tmp_path: Path) -> None:
    """Helium with two electrons in exp(-zeta r): E = zeta^2 - 27/8 zeta, lowest at zeta = 27/16.

    Its variance is so large that the remaining error is not known to be small.
    """
    steps = ("method.optimisation.steps=60", "method.evaluation.steps=200", "system.atoms=He 0 0 0")
    words = ("+method=dummy_ansatz", "method.model.zeta=1.3", *SHORT, *steps)
    document = result(environment, tmp_path, *words, status=1)
    energy, error = document["energy"]["value"], document["energy"]["stderr"]
    assert error < 0.02
    assert energy == pytest.approx(-((27 / 16) ** 2), abs=0.01 + 4 * error)


def test_bad_input_is_refused_before_anything_is_written(environment: dict[str, str], tmp_path: Path) -> None:
    for words, message in [
        (("+method=dummy_potentail",), "Did you mean 'dummy_potential'?"),
        (("+method=dummy_functional", "method.grid_level=12"), "method.grid_level must be 0 ... 9, not 12"),
        (("+method=dummy_potential", "system=h2", "system.spin=1"), "must be even: 0 or 2, not 1"),
    ]:
        done = fusion(tmp_path, *words, environment=environment)
        assert done.status == 2, (words, done.out, done.err)
        assert message in done.err and len(done.err.strip().splitlines()) == 1, done.err
        assert list(tmp_path.iterdir()) == []


def test_a_calculation_that_does_not_converge_exits_with_1(environment: dict[str, str], tmp_path: Path) -> None:
    words = ("+method=dummy_functional", "method.max_cycle=1", "hydra.run.dir=run")
    done = fusion(tmp_path, *words, environment=environment)
    assert done.status == 1
    assert json.loads((tmp_path / "run" / "result.json").read_text())["status"] == "not_converged"


ASE_SCRIPT = """
import json
import ase
import fusion
from fusion.errors import CalculationError, InputError

atoms = ase.Atoms("H2", [[0, 0, 0], [0, 0, 1.0]])
atoms.calc = fusion.calculator("dummy_potential", **{"model.depth": 0.2})
out = {"energy": atoms.get_potential_energy(), "force": atoms.get_forces()[1].tolist()}
out["std"] = atoms.calc.results["energy_std"]
helium = ase.Atoms("He", calculator=fusion.calculator("dummy_functional", charge=1, basis="sto-3g"))
out["ion"] = helium.get_potential_energy()
tiny = {"walkers": 32, "sampling.burn_in": 10, "optimisation.steps": 1, "evaluation.steps": 2, "dtype": "float64"}
hydrogen = ase.Atoms("H", calculator=fusion.calculator("dummy_ansatz", **tiny))
out["hydrogen"] = hydrogen.get_potential_energy()
out["stderr"] = hydrogen.calc.results["energy_stderr"]
out["errors"] = []
for options in ({"bassis": "6-31g"}, {"charge": 2}, {"max_cycle": 1}):
    try:
        ase.Atoms("He", calculator=fusion.calculator("dummy_functional", **options)).get_potential_energy()
    except (InputError, CalculationError) as error:
        out["errors"].append(str(error))
print(json.dumps(out))
"""


def test_ase_calculator(environment: dict[str, str], tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", ASE_SCRIPT], env=environment, cwd=tmp_path, capture_output=True, text=True, timeout=600
    )
    assert done.returncode == 0, done.stderr
    out = json.loads(done.stdout)
    decay = math.exp(1.4 - 1.0 / BOHR)
    assert out["energy"] == pytest.approx(0.2 * ((1 - decay) ** 2 - 1) * HARTREE, rel=1e-9)
    assert out["std"] == pytest.approx(0.01 * abs((1 - decay) ** 2 - 1) * HARTREE, rel=1e-9)
    assert out["force"] == pytest.approx([0, 0, -0.4 * (1 - decay) * decay * HARTREE / BOHR], rel=1e-9)
    assert -2.0 * HARTREE < out["ion"] < -1.6 * HARTREE
    assert out["hydrogen"] == pytest.approx(-0.5 * HARTREE, abs=1e-6) and 0.0 <= out["stderr"] < 1e-6
    assert "no setting 'bassis'. Did you mean 'basis'?" in out["errors"][0]
    assert "no electrons" in out["errors"][1]
    assert "not converged" in out["errors"][2]
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_a_package_from_its_first_command_to_another_users_environment(tmp_path: Path) -> None:
    """Write, build, install, train, run under DDP, publish over HTTP, and pull into another environment.

    Both environments are new. They have fusion and the plugin as wheels, and share the other packages of this Python.
    """
    wheels = tmp_path / "wheels"
    pip = (
        "-m",
        "pip",
        "wheel",
        "--quiet",
        "--no-deps",
        "--no-build-isolation",
        "--no-index",
        "--wheel-dir",
        str(wheels),
    )
    subprocess.run([sys.executable, *pip, str(REPOSITORY)], check=True, capture_output=True)
    author = Environment(tmp_path / "author", wheels, "aiqm_fusion")
    author("new-plugin", "third")
    package = author.place / "fusion-third"
    subprocess.run([sys.executable, *pip, str(package)], check=True, capture_output=True)
    author.install(wheels, "fusion_third")
    assert "third" in author("methods") and "ok" in author("plugins")
    train = ("+method=third", "task=train", f"data={package}/data/water.extxyz", "method.training.epochs=60")
    alone = author("run", *train, "hydra.run.dir=alone")
    assert "verdict" in alone
    author("run", *train, "hydra.run.dir=two", "trainer.devices=2", "trainer.accelerator=cpu")
    results = [author.document(run) for run in ("alone", "two")]
    errors = [result["training"]["parts"]["test"]["energy_mae_kcal_mol"] for result in results]
    assert errors[1] == pytest.approx(errors[0], rel=0.05) and errors[0] < 10.0
    author("zoo", "add", "two", "--name", "third", "--zoo", str(tmp_path / "zoo"), "--licence", "MIT")
    handler = partial(SimpleHTTPRequestHandler, directory=str(tmp_path / "zoo"))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        url = f"http://127.0.0.1:{server.server_port}/"
        user = Environment(tmp_path / "user", wheels, "aiqm_fusion", "fusion_third")
        assert "digest verified" in user("zoo", "pull", url)
        server.shutdown()
    user("run", "+method=third", "weights=third", "hydra.run.dir=used")
    author("run", "+method=third", "weights=two", "hydra.run.dir=used")
    assert user.document("used")["energy"]["value"] == pytest.approx(
        author.document("used")["energy"]["value"], abs=1e-12
    )
    assert user.document("used")["weights"]["name"] == "third"


class Environment:
    """New virtual environment with wheels, a directory to work in and a cache of its own."""

    def __init__(self, place: Path, wheels: Path, *names: str) -> None:
        self.place = place
        venv.create(place / "venv", with_pip=False, symlinks=True)
        self.python = place / "venv" / "bin" / "python"
        (self.site,) = (place / "venv" / "lib").glob("python*/site-packages")
        (self.site / "dependencies.pth").write_text(f"{sysconfig.get_paths()['purelib']}\n")
        self.install(wheels, *names)

    def install(self, wheels: Path, *names: str) -> None:
        """Install the wheels of distributions."""
        for name in names:
            (wheel,) = wheels.glob(f"{name}-*.whl")
            pip = ("-m", "pip", "install", "--quiet", "--no-deps", "--no-index", "--target", str(self.site), str(wheel))
            subprocess.run([sys.executable, *pip], check=True, capture_output=True)

    def __call__(self, *words: str) -> str:
        """Run a command of fusion; returns its output."""
        variables = {name: value for name, value in os.environ.items() if not name.startswith(("FUSION_", "PYTHON"))}
        variables |= {"OMP_NUM_THREADS": "1", "FUSION_CACHE": str(self.place / "cache"), "MPLBACKEND": "Agg"}
        done = subprocess.run(
            [self.python, "-P", "-m", "fusion", *words],
            env=variables,
            cwd=self.place,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, (words, done.stdout, done.stderr)
        return done.stdout

    def document(self, run: str) -> dict[str, Any]:
        """Result of a run."""
        content: dict[str, Any] = json.loads((self.place / run / "result.json").read_text())
        return content
