"""Trial wavefunction: replace it by your own."""

import torch
from torch import Tensor, nn

from fusion.chemistry.system import System
from fusion.errors import InputError


class Model(nn.Module):
    """One orbital, sum_nuclei exp(-zeta |r - R|), for at most one electron per spin; `zeta` (1/bohr) is optimised."""

    def __init__(self, system: System, zeta: float = 1.0) -> None:
        super().__init__()
        if system.n_up > 1 or system.n_down > 1:
            raise InputError(f"$name has one orbital per spin; {system.name} has {system.n_electrons} electrons")
        self.zeta = nn.Parameter(torch.tensor(float(zeta)))
        self.register_buffer("nuclei", torch.tensor(system.positions, dtype=torch.get_default_dtype()))

    def forward(self, electrons: Tensor) -> tuple[Tensor, Tensor]:
        """Return sign and log|psi|, each (B,), for electrons (B, N, 3) in bohr, spin-up electrons first."""
        distances = (electrons[:, :, None] - self.nuclei).norm(dim=-1)
        log_psi = torch.logsumexp(-self.zeta * distances, dim=-1).sum(dim=-1)
        return torch.ones_like(log_psi), log_psi
