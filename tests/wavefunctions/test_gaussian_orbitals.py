"""Gaussian orbitals in torch agree with PySCF."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from pyscf import gto

from fusion.wavefunctions.gaussian_orbitals import GaussianOrbitals

WATER = "O 0 0 0; H 0 0.757 0.587; H 0 -0.757 0.587"
NITROGEN = "N 0 0 0; N 0 0 1.1"


def molecule(atom: str, basis: str, **options: Any) -> gto.Mole:
    return gto.M(atom=atom, basis=basis, verbose=0, dump_input=False, parse_arg=False, **options)


def points(n: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(n, 3)) * 1.5


def orbitals(mol: gto.Mole, n_up: int, n_down: int) -> tuple[GaussianOrbitals, np.ndarray]:
    coefficients = np.random.default_rng(1).normal(size=(mol.nao, n_up + n_down))
    return GaussianOrbitals(mol, coefficients[:, :n_up], coefficients[:, n_up:]), coefficients


@pytest.mark.parametrize(
    ("atom", "basis", "options"),
    [
        (WATER, "cc-pVDZ", {}),
        (NITROGEN, "cc-pVQZ", {}),  # up to g
        ("H 0.1 0.2 -0.3", "aug-cc-pVTZ", {"charge": -1}),
        (WATER, "6-31G**", {"cart": True}),
        (NITROGEN, "cc-pVQZ", {"cart": True}),
        ("Ne 0 0 0", "cc-pV5Z", {}),  # up to h
        (NITROGEN, "ANO", {}),  # general contractions
    ],
)
def test_basis_functions_match_pyscf(atom: Any, basis: str, options: Any) -> None:
    mol = molecule(atom, basis, **options)
    grid = points(200)
    expected = mol.eval_gto("GTOval", grid)
    model, _ = orbitals(mol, 1, 1)
    values = model.atomic_orbitals(torch.tensor(grid))
    np.testing.assert_allclose(values.numpy(), expected, rtol=1e-10, atol=1e-14)
    single = model.atomic_orbitals(torch.tensor(grid, dtype=torch.float32))
    assert single.dtype == torch.float32
    np.testing.assert_allclose(single.numpy(), expected, rtol=1e-4, atol=3e-6 * np.abs(expected).max())


def test_orbitals_of_each_spin_and_their_determinants() -> None:
    mol = molecule(NITROGEN, "cc-pVDZ")
    model, coefficients = orbitals(mol, 3, 2)
    electrons = points(20).reshape(4, 5, 3)
    values = (mol.eval_gto("GTOval", electrons.reshape(-1, 3)) @ coefficients).reshape(4, 5, 5)
    up, down = model(torch.tensor(electrons))
    np.testing.assert_allclose(up.numpy(), values[:, :3, :3], rtol=1e-10)
    np.testing.assert_allclose(down.numpy(), values[:, 3:, 3:], rtol=1e-10)
    sign, log = model.slater_log(torch.tensor(electrons))
    psi = np.linalg.det(values[:, :3, :3]) * np.linalg.det(values[:, 3:, 3:])
    np.testing.assert_allclose((sign * log.exp()).numpy(), psi, rtol=1e-10)


def test_empty_spin_channel() -> None:
    model, _ = orbitals(molecule("H 0 0 0", "cc-pVDZ", spin=1), 1, 0)
    up, down = model(torch.zeros(7, 1, 3))
    assert up.shape == (7, 1, 1) and down.shape == (7, 0, 0)
    sign, log = model.slater_log(torch.zeros(7, 1, 3))
    assert sign.shape == log.shape == (7,)
    torch.testing.assert_close(log, up[:, 0, 0].abs().log())


def test_gradient_and_second_derivative() -> None:
    mol = molecule(WATER, "cc-pVTZ")
    model, _ = orbitals(mol, 1, 1)
    grid = points(5)
    x = torch.tensor(grid)
    jacobian = torch.func.vmap(torch.func.jacrev(model.atomic_orbitals))(x)  # (points, nao, 3)
    np.testing.assert_allclose(
        jacobian.permute(2, 0, 1).numpy(), mol.eval_gto("GTOval_ip", grid), rtol=1e-9, atol=1e-12
    )
    hessian = torch.func.vmap(torch.func.jacfwd(torch.func.jacrev(model.atomic_orbitals)))(x)
    second = mol.eval_gto("GTOval_sph_deriv2", grid)  # value, x y z, xx xy xz yy yz zz
    laplacian = second[4] + second[7] + second[9]
    np.testing.assert_allclose(hessian.diagonal(dim1=-2, dim2=-1).sum(-1).numpy(), laplacian, rtol=1e-9, atol=1e-10)


def test_gradient_at_a_nucleus_is_finite() -> None:
    model, _ = orbitals(molecule("He 0 0 0", "cc-pVDZ"), 1, 1)
    electrons = torch.zeros(1, 2, 3, requires_grad=True)
    model.slater_log(electrons)[1].sum().backward()
    assert electrons.grad is not None and electrons.grad.isfinite().all()


def test_constants_move_without_being_in_the_state_dict() -> None:
    model, _ = orbitals(molecule("He 0 0 0", "cc-pVDZ"), 1, 1)
    assert not model.state_dict() and not list(model.parameters())
    assert all(buffer.device.type == "meta" for buffer in model.to("meta").buffers())


def test_mismatched_shapes_are_refused() -> None:
    mol = molecule("He 0 0 0", "cc-pVDZ")
    with pytest.raises(ValueError, match="in a basis of 5"):
        GaussianOrbitals(mol, np.ones((4, 1)), np.ones((5, 1)))
    with pytest.raises(ValueError, match="3 electrons for 1 \\+ 1"):
        orbitals(mol, 1, 1)[0](torch.zeros(2, 3, 3))
