"""Basis functions without nuclei in calculations with learned functionals, and binding energies with them."""

from __future__ import annotations

import numpy as np
import pytest
from pyscf import dft, gto

from functional_models import SlaterExchange
from fusion.chemistry.system import System
from fusion.chemistry.units import ANGSTROM_PER_BOHR
from fusion.errors import InputError
from fusion.functionals import FunctionalMethod
from fusion.functionals.scf.kohn_sham import molecule
from fusion.scf.ghosts import Ghost

FLUORIDE = System("hf", ("F", "H"), np.array([[0.0, 0.0, 0.0], [0.3, 0.4, 1.6]]))
PLACE = (0.2, 0.0, 5.0)


def in_pair(system: System, *ghosts: tuple[object, ...]) -> FunctionalMethod:
    placed = [[symbol, *(ANGSTROM_PER_BOHR * float(x) for x in place)] for symbol, *place in ghosts]
    return FunctionalMethod(
        "t", SlaterExchange(), basis="6-31g", grid_level=0, start=None, ghosts=placed, conv_tol=1e-11
    )


def test_ghosts_have_basis_functions_and_a_grid_as_in_pyscf() -> None:
    mol = gto.M(
        atom=[("F", (0, 0, 0)), ("H", (0.3, 0.4, 1.6)), ("ghost-He", PLACE)], unit="B", basis="6-31g", verbose=0
    )
    expected = dft.RKS(mol, xc="lda,").set(conv_tol=1e-11)
    expected.grids.level = 0
    (result,) = in_pair(FLUORIDE, ("He", *PLACE)).calculate([FLUORIDE], {"energy", "forces"})
    assert result.energy == pytest.approx(expected.kernel(), abs=1e-9)
    assert result.details["kohn_sham"]["functions"] == mol.nao
    complex_of_two = gto.M(atom=[("F", (0, 0, 0)), ("H", (0.3, 0.4, 1.6)), ("He", PLACE)], unit="B", verbose=0)
    grid = dft.gen_grid.Grids(complex_of_two).set(level=0).build()
    np.testing.assert_allclose(np.sort(expected.grids.weights), np.sort(grid.weights))  # that of the whole complex


def test_forces_beside_a_ghost_are_derivatives_of_the_energy() -> None:
    method = in_pair(FLUORIDE, ("He", *PLACE))
    forces = method.calculate([FLUORIDE], {"energy", "forces"})[0].properties["forces"]
    assert np.shape(forces) == (2, 3)
    step = np.zeros((2, 3))
    step[1] = 0.002 * np.array([0.6, 0.0, 0.8])
    places = [FLUORIDE.positions + sign * step for sign in (1, -1)]
    ahead, behind = (each.energy for each in method.calculate([FLUORIDE.moved(place) for place in places], {"energy"}))
    assert np.asarray(forces)[1] @ [0.6, 0.0, 0.8] == pytest.approx(-(ahead - behind) / 0.004, abs=1e-5)


def test_a_ghost_of_another_element_has_the_basis_of_its_element() -> None:
    mol = molecule(FLUORIDE, "sto-3g", [Ghost("H", PLACE)])
    assert mol.nao == 7 and mol.nelectron == 10 and mol.natm == 3


def test_ghosts_are_refused_in_a_solvent() -> None:
    with pytest.raises(InputError, match="no cavity around atoms without nuclei"):
        FunctionalMethod("t", SlaterExchange(), ghosts="H 0 0 3", solvent="water")
