"""At most one electron of each spin, each in a sum of exp(-zeta r) over the nuclei: exact for hydrogen-like atoms."""

import torch
from torch import Tensor, nn

from fusion.chemistry.system import System
from fusion.errors import InputError


class Hydrogenic(nn.Module):
    """psi = prod_electrons sum_nuclei exp(-zeta |r - R|), with the exponent zeta (1/bohr) as its only parameter."""

    def __init__(self, system: System, zeta: float = 1.0) -> None:
        super().__init__()
        if system.n_up > 1 or system.n_down > 1:
            raise InputError(f"dummy_ansatz has one orbital per spin; {system.name} has {system.n_electrons} electrons")
        self.zeta = nn.Parameter(torch.tensor([zeta], dtype=torch.float64))
        self.register_buffer("nuclei", torch.tensor(system.positions, dtype=torch.float64))

    def forward(self, electrons: Tensor) -> tuple[Tensor, Tensor]:
        distances = (electrons[:, :, None] - self.nuclei).norm(dim=-1)
        log_psi = torch.logsumexp(-self.zeta * distances, dim=-1).sum(dim=-1)
        return torch.ones_like(log_psi), log_psi
