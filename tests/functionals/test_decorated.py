"""PySCF's decorations of a mean field set the occupations, as with a conventional functional."""

from typing import Any

import numpy as np
import pytest
from pyscf import dft, gto
from pyscf.scf import addons
from torch import nn

from functional_models import ExactExchange, PBEExchange
from fusion.functionals import kohn_sham

OXYGEN = gto.M(atom="O 0 0 0", basis="sto-3g", verbose=0)
BORON = gto.M(atom="B 0 0 0", basis="sto-3g", spin=1, verbose=0)
NITROGEN = gto.M(atom="N 0 0 0; N 0 0 2.2", basis="sto-3g", verbose=0)


def conventional(mol: gto.Mole) -> Any:
    mean_field = (dft.UKS if mol.spin else dft.RKS)(mol, xc="PBE,")
    mean_field.grids.level = 1
    return mean_field


@pytest.mark.parametrize("functional", [PBEExchange(), ExactExchange()])
def test_degenerate_orbitals_share_electrons(functional: nn.Module) -> None:
    mean_field = addons.frac_occ(kohn_sham(OXYGEN, functional, grid_level=1))
    mean_field.kernel()
    assert mean_field.converged
    assert mean_field.mo_occ == pytest.approx([2.0, 2.0, 4 / 3, 4 / 3, 4 / 3])


@pytest.mark.parametrize(
    ("mol", "decorate"),
    [
        (OXYGEN, addons.frac_occ),
        (BORON, addons.frac_occ),
        (NITROGEN, lambda mean_field: addons.smearing(mean_field, sigma=0.02)),
        (NITROGEN, lambda mean_field: mean_field.smearing(sigma=0.02)),
    ],
)
def test_occupations_are_those_of_the_same_conventional_functional(mol: gto.Mole, decorate: Any) -> None:
    expected = decorate(conventional(mol))
    learned = decorate(kohn_sham(mol, PBEExchange(), grid_level=1))
    assert learned.kernel() == pytest.approx(expected.kernel(), abs=1e-6)
    assert np.sort(learned.mo_occ) == pytest.approx(np.sort(expected.mo_occ), abs=1e-4)
    assert learned.fractional


def test_an_excited_state_held_by_overlap_does_not_collapse() -> None:
    mol = gto.M(atom="H 0 0 0; F 0 0 0.92", basis="6-31g", spin=0, verbose=0)
    ground = kohn_sham(mol, PBEExchange(), grid_level=1, reference="uks", start=None)
    ground.kernel()
    numbers = ground.mo_occ.copy()
    numbers[0][[4, 5]] = 0.0, 1.0
    excited = kohn_sham(mol, PBEExchange(), grid_level=1, reference="uks")
    density = excited.make_rdm1(ground.mo_coeff, numbers)
    excited = addons.mom_occ(excited, ground.mo_coeff, numbers)
    excited.kernel(density)
    assert excited.converged
    assert excited.e_tot > ground.e_tot + 0.2
    assert excited.mo_occ[0].sum() == 5 and "not the lowest" in excited.remarks[0]
