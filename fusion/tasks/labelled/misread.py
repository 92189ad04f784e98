"""Labels that agree with a method but for a sign, or a unit: the data were read wrongly."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from fusion.datasets import quantities
from fusion.errors import InputError
from fusion.tasks.labelled.predictions import Predictions
from fusion.tasks.labelled.tensors import DIPOLE, STRESS

_AGREE = 0.9
"""Correlation from which on sizes are compared."""


def refuse(predictions: Predictions, config: Mapping[str, Any], title: str) -> None:
    """Raise InputError, naming the setting of the data `config` that mends it; nothing of mixtures, or check=false."""
    if config.get("entries") is not None or not config.get("check", True):
        return
    _signs(predictions, config, title)
    _dipoles(predictions, config, title)
    ratio = predictions.energy_ratio()
    if ratio is None or abs(ratio - 1.0) < 0.1:
        return
    read = predictions.data.report.energy_unit
    unit = quantities.named(quantities.ENERGIES, quantities.energy(read, "data.energy_unit") / ratio, 0.02)
    if unit is not None:
        raise InputError(
            f"the energies of {title}, read in {read}, are {ratio:.4g} times those of the method: they are "
            f"in {unit}, it seems; data.energy_unit={unit}"
        )


def _signs(predictions: Predictions, config: Mapping[str, Any], title: str) -> None:
    correlation = predictions.force_correlation()
    if correlation is not None and correlation < -0.5:
        raise InputError(
            f"the forces of {title} point against those of the method (correlation {correlation:.2f}): they "
            f"are gradients +dE/dR, it seems; data.forces.sign={-int(config['forces']['sign'])} turns them round"
        )
    agreement = predictions.agreement(STRESS)
    if agreement is not None and agreement[0] < -_AGREE:
        raise InputError(
            f"the stress of {title} is against that of the method (correlation {agreement[0]:.2f}): it is a pressure, "
            f"or a virial, it seems; data.stress.sign={-int(config['stress']['sign'])} turns it round"
        )


def _dipoles(predictions: Predictions, config: Mapping[str, Any], title: str) -> None:
    agreement = predictions.agreement(DIPOLE)
    if agreement is None or agreement[0] < _AGREE:
        return
    read, ratio = config["dipole"]["unit"] or "e*angstrom", agreement[1]
    unit = quantities.named(quantities.DIPOLES, quantities.dipole(read, "data.dipole.unit") / ratio, 0.25)
    if unit is not None and not 0.7 < ratio < 1.4:
        raise InputError(
            f"the dipoles of {title}, read in {read}, are {ratio:.3g} times those of the method: they are in {unit}, "
            f"it seems; data.dipole.unit={unit}"
        )
