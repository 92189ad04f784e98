"""Morse bonds between all pairs of atoms: frequencies and minima that can be written down.

V = sum D ((1 - exp(-a (r - r0)))^2 - 1) with r0 the sum of two radii, lengths in bohr, D in hartree.
"""

import os
import signal
import time
from collections.abc import Iterable, Sequence

import numpy as np
import torch
from torch import nn

from fusion.chemistry.system import System
from fusion.potentials import Batch, PotentialMethod, Prediction
from fusion.runs.results import Result

RADII = {1: 0.7, 6: 1.4, 7: 1.4, 8: 1.1, 18: 3.5}


class Morse(nn.Module):
    """`kill_at`: the call (from 0) at which the process signals itself with `kill_by`; `seconds`: that a call takes."""

    def __init__(
        self,
        depth: float = 0.17,
        width: float = 1.1,
        kill_at: int | None = None,
        seconds: float = 0.0,
        kill_by: str = "SIGKILL",
    ) -> None:
        super().__init__()
        self.kill_by = signal.Signals[kill_by]
        self.depth, self.width, self.kill_at, self.seconds = depth, width, kill_at, seconds
        self.calls = 0
        radii = torch.zeros(119)
        for number, radius in RADII.items():
            radii[number] = radius
        self.register_buffer("radii", radii)

    def count(self) -> None:
        if self.kill_at is not None and self.calls == self.kill_at:
            os.kill(os.getpid(), self.kill_by)
        self.calls += 1
        time.sleep(self.seconds)

    def forward(self, batch: Batch) -> Prediction:
        self.count()
        atoms = batch.positions.shape[1]
        i, j = torch.triu_indices(atoms, atoms, 1)
        both = batch.mask[:, i] & batch.mask[:, j]
        difference = batch.positions[:, i] - batch.positions[:, j]
        distance = torch.where(both, difference.square().sum(-1), 1.0).sqrt()
        rest = self.radii[batch.numbers[:, i]] + self.radii[batch.numbers[:, j]]
        pairs = self.depth * ((1.0 - torch.exp(-self.width * (distance - rest))) ** 2 - 1.0)
        return Prediction(energy=torch.where(both, pairs, 0.0).sum(dim=1))


class WithoutHessian(PotentialMethod):
    """A method from whose forces the core has to derive the Hessian."""

    @property
    def provides(self) -> frozenset[str]:
        return super().provides - {"hessian"}


class Crystal(Morse):
    """The same bonds in crystals, with the images of two cells in every direction."""

    def forward(self, batch: Batch) -> Prediction:
        self.count()
        steps = torch.arange(-2, 3, dtype=batch.cell.dtype)
        shifts = torch.cartesian_prod(steps, steps, steps)
        energies = []
        for numbers, positions, cell in zip(batch.numbers, batch.positions, batch.cell, strict=True):
            vectors = positions[:, None, None] - positions[None, :, None] + shifts @ cell
            square = vectors.square().sum(-1)
            itself = square < 1e-6
            distance = torch.where(itself, 1.0, square).sqrt()
            rest = (self.radii[numbers][:, None] + self.radii[numbers][None, :])[:, :, None]
            bonds = self.depth * ((1.0 - torch.exp(-self.width * (distance - rest))) ** 2 - 1.0)
            energies.append(0.5 * torch.where(itself, 0.0, bonds).sum())
        return Prediction(energy=torch.stack(energies))


class Ensemble(PotentialMethod):
    """Members whose Hessians are the mean's times 0.9, 1 and 1.1."""

    @property
    def provides(self) -> frozenset[str]:
        return super().provides | {"hessian_members"}

    def calculate(self, systems: Sequence[System], properties: Iterable[str]) -> list[Result]:
        results = super().calculate(systems, set(properties) - {"hessian_members"})
        for result in results:
            if "hessian_members" in properties:
                hessian = result.properties["hessian"]
                result.properties["hessian_members"] = np.stack([scale * hessian for scale in (0.9, 1.0, 1.1)])
        return results
