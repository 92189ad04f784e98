"""The density on a grid as a functional sees it, spin-resolved and differentiable. Atomic units."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

import numpy as np
import torch
from torch import Tensor

FEATURES: Final[frozenset[str]] = frozenset({"rho", "grad", "tau", "coords", "weights"})
"""What a functional can ask for, besides local Hartree-Fock exchange "hfx:OMEGA"."""


@dataclass(frozen=True)
class DensityFeatures:
    """Spin densities at G grid points; what the functional does not need is None. A spin channel may be zero."""

    rho: Tensor
    """(2, G) spin densities, bohr^-3."""
    grad: Tensor | None = None
    """(2, 3, G) their gradients, bohr^-4."""
    tau: Tensor | None = None
    """(2, G) kinetic-energy densities sum_i |grad phi_i|^2 / 2, hartree bohr^-3."""
    coords: Tensor | None = None
    """(G, 3) grid points, bohr."""
    weights: Tensor | None = None
    """(G,) quadrature weights, bohr^3."""


def density_level(needs: Iterable[str], name: str) -> str:
    """PySCF's name of the density variables that `needs` implies: LDA, GGA or MGGA.

    Raises NotImplementedError for local Hartree-Fock features and ValueError for a feature that does not exist.
    """
    needs = frozenset(needs)
    if any(need.startswith("hfx:") for need in needs):
        raise NotImplementedError(f"{name} needs local Hartree-Fock exchange (hfx), which is not available yet")
    unknown = sorted(needs - FEATURES)
    if unknown:
        raise ValueError(f"{name} needs {', '.join(unknown)}; the density features are {', '.join(sorted(FEATURES))}")
    if "tau" in needs:
        return "MGGA"
    return "GGA" if "grad" in needs else "LDA"


def density_tensor(rho: np.ndarray) -> Tensor:
    """PySCF's density variables (..., G) of one or two spins as a float64 leaf (S, V, G), V = 1, 4 or 5."""
    array = np.array(rho, dtype=float)  # a copy: PySCF reuses its buffers
    return torch.from_numpy(array).requires_grad_(True)


def features_of(
    rho: Tensor, needs: Iterable[str], coords: np.ndarray | None = None, weights: np.ndarray | None = None
) -> DensityFeatures:
    """Features from PySCF's density variables (S, V, G); S = 1 is a closed shell, half of it in each spin."""
    needs = frozenset(needs)
    spins = rho if rho.shape[0] == 2 else 0.5 * rho.expand(2, -1, -1)
    return DensityFeatures(
        rho=spins[:, 0],
        grad=spins[:, 1:4] if "grad" in needs else None,
        tau=spins[:, 4] if "tau" in needs else None,
        coords=torch.from_numpy(coords) if "coords" in needs and coords is not None else None,
        weights=torch.from_numpy(weights) if "weights" in needs and weights is not None else None,
    )
