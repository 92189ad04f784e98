"""Populations add up to the charge and the spin, and follow the density."""

from __future__ import annotations

import numpy as np
import pytest
from pyscf import gto, scf

from fusion.scf.populations import populations

WATER = "O 0 0 0; H 0 0.757 0.587; H 0 -0.757 0.587"


@pytest.mark.parametrize(("charge", "kind"), [(0, scf.RHF), (1, scf.ROHF), (1, scf.UHF)])
def test_sums(charge: int, kind: type) -> None:
    """Charges add up to that of the molecule and spins to its unpaired electrons; equal atoms have equal numbers."""
    found = populations(kind(gto.M(atom=WATER, basis="6-31g", charge=charge, spin=charge, verbose=0)).run())
    assert found["charges"].sum() == pytest.approx(charge, abs=1e-9)
    assert found["spin_populations"].sum() == pytest.approx(charge, abs=1e-9)
    assert found["charges"][1] == pytest.approx(found["charges"][2], abs=1e-5)
    assert found["charges"][0] < found["charges"][1]


def test_a_hole_stays_on_one_of_two_distant_atoms() -> None:
    """Unrestricted Hartree-Fock of He and Ne+ far apart: all of the charge and spin is on one atom."""
    mol = gto.M(atom="He 0 0 0; Ne 0 0 8", basis="6-31g", charge=1, spin=1, verbose=0)
    found = populations(scf.UHF(mol).run())
    assert found["charges"] == pytest.approx([0, 1], abs=1e-3)
    assert found["spin_populations"] == pytest.approx([0, 1], abs=1e-3)


def test_rotation() -> None:
    """Charges do not depend on the orientation."""
    angle = 0.7
    turn = np.array([[1, 0, 0], [0, np.cos(angle), np.sin(angle)], [0, -np.sin(angle), np.cos(angle)]])
    mol = gto.M(atom=WATER, basis="def2-svp", verbose=0)
    turned = mol.set_geom_(mol.atom_coords() @ turn, unit="bohr", inplace=False)
    one, other = (populations(scf.RHF(m).run(conv_tol=1e-11))["charges"] for m in (mol, turned))
    assert one == pytest.approx(other, abs=1e-6)


def test_only_what_is_wanted_and_no_ghosts() -> None:
    """A ghost atom has no entry; properties that are not wanted are not computed."""
    mol = gto.M(atom="He 0 0 0; ghost-He 0 0 2", basis="6-31g", verbose=0)
    found = populations(scf.RHF(mol).run(), {"charges", "energy"})
    assert set(found) == {"charges"} and found["charges"].shape == (1,)
    assert populations(None, {"energy"}) == {}
