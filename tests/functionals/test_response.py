"""Change of a learned potential with the density, against differences, Hartree-Fock theory and libxc."""

import numpy as np
import pytest
from pyscf import dft, gto, scf
from torch import nn

from functional_models import (
    OXYGEN_HYDRIDE,
    WATER,
    Everything,
    ExactExchange,
    Kinetic,
    PBEExchange,
    SlaterExchange,
    WholeGrid,
)
from fusion.chemistry.system import System
from fusion.functionals import kohn_sham
from fusion.functionals.scf.kohn_sham import molecule


def mean_field(system: System, model: nn.Module, level: int = 0) -> object:
    return kohn_sham(molecule(system, "6-31g"), model, grid_level=level, start=None)


def some_change(like: np.ndarray, sign: int = 1) -> np.ndarray:
    """Random symmetric or antisymmetric matrix."""
    change = np.random.default_rng(3).normal(size=like.shape)
    return change + sign * change.swapaxes(-1, -2)


@pytest.mark.parametrize("system", [WATER, OXYGEN_HYDRIDE], ids=lambda system: system.name)
@pytest.mark.parametrize(
    "model",
    [SlaterExchange(), Kinetic(), Everything(), WholeGrid(Everything())],
    ids=["lda", "mgga", "everything", "whole grid"],
)
def test_response_is_the_derivative_of_the_potential(system: System, model: nn.Module) -> None:
    ks = mean_field(system, model)
    density = np.asarray(ks.get_init_guess(key="minao"))
    _, orbitals = ks.eig(ks.get_fock(dm=density), ks.get_ovlp())
    numbers = ks.get_occ(_, orbitals)
    density, step = np.asarray(ks.make_rdm1(orbitals, numbers)), 1e-4
    change = some_change(density) / 30.0
    computed = ks.gen_response(orbitals, numbers, hermi=1)(change)
    plus, minus = (np.asarray(ks.get_veff(dm=density + sign * step * change)) for sign in (1, -1))
    expected = (plus - minus) / (2.0 * step)
    assert np.abs(computed - expected).max() < 1e-6 * np.abs(expected).max()


@pytest.mark.parametrize("system", [WATER, OXYGEN_HYDRIDE], ids=lambda system: system.name)
@pytest.mark.parametrize("hermi", [1, 2, 0], ids=["symmetric", "antisymmetric", "any"])
def test_exact_exchange_responds_as_in_hartree_fock_theory(system: System, hermi: int) -> None:
    ks = mean_field(system, ExactExchange(), level=2)
    reference = (scf.RHF if system.spin == 0 else scf.UHF)(ks.mol).run()
    change = np.random.default_rng(3).normal(size=np.shape(reference.make_rdm1()))
    change = change if hermi == 0 else some_change(change, 1 if hermi == 1 else -1)
    computed, expected = (
        one.gen_response(reference.mo_coeff, reference.mo_occ, hermi=hermi)(change) for one in (ks, reference)
    )
    np.testing.assert_allclose(computed, expected, atol=2e-5 * np.abs(expected).max())


@pytest.mark.parametrize("singlet", [None, False], ids=["singlet", "triplet"])
def test_closed_shells_respond_as_with_libxc(singlet: bool | None) -> None:
    ks = mean_field(WATER, PBEExchange())
    reference = dft.RKS(ks.mol, xc="pbe,")
    reference.grids.level = 0
    reference.kernel()
    changes = np.stack([some_change(reference.make_rdm1()), np.asarray(reference.make_rdm1())])
    computed, expected = (
        one.gen_response(reference.mo_coeff, reference.mo_occ, singlet=singlet, hermi=1)(changes)
        for one in (ks, reference)
    )
    np.testing.assert_allclose(computed, expected, atol=1e-10)


@pytest.mark.parametrize("system", [WATER, OXYGEN_HYDRIDE], ids=lambda system: system.name)
def test_second_order_and_diis_reach_the_same_energy(system: System) -> None:
    ks = mean_field(system, Everything())
    energy = ks.kernel()
    newton = mean_field(system, Everything()).newton()
    assert newton.kernel() == pytest.approx(energy, abs=1e-8)
    assert newton.converged


@pytest.mark.parametrize("model", [PBEExchange(), WholeGrid(PBEExchange())], ids=["pointwise", "whole grid"])
def test_restricted_hydrogen_becomes_unstable_when_stretched(model: nn.Module) -> None:
    mol = gto.M(atom="H 0 0 0; H 0 0 2.5", basis="6-31g", verbose=0)
    ks = kohn_sham(mol, model, grid_level=0, start=None)
    ks.kernel()
    assert ks.stable()
    _, orbitals, internal, external = ks.stability(external=True, return_status=True)
    assert internal and not external
    unrestricted = ks.to_uks()
    assert not unrestricted.stable()
    broken = unrestricted.kernel(dm0=unrestricted.make_rdm1(np.array(orbitals), unrestricted.mo_occ))
    assert broken < ks.e_tot - 1e-3
    assert unrestricted.stable()


def test_an_unrestricted_copy_keeps_density_fitting_and_settings() -> None:
    mol = gto.M(atom="H 0 0 0; H 0 0 0.8", basis="6-31g", verbose=0)
    fitted = kohn_sham(mol, SlaterExchange(), grid_level=0, start=None, density_fit=True)
    fitted.set(level_shift=0.1, max_memory=1234)
    energy = fitted.kernel()
    unrestricted = fitted.to_uks()
    assert (unrestricted.level_shift, unrestricted.max_memory) == (0.1, 1234)
    assert unrestricted.kernel() == pytest.approx(energy, abs=1e-8)
    exact = kohn_sham(mol, SlaterExchange(), grid_level=0, start=None).kernel()
    assert abs(exact - energy) > 1e-6


def test_functionals_of_the_whole_grid_respond_as_pointwise_ones() -> None:
    """Symmetric and antisymmetric changes of an open shell."""
    pointwise, whole_grid = (mean_field(OXYGEN_HYDRIDE, model) for model in (Everything(), WholeGrid(Everything())))
    orbitals = np.stack([np.linalg.eigh(pointwise.get_hcore())[1]] * 2)
    numbers = pointwise.get_occ(np.zeros((2, orbitals.shape[-1])), orbitals)
    change = np.random.default_rng(3).normal(size=orbitals.shape)
    expected, computed = (one.gen_response(orbitals, numbers)(change) for one in (pointwise, whole_grid))
    np.testing.assert_allclose(computed, expected, atol=1e-6 * np.abs(expected).max())
