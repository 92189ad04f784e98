"""What a model says of many structures, and how far it is from the labels."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from fusion.distributed import rank, sum_over_ranks, world_size
from fusion.potentials.training.loss import KCAL, KCAL_ANGSTROM, Weights
from fusion.potentials.training.passes import Passes
from fusion.potentials.training.targets import Labels, atoms_of
from fusion.units import EV_ANGSTROM_PER_HARTREE_BOHR, EV_PER_HARTREE


@dataclass(frozen=True)
class Predictions:
    """On structures `indices` (n,) with N atoms in all."""

    indices: np.ndarray
    energy: np.ndarray
    """(M, n) of each member, hartree."""
    forces: np.ndarray | None
    """(N, 3), the members' mean, hartree/bohr; None without labels of forces."""


@torch.no_grad()
def predict(
    passes: Passes,
    labels: Labels,
    indices: np.ndarray,
    members: int,
    batch: int,
    device: torch.device | str = "cpu",
    forces: bool = True,
) -> Predictions:
    """Energies, and forces where there are labels of them; shared out over the ranks, the same on all of them."""
    wanted = forces and labels.forces is not None
    ends = np.cumsum(labels.offsets[indices + 1] - labels.offsets[indices])
    energy = torch.zeros(members, len(indices), dtype=torch.float64, device=device)
    found_forces = torch.zeros(int(ends[-1]) if wanted and len(ends) else 0, 3, dtype=torch.float64, device=device)
    size = max(1, min(batch, -(-len(indices) // world_size())))
    for start in range(rank() * size, len(indices), world_size() * size):
        part = indices[start : start + size]
        found, _ = passes(part, wanted, False, False)
        energy[:, start : start + len(part)] = found.energy.detach()
        if found.forces is not None:
            first = 0 if start == 0 else int(ends[start - 1])
            found_forces[first : first + found.forces.shape[1]] = found.forces.detach().double().mean(0)
    energy, found_forces = sum_over_ranks(energy), sum_over_ranks(found_forces)
    return Predictions(indices, energy.cpu().numpy(), found_forces.cpu().numpy() if wanted else None)


@dataclass(frozen=True)
class Errors:
    """Mean absolute and root-mean-square errors of the members' mean; NaN where there is no label."""

    energy_mae_kcal_mol: float
    energy_rmse_kcal_mol: float
    forces_mae_mev_angstrom: float
    forces_rmse_mev_angstrom: float
    loss: float
    """The weighted sum as in `loss`."""

    @property
    def energy_mae_mev(self) -> float:
        """meV."""
        return self.energy_mae_kcal_mol / KCAL * EV_PER_HARTREE * 1000.0


def errors(found: Predictions, labels: Labels, weights: Weights) -> Errors:
    """Of predictions against their labels."""
    deviation = found.energy.mean(axis=0) - labels.energy[found.indices]
    known = labels.has_energy[found.indices]
    sizes = (labels.offsets[found.indices + 1] - labels.offsets[found.indices])[known]
    energy = KCAL * deviation[known]
    loss = weights.energy * float(np.mean(energy**2 / sizes)) if len(energy) else 0.0
    forces = np.empty((0, 3))
    if found.forces is not None and labels.forces is not None and labels.has_forces is not None:
        atoms = atoms_of(labels.offsets, found.indices)
        some = labels.has_forces[atoms]
        forces = found.forces[some] - labels.forces[atoms][some]
        loss += weights.forces * float(np.mean((KCAL_ANGSTROM * forces) ** 2)) if len(forces) else 0.0
    milli = 1000.0 * EV_ANGSTROM_PER_HARTREE_BOHR
    return Errors(_mean(np.abs(energy)), _root(energy), milli * _mean(np.abs(forces)), milli * _root(forces), loss)


def _mean(values: np.ndarray) -> float:
    return float(np.mean(values)) if values.size else float("nan")


def _root(values: np.ndarray) -> float:
    return float(np.sqrt(np.mean(values**2))) if values.size else float("nan")
