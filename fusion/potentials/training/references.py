"""What the network is to learn: labels less self energies, fitted to them or given. Atomic units."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import torch
from ase.data import atomic_numbers
from torch import nn

from fusion.errors import InputError
from fusion.potentials.self_energies import SelfEnergies
from fusion.potentials.training.composition import counts, fit, guess
from fusion.potentials.training.settings import Settings
from fusion.potentials.training.targets import Labels

if TYPE_CHECKING:
    from fusion.datasets import Labelled


def referenced(
    model: nn.Module, data: Labelled, training: np.ndarray, settings: Settings, learned: np.ndarray | None
) -> Labels:
    """The labels as the model is to learn them; sets its self energies.

    Self energies are fitted to the structures of the training set, each source of a mixture with its own: the model
    gets those of the first, and labels of the others are moved to its zero. `learned` are the energies that a model
    with weights gives the training set: what its networks say is kept out of the fit. A model without `self_energies`
    learns the labels as they are. Where nothing but dipoles is learned the energies are left alone: labels of them, and
    of forces and stress, which may be of another level of theory, are forgotten.
    """
    kind = next(model.parameters()).dtype, "dipole" in getattr(model, "provides", ())
    module, elements = getattr(model, "self_energies", None), getattr(model, "elements", None)
    energy = np.array(data.energy, dtype=np.float64)
    if not settings.learns_energies:
        return Labels(replace(data, forces=None, stress=None), np.full_like(energy, np.nan), *kind)
    if not isinstance(module, SelfEnergies) or elements is None:
        return Labels(data, energy, *kind)
    known = [atomic_numbers[symbol] for symbol in elements]
    compositions = counts(np.asarray(data.numbers), np.asarray(data.offsets), known)
    prior = _prior(module, data, known)
    networks = np.zeros(len(energy))
    if learned is not None:
        networks[training] = learned - compositions[training] @ prior
    sources = np.asarray(data.source)
    found = [prior] * (int(sources.max()) + 1 if len(sources) else 1)
    for source in range(len(found)):
        chosen = training[(sources[training] == source) & np.isfinite(energy[training])]
        if settings.self_energies is not None and source == 0:
            found[0] = _given(settings, elements, prior)
        elif len(chosen):
            found[source] = fit(compositions[chosen], (energy - networks)[chosen], found[0] if source else prior)
    module.values.copy_(torch.from_numpy(found[0]))
    for source in range(1, len(found)):
        moved = sources == source
        energy[moved] += compositions[moved] @ (found[0] - found[source])
    return Labels(data, energy, *kind)


def _prior(module: SelfEnergies, data: Labelled, known: list[int]) -> np.ndarray:
    """What is known before: the model's own energies, those of isolated atoms, zero of atomisation energies."""
    values = module.values.detach().cpu().numpy().copy()
    if np.any(values != 0.0):
        return values
    return guess(known) if data.energy_zero == "total" else np.zeros(len(known))


def _given(settings: Settings, elements: tuple[str, ...], prior: np.ndarray) -> np.ndarray:
    given = dict(settings.self_energies or {})
    surplus = sorted(set(given) - set(elements))
    if surplus:
        raise InputError(f"method.training.self_energies.{surplus[0]}: the model has {' '.join(elements)}")
    return np.array([float(given.get(name, value)) for name, value in zip(elements, prior, strict=True)])
