"""The analytic gradient of the published DM21 matches its energies."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
from pyscf import gto

import fusion

DATA = os.environ.get("FUSION_TEST_DATA")
pytestmark = pytest.mark.skipif(DATA is None, reason="FUSION_TEST_DATA names no directory of published weights")
STEP = 0.01
"""Displacement in bohr."""


@pytest.mark.parametrize(("atoms", "spin"), [("F 0 0 0; H 0.3 0.4 1.6", 0), ("O 0 0 0; H 0.3 0.4 1.7", 1)])
def test_gradient_matches_differences_of_fourth_order(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, atoms: str, spin: int
) -> None:
    monkeypatch.setenv("FUSION_MIRROR", str(Path(str(DATA)) / "weights"))
    monkeypatch.setenv("FUSION_CACHE", str(tmp_path))
    mol = gto.M(atom=atoms, unit="Bohr", basis="sto-3g", spin=spin, verbose=0)
    mean_field = fusion.kohn_sham(mol, "dm21", grid_level=0, conv_tol=1e-10)
    mean_field.conv_tol_grad = 1e-6
    mean_field.kernel()
    gradient = mean_field.nuc_grad_method().kernel()
    scanner, density = mean_field.as_scanner(), mean_field.make_rdm1()
    direction = np.array([0.6, 0.0, 0.8])
    energies = []
    for step in (-2.0, -1.0, 1.0, 2.0):
        coords = mol.atom_coords()
        coords[1] += step * STEP * direction
        energies.append(scanner(mol.set_geom_(coords, unit="Bohr", inplace=False), dm0=density))
    expected = (energies[0] - 8.0 * energies[1] + 8.0 * energies[2] - energies[3]) / (12.0 * STEP)
    assert mean_field.converged and scanner.converged
    assert gradient[1] @ direction == pytest.approx(expected, abs=1e-5)
    np.testing.assert_allclose(gradient.sum(axis=0), 0.0, atol=1e-9)
