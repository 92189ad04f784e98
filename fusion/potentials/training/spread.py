"""Spread of a trained ensemble in energies and forces as a measure of its error.

It is calibrated on the validation set and judged on the test set.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict
from typing import Any, Final

import numpy as np

from fusion.evaluation.calibration import calibration, within
from fusion.evaluation.uncertainty import FEWEST, ForceFactor, Uncertainty, calibrated, calibrated_forces
from fusion.potentials.training.loss import KCAL
from fusion.potentials.training.predictions import Predictions
from fusion.potentials.training.targets import Labels, atoms_of

JUDGED: Final = ("test", "unseen")
_LABELS: Final = {"test": "  test", "unseen": "  new molecules"}
_MILLI: Final = 1000.0


def deviation(predictions: Predictions) -> np.ndarray:
    """Standard deviation (n,) of the members' energies (ddof=1), hartree; NaN for a single network."""
    single = len(predictions.energy) < 2
    return np.full(predictions.energy.shape[1], np.nan) if single else predictions.energy.std(axis=0, ddof=1)


def uncertainty(predictions: Mapping[str, Predictions], labels: Labels) -> Uncertainty | None:
    """Calibrate the energies' spread on the validation set; None for a single network or too few structures."""
    part = predictions.get("validation")
    return None if part is None else calibrated(deviation(part), _errors(part, labels), labels.sizes[part.indices])


def force_factor(predictions: Mapping[str, Predictions], labels: Labels) -> ForceFactor | None:
    """Calibrate the spread of components of forces on the validation set; None without such a spread."""
    part = predictions.get("validation")
    if part is None or part.forces_std is None:
        return None
    sizes = labels.sizes[part.indices]
    return calibrated_forces(part.forces_std, _force_errors(part, labels), np.repeat(np.arange(len(sizes)), sizes))


def outside(predictions: Predictions, labels: Labels, energies: Uncertainty | None) -> np.ndarray:
    """Mask (n,), True where the calibrated spread is beyond the limit."""
    if energies is None:
        return np.zeros(len(predictions.indices), dtype=bool)
    return energies.factor * deviation(predictions) / np.sqrt(labels.sizes[predictions.indices]) > energies.limit


def document(
    predictions: Mapping[str, Predictions], labels: Labels, energies: Uncertainty | None, forces: ForceFactor | None
) -> dict[str, Any]:
    """Return the `uncertainty` of result.json.

    It holds the factor and the limit and, for each held-out part, the fractions of errors within one and two standard
    deviations before and after the calibration. Without a calibration, `none` gives the reason. It says nothing about
    energies without labels, and has `forces` if their spread is calibrated.
    """
    of_forces = {} if forces is None else {"forces": _forces(predictions, labels, forces)}
    if not labels.has_energy.any():
        return of_forces
    if energies is None:
        return {"none": _reason(predictions), **of_forces}
    statistics: dict[str, Any] = {
        "calibrated_on": "validation",
        **{key: value for key, value in asdict(energies).items() if key != "limit"},
        "limit_hartree_per_sqrt_atom": energies.limit,
    }
    for name in JUDGED:
        if name not in predictions:
            continue
        std, errors = (KCAL * values for values in (deviation(predictions[name]), _errors(predictions[name], labels)))
        before = calibration(std, errors)
        statistics[name] = {
            "members": {key: before[key] for key in ("within_1", "within_2")},
            "calibrated": calibration(energies.factor * std, errors),
            "outside": int(outside(predictions[name], labels, energies).sum()),
        }
    return statistics | of_forces


def _forces(predictions: Mapping[str, Predictions], labels: Labels, factor: ForceFactor) -> dict[str, Any]:
    statistics: dict[str, Any] = {"calibrated_on": "validation", **asdict(factor)}
    for name in (name for name in JUDGED if name in predictions):
        std, errors = predictions[name].forces_std, _force_errors(predictions[name], labels)
        assert std is not None
        usable = np.isfinite(errors) & (std > 0.0)
        if usable.any():
            before, after = (within(scale * std[usable], errors[usable]) for scale in (1.0, factor.factor))
            statistics[name] = {"components": int(usable.sum()), "members": before, "calibrated": after}
    return statistics


def lines(document: Mapping[str, Any]) -> Iterator[list[str]]:
    """Yield the terminal's lines for `document`."""
    if "none" in document:
        yield ["uncertainty", "none", document["none"]]
    if "factor" in document:
        yield from _lines_of_energies(document)
    forces = document.get("forces")
    if forces:
        yield ["spread, forces", _factor(forces), f"on components of {forces['structures']} structures for validation"]
        for name in (name for name in JUDGED if name in forces):
            yield [_LABELS[name], *_shares(forces[name])]


def _lines_of_energies(document: Mapping[str, Any]) -> Iterator[list[str]]:
    limit = f"{_MILLI * document['limit_hartree_per_sqrt_atom']:.3g} mHa per sqrt(atom)"
    yield [
        "spread",
        _factor(document),
        f"on {document['structures']} structures for validation; outside: beyond {limit}",
    ]
    for name in (name for name in JUDGED if name in document):
        part = document[name]
        number, share = part["calibrated"]["structures"], 100 * document["beyond"]
        yield [_LABELS[name], *_shares(part), f"{part['outside']} of {number} outside, {share:.2g} % expected"]


def _factor(document: Mapping[str, Any]) -> str:
    return f"calibrated: × {document['factor']:.3g} ({document['low']:.2g} to {document['high']:.2g})"


def _shares(part: Mapping[str, Any]) -> tuple[str, str]:
    before, after = part["members"], part["calibrated"]
    within_1, within_2 = (f"{100 * before[key]:.0f} → {100 * after[key]:.0f} %" for key in ("within_1", "within_2"))
    return f"{within_1} within 1 σ", f"{within_2} within 2 σ (normal: 68, 95)"


def _errors(predictions: Predictions, labels: Labels) -> np.ndarray:
    """Energy errors (n,) of the members' mean, hartree; NaN without a label."""
    return predictions.energy.mean(axis=0) - labels.energy[predictions.indices]


def _force_errors(predictions: Predictions, labels: Labels) -> np.ndarray:
    """Force errors (N, 3) of the members' mean, hartree/bohr; NaN without a label."""
    assert predictions.forces is not None and labels.forces is not None
    return predictions.forces - labels.forces[atoms_of(labels.offsets, predictions.indices)]


def _reason(predictions: Mapping[str, Predictions]) -> str:
    if any(len(part.energy) < 2 for part in predictions.values()):
        return "a single network has no spread; an ensemble has one (e.g. method.model.members=4)"
    number = len(predictions["validation"].indices) if "validation" in predictions else 0
    return f"the spread is not calibrated: {number} structures for validation, {FEWEST} with energies are needed"
