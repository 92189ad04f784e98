"""Partial charges of atoms that add up to the charge of their molecule, and its dipole. Atomic units.

Unke and Meuwly, J. Chem. Theory Comput. 15, 3678 (2019): a network predicts charges of single atoms, whose sum is not
the charge of the molecule. The difference is spread evenly over the atoms.
"""

from __future__ import annotations

import torch
from torch import Tensor


def balanced(charges: Tensor, system: Tensor, total: Tensor) -> Tensor:
    """Shift the `charges` (M, N) of M members so that they add up to `total` (B,) in each system; (M, N), e.

    All atoms of a system get the same shift. `system` (N,) is the system of each atom.
    """
    excess = total - charges.new_zeros(len(charges), len(total)).index_add(1, system, charges)
    return charges + (excess / torch.bincount(system, minlength=len(total)))[:, system]


def dipoles(charges: Tensor, positions: Tensor, system: Tensor, systems: int) -> Tensor:
    """Dipoles (M, B, 3), e bohr: sums of `charges` (M, N) times `positions` (N, 3), bohr, over the atoms of a system.

    The dipole of an ion refers to the origin of the coordinates.
    """
    terms = charges[:, :, None] * positions.to(charges.dtype)
    return terms.new_zeros(len(charges), systems, 3).index_add(1, system, terms)
