"""Model E = sum over pairs of c_i c_j exp(-r / r0), with a weight c per element, and a bias per atom."""

import os
import signal
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import nn

from fusion.potentials import Batch, Prediction
from fusion.zoo.card import Card


class Pair(nn.Module):
    def __init__(self, elements: Sequence[str], range_bohr: float = 2.0) -> None:
        super().__init__()
        self.elements, self.range_bohr = elements, range_bohr
        self.strength = nn.Parameter(torch.ones(119))
        self.register_buffer("bias", torch.zeros(3, 2))

    def forward(self, batch: Batch) -> Prediction:
        weight = self.strength[batch.numbers] * batch.mask
        difference = batch.positions[:, :, None] - batch.positions[:, None, :]
        distance = (difference.square().sum(-1) + 1e-6).sqrt()
        energy = weight[:, :, None] * weight[:, None, :] * torch.exp(-distance / self.range_bohr)
        return Prediction(energy=energy.sum((1, 2)) + self.bias.sum())


class NoModule:
    pass


def state() -> dict[str, torch.Tensor]:
    return {"bias": torch.arange(6.0).reshape(3, 2), "strength": torch.arange(119.0) / 7.0}


def convert(directory: Path, card: Card) -> dict[str, torch.Tensor]:
    """Convert a text file of numbers; a file `killed` beside the cache stops the process in the middle."""
    marker = os.environ.get("TINY_KILL", "")
    if os.path.exists(marker):
        os.remove(marker)
        os.kill(os.getpid(), signal.SIGKILL)
    (file,) = card.files
    numbers = [float(word) for word in (directory / file.path).read_text().split()]
    return {"bias": torch.tensor(numbers[:6]).reshape(3, 2), "strength": torch.tensor(numbers[6:])}
