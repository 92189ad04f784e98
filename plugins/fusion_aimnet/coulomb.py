"""Coulomb energy of partial charges beyond the short distances that AIMNet2's network describes. Atomic units."""

from __future__ import annotations

import math
from typing import Final

import torch
from torch import Tensor

from fusion.chemistry.units import ANGSTROM_PER_BOHR, BOHR_PER_ANGSTROM
from fusion.potentials import Neighbours

LONGEST: Final = 15.0 * BOHR_PER_ANGSTROM
"""Distance in bohr up to which charges of a crystal interact."""
_DAMPING: Final = 0.2 * ANGSTROM_PER_BOHR
_EDGE: Final = 1e-6


def coulomb(charges: Tensor, pairs: Neighbours, screening: Tensor, periodic: Tensor) -> Tensor:
    """Energies (B,) in hartree, float64, of the `charges` (N,) in systems of which `periodic` (B,) are crystals.

    A smooth fraction of the interaction is left out: 1 at the distance 0, and 0 from `screening` (bohr) on.
    """
    distances, owner = pairs.distances, pairs.system[pairs.centre]
    ratio = (distances / screening).clamp(max=1.0 - _EDGE)
    whole, left_out = 1.0 / distances, torch.exp(1.0 - 1.0 / (1.0 - ratio.square())) / distances
    if crystals := bool(periodic.any()):
        whole = torch.where(periodic[owner], _shifted(distances), whole)
    terms = 0.5 * charges[pairs.centre] * charges[pairs.other] * (whole - left_out)
    energy = torch.zeros(len(periodic), dtype=torch.float64, device=terms.device).index_add(0, owner, terms.double())
    if crystals:
        itself = _SELF * charges.square() * periodic[pairs.system]
        energy = energy.index_add(0, pairs.system, itself.double())
    return energy


_AT_END: Final = math.erfc(_DAMPING * LONGEST) / LONGEST
_SLOPE: Final = _AT_END / LONGEST + 2 * _DAMPING / math.sqrt(math.pi) * math.exp(-((_DAMPING * LONGEST) ** 2)) / LONGEST
_SELF: Final = -(0.5 * _AT_END + _DAMPING / math.sqrt(math.pi))


def _shifted(distances: Tensor) -> Tensor:
    """Damped interaction of two unit charges, shifted so that it and its slope vanish at `LONGEST`.

    Fennell, Gezelter, J. Chem. Phys. 124, 234104 (2006); the published calculator uses it for crystals.
    """
    values = torch.erfc(_DAMPING * distances) / distances - _AT_END + _SLOPE * (distances - LONGEST)
    return torch.where(distances < LONGEST, values, 0.0)
