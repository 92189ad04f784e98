"""Real plane waves of a cell at Gamma: 1, and sqrt(2) cos(k . r) and sqrt(2) sin(k . r) for every pair +-k."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import numpy as np
import torch
from torch import Tensor, nn

from fusion.chemistry.system import System
from fusion.errors import InputError
from fusion.wavefunctions.periodic.cell import Cell, cell_of, lattice_points


def wave_vectors(cell: Cell, functions: int) -> Tensor:
    """One k of every pair +-k of the lowest plane waves, ((functions - 1) / 2, 3), 1/bohr, float64.

    Raises InputError unless that number of functions fills closed shells.
    """
    longest = float(2 * torch.linalg.vector_norm(cell.reciprocal, dim=1).max())
    points = lattice_points(cell.reciprocal, longest)
    while len(points) <= functions:
        longest *= 2
        points = lattice_points(cell.reciprocal, longest)
    lengths = np.linalg.norm(points, axis=1)
    if lengths[functions] - lengths[functions - 1] < 1e-9 * longest:
        raise InputError(f"{functions} plane waves of this cell do not fill a closed shell")
    lowest = points[1:functions]
    # Of k and -k, keep the one whose first component that is not zero is positive.
    signs = np.sign(lowest.round(9))
    leading = signs[np.arange(len(lowest)), np.argmax(signs != 0, axis=1)] if len(lowest) else np.zeros(0)
    return torch.tensor(lowest[leading > 0])


class PlaneWaves(nn.Module):
    """The lowest real plane waves of a cell, normalised to a mean square of 1; ``functions`` fill closed shells."""

    k: Tensor

    def __init__(self, cell: Cell, functions: int) -> None:
        super().__init__()
        self.functions = functions
        self.register_buffer("k", wave_vectors(cell, functions), persistent=False)

    def forward(self, r: Tensor) -> Tensor:
        """Values (..., functions) at points (..., 3): 1, cos k_1, sin k_1, cos k_2 ..."""
        phase = r @ self.k.to(r).T
        waves = torch.stack((torch.cos(phase), torch.sin(phase)), dim=-1).flatten(-2) * 2**0.5
        return torch.cat((torch.ones_like(r[..., :1]), waves), dim=-1)

    def jet(self, r: Tensor) -> Tensor:
        """Jets (B, 5, n, functions) at points (B, n, 3): three derivatives, Laplacian, value."""
        k = self.k.to(r)
        value = self(r)
        cosine, sine = value[..., 1::2], value[..., 2::2]
        turned = torch.stack((-sine, cosine), dim=-1)
        slope = (turned.unsqueeze(1) * k.T[:, None, :, None]).flatten(-2)
        laplacian = -value[..., 1:] * k.square().sum(-1).repeat_interleave(2)
        curved = torch.cat((slope, laplacian.unsqueeze(1)), dim=1)
        constant = curved.new_zeros(*curved.shape[:-1], 1)
        return torch.cat((torch.cat((constant, curved), dim=-1), value.unsqueeze(1)), dim=1)


class PlaneWaveOrbitals(nn.Module):
    """The determinant of the lowest plane waves, the Hartree-Fock orbitals of an electron gas.

    ``vector`` (B, N, 1, 3) are the places of the electrons, bohr.
    """

    description = "plane waves"

    def __init__(self, system: System) -> None:
        super().__init__()
        cell = cell_of(system)
        assert cell is not None
        self.spins = tuple(n for n in (system.n_up, system.n_down) if n > 0)
        self.waves = PlaneWaves(cell, max(self.spins))
        self.mixed = (slice(0, max(self.spins)),) * len(self.spins)
        self.strings: Sequence[np.ndarray] = [np.arange(n)[None] for n in self.spins]
        self.weights = np.ones((1, 1))

    def forward(self, vector: Tensor, distance: Tensor) -> Tensor:
        """All plane waves (B, N, O) at all electrons."""
        return cast(Tensor, self.waves(vector[..., 0, :]))

    def jet(self, vector: Tensor, distance: Tensor) -> Tensor:
        """Jets (B, 5, N, O): three derivatives with respect to the electron, Laplacian, value."""
        return self.waves.jet(vector[..., 0, :])


class PlaneWaveEnvelope(nn.Module):
    """sum_k weights_ko w_k(r) over the lowest plane waves w, initially 1 (Cassella et al. 2023, arXiv 2202.05183).

    The weights enter linearly: the gradient of a square would vanish where they are zero at the start.
    """

    def __init__(self, cell: Cell, functions: int, orbitals: int) -> None:
        super().__init__()
        self.waves = PlaneWaves(cell, functions)
        self.weights = nn.Parameter(torch.zeros(functions, orbitals))
        nn.init.ones_(self.weights[0])

    def forward(self, vector: Tensor, distance: Tensor) -> Tensor:
        """Envelopes (B, n, O) of electrons at ``vector`` (B, n, 1, 3)."""
        return self.waves(vector[..., 0, :]) @ self.weights

    def jet(self, vector: Tensor, distance: Tensor) -> Tensor:
        """Jet (B, 5, n, O): three derivatives with respect to the electron, Laplacian, value."""
        return self.waves.jet(vector[..., 0, :]) @ self.weights

    def parameter_scores(self, grad_output: Tensor, vector: Tensor, distance: Tensor) -> dict[str, Tensor]:
        """Per-walker derivatives of log|psi| given its derivative with respect to the output, (B, n, O)."""
        return {"weights": torch.einsum("bno,bnf->bfo", grad_output, self.waves(vector[..., 0, :]))}


class PlaneWaveDeterminant(nn.Module):
    """Slater determinant in the lowest plane waves: the target of pretraining.

    `up` and `down` are the coefficients (functions, n) of the orbitals.
    """

    up: Tensor
    down: Tensor

    def __init__(self, system: System) -> None:
        super().__init__()
        cell = cell_of(system)
        assert cell is not None
        functions = max(system.n_up, system.n_down)
        self.n_up, self.n_down = system.n_up, system.n_down
        self.waves = PlaneWaves(cell, functions)
        for name, n in (("up", system.n_up), ("down", system.n_down)):
            self.register_buffer(name, torch.eye(functions, n, dtype=torch.float64), persistent=False)

    def forward(self, electrons: Tensor) -> tuple[Tensor, Tensor]:
        """Orbitals [electron, orbital] of each spin, (B, n_up, n_up) and (B, n_down, n_down)."""
        up, down = self.waves(electrons).split([self.n_up, self.n_down], dim=-2)
        return up @ self.up.to(electrons), down @ self.down.to(electrons)

    def slater_log(self, electrons: Tensor) -> tuple[Tensor, Tensor]:
        """Sign and log|psi|, each (B,), of the product of both spins' determinants."""
        up, down = (torch.linalg.slogdet(orbitals) for orbitals in self(electrons))
        return up[0] * down[0], up[1] + down[1]
