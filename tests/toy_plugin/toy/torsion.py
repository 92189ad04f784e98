"""A chain of four atoms that turns about its middle bond: barriers and transition states that can be written down.

V = harmonic bonds and angles + b cos(phi) + c cos(2 phi) (hartree), phi the dihedral: a relaxed scan gives exactly its
last two terms, with maxima b + c at phi = 0 and c - b at 180 degrees, and minima -c - b^2 / 8c at cos(phi) = -b / 4c.
"""

import os
import signal
import time

import torch
from torch import nn

from fusion.errors import InputError
from fusion.potentials import Batch, Prediction


class Torsion(nn.Module):
    """`kill_at`: the call (from 0) at which the process kills itself; `seconds`: that a call takes; `fails_beyond`: a
    dihedral (degrees) from which on there is no energy; `refuses`: one from which on the structure is refused;
    `spread`: of two members, times cos(phi) off the mean."""

    def __init__(
        self,
        b: float = 0.008,
        c: float = 0.006,
        stiffness: float = 0.3,
        kill_at: int | None = None,
        seconds: float = 0.0,
        fails_beyond: float | None = None,
        spread: float = 0.0,
        refuses: float | None = None,
    ) -> None:
        super().__init__()
        self.b, self.c, self.stiffness, self.kill_at, self.seconds = b, c, stiffness, kill_at, seconds
        self.fails_beyond, self.spread, self.calls, self.refuses = fails_beyond, spread, 0, refuses
        self.provides = frozenset({"energy_std"}) if spread else frozenset()

    def forward(self, batch: Batch) -> Prediction:
        if self.calls == self.kill_at:
            os.kill(os.getpid(), signal.SIGKILL)
        self.calls += 1
        time.sleep(self.seconds)
        one, axis, other = batch.positions.diff(dim=1).unbind(dim=1)
        lengths = torch.stack([vector.norm(dim=-1) for vector in (one, axis, other)], dim=-1)
        stretched = (lengths - lengths.new_tensor([1.83, 2.75, 1.83])).square().sum(dim=-1)
        cosines = torch.stack([(one * axis).sum(-1), (axis * other).sum(-1)], dim=-1) / (
            lengths[:, :2] * lengths[:, 1:]
        )
        bent = (torch.acos(cosines) - 1.4).square().sum(dim=-1)
        first, second = torch.linalg.cross(one, axis), torch.linalg.cross(axis, other)
        phi = torch.atan2((torch.linalg.cross(first, second) * axis).sum(-1) / lengths[:, 1], (first * second).sum(-1))
        if self.refuses is not None and bool((phi > self.refuses * torch.pi / 180.0).any()):
            raise InputError("atoms are too close")
        energy = self.stiffness * (stretched + bent) + self.b * torch.cos(phi) + self.c * torch.cos(2.0 * phi)
        if self.fails_beyond is not None:
            energy = torch.where(phi > self.fails_beyond * torch.pi / 180.0, torch.nan, energy)
        members = energy + self.spread * torch.cos(phi) * energy.new_tensor([[-1.0], [1.0]]) if self.spread else None
        return Prediction(energy=energy, members=members)
