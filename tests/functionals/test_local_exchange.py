"""Integrals of local exchange against PySCF's, in memory and on the fly."""

import numpy as np
import pytest
from pyscf import gto

from fusion.functionals.local_exchange import LocalExchange

OMEGAS = (0.0, 0.4)
POINTS = 100
"""Not a multiple of the points that are worked on at once."""

MOLECULES = {
    "d functions": gto.M(atom="O 0 0 0; H 0 1.43 1.11; H 0.2 -1.43 1.11", unit="Bohr", basis="def2-svp", verbose=0),
    "Cartesian": gto.M(atom="N 0 0 0; H 0 0.3 1.9", unit="Bohr", basis="cc-pvdz", cart=True, verbose=0),
    "f and g functions": gto.M(atom="He 0 0 0; H 0.4 0.3 1.4", unit="Bohr", charge=1, basis="cc-pvqz", verbose=0),
    "far apart": gto.M(atom="Li 0 0 0; H 0 0 30", unit="Bohr", basis="6-31g", verbose=0),
}


def points(mol: gto.Mole) -> np.ndarray:
    """Points near and far, one on a nucleus."""
    rng = np.random.default_rng(1)
    spread = rng.normal(size=(POINTS, 3)) * rng.uniform(0.1, 20.0, (POINTS, 1))
    spread[0] = 0.0
    return mol.atom_coords()[rng.integers(mol.natm, size=POINTS)] + spread


def expected(mol: gto.Mole, coords: np.ndarray, vectors: np.ndarray) -> np.ndarray:
    """F from PySCF's integrals, (W, S, n, G)."""
    found = []
    for omega in OMEGAS:
        with mol.with_range_coulomb(omega):
            found.append(np.einsum("gbd,sdg->sbg", mol.intor("int1e_grids", grids=coords, hermi=1), vectors))
    return np.array(found)


@pytest.mark.parametrize("mol", MOLECULES.values(), ids=MOLECULES)
@pytest.mark.parametrize("spins", [1, 2])
def test_contractions_with_integrals_made_and_kept(mol: gto.Mole, spins: int) -> None:
    coords = points(mol)
    vectors = np.random.default_rng(2).normal(size=(spins, mol.nao, POINTS))
    exchange = LocalExchange(mol, OMEGAS)
    right = expected(mol, coords, vectors)
    np.testing.assert_allclose(exchange.contract(coords, vectors), right, rtol=0, atol=2e-11)
    stored = exchange.room(POINTS)
    exchange.integrals(coords, stored)
    np.testing.assert_allclose(exchange.contract(coords, vectors, stored), right, rtol=0, atol=2e-6)
    assert stored.nbytes <= exchange.stored_bytes * 128


def test_what_screening_leaves_out_is_small_where_it_matters() -> None:
    mol = MOLECULES["d functions"]
    coords = points(mol)
    vectors = mol.eval_gto("GTOval", coords).T[None]
    importance = np.abs(vectors).max(axis=(0, 1))
    exchange = LocalExchange(mol, OMEGAS)
    whole = exchange.contract(coords, vectors)
    for threshold in (1e-4, 1e-7):
        error = np.abs(exchange.contract(coords, vectors, None, importance, threshold) - whole) * importance
        assert 0 < error.max() < 100 * threshold


def test_integrals_know_of_no_other_molecule() -> None:
    """Two molecules at the same points, in turn."""
    one, two = MOLECULES["d functions"], MOLECULES["Cartesian"]
    coords = points(one)
    for mol in (one, two, one):
        vectors = np.ones((1, mol.nao, POINTS))
        found = LocalExchange(mol, OMEGAS).contract(coords, vectors)
        np.testing.assert_allclose(found, expected(mol, coords, vectors), rtol=0, atol=2e-11)
