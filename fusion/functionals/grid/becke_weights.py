"""Derivatives of quadrature weights by atomic positions: Becke's partition of space, differentiated by torch.

A grid point of atom A sits at a fixed offset from A and has the weight w = v P_A / sum_B P_B, where v is its share of
the atom's own quadrature, P_B = prod_C s(mu_BC), mu_BC = (|r - R_B| - |r - R_C|) / |R_B - R_C|, shifted for the sizes
of the atoms (Becke, J. Chem. Phys. 88, 2547 (1988); Treutler and Ahlrichs, J. Chem. Phys. 102, 346 (1995)).
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from pyscf.dft import gen_grid, radi
from torch import Tensor

ELEMENTS = 2_000_000
"""Pairs of atoms times grid points processed at once, about 200 MB."""


def check_differentiable(grids: Any) -> None:
    """Raise NotImplementedError unless the points of `grids` belong to atoms by Becke's original partition."""
    if grids.becke_scheme is not gen_grid.original_becke:
        raise NotImplementedError("gradients with grid response need grids.becke_scheme = original_becke")
    if grids.radii_adjust not in (None, radi.treutler_atomic_radii_adjust, radi.becke_atomic_radii_adjust):
        raise NotImplementedError("gradients with grid response need Treutler's or Becke's grids.radii_adjust, or None")
    if grids.atm_idx is None or len(grids.atm_idx) != len(grids.weights):
        raise NotImplementedError("gradients with grid response need grids that assign each point to an atom")


def weight_gradient(grids: Any, values: np.ndarray) -> np.ndarray:
    """Gradient (A, 3) of sum_g values_g w_g for values (G,) at the points of `grids`, which move with their atoms."""
    centres = torch.from_numpy(np.array(grids.mol.atom_coords()))
    shifts = _shifts(grids)
    gradient = torch.zeros_like(centres)
    chosen = np.flatnonzero((grids.atm_idx >= 0) & (values != 0.0))
    step = max(64, ELEMENTS // len(centres) ** 2)
    for start in range(0, len(chosen), step):
        points = chosen[start : start + step]
        owners = torch.from_numpy(grids.atm_idx[points]).long()
        offsets = torch.from_numpy(grids.coords[points]) - centres[owners]
        factors = torch.from_numpy(values[points] * grids.quadrature_weights[points])
        moved = centres.clone().requires_grad_(True)
        with torch.enable_grad():
            total = factors @ shares(moved, offsets, owners, shifts)
            gradient += torch.autograd.grad(total, moved)[0]
    return gradient.numpy()


def shares(centres: Tensor, offsets: Tensor, owners: Tensor, shifts: Tensor) -> Tensor:
    """Compute P_owner / sum P (G,) at the points `centres[owners] + offsets` for size shifts (A, A)."""
    coords = centres[owners] + offsets
    distances = torch.linalg.vector_norm(coords - centres[:, None], dim=-1)  # (A, G)
    same = torch.eye(len(centres), dtype=torch.bool)
    between = torch.linalg.vector_norm((centres[:, None] - centres).masked_fill(same[..., None], 1.0), dim=-1)
    smooth = (distances[:, None] - distances) / between[..., None]
    smooth = smooth + shifts[..., None] * (1.0 - smooth.square())
    for _ in range(3):
        smooth = 0.5 * smooth * (3.0 - smooth.square())
    cells = (0.5 - 0.5 * smooth).masked_fill(same[..., None], 1.0).prod(dim=1)
    return cells.gather(0, owners[None])[0] / cells.sum(dim=0)


def _shifts(grids: Any) -> Tensor:
    """Shifts a_BC (A, A) in mu + a (1 - mu^2), as in PySCF."""
    atoms = grids.mol.natm
    if grids.radii_adjust is None or grids.atomic_radii is None:
        return torch.zeros(atoms, atoms, dtype=torch.float64)
    adjusted = grids.radii_adjust(grids.mol, grids.atomic_radii)
    return torch.tensor([[adjusted(i, j, 0.0) for j in range(atoms)] for i in range(atoms)], dtype=torch.float64)
