"""Start of an optimisation at the wavefunction of another geometry of the same molecule.

The parameters of an ansatz do not contain the nuclei, so that they are a good start where these have moved a little;
coefficients of configurations are calculated anew.
Electrons move with the nuclei near them (space warp; Filippi & Umrigar 2000, Phys. Rev. B 61, R16291):

    r' = r + sum_A w_A(r) (R'_A - R_A),      w_A = |r - R_A|^-4 / sum_B |r - R_B|^-4.
"""

from __future__ import annotations

import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from fusion.chemistry.system import System
from fusion.wavefunctions.ansatz import HasOwnOrbitals


@dataclass(frozen=True)
class Start:
    """Wavefunction of a molecule with nuclei at `positions` (A, 3), bohr: its parameters by name, and walkers of all
    ranks (W, N, 3).

    `buffers` are tensors of the ansatz that belong to these positions, such as reference orbitals. Without them, an
    ansatz for the same positions computes its own.
    """

    parameters: Mapping[str, Tensor]
    electrons: Tensor
    positions: np.ndarray
    buffers: Mapping[str, Tensor] = field(default_factory=dict)

    def is_at(self, positions: np.ndarray) -> bool:
        """True if the nuclei are at these positions (A, 3), bohr, to the precision of checkpoints."""
        return bool(np.array_equal(np.round(self.positions, 6), np.round(positions, 6)))

    def stream(self, positions: np.ndarray) -> tuple[int, ...]:
        """Number of the random stream for other positions (A, 3), bohr; empty for the same ones.

        With the same random numbers at every geometry, the noise of neighbouring geometries would be correlated.
        """
        if self.is_at(positions):
            return ()
        walkers = self.electrons.detach().cpu().numpy().tobytes()
        return (zlib.crc32(np.round(positions, 6).tobytes(), zlib.crc32(walkers)),)

    def electrons_at(self, positions: np.ndarray) -> Tensor:
        """Walkers moved with the nuclei to other positions (A, 3), bohr."""
        return warped(self.electrons, self.positions, positions)

    @torch.no_grad()
    def give(self, ansatz: nn.Module, positions: np.ndarray) -> None:
        """Copy the parameters to an ansatz of the same molecule at `positions` (A, 3), bohr, and the buffers if these
        are the same.

        At other positions, parameters that belong to the orbitals there stay as they are (`HasOwnOrbitals`), as do
        those of another shape, whose number depends on the occupations of these orbitals. Raises KeyError if the ansatz
        has other parameters.
        """
        same = self.is_at(positions)
        kept = ansatz.of_geometry if isinstance(ansatz, HasOwnOrbitals) and not same else frozenset()
        for name, parameter in ansatz.named_parameters():
            value = self.parameters[name]
            if name not in kept and (same or value.shape == parameter.shape):
                parameter.copy_(value)
        if same:
            own = {name for name, _ in ansatz.named_buffers()}
            ansatz.load_state_dict({name: b for name, b in self.buffers.items() if name in own}, strict=False)


def warped(electrons: Tensor, before: np.ndarray, after: np.ndarray) -> Tensor:
    """Electrons (W, N, 3) after the nuclei have moved from `before` to `after`, (A, 3), bohr."""
    old = torch.tensor(before, dtype=torch.float64)
    moves = torch.as_tensor(after, dtype=torch.float64) - old
    r = electrons.double()
    squared = (r.unsqueeze(2) - old).square().sum(-1).clamp(min=1e-12)
    weights = squared**-2
    weights = weights / weights.sum(-1, keepdim=True)
    return (r + weights @ moves).to(electrons.dtype)


def as_memory(start: Start, system: System) -> dict[str, Any]:
    """Numbers and arrays of a start, for the checkpoint of a task with several geometries."""
    return {
        **_molecule(system),
        "positions": start.positions,
        "electrons": start.electrons.cpu().numpy(),
        "parameters": {name: value.cpu().numpy() for name, value in start.parameters.items()},
    }


def from_memory(memory: Mapping[str, Any], system: System) -> Start | None:
    """Start that `as_memory` wrote; None without one, and for another molecule."""
    expected = _molecule(system)
    if any(memory.get(key) != value for key, value in expected.items()):
        return None
    parameters = {name: torch.tensor(np.asarray(value)) for name, value in memory["parameters"].items()}
    return Start(parameters, torch.tensor(np.asarray(memory["electrons"])), np.asarray(memory["positions"]))


def _molecule(system: System) -> dict[str, Any]:
    """Values that must agree for a start at another geometry."""
    return {
        "symbols": list(system.symbols),
        "charge": system.charge,
        "spin": system.spin,
        "ecp": {core.symbol: core.as_pyscf() for core in system.cores} or None,
        "cell": None if system.cell is None else np.asarray(system.cell, dtype=float).round(6).tolist(),
    }
