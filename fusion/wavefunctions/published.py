"""Wavefunctions of the zoo: the checks of a card against a run, and the start of a run at its parameters."""

from __future__ import annotations

from typing import Any

import numpy as np
from torch import nn

from fusion import zoo
from fusion.chemistry.system import System
from fusion.errors import InputError
from fusion.wavefunctions.checkpoint import identity, refuse_other
from fusion.wavefunctions.transfer import Start
from fusion.zoo.card import WALKERS, Card


def refuse_other_molecule(card: Card, system: System, settings: dict[str, Any]) -> None:
    """Raise InputError unless `card` has a wavefunction of the molecule `system`, at any geometry, and a network with
    these `settings`; the message names the difference."""
    nothing = nn.Module()
    here = identity(system, nothing, settings)
    refuse_other(identity(_system(card), nothing, card.model.settings), here, card.label)


def start(card: Card, system: System, ansatz: nn.Module, settings: dict[str, Any]) -> Start:
    """Read the parameters and walkers of `card`, to start at them with `ansatz`, a network of these `settings`.

    The weights are pulled if missing, and their digest is verified. Raises InputError for another molecule, another
    network or a card without walkers, and the errors of `fusion.zoo.state`.
    """
    refuse_other_molecule(card, system, settings)
    tensors = {name: tensor.clone() for name, tensor in zoo.state(card).items()}  # those of a file may not be aligned
    walkers, there = tensors.pop(WALKERS, None), _system(card)
    if walkers is None or walkers.shape[1:] != (system.n_electrons, 3) or not len(walkers):
        raise InputError(f"{card.label} has no walkers (W, {system.n_electrons}, 3): publish its run again")
    here = identity(system, ansatz, {})
    names = here["parameters"]
    shapes = {name: list(tensors[name].shape) for name in names if name in tensors}
    refuse_other({**here, "parameters": shapes}, here, card.label)
    parameters = {name: tensors.pop(name) for name in names}
    return Start(parameters, walkers, np.array(there.positions), buffers=tensors)


def _system(card: Card) -> System:
    """Return the system of a wavefunction's card. Raises InputError for a card without one."""
    if card.system is None:
        raise InputError(f"{card.label}: its card names no system")
    return card.system.system(card.name)
