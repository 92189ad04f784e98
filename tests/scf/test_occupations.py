"""Fractional occupations: exact straight lines of one electron, spherical open shells, refusals."""

import numpy as np
import pytest
from pyscf import gto, scf

from functional_models import ExactExchange, PBEExchange
from fusion.chemistry.system import System
from fusion.errors import InputError
from fusion.functionals import FunctionalMethod, kohn_sham
from fusion.scf.occupations import aufbau_broken_by, by_energy, canonical, coupling

HYDROGEN = gto.M(atom="H 0 0 0", basis="cc-pvdz", spin=1, verbose=0)
ATOM = System("h", ("H",), np.zeros((1, 3)), spin=1)


def test_exact_exchange_is_a_straight_line_in_the_charge_of_hydrogen() -> None:
    """A fraction of one electron does not interact with itself."""
    whole = float(scf.UHF(HYDROGEN).run().e_tot)
    for fraction in (0.25, 0.5, 1.0):
        ks = kohn_sham(HYDROGEN, ExactExchange(), grid_level=2, occupations=([fraction], []))
        assert ks.kernel() == pytest.approx(fraction * whole, abs=2e-6)
        assert ks.converged
        assert np.trace(ks.make_rdm1()[0] @ ks.get_ovlp()) == pytest.approx(fraction)


def test_exact_exchange_has_an_error_for_fractional_spins() -> None:
    """Half an electron of either spin repels the other half: an error of Hartree-Fock theory that DM21 corrects."""
    ks = kohn_sham(HYDROGEN, ExactExchange(), grid_level=2, occupations=([0.5], [0.5]))
    ks.kernel()
    up, down = ks.make_rdm1()
    coulomb = np.einsum("ij,ij", ks.get_j(dm=up), down)
    assert ks.e_tot == pytest.approx(np.einsum("ij,ij", ks.get_hcore(), up + down) + coulomb, abs=2e-6)
    assert ks.e_tot > float(scf.UHF(HYDROGEN).run().e_tot) + 0.05


def test_equal_fractions_in_p_orbitals_give_a_spherical_atom() -> None:
    mol = gto.M(atom="B 0 0 0", basis="6-31g", spin=1, verbose=0)
    third = 1.0 / 3.0
    ks = kohn_sham(mol, PBEExchange(), grid_level=2, occupations=([1, 1, third, third, third], [1, 1]))
    ks.kernel()
    assert ks.converged
    assert np.ptp(ks.mo_energy[0][2:5]) < 1e-3  # the grid has only the symmetry of a cube
    quadrupole = np.einsum("xyij,ij->xy", mol.intor("int1e_rr").reshape(3, 3, mol.nao, mol.nao), sum(ks.make_rdm1()))
    np.testing.assert_allclose(quadrupole, np.eye(3) * quadrupole[0, 0], atol=1e-4)
    with pytest.raises(NotImplementedError, match="fractional"):
        ks.spin_square()
    with pytest.raises(NotImplementedError, match="empty or full"):
        ks.newton()


def test_integer_occupations_equal_those_of_the_spin() -> None:
    usual = kohn_sham(HYDROGEN, PBEExchange(), grid_level=0)
    given = kohn_sham(HYDROGEN, PBEExchange(), grid_level=0, occupations=([1], [0]))
    assert given.kernel() == pytest.approx(usual.kernel(), abs=1e-9)
    assert given.spin_square()[0] == pytest.approx(0.75)


def test_rotations_among_equally_occupied_orbitals_change_nothing() -> None:
    generator = np.random.default_rng(0)
    fock = generator.normal(size=(4, 4))
    fock += fock.T
    numbers = np.array([1.0, 0.5, 0.5, 0.0])
    energies, orbitals = canonical(np.eye(4), numbers, fock)
    assert coupling(orbitals, numbers, fock).shape == (5,)
    rotated = orbitals.T @ fock @ orbitals
    assert rotated[1, 2] == pytest.approx(0.0, abs=1e-12)
    np.testing.assert_allclose(np.diag(rotated), energies)
    np.testing.assert_allclose(by_energy(np.array([3.0, 1.0, 2.0]), np.array([1.0, 0.25])), [0.0, 1.0, 0.25])
    assert aufbau_broken_by(np.array([-1.0, -0.5, -0.7]), np.array([1.0, 1.0, 0.0])) == pytest.approx(0.2)
    assert aufbau_broken_by(np.array([-1.0, -0.9, -0.7]), np.array([1.0, 0.5, 0.0])) == 0.0


@pytest.mark.parametrize(
    ("occupations", "message"),
    [
        ([[1.5], []], "between 0 and 1; spin up has 1.5"),
        ([[-0.5], [1]], "spin up has -0.5"),
        ([[1] * 9, []], "of 9 orbitals of spin up; the basis has only 5"),
        ([1, 0], "two lists"),
        ([[1]], "two lists"),
        ([[0.0], []], "without any electron"),
    ],
)
def test_refusals(occupations: object, message: str) -> None:
    method = FunctionalMethod("t", PBEExchange(), basis="cc-pvdz", occupations=occupations)
    with pytest.raises(InputError, match=message):
        method.check([ATOM])
