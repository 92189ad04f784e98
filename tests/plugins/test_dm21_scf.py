"""Self-consistent energies with the published DM21 functionals: those of the original implementation, and states to
which it does not converge."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ase import Atoms
from pyscf import gto

import fusion
from fusion.chemistry.system import System
from fusion.functionals import FunctionalMethod

DATA = os.environ.get("FUSION_TEST_DATA")
pytestmark = pytest.mark.skipif(DATA is None, reason="FUSION_TEST_DATA names no directory of published weights")

SLOW = {"N2 DM21", "NH3 DM21", "Ne DM21", "HF DM21", "N DM21", "He DM21"}
TOLERANCE = 5e-6
"""Tolerance in hartree: the original computes in single precision."""


def cases() -> list[Any]:
    if DATA is None:
        return []
    content = json.loads((Path(DATA) / "reference" / "dm21_reference.json").read_text())
    parameters = []
    for case in content["systems"]:
        name = f"{case['name']} {case['functional']}"
        parameters.append(pytest.param(case, id=name, marks=pytest.mark.slow if name in SLOW else ()))
    return parameters


@pytest.fixture(autouse=True, scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Take the zoo's models from the directory of published weights."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FUSION_MIRROR", str(Path(str(DATA)) / "weights"))
        patch.setenv("FUSION_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


def molecule(atom: str, basis: str, spin: int = 0, charge: int = 0) -> gto.Mole:
    return gto.M(atom=atom, basis=basis, spin=spin, charge=charge, verbose=0)


@pytest.mark.parametrize("case", cases())
def test_energies_match_the_original_implementation(case: dict[str, Any]) -> None:
    mol = molecule(case["atom"], case["basis"], case["spin"], case["charge"])
    mean_field = fusion.kohn_sham(mol, case["functional"].lower(), grid_level=case["grid_level"])
    energy = mean_field.kernel()
    assert np.count_nonzero(mean_field.grids.weights) == case["n_grid"]
    assert mean_field.converged
    assert energy == pytest.approx(case["energy"], abs=TOLERANCE)
    dipole = np.linalg.norm(mean_field.dip_moment(verbose=0))
    assert dipole == pytest.approx(np.linalg.norm(case["dipole_debye"]), abs=2e-4)
    filled = np.asarray(mean_field.mo_energy)[np.asarray(mean_field.mo_occ) > 0]
    assert filled.max() == pytest.approx(case["mo_energy_homo"], abs=2e-4)


@pytest.mark.parametrize(
    ("distance", "points", "energy"),
    [
        pytest.param(3.0, 4944, -0.95574, marks=pytest.mark.slow),
        pytest.param(5.0, 4942, -0.96382, marks=pytest.mark.slow),
    ],
)
def test_stretched_hydrogen_converges_to_its_closed_shell(distance: float, points: int, energy: float) -> None:
    """The original stops after 50 cycles at a much higher energy, with one electron more at one nucleus."""
    mean_field = fusion.kohn_sham(molecule(f"H 0 0 0; H 0 0 {distance}", "cc-pvdz"), "dm21", grid_level=1)
    assert mean_field.kernel() == pytest.approx(energy, abs=1e-5)
    assert mean_field.converged
    assert np.count_nonzero(mean_field.grids.weights) == points
    assert np.linalg.norm(mean_field.dip_moment(verbose=0)) < 1e-3
    assert "level shift" in [attempt.name for attempt in mean_field.attempts]
    assert mean_field.remarks[0].endswith("above an empty one, in a minimum of the energy")


@pytest.mark.parametrize(
    ("name", "occupations", "energy"),
    [
        ("dm21", ([0.5], []), -0.2513),
        pytest.param("dm21m", ([0.5], []), -0.2794, marks=pytest.mark.slow),
        pytest.param("dm21", ([0.5], [0.5]), -0.5000, marks=pytest.mark.slow),
        ("dm21m", ([0.5], [0.5]), -0.4290),
    ],
)
def test_hydrogen_with_fractional_electrons(name: str, occupations: Any, energy: float) -> None:
    """DM21 gives half an electron -1/4 hartree and half a spin -1/2; DM21m was not trained for either."""
    mean_field = fusion.kohn_sham(molecule("H 0 0 0", "cc-pvdz", spin=1), name, occupations=occupations)
    assert mean_field.kernel() == pytest.approx(energy, abs=5e-5)
    assert mean_field.converged


def test_the_order_of_the_spins_matters_unless_symmetrised() -> None:
    """The published network is not symmetric in the spins; the mean over both orders is, and lies between them."""
    mol = molecule("Li 0 0 0", "def2-svp", spin=1)
    orders = (([1, 1], [1]), ([1], [1, 1]))
    plain = [fusion.kohn_sham(mol, "dm21", grid_level=0, occupations=order).kernel() for order in orders]
    mean = [
        fusion.kohn_sham(mol, "dm21", grid_level=0, occupations=order, symmetrize=True).kernel() for order in orders
    ]
    assert abs(plain[0] - plain[1]) > 1e-5
    assert mean[0] == pytest.approx(mean[1], abs=1e-8)
    assert min(plain) < mean[0] < max(plain)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "energy"),
    [("dm21", -126.898914), ("dm21m", -126.907632), ("dm21mc", -126.924723), ("dm21mu", -126.898815)],
)
def test_neon_in_the_minimal_basis(name: str, energy: float) -> None:
    """Energies are those of the original tests, on the grids of the current PySCF."""
    mean_field = fusion.kohn_sham(molecule("Ne 0 0 0", "sto-3g"), name)
    assert mean_field.kernel() == pytest.approx(energy, abs=TOLERANCE)


def test_from_the_command_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """A run with half an electron reports the occupations and compares with no reference."""
    monkeypatch.chdir(tmp_path)
    words = ["+method=dm21", "system=h", "method.basis=cc-pvdz", "method.grid_level=1", "hydra.run.dir=run"]
    result = fusion.run([*words, "method.occupations=[[0.5],[]]"])
    assert result.energy == pytest.approx(-0.2513, abs=5e-4)
    document = json.loads((tmp_path / "run" / "result.json").read_text())
    assert document["kohn_sham"]["occupations"] == [[0.5], []] and document["reference"] is None
    assert document["weights"]["name"] == "dm21" and document["status"] == "ok"
    out = capfd.readouterr().out
    assert "occupations      0.5 up" in out and "UKS, cc-pvdz, grid level 1 (2,472 points)" in out


def test_a_failed_scf_leaves_its_density(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    words = ["+method=dm21", "system=he", "method.basis=sto-3g", "method.grid_level=0", "hydra.run.dir=run"]
    result = fusion.run([*words, "method.basis=6-31g", "method.max_cycle=1", "method.conv_tol=1e-14"])
    assert result.status == "not_converged"
    assert str(result.message).endswith("; the last density is in scf.chk")
    assert (tmp_path / "run" / "scf.chk").is_file()
    document = json.loads((tmp_path / "run" / "result.json").read_text())
    assert document["status"] == "not_converged" and document["kohn_sham"]["attempts"]


def test_as_a_calculator_of_ase() -> None:
    atoms = Atoms("H2", [(0, 0, 0), (0, 0, 0.8)])
    atoms.calc = fusion.calculator("dm21", basis="6-31g", grid_level=1)
    force = atoms.get_forces()[1, 2]
    energies = []
    for step in (-0.005, 0.005):
        moved = atoms.copy()
        moved.positions[1, 2] += step
        moved.calc = atoms.calc
        energies.append(moved.get_potential_energy())
    assert force == pytest.approx((energies[0] - energies[1]) / 0.01, abs=2e-3)
    assert atoms.calc.name == "dm21"


def test_elements_outside_the_training_set_are_named() -> None:
    zinc = System("zn", ("Zn",), np.zeros((1, 3)), charge=2, spin=0)
    (result,) = FunctionalMethod("dm21", {}, basis="sto-3g", grid_level=0, weights="dm21").calculate([zinc], {"energy"})
    assert result.status == "ok"
    assert result.message is not None and "not trained on Zn" in result.message


@pytest.mark.slow
def test_hydrogen_near_the_limit_of_the_basis() -> None:
    """The reference is the value that the authors print with their code."""
    energy = fusion.kohn_sham(molecule("H 0 0 0", "def2-qzvp", spin=1), "dm21").kernel()
    assert energy == pytest.approx(-0.5011533955627797, abs=TOLERANCE)
