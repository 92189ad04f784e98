"""Partial charges of atoms that add up to the charge of their molecule, and its dipole. Atomic units.

Unke and Meuwly, J. Chem. Theory Comput. 15, 3678 (2019): what networks say of single atoms adds up to any charge; what
is too much or missing is shared out evenly.
"""

from __future__ import annotations

import torch
from torch import Tensor


def balanced(charges: Tensor, system: Tensor, total: Tensor) -> Tensor:
    """(M, N) e: the `charges` (M, N) of M members on atoms of `system` (N,), moved by the same amount in each of the B
    systems so that they add up to `total` (B,)."""
    excess = total - charges.new_zeros(len(charges), len(total)).index_add(1, system, charges)
    return charges + (excess / torch.bincount(system, minlength=len(total)))[:, system]


def dipoles(charges: Tensor, positions: Tensor, system: Tensor, systems: int) -> Tensor:
    """(M, B, 3) e bohr: sums of `charges` (M, N) times `positions` (N, 3), bohr, over the atoms of each system.

    The dipole of an ion is that with respect to the origin of the coordinates.
    """
    terms = charges[:, :, None] * positions.to(charges.dtype)
    return terms.new_zeros(len(charges), systems, 3).index_add(1, system, terms)
