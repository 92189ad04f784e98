"""Integrals of local exchange against PySCF's, stored and computed on the fly."""

import numpy as np
import pytest
from pyscf import gto

from fusion.functionals.local_exchange.cache import KeptIntegrals
from fusion.functionals.local_exchange.local_exchange import LocalExchange
from fusion.functionals.local_exchange.quantised import ENERGY, POTENTIAL

OMEGAS = (0.0, 0.4)
POINTS = 100
"""Number of points, not a multiple of CHUNK."""

MOLECULES = {
    "d functions": gto.M(atom="O 0 0 0; H 0 1.43 1.11; H 0.2 -1.43 1.11", unit="Bohr", basis="def2-svp", verbose=0),
    "Cartesian": gto.M(atom="N 0 0 0; H 0 0.3 1.9", unit="Bohr", basis="cc-pvdz", cart=True, verbose=0),
    "f and g functions": gto.M(atom="He 0 0 0; H 0.4 0.3 1.4", unit="Bohr", charge=1, basis="cc-pvqz", verbose=0),
    "far apart": gto.M(atom="Li 0 0 0; H 0 0 30", unit="Bohr", basis="6-31g", verbose=0),
}


def points(mol: gto.Mole) -> np.ndarray:
    """Points close to and far from nuclei, one on a nucleus."""
    rng = np.random.default_rng(1)
    spread = rng.normal(size=(POINTS, 3)) * rng.uniform(0.1, 20.0, (POINTS, 1))
    spread[0] = 0.0
    return mol.atom_coords()[rng.integers(mol.natm, size=POINTS)] + spread


def expected(mol: gto.Mole, coords: np.ndarray, vectors: np.ndarray) -> np.ndarray:
    """F from PySCF's integrals, (W, S, n, G)."""
    values = []
    for omega in OMEGAS:
        with mol.with_range_coulomb(omega):
            values.append(np.einsum("gbd,sdg->sbg", mol.intor("int1e_grids", grids=coords, hermi=1), vectors))
    return np.array(values)


@pytest.mark.parametrize("mol", MOLECULES.values(), ids=MOLECULES)
@pytest.mark.parametrize("spins", [1, 2])
def test_contractions_with_integrals_computed_on_the_fly(mol: gto.Mole, spins: int) -> None:
    coords = points(mol)
    vectors = np.random.default_rng(2).normal(size=(spins, mol.nao, POINTS))
    exchange = LocalExchange(mol, OMEGAS)
    right = expected(mol, coords, vectors)
    np.testing.assert_allclose(exchange.contract(coords, vectors), right, rtol=0, atol=2e-11)


@pytest.mark.parametrize("mol", MOLECULES.values(), ids=MOLECULES)
@pytest.mark.parametrize(("single", "tolerance"), [(False, 1.0), (True, 1e3)])
def test_kept_integrals_are_precise_enough(mol: gto.Mole, single: bool, tolerance: float) -> None:
    """Rounding loses a negligible part of every product's energy and potential, at any scale of the orbitals."""
    coords = points(mol)
    rng = np.random.default_rng(2)
    vectors = rng.normal(size=(2, mol.nao, POINTS)) * 10.0 ** rng.uniform(-8.0, -2.0, (1, mol.nao, 1))
    weights, largest = 10.0 ** rng.uniform(-6.0, 0.0, POINTS), np.ones(POINTS)
    exchange = LocalExchange(mol, OMEGAS)
    kept = KeptIntegrals(exchange, 1e7)
    computed = kept.contract(0, coords, weights, largest, vectors, single)
    assert computed is not None
    error = np.abs(computed - expected(mol, coords, vectors)) * weights
    assert error.max() < tolerance * mol.nao * POTENTIAL
    energy_error = np.abs(np.einsum("sbg,wsbg->wsg", np.abs(vectors), error))
    assert energy_error.max() < tolerance * mol.nao**2 * ENERGY


def test_integrals_are_rounded_again_where_the_density_has_grown() -> None:
    """The density grows from hydrogen's functions to all: integrals that were left out must return."""
    mol = MOLECULES["d functions"]
    coords = points(mol)
    weights = largest = np.ones(POINTS)
    kept = KeptIntegrals(LocalExchange(mol, OMEGAS), 1e7)
    vectors = np.random.default_rng(2).normal(size=(1, mol.nao, POINTS))
    few = vectors.copy()
    few[:, :20] = 0.0
    for shown in (few, vectors, few):
        computed = kept.contract(0, coords, weights, largest, shown)
        np.testing.assert_allclose(computed, expected(mol, coords, shown), rtol=0, atol=1e-6)


def test_no_integrals_are_kept_without_memory() -> None:
    mol = MOLECULES["d functions"]
    coords, vectors, ones = points(mol), np.ones((1, mol.nao, POINTS)), np.ones(POINTS)
    kept = KeptIntegrals(LocalExchange(mol, OMEGAS), 1e6)
    values = [kept.contract(index, coords, ones, ones, vectors) is not None for index in range(20)]
    assert values[0] and not values[-1] and len(kept) == sum(values)


def test_screened_integrals_are_negligible() -> None:
    mol = MOLECULES["d functions"]
    coords = points(mol)
    vectors = mol.eval_gto("GTOval", coords).T[None]
    importance = np.abs(vectors).max(axis=(0, 1))
    exchange = LocalExchange(mol, OMEGAS)
    whole = exchange.contract(coords, vectors)
    for threshold in (1e-4, 1e-7):
        error = np.abs(exchange.contract(coords, vectors, importance, threshold) - whole) * importance
        assert 0 < error.max() < 100 * threshold


def test_integrals_of_two_molecules_are_independent() -> None:
    """Alternate between two molecules at the same points."""
    one, two = MOLECULES["d functions"], MOLECULES["Cartesian"]
    coords = points(one)
    for mol in (one, two, one):
        vectors = np.ones((1, mol.nao, POINTS))
        computed = LocalExchange(mol, OMEGAS).contract(coords, vectors)
        np.testing.assert_allclose(computed, expected(mol, coords, vectors), rtol=0, atol=2e-11)
