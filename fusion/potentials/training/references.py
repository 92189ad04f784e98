"""Labels for the network: energies less self energies, which are fitted or come from the settings. Atomic units."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import torch
from ase.data import atomic_numbers
from torch import nn

from fusion.errors import InputError
from fusion.potentials import abilities
from fusion.potentials.self_energies import SelfEnergies, self_energies
from fusion.potentials.training.composition import counts, fit, guess
from fusion.potentials.training.settings import Settings
from fusion.potentials.training.targets import Labels

if TYPE_CHECKING:
    from fusion.datasets import Labelled


def referenced(
    model: nn.Module, data: Labelled, training: np.ndarray, settings: Settings, learned: np.ndarray | None
) -> Labels:
    """Return the labels that the model learns, and set its self energies.

    Self energies are fitted to the training set, separately for each source of a mixture. The model gets those of the
    first source, and labels of the other sources are shifted to its zero. `learned` are the energies that a model with
    weights predicts for the training set; the contribution of its networks is subtracted before the fit. A model
    without self energies learns the labels unchanged. If only dipoles are learned, energies, forces and stress, which
    may be of another level of theory, are dropped from the labels.

    Raises InputError for a self energy of an element that the model does not have.
    """
    arguments = next(model.parameters()).dtype, "dipole" in abilities.provides(model)
    module, elements = self_energies(model), abilities.elements(model)
    energy = np.array(data.energy, dtype=np.float64)
    if not settings.learns_energies:
        return Labels(replace(data, forces=None, stress=None), np.full_like(energy, np.nan), *arguments)
    if module is None or elements is None:
        return Labels(data, energy, *arguments)
    numbers = [atomic_numbers[symbol] for symbol in elements]
    compositions = counts(np.asarray(data.numbers), np.asarray(data.offsets), numbers)
    prior = _prior(module, data, numbers)
    networks = np.zeros(len(energy))
    if learned is not None:
        networks[training] = learned - compositions[training] @ prior
    sources = np.asarray(data.source)
    by_source = [prior] * (int(sources.max()) + 1 if len(sources) else 1)
    for source in range(len(by_source)):
        chosen = training[(sources[training] == source) & np.isfinite(energy[training])]
        if settings.self_energies is not None and source == 0:
            by_source[0] = _given(settings, elements, prior)
        elif len(chosen):
            by_source[source] = fit(
                compositions[chosen], (energy - networks)[chosen], by_source[0] if source else prior
            )
    module.values.copy_(torch.from_numpy(by_source[0]))
    for source in range(1, len(by_source)):
        of_source = sources == source
        energy[of_source] += compositions[of_source] @ (by_source[0] - by_source[source])
    return Labels(data, energy, *arguments)


def _prior(module: SelfEnergies, data: Labelled, numbers: list[int]) -> np.ndarray:
    """Prior values: the model's own self energies, else estimates for total energies, zero for atomisation energies."""
    values = module.values.detach().cpu().numpy().copy()
    if np.any(values != 0.0):
        return values
    return guess(numbers) if data.energy_zero == "total" else np.zeros(len(numbers))


def _given(settings: Settings, elements: tuple[str, ...], prior: np.ndarray) -> np.ndarray:
    stated = dict(settings.self_energies or {})
    unknown = sorted(set(stated) - set(elements))
    if unknown:
        raise InputError(f"method.training.self_energies.{unknown[0]}: the model has {' '.join(elements)}")
    return np.array([float(stated.get(name, value)) for name, value in zip(elements, prior, strict=True)])
