"""Check of the labels' sign and unit: labels that agree with a method except for these were read wrongly."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from fusion.datasets import quantities
from fusion.errors import InputError
from fusion.evaluation.predictions import Predictions
from fusion.evaluation.tensors import DIPOLE, STRESS

_AGREE = 0.9
"""Correlation above which magnitudes are compared."""


def refuse(predictions: Predictions, config: Mapping[str, Any], title: str) -> None:
    """Raise InputError for labels in another sign or unit, naming the setting of the data `config` to change.

    Mixtures, and data with check=false, are not checked.
    """
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
            f"data.energy_unit: the energies of {title}, read in {read}, are {ratio:.4g} times those of the method; "
            f"they look like {unit}. Set data.energy_unit={unit}, or data.check=false to keep {read}"
        )


def _signs(predictions: Predictions, config: Mapping[str, Any], title: str) -> None:
    correlation = predictions.force_correlation()
    if correlation is not None and correlation < -0.5:
        raise InputError(
            f"data.forces.sign: the forces of {title} point against those of the method (correlation "
            f"{correlation:.2f}); they look like gradients (+dE/dR), not forces. "
            f"Set data.forces.sign={-int(config['forces']['sign'])}, or data.check=false to keep the sign"
        )
    agreement = predictions.agreement(STRESS)
    if agreement is not None and agreement[0] < -_AGREE:
        raise InputError(
            f"data.stress.sign: the stress of {title} has the opposite sign of the method's (correlation "
            f"{agreement[0]:.2f}); it looks like a pressure or a virial. "
            f"Set data.stress.sign={-int(config['stress']['sign'])}, or data.check=false to keep the sign"
        )


def _dipoles(predictions: Predictions, config: Mapping[str, Any], title: str) -> None:
    agreement = predictions.agreement(DIPOLE)
    if agreement is None or agreement[0] < _AGREE:
        return
    read, ratio = config["dipole"]["unit"] or "e*angstrom", agreement[1]
    unit = quantities.named(quantities.DIPOLES, quantities.dipole(read, "data.dipole.unit") / ratio, 0.25)
    if unit is not None and not 0.7 < ratio < 1.4:
        raise InputError(
            f"data.dipole.unit: the dipoles of {title}, read in {read}, are {ratio:.3g} times those of the method; "
            f"they look like {unit}. Set data.dipole.unit={unit}, or data.check=false to keep {read}"
        )
