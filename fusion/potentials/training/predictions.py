"""What a model says of many structures, and how far it is from the labels."""

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
    """On structures `indices` (n,) with N atoms in all."""

    indices: np.ndarray
    energy: np.ndarray
    """(M, n) of each member, hartree."""
    forces: np.ndarray | None
    """(N, 3), the members' mean, hartree/bohr; None without labels of forces."""
    stress: np.ndarray | None = None
    """(n, 3, 3), the same of the stress, hartree/bohr^3."""
    dipole: np.ndarray | None = None
    """(n, 3), the same of dipoles, e bohr."""
    forces_std: np.ndarray | None = None
    """(N, 3), the members' standard deviation (ddof=1) of forces; None of a single one."""


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
    """Energies, and forces, stress and dipoles where there are labels of them; shared out over the ranks, the same on
    all of them."""
    wanted, stress, dipoles = (
        not energies_only and label is not None for label in (labels.forces, labels.stress, labels.dipole)
    )
    ends = np.cumsum(labels.offsets[indices + 1] - labels.offsets[indices])
    energy = torch.zeros(members, len(indices), dtype=torch.float64, device=device)
    found_forces = torch.zeros(int(ends[-1]) if wanted and len(ends) else 0, 3, dtype=torch.float64, device=device)
    deviation = torch.zeros_like(found_forces)
    found_stress = torch.zeros(len(indices) if stress else 0, 3, 3, dtype=torch.float64, device=device)
    found_dipole = torch.zeros(len(indices) if dipoles else 0, 3, dtype=torch.float64, device=device)
    size = max(1, min(batch, -(-len(indices) // world_size())))
    for start in range(rank() * size, len(indices), world_size() * size):
        part = indices[start : start + size]
        found, _ = passes(part, wanted, stress, False, dipoles)
        rows = slice(start, start + len(part))
        energy[:, rows] = found.energy.detach()
        if found.stress is not None:
            found_stress[rows] = found.stress.detach().double().mean(0)
        if found.dipole is not None:
            found_dipole[rows] = found.dipole.detach().mean(0)
        if found.forces is not None:
            first = 0 if start == 0 else int(ends[start - 1])
            atoms, each = slice(first, first + found.forces.shape[1]), found.forces.detach().double()
            found_forces[atoms] = each.mean(0)
            deviation[atoms] = each.std(0, correction=1) if len(each) > 1 else torch.nan
    whole = [(energy, True), (found_forces, wanted), (found_stress, stress), (found_dipole, dipoles)]
    whole.append((deviation, wanted and members > 1))
    arrays = [sum_over_ranks(tensor).cpu().numpy() if asked else None for tensor, asked in whole]
    return Predictions(indices, *arrays)  # type: ignore[arg-type]


@dataclass(frozen=True)
class Errors:
    """Mean absolute and root-mean-square errors of the members' mean, of components of forces, stress and dipoles; NaN
    where there is no label."""

    loss: float
    """The weighted sum as in `loss`."""
    energy_mae_kcal_mol: float = float("nan")
    energy_rmse_kcal_mol: float = float("nan")
    forces_mae_mev_angstrom: float = float("nan")
    forces_rmse_mev_angstrom: float = float("nan")
    stress_mae_mev_angstrom3: float = float("nan")
    stress_rmse_mev_angstrom3: float = float("nan")
    dipole_mae_debye: float = float("nan")
    dipole_rmse_debye: float = float("nan")

    def known(self) -> dict[str, float]:
        """By name, those that are numbers."""
        return {name: value for name, value in vars(self).items() if not math.isnan(value)}

    def told(self) -> list[str]:
        """Mean absolute errors, for the terminal."""
        named = (
            (self.energy_mae_kcal_mol, "E {:.3f} kcal/mol"),
            (self.forces_mae_mev_angstrom, "F {:.1f} meV/Å"),
            (self.stress_mae_mev_angstrom3, "S {:.3g} meV/Å³"),
            (self.dipole_mae_debye, "D {:.3f} debye"),
        )
        return [text.format(value) for value, text in named if not math.isnan(value)]

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
    stress, dipole = _tensor_errors(STRESS, found, labels), _tensor_errors(DIPOLE, found, labels)
    virials = stress * _virial_per_atom(found, labels)
    loss += weights.stress * float(np.mean(virials**2)) if len(virials) else 0.0
    loss += weights.dipole * float(np.mean(dipole**2)) if len(dipole) else 0.0
    milli = 1000.0 * EV_ANGSTROM_PER_HARTREE_BOHR
    return Errors(
        *(loss, _mean(np.abs(energy)), _root(energy), milli * _mean(np.abs(forces)), milli * _root(forces)),
        *(_mean(np.abs(stress)), _root(stress), _mean(np.abs(dipole)), _root(dipole)),
    )


def _tensor_errors(kind: Kind, found: Predictions, labels: Labels) -> np.ndarray:
    """(n, ...) in the kind's unit, where there is a label."""
    predicted, label = getattr(found, kind.name), getattr(labels, kind.name)
    if predicted is None or label is None:
        return np.empty((0, *kind.shape))
    return kind.errors(predicted, label[found.indices])


def _virial_per_atom(found: Predictions, labels: Labels) -> np.ndarray | float:
    """(n, 1, 1), kcal/mol, of a stress of one of its unit; where there is a label of the stress."""
    if found.stress is None or labels.volume is None or labels.has_stress is None:
        return 0.0
    chosen = found.indices[labels.has_stress[found.indices]]
    return (KCAL / STRESS.scale * labels.volume[chosen] / labels.sizes[chosen])[:, None, None]


def _mean(values: np.ndarray) -> float:
    return float(np.mean(values)) if values.size else float("nan")


def _root(values: np.ndarray) -> float:
    return float(np.sqrt(np.mean(values**2))) if values.size else float("nan")
