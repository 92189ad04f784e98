"""Local energy of the molecular Hamiltonian (clamped nuclei, non-relativistic) and its clipping."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn

from fusion.chemistry.system import System
from fusion.parallel.collectives import gather_rows
from fusion.wavefunctions.ansatz import laplacian


class Hamiltonian(nn.Module):
    """H = -1/2 sum_i lap_i - sum_iA Z_A/r_iA + sum_{i<j} 1/r_ij + sum_{A<B} Z_A Z_B/R_AB, in hartree and bohr."""

    nuclei: Tensor
    charges: Tensor

    def __init__(self, system: System) -> None:
        super().__init__()
        nuclei = torch.tensor(system.positions, dtype=torch.float64)
        charges = torch.tensor(system.numbers, dtype=torch.float64)
        self.register_buffer("nuclei", nuclei, persistent=False)
        self.register_buffer("charges", charges, persistent=False)
        self.nuclear_repulsion = system.nuclear_repulsion

    def potential(self, electrons: Tensor) -> Tensor:
        """Potential energy (B,), hartree, float64, of electrons (B, N, 3)."""
        r = electrons.double()
        attraction = (self.charges / torch.cdist(r, self.nuclei.expand(len(r), -1, -1))).sum((1, 2))
        i, j = torch.triu_indices(r.shape[1], r.shape[1], 1, device=r.device)
        repulsion = (1 / torch.linalg.vector_norm(r[:, i] - r[:, j], dim=-1)).sum(-1)
        return repulsion - attraction + self.nuclear_repulsion

    def local_energy(self, ansatz: nn.Module, electrons: Tensor, chunk: int) -> Tensor:
        """E_L = -1/2 (lap log|psi| + |grad log|psi||^2) + V, (B,), hartree, float64; not finite where psi vanishes."""
        psi = laplacian(ansatz, electrons, chunk)
        kinetic = -0.5 * (psi.laplacian.double() + psi.gradient.double().square().sum(-1))
        return kinetic + self.potential(electrons)


class Clipped(NamedTuple):
    """Local energies of all ranks in order (B,), which are finite, their clipped mean and the deviations from it."""

    energies: Tensor
    finite: Tensor
    clipped_mean: float
    deviation: Tensor

    @property
    def mean(self) -> float:
        """Mean of the finite local energies, unclipped: the reported energy."""
        return float(self.energies[self.finite].mean())

    @property
    def variance(self) -> float:
        """Variance of the finite local energies, unclipped, hartree^2."""
        return float(self.energies[self.finite].var(unbiased=False))


def clip(local_energies: Tensor, width: float) -> Clipped:
    """Limit local energies to median +- width * mean|E - median| and centre them (Pfau et al. 2020).

    The centre is the median, which outliers near nodes cannot move. The deviation from the clipped mean (B,) enters the
    gradient; it is zero for walkers whose local energy is not finite. Uses the walkers of all ranks.
    """
    energies = gather_rows(local_energies)
    finite = torch.isfinite(energies)
    good = energies[finite]
    if not len(good):
        return Clipped(energies, finite, float("nan"), torch.zeros_like(energies))
    centre = good.median()
    reach = width * (good - centre).abs().mean()
    clipped = torch.where(finite, energies, centre).clamp(centre - reach, centre + reach)
    mean = clipped[finite].mean()
    return Clipped(energies, finite, float(mean), torch.where(finite, clipped - mean, 0.0))
