"""Small wavefunctions whose energies, moments or derivatives are known in closed form."""

import numpy as np
import torch
from torch import Tensor, nn

from fusion.chemistry.formulas import lowest_spin
from fusion.chemistry.system import System
from fusion.wavefunctions.determinants import sum_of_determinants
from fusion.wavefunctions.hamiltonians import Hamiltonian, Kinetic, Point
from fusion.wavefunctions.jastrow import CuspJastrow


def molecule(symbols: str, distance: float = 0.0, charge: int = 0, spin: int | None = None) -> System:
    """Nuclei, separated by blanks, on the z axis at equal distances (bohr), the first at the origin."""
    nuclei = tuple(symbols.split())
    positions = np.zeros((len(nuclei), 3))
    positions[:, 2] = distance * np.arange(len(nuclei))
    return System("chain", nuclei, positions, charge, lowest_spin(nuclei, charge) if spin is None else spin)


def radii(electrons: Tensor) -> Tensor:
    """Distances from the origin (B, N)."""
    return torch.linalg.vector_norm(electrons, dim=-1)


def distance(electrons: Tensor, i: int = 0, j: int = 1) -> Tensor:
    return torch.linalg.vector_norm(electrons[:, i] - electrons[:, j], dim=-1)


class Slater1s(nn.Module):
    """psi = exp(-a sum_i r_i - b sum_i r_i^2), the exact ground state of one electron at a nucleus of charge a
    for b = 0.

    In helium and its ions E(a) = a^2 - 2 Z a + 5 a / 8, in hydrogen-like atoms E(a) = a^2 / 2 - Z a.
    """

    def __init__(self, exponent: float, gaussian: float = 0.0) -> None:
        super().__init__()
        self.a = nn.Parameter(torch.tensor(exponent))
        self.b = nn.Parameter(torch.tensor(gaussian))

    def forward(self, electrons: Tensor) -> tuple[Tensor, Tensor]:
        r = radii(electrons)
        log = -(self.a * r + self.b * r * r).sum(-1)
        return torch.ones_like(log), log


class Oscillator(nn.Module):
    """Parallel-spin electrons in the lowest states 1, x, y, z of a harmonic trap of frequency w."""

    def __init__(self, frequency: float) -> None:
        super().__init__()
        self.w = nn.Parameter(torch.tensor(frequency))

    def forward(self, electrons: Tensor) -> tuple[Tensor, Tensor]:
        n = electrons.shape[1]
        gaussian = torch.exp(-0.5 * self.w * electrons.square().sum(-1, keepdim=True))
        orbitals = torch.cat((torch.ones_like(gaussian), electrons), dim=-1)[..., :n] * gaussian
        return sum_of_determinants([orbitals.unsqueeze(1)])


class Hooke(nn.Module):
    """(1 + r_12 / 2) exp(-(r_1^2 + r_2^2) / 4), exact for two antiparallel electrons at w = 1/2, E = 2 (Taut 1993)."""

    def forward(self, electrons: Tensor) -> tuple[Tensor, Tensor]:
        log = torch.log1p(distance(electrons) / 2) - radii(electrons).square().sum(-1) / 4
        return torch.ones_like(log), log


class GaussianJastrow(nn.Module):
    """Two electrons in Gaussians, antiparallel in one orbital or parallel in s and p, with a Jastrow factor or not."""

    def __init__(self, n_up: int, n_down: int, jastrow: bool) -> None:
        super().__init__()
        self.parallel = n_down == 0
        self.jastrow = CuspJastrow(n_up, n_down) if jastrow else None

    def forward(self, electrons: Tensor) -> tuple[Tensor, Tensor]:
        log = -0.3 * radii(electrons).square().sum(-1)
        sign = torch.ones_like(log)
        if self.parallel:
            difference = electrons[:, 0, 0] - electrons[:, 1, 0]
            sign, log = torch.sign(difference), log + difference.abs().log()
        return sign, log if self.jastrow is None else log + self.jastrow(electrons)


class Trap(nn.Module):
    """Electrons in the potential w^2 r^2 / 2 instead of at nuclei, with or without repulsion."""

    name = "trap"

    def __init__(self, frequency: float, repulsion: bool) -> None:
        super().__init__()
        self.frequency, self.repulsion = frequency, repulsion

    def forward(self, point: Point) -> Tensor:
        energy = 0.5 * self.frequency**2 * point.electrons.square().sum((1, 2))
        return energy + 1 / distance(point.electrons) if self.repulsion else energy


def trap(frequency: float, repulsion: bool) -> Hamiltonian:
    """Kinetic energy and a `Trap`."""
    return Hamiltonian([Kinetic(), Trap(frequency, repulsion)])


class PairNetwork(nn.Module):
    """Positive function of any electrons: a linear layer for every electron, one used twice, and a bare scale."""

    def __init__(self, width: int = 5) -> None:
        super().__init__()
        self.first = nn.Linear(3, width)
        self.twice = nn.Linear(width, width, bias=False)
        self.last = nn.Linear(width, 1)
        self.scale = nn.Parameter(torch.tensor([0.5, 0.7, 0.9]))

    def forward(self, electrons: Tensor) -> tuple[Tensor, Tensor]:
        h = torch.tanh(self.first(electrons * self.scale))
        h = torch.tanh(self.twice(h))
        h = torch.tanh(self.twice(h)).mean(1)
        log = self.last(h).squeeze(-1) - radii(electrons).sum(-1)
        return torch.ones_like(log), log


def explicit_scores(ansatz: nn.Module, electrons: Tensor) -> dict[str, Tensor]:
    """Compute d log|psi(x_b)| / d theta by one backward pass per walker: {name: (B, *shape)}."""
    parameters = {name: p for name, p in ansatz.named_parameters() if p.requires_grad}
    rows: dict[str, list[Tensor]] = {name: [] for name in parameters}
    for walker in electrons:
        log = ansatz(walker.unsqueeze(0))[1][0]
        grads = torch.autograd.grad(log, list(parameters.values()), allow_unused=True)
        for (name, p), grad in zip(parameters.items(), grads, strict=True):
            rows[name].append(torch.zeros_like(p) if grad is None else grad)
    return {name: torch.stack(values) for name, values in rows.items()}


def matrix(scores: dict[str, Tensor]) -> Tensor:
    """Score matrix (B, P) with the parameters in order."""
    return torch.cat([rows.flatten(1) for rows in scores.values()], dim=1)
