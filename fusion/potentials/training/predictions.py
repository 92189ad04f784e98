"""Predictions of a model for many structures, and their errors against the labels."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch

from fusion.chemistry.units import EV_ANGSTROM_PER_HARTREE_BOHR, EV_PER_HARTREE
from fusion.evaluation.tensors import DIPOLE, STRESS, Kind
from fusion.parallel.collectives import rank, sum_over_ranks, world_size
from fusion.potentials.training.loss import KCAL, KCAL_ANGSTROM, Weights
from fusion.potentials.training.passes import Passes
from fusion.potentials.training.targets import Labels, atoms_of


@dataclass(frozen=True)
class Predictions:
    """Predictions for structures `indices` (n,) with N atoms in all."""

    indices: np.ndarray
    energy: np.ndarray
    """(M, n) of each member, hartree."""
    forces: np.ndarray | None
    """(N, 3), the members' mean, hartree/bohr; None without labels of forces."""
    stress: np.ndarray | None = None
    """(n, 3, 3), the members' mean, hartree/bohr^3; None without labels of the stress."""
    dipole: np.ndarray | None = None
    """(n, 3), the members' mean, e bohr; None without labels of dipoles."""
    forces_std: np.ndarray | None = None
    """(N, 3), the members' standard deviation (ddof=1) of forces, hartree/bohr; None for a single network."""


@torch.no_grad()
def predict(
    passes: Passes,
    labels: Labels,
    indices: np.ndarray,
    members: int,
    batch: int,
    device: torch.device | str = "cpu",
    energies_only: bool = False,
) -> Predictions:
    """Predict energies, and the forces, stress and dipoles that have labels.

    The structures are distributed over the ranks; every rank returns all predictions.
    """
    forces, stress, dipoles = (
        not energies_only and label is not None for label in (labels.forces, labels.stress, labels.dipole)
    )
    ends = np.cumsum(labels.offsets[indices + 1] - labels.offsets[indices])
    energy = torch.zeros(members, len(indices), dtype=torch.float64, device=device)
    mean_forces = torch.zeros(int(ends[-1]) if forces and len(ends) else 0, 3, dtype=torch.float64, device=device)
    deviation = torch.zeros_like(mean_forces)
    mean_stress = torch.zeros(len(indices) if stress else 0, 3, 3, dtype=torch.float64, device=device)
    mean_dipole = torch.zeros(len(indices) if dipoles else 0, 3, dtype=torch.float64, device=device)
    size = max(1, min(batch, -(-len(indices) // world_size())))
    for start in range(rank() * size, len(indices), world_size() * size):
        part = indices[start : start + size]
        predicted, _ = passes(part, forces, stress, False, dipoles)
        rows = slice(start, start + len(part))
        energy[:, rows] = predicted.energy.detach()
        if predicted.stress is not None:
            mean_stress[rows] = predicted.stress.detach().double().mean(0)
        if predicted.dipole is not None:
            mean_dipole[rows] = predicted.dipole.detach().mean(0)
        if predicted.forces is not None:
            first = 0 if start == 0 else int(ends[start - 1])
            atoms, members_forces = slice(first, first + predicted.forces.shape[1]), predicted.forces.detach().double()
            mean_forces[atoms] = members_forces.mean(0)
            deviation[atoms] = members_forces.std(0, correction=1) if len(members_forces) > 1 else torch.nan
    totals = [(energy, True), (mean_forces, forces), (mean_stress, stress), (mean_dipole, dipoles)]
    totals.append((deviation, forces and members > 1))
    arrays = [sum_over_ranks(tensor).cpu().numpy() if wanted else None for tensor, wanted in totals]
    return Predictions(indices, *arrays)  # type: ignore[arg-type]


@dataclass(frozen=True)
class Errors:
    """Mean absolute and root-mean-square errors of the members' mean; NaN without labels.

    Errors of forces, stress and dipoles are those of their components.
    """

    loss: float
    """Weighted sum as in `loss`."""
    energy_mae_kcal_mol: float = float("nan")
    energy_rmse_kcal_mol: float = float("nan")
    forces_mae_mev_angstrom: float = float("nan")
    forces_rmse_mev_angstrom: float = float("nan")
    stress_mae_mev_angstrom3: float = float("nan")
    stress_rmse_mev_angstrom3: float = float("nan")
    dipole_mae_debye: float = float("nan")
    dipole_rmse_debye: float = float("nan")

    def finite(self) -> dict[str, float]:
        """Return the errors that are not NaN, by name."""
        return {name: value for name, value in vars(self).items() if not math.isnan(value)}

    def texts(self) -> list[str]:
        """Return the mean absolute errors as texts for the terminal."""
        formats = (
            (self.energy_mae_kcal_mol, "E {:.3f} kcal/mol"),
            (self.forces_mae_mev_angstrom, "F {:.1f} meV/Å"),
            (self.stress_mae_mev_angstrom3, "S {:.3g} meV/Å³"),
            (self.dipole_mae_debye, "D {:.3f} debye"),
        )
        return [text.format(value) for value, text in formats if not math.isnan(value)]

    @property
    def energy_mae_mev(self) -> float:
        """Mean absolute error of the energy, meV."""
        return self.energy_mae_kcal_mol / KCAL * EV_PER_HARTREE * 1000.0


def errors(predictions: Predictions, labels: Labels, weights: Weights) -> Errors:
    """Compute the errors of predictions; `weights` give the loss."""
    deviation = predictions.energy.mean(axis=0) - labels.energy[predictions.indices]
    has_energy = labels.has_energy[predictions.indices]
    sizes = (labels.offsets[predictions.indices + 1] - labels.offsets[predictions.indices])[has_energy]
    energy = KCAL * deviation[has_energy]
    loss = weights.energy * float(np.mean(energy**2 / sizes)) if len(energy) else 0.0
    forces = np.empty((0, 3))
    if predictions.forces is not None and labels.forces is not None and labels.has_forces is not None:
        atoms = atoms_of(labels.offsets, predictions.indices)
        has_forces = labels.has_forces[atoms]
        forces = predictions.forces[has_forces] - labels.forces[atoms][has_forces]
        loss += weights.forces * float(np.mean((KCAL_ANGSTROM * forces) ** 2)) if len(forces) else 0.0
    stress, dipole = _tensor_errors(STRESS, predictions, labels), _tensor_errors(DIPOLE, predictions, labels)
    virials = stress * _virial_per_atom(predictions, labels)
    loss += weights.stress * float(np.mean(virials**2)) if len(virials) else 0.0
    loss += weights.dipole * float(np.mean(dipole**2)) if len(dipole) else 0.0
    milli = 1000.0 * EV_ANGSTROM_PER_HARTREE_BOHR
    return Errors(
        *(loss, _mean(np.abs(energy)), _root(energy), milli * _mean(np.abs(forces)), milli * _root(forces)),
        *(_mean(np.abs(stress)), _root(stress), _mean(np.abs(dipole)), _root(dipole)),
    )


def _tensor_errors(kind: Kind, predictions: Predictions, labels: Labels) -> np.ndarray:
    """Errors (n, ...) of the labelled structures in the unit of the kind."""
    predicted, label = getattr(predictions, kind.name), getattr(labels, kind.name)
    if predicted is None or label is None:
        return np.empty((0, *kind.shape))
    return kind.errors(predicted, label[predictions.indices])


def _virial_per_atom(predictions: Predictions, labels: Labels) -> np.ndarray | float:
    """Factors (n, 1, 1), kcal/mol per unit of stress, that turn stress errors into virials per atom."""
    if predictions.stress is None or labels.volume is None or labels.has_stress is None:
        return 0.0
    chosen = predictions.indices[labels.has_stress[predictions.indices]]
    return (KCAL / STRESS.scale * labels.volume[chosen] / labels.sizes[chosen])[:, None, None]


def _mean(values: np.ndarray) -> float:
    return float(np.mean(values)) if values.size else float("nan")


def _root(values: np.ndarray) -> float:
    return float(np.sqrt(np.mean(values**2))) if values.size else float("nan")
