"""Small molecules with labels of a potential that can be written down: linear in its parameters.

V = sum over pairs of exp(-r / 2) w(a, b), hartree, r in bohr, w by the elements of the pair.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from ase.data import atomic_numbers
from torch import Tensor, nn

from fusion.chemistry.units import BOHR_PER_ANGSTROM
from fusion.datasets import Labelled
from fusion.potentials import Batch, Prediction
from fusion.potentials.batch import batch_of
from fusion.potentials.self_energies import SelfEnergies

WATER = ("O", "H", "H"), np.array([[0.0, 0.0, 0.0], [0.0, 0.76, 0.59], [0.0, -0.76, 0.59]])
METHANE = (
    ("C", "H", "H", "H", "H"),
    0.63 * np.array([[0, 0, 0], [1, 1, 1], [1, -1, -1], [-1, 1, -1], [-1, -1, 1]], dtype=float),
)
ATOMS = {"H": -0.5, "C": -37.8, "O": -75.0}


class Linear(nn.Module):
    """Model with parameters w (E, E) and self energies."""

    def __init__(self, elements: tuple[str, ...] = ("H", "C", "O"), scale: float = 2.0) -> None:
        super().__init__()
        self.elements = tuple(elements)
        self.scale = float(scale)
        self.weights = nn.Parameter(torch.zeros(len(elements), len(elements), dtype=torch.float64))
        self.self_energies = SelfEnergies(len(elements))
        place = torch.zeros(119, dtype=torch.int64)
        place[[atomic_numbers[name] for name in elements]] = torch.arange(len(elements))
        self.register_buffer("place", place)

    def forward(self, batch: Batch) -> Prediction:
        i, j = torch.triu_indices(batch.numbers.shape[1], batch.numbers.shape[1], 1)
        both = batch.mask[:, i] & batch.mask[:, j]
        square = (batch.positions[:, i] - batch.positions[:, j]).square().sum(-1)
        distance = torch.where(both, square, 1.0).sqrt()
        species = self.place[batch.numbers]
        weights = self.weights + self.weights.T
        pairs = torch.where(both, weights[species[:, i], species[:, j]] * torch.exp(-distance / self.scale), 0.0)
        own = torch.where(batch.mask, self.self_energies.values[species], 0.0)
        return Prediction(energy=pairs.sum(1).double() + own.sum(1))


TRUTH = torch.tensor([[0.3, -0.2, 0.1], [0.0, 0.4, 0.0], [-0.5, 0.0, 0.2]], dtype=torch.float64)


def truth() -> Linear:
    """Return the model that produced the labels."""
    model = Linear()
    model.weights.data.copy_(TRUTH)
    model.self_energies.values.copy_(torch.tensor([ATOMS[name] for name in model.elements]))
    return model


def labelled(number: int, seed: int = 0, molecules: Any = (WATER, METHANE), model: nn.Module | None = None) -> Labelled:
    """Distorted molecules by turns, with energies and forces."""
    random = np.random.default_rng(seed)
    chosen = [molecules[index % len(molecules)] for index in range(number)]
    positions = [BOHR_PER_ANGSTROM * (where + 0.1 * random.normal(size=where.shape)) for _, where in chosen]
    sizes = [len(symbols) for symbols, _ in chosen]
    names = ["".join(symbols) for symbols, _ in molecules]
    data = Labelled(
        numbers=np.array([atomic_numbers[name] for symbols, _ in chosen for name in symbols], dtype=np.uint8),
        positions=np.concatenate(positions),
        offsets=np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64),
        energy=np.zeros(number),
        forces=np.zeros((sum(sizes), 3)),
        stress=None,
        dipole=None,
        cell=None,
        pbc=None,
        charge=np.zeros(number, dtype=np.int16),
        spin=np.zeros(number, dtype=np.int16),
        group=np.arange(number, dtype=np.int32) % len(molecules),
        groups=tuple(names),
        source=np.zeros(number, dtype=np.int16),
        sources=("test",),
        ids=np.arange(number, dtype=np.uint64) + np.uint64(1000 * seed),
        place=np.arange(1, number + 1),
    )
    batch = batch_of(data, np.arange(number), torch.float64)
    positions_ = batch.positions.requires_grad_()
    energy: Tensor = (truth() if model is None else model)(batch).energy
    (gradient,) = torch.autograd.grad(energy.sum(), positions_)
    data.energy[:] = energy.detach().numpy()
    assert data.forces is not None
    data.forces[:] = -gradient[batch.mask].numpy()
    return data


def write(path: Path, number: int, seed: int = 0) -> Path:
    """Write the same structures as extended XYZ in eV and Angstrom."""
    from ase import Atoms
    from ase.calculators.singlepoint import SinglePointCalculator
    from ase.io import write as save

    from fusion.chemistry import units

    data, frames = labelled(number, seed), []
    assert data.forces is not None
    for index in range(number):
        atoms = slice(data.offsets[index], data.offsets[index + 1])
        frame = Atoms(data.numbers[atoms], data.positions[atoms] * units.ANGSTROM_PER_BOHR)
        forces = data.forces[atoms] * units.EV_ANGSTROM_PER_HARTREE_BOHR
        frame.calc = SinglePointCalculator(frame, energy=data.energy[index] * units.EV_PER_HARTREE, forces=forces)
        frames.append(frame)
    save(path, frames)
    return path
