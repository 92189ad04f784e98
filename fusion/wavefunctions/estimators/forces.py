"""Forces on nuclei with finite variance.

The Hellmann-Feynman force has infinite variance. With g_i = grad_i log|psi| and r_iA = r_i - R_A, the estimator

    F_A = sum_B Z_A Z_B R_AB / R_AB^3 + Z_A sum_i [g_i / r_iA - (r_iA . g_i) r_iA / r_iA^3]

has the same mean and a finite variance (Assaraf & Caffarel 2003, J. Chem. Phys. 119, 10536). The force of a
wavefunction that is not exact has the additional (Pulay) term -2 <(E_L - E) d log|psi| / dR_A>, whose variance is
infinite because of the nodes; closer to a node than epsilon it is multiplied by 7 x^6 - 15 x^4 + 9 x^2,
x = d / epsilon, d = 1 / |grad log|psi|| (Pathak & Wagner 2020, AIP Adv. 10, 085213).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from fusion.chemistry.system import System
from fusion.wavefunctions.ansatz import HasNuclei
from fusion.wavefunctions.estimators.protocol import Estimates, blocked_columns, refuse_cell, with_stderr
from fusion.wavefunctions.hamiltonians import LocalEnergy, Point
from fusion.wavefunctions.hamiltonians.point import FORWARDS


class Forces(nn.Module):
    """Forces on all nuclei at fixed parameters of the wavefunction.

    Args:
        system: nuclei and electrons.
        every: iterations between two measurements.
        epsilon: distance to a node (bohr) below which the Pulay term is damped.
    """

    name = "forces"
    measures: tuple[str, ...] = ("forces", "slopes", "energy_slopes", "energy")
    nuclei: Tensor
    charges: Tensor
    repulsion: Tensor

    def __init__(self, system: System, every: int = 1, epsilon: float = 0.02) -> None:
        super().__init__()
        refuse_cell(system, self.name, "forces are not available")
        self.every, self.epsilon = every, epsilon
        nuclei = torch.tensor(system.positions, dtype=torch.float64)
        charges = torch.tensor(system.charges, dtype=torch.float64)
        vectors = nuclei.unsqueeze(1) - nuclei
        distances = torch.linalg.vector_norm(vectors, dim=-1).fill_diagonal_(torch.inf)
        pairs = charges.unsqueeze(1) * charges / distances**3
        for name, value in (
            ("nuclei", nuclei),
            ("charges", charges),
            ("repulsion", (pairs.unsqueeze(-1) * vectors).sum(1)),
        ):
            self.register_buffer(name, value, persistent=False)

    def forward(self, point: Point, local: LocalEnergy) -> Mapping[str, Tensor]:
        """Zero-variance forces F, damped slopes S = d log|psi| / dR, E_L S, each (B, A, 3), and E_L."""
        gradient = local.psi.gradient.double()
        x = (1 / torch.linalg.vector_norm(gradient, dim=-1) / self.epsilon).clamp(max=1)
        damping = 7 * x**6 - 15 * x**4 + 9 * x**2
        slopes = damping[:, None, None] * nuclear_slopes(point, self.nuclei).double()
        return {
            "forces": self.zero_variance(point.electrons.double(), gradient.view_as(point.electrons)),
            "slopes": slopes,
            "energy_slopes": local.total[:, None, None] * slopes,
            "energy": local.total,
        }

    def zero_variance(self, electrons: Tensor, gradient: Tensor) -> Tensor:
        """Forces (B, A, 3) from electrons and grad log|psi|, each (B, N, 3)."""
        vectors = electrons.unsqueeze(2) - self.nuclei
        distances = torch.linalg.vector_norm(vectors, dim=-1, keepdim=True)
        g, unit = gradient.unsqueeze(2), vectors / distances
        across = (g - (unit * g).sum(-1, keepdim=True) * unit) / distances
        return self.repulsion + self.charges.unsqueeze(-1) * across.sum(1)

    def finish(self, series: Mapping[str, np.ndarray]) -> Estimates:
        """Forces with errors, and the two parts; the Pulay series is linearised around the mean energy and slope.

        Without the Pulay part, for an ansatz that cannot move its nuclei, the forces are incomplete, and only their
        zero-variance part is in the details.
        """
        forces, slopes, energies = series["forces"], series["slopes"], series["energy"]
        shift = energies - energies.mean()
        pulay = -2 * (series["energy_slopes"] - energies.mean() * slopes - shift[:, None, None] * slopes.mean(0))
        value, stderr = blocked_columns(forces + pulay)
        correction, correction_stderr = blocked_columns(pulay)
        details: dict[str, Any] = {
            "zero_variance_hartree_per_bohr": with_stderr(*blocked_columns(forces)),
            "sum_hartree_per_bohr": with_stderr(*blocked_columns((forces + pulay).sum(1))),
        }
        if not slopes.any():
            return Estimates(details={"forces": details})
        details["pulay_hartree_per_bohr"] = with_stderr(correction, correction_stderr)
        details["pulay_within_3_sigma"] = bool(np.all(np.abs(correction) <= 3 * correction_stderr + 1e-12))
        return Estimates({"forces": value, "forces_stderr": stderr}, {"forces": details})


def forces(system: System, every: int = 1, epsilon: float = 0.02) -> Forces | None:
    """Build the forces of a system; None with effective core potentials or a cell, whose forces are not implemented."""
    return None if system.cores or system.cell is not None else Forces(system, every, epsilon)


def nuclear_slopes(point: Point, nuclei: Tensor) -> Tensor:
    """d log|psi| / dR_A, (B, A, 3), at fixed parameters; zero for an ansatz that cannot move its nuclei."""
    parts = []
    for electrons in point.electrons.split(FORWARDS * point.chunk):
        own = nuclei.to(electrons).expand(len(electrons), -1, -1)
        if isinstance(point.ansatz, HasNuclei):
            with torch.enable_grad():
                own = own.clone().requires_grad_()
                log = point.ansatz.at_nuclei(electrons, own)[1]
                parts.append(torch.autograd.grad(log.sum(), own)[0])
        else:
            parts.append(torch.zeros_like(own))
    return torch.cat(parts)
