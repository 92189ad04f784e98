"""Loss of a batch and its derivatives by energies, forces, stress and dipoles.

For each member, with errors in kcal/mol, Angstrom and debye and sums over labelled quantities,

    w_E / n_E sum_b dE_b^2 / A_b  +  w_F / (3 n_F) sum_i |dF_i|^2  +  w_S / (9 n_S) sum_b |V_b dS_b|^2 / A_b^2
    +  w_D / (3 n_D) sum_b |dD_b|^2

A_b atoms, V_b volume; n_E, n_F, n_S and n_D count the labels of the whole batch, over all processes.
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace

import numpy as np
import torch
from torch import Tensor

from fusion.chemistry.units import ANGSTROM_PER_BOHR, DEBYE_PER_ATOMIC_DIPOLE, KCAL_MOL_PER_HARTREE
from fusion.potentials.training.passes import Found
from fusion.potentials.training.targets import Labels, Targets

KCAL = KCAL_MOL_PER_HARTREE
KCAL_ANGSTROM = KCAL_MOL_PER_HARTREE / ANGSTROM_PER_BOHR
DEBYE = DEBYE_PER_ATOMIC_DIPOLE
_STEEPEST = 2.0  # Adam remembers the size of the first gradients for a thousand steps


@dataclass(frozen=True)
class Weights:
    """Weights w_E, w_F, w_S and w_D at one point of the training."""

    energy: float
    forces: float
    stress: float
    dipole: float = 0.0


@dataclass(frozen=True)
class Counts:
    """Numbers of labels of a whole batch for each member, (M,) float64: n_E, n_F, n_S and n_D."""

    energy: Tensor
    forces: Tensor
    stress: Tensor
    dipole: Tensor

    @classmethod
    def of(cls, labels: Labels, indices: np.ndarray, used: Tensor) -> Counts:
        """Count the labels of structures `indices` (B,); `used` (M, B) marks those a member learns from."""
        none = np.zeros(len(labels.sizes))
        stress, dipole = (none if has is None else has for has in (labels.has_stress, labels.has_dipole))
        kinds = (labels.has_energy, labels.with_forces, stress, dipole)
        numbers = np.stack([kind[indices].astype(np.float64) for kind in kinds], axis=1)
        return cls(*(used.double() @ torch.from_numpy(numbers).to(used.device)).unbind(dim=1))


@dataclass(frozen=True)
class Loss:
    """Losses (M,) float64 and their derivatives by the predictions."""

    value: Tensor
    by: Found


def loss(predicted: Found, targets: Targets, weights: Weights, counts: Counts, used: Tensor) -> Loss:
    """Return the loss of a process's part of a batch; `used` (M, B) marks the structures a member learns from."""
    scale = _share(weights.energy * KCAL**2, counts.energy, used & targets.has_energy) / targets.sizes
    error = predicted.energy.detach() - targets.energy
    value = (scale * error.square()).sum(1)
    by = Found(2.0 * scale * error)
    if predicted.forces is not None and targets.forces is not None and targets.has_forces is not None:
        mask = used[:, targets.structure] & targets.has_forces
        part = _share(weights.forces * KCAL_ANGSTROM**2 / 3.0, counts.forces, mask)[:, :, None]
        error = (predicted.forces.detach() - targets.forces).double()
        value = value + (part * error.square()).sum((1, 2))
        by = replace(by, forces=(2.0 * part * error).to(predicted.forces.dtype))
    if predicted.stress is not None and targets.has_stress is not None:
        assert targets.stress is not None and targets.volume is not None
        part = _share(weights.stress * KCAL**2 / 9.0, counts.stress, used & targets.has_stress)
        part = (part * (targets.volume / targets.sizes) ** 2)[:, :, None, None]
        error = (predicted.stress.detach() - targets.stress).double()
        value = value + (part * error.square()).sum((1, 2, 3))
        by = replace(by, stress=(2.0 * part * error).to(predicted.stress.dtype))
    if predicted.dipole is not None and targets.dipole is not None and targets.has_dipole is not None:
        part = _share(weights.dipole * DEBYE**2 / 3.0, counts.dipole, used & targets.has_dipole)[:, :, None]
        error = predicted.dipole.detach() - targets.dipole
        value = value + (part * error.square()).sum((1, 2))
        by = replace(by, dipole=2.0 * part * error)
    return Loss(value, by)


def steepened(by: Found, value: Tensor, tau: float) -> Found:
    """Convert derivatives of the losses L (M,) = `value` of a whole batch into those of tau (exp(L / tau) - 1).

    This is the cost of Smith, Isayev, Roitberg, Chem. Sci. 8, 3192 (2017): batches with large errors count for more.
    Above L = 2 tau the slope stays constant.
    """
    factor = (value / tau).clamp(max=_STEEPEST).exp()

    def scaled(slope: Tensor | None) -> Tensor | None:
        return None if slope is None else slope * factor.to(slope.dtype).view(-1, *[1] * (slope.dim() - 1))

    return Found(**{field.name: scaled(getattr(by, field.name)) for field in fields(by)})  # type: ignore[arg-type]


def _share(weight: float, count: Tensor, mask: Tensor) -> Tensor:
    """(M, ...) weight / count where `mask`, else zero."""
    return mask * (weight / count.clamp(min=1.0))[:, None]
