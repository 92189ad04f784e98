"""Hartree-Fock references: published limits, open shells, instabilities and missing basis sets."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from pyscf import gto, lib, scf

from fusion.chemistry.system import System
from fusion.errors import CalculationError, InputError
from fusion.wavefunctions import hartree_fock as module
from fusion.wavefunctions.hartree_fock import hartree_fock, hartree_fock_limit


def system(symbols: str, distance: float = 0.0, charge: int = 0, spin: int = 0) -> System:
    """Nuclei on the z axis, neighbours `distance` bohr apart."""
    names = tuple(symbols.split())
    positions = np.array([[0.0, 0.0, i * distance] for i in range(len(names))])
    return System(name="".join(names), symbols=names, positions=positions, charge=charge, spin=spin)


LITHIUM_HYDRIDE = system("Li H", 3.015)


# Literature values of the Hartree-Fock limit.
@pytest.mark.parametrize(
    ("target", "basis", "limit", "tolerance"),
    [
        (system("H", spin=1), "cc-pVQZ", -0.5, 1e-4),
        (system("He"), "cc-pVQZ", -2.86168, 2e-4),
        (LITHIUM_HYDRIDE, "cc-pVQZ", -7.98737, 3e-4),
        (system("H", charge=-1), "aug-cc-pVQZ", -0.48793, 2e-4),
    ],
)
def test_limit_is_close_to_the_complete_basis(target: Any, basis: str, limit: float, tolerance: float) -> None:
    result = hartree_fock_limit(target)
    assert result.converged and result.basis == basis
    assert 0 <= result.energy - limit < tolerance


def test_lithium_hydride_matches_pyscf_and_gives_its_determinant() -> None:
    result = hartree_fock(LITHIUM_HYDRIDE)
    mol = gto.M(atom="Li 0 0 0; H 0 0 3.015", unit="Bohr", basis="cc-pVDZ", verbose=0)
    reference = scf.RHF(mol).run(conv_tol=1e-11)
    assert (result.method, result.basis, result.spin_squared) == ("RHF", "cc-pVDZ", 0.0)
    assert result.energy == pytest.approx(reference.e_tot, abs=1e-8)
    electrons = np.random.default_rng(0).normal(size=(6, 4, 3))
    values = mol.eval_gto("GTOval", electrons.reshape(-1, 3)) @ reference.mo_coeff[:, :2]
    determinants = np.linalg.det(values.reshape(6, 2, 2, 2))
    sign, log = result.orbitals.slater_log(torch.tensor(electrons))
    psi = (sign * log.exp()).numpy()
    np.testing.assert_allclose(psi, determinants.prod(axis=1), rtol=1e-4, atol=1e-8)  # equal signs in both spins cancel


@pytest.mark.parametrize(
    ("target", "shapes"),
    [
        (system("H", spin=1), (1, 0)),
        (system("H H", 2.0, 1, 1), (1, 0)),
        (system("H H", 4.0, 0, 2), (2, 0)),
        (system("Li", spin=1), (2, 1)),
    ],
)
def test_open_shells(target: Any, shapes: Any) -> None:
    result = hartree_fock(target)
    up, down = result.orbitals(torch.randn(3, target.n_electrons, 3))
    assert result.method == "UHF" and result.converged
    assert result.spin_squared == pytest.approx(target.spin / 2 * (target.spin / 2 + 1), abs=1e-3)
    assert [up.shape, down.shape] == [(3, n, n) for n in shapes]
    sign, log = result.orbitals.slater_log(torch.randn(3, target.n_electrons, 3))
    assert sign.shape == (3,) and log.isfinite().all()


def test_degenerate_square() -> None:
    square = System("H4", ("H",) * 4, np.array([[0, 0, 0], [2.0, 0, 0], [0, 2.0, 0], [2.0, 2.0, 0]]))
    assert hartree_fock(square).converged


def test_anions_are_bound_by_default() -> None:
    anion = hartree_fock(system("H", charge=-1))
    assert anion.basis == "aug-cc-pVTZ" and anion.energy < -0.487
    assert hartree_fock(system("H", charge=-1), basis="cc-pVDZ").energy > -0.46


def test_instabilities_are_followed() -> None:
    """From PySCF's guess, titanium converges to a saddle point 11 mHa above the minimum."""
    titanium = system("Ti", spin=2)
    mol = gto.M(atom="Ti", spin=2, basis="cc-pVDZ", verbose=0)
    plain = scf.UHF(mol).run()
    assert plain.converged and hartree_fock(titanium).energy < plain.e_tot - 1e-3


def test_elements_without_the_basis_get_another_one_and_are_named() -> None:
    hydride = system("K H", 4.2)
    assert hartree_fock(hydride).basis == "def2-SVP, cc-pVDZ for H"
    assert module.assigned(system("I", spin=1), module.PRETRAINING) == {"I": "DZP"}  # def2 would need a core potential
    with pytest.raises(InputError, match="no all-electron basis for I in def2-SVP"):
        hartree_fock(system("I", spin=1), basis="def2-SVP")
    with pytest.raises(InputError, match="no all-electron basis for H in nonsense"):
        hartree_fock(system("H", spin=1), basis="nonsense")


def test_large_molecules_get_a_smaller_limit_basis(monkeypatch: pytest.MonkeyPatch) -> None:
    for allowed, basis in ((50, "cc-pVTZ"), (30, "cc-pVDZ"), (1, "cc-pVDZ")):
        monkeypatch.setattr(module, "LIMIT_FUNCTIONS", allowed)
        assert hartree_fock_limit(LITHIUM_HYDRIDE).basis == basis


@pytest.mark.parametrize("second_order_works", [True, False])
def test_falls_back_to_second_order_or_raises(second_order_works: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    from pyscf.soscf.newton_ah import _CIAH_SOSCF

    def unconverged(kernel: Callable[..., Any]) -> Callable[..., None]:
        def run(field: Any, *args: Any, **kwargs: Any) -> None:
            kernel(field, *args, **kwargs)
            field.converged = False

        return run

    monkeypatch.setattr(scf.hf.SCF, "kernel", unconverged(scf.hf.SCF.kernel))
    if second_order_works:
        assert hartree_fock(LITHIUM_HYDRIDE).energy == pytest.approx(-7.983619, abs=1e-5)
        return
    monkeypatch.setattr(_CIAH_SOSCF, "kernel", unconverged(_CIAH_SOSCF.kernel))
    with pytest.raises(CalculationError, match="Hartree-Fock in cc-pVDZ did not converge"):
        hartree_fock(LITHIUM_HYDRIDE)


def test_results_are_reproducible_without_output_or_files(
    capfd: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(lib.param, "TMPDIR", str(tmp_path))
    first, second = hartree_fock(LITHIUM_HYDRIDE), hartree_fock(LITHIUM_HYDRIDE)
    assert first.energy == second.energy
    assert torch.equal(first.orbitals.up, second.orbitals.up)
    assert capfd.readouterr() == ("", "")
    assert not list(tmp_path.iterdir())


def test_the_leading_coefficient_is_positive() -> None:
    orbitals = np.array([[-1.0, 0.5], [1.0 + 1e-9, -0.8], [0.2, 0.1]])  # a tie goes to the first, whatever the rounding
    np.testing.assert_array_equal(module.fix_signs(orbitals), orbitals * -1)
    assert module.fix_signs(np.zeros((3, 0))).shape == (3, 0)
