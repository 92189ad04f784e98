"""What the differences of a trained ensemble's members are worth, in energies and in forces: calibrated on the
validation, judged on the test."""

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


def deviation(found: Predictions) -> np.ndarray:
    """(n,) the members' standard deviation (ddof=1), hartree; NaN for a single one."""
    single = len(found.energy) < 2
    return np.full(found.energy.shape[1], np.nan) if single else found.energy.std(axis=0, ddof=1)


def uncertainty(found: Mapping[str, Predictions], labels: Labels) -> Uncertainty | None:
    """From the structures for validation alone; None of a single network, or of too few of them."""
    part = found.get("validation")
    return None if part is None else calibrated(deviation(part), _errors(part, labels), labels.sizes[part.indices])


def force_factor(found: Mapping[str, Predictions], labels: Labels) -> ForceFactor | None:
    """The same for components of forces."""
    part = found.get("validation")
    if part is None or part.forces_std is None:
        return None
    sizes = labels.sizes[part.indices]
    return calibrated_forces(part.forces_std, _force_errors(part, labels), np.repeat(np.arange(len(sizes)), sizes))


def outside(found: Predictions, labels: Labels, known: Uncertainty | None) -> np.ndarray:
    """(n,) bool, whether the spread is beyond the limit."""
    if known is None:
        return np.zeros(len(found.indices), dtype=bool)
    return known.factor * deviation(found) / np.sqrt(labels.sizes[found.indices]) > known.limit


def document(
    found: Mapping[str, Predictions], labels: Labels, known: Uncertainty | None, forces: ForceFactor | None
) -> dict[str, Any]:
    """The `uncertainty` of result.json: the factor and the limit, and of each part that took no share in them how many
    errors are within one and two deviations, as they were and calibrated; or `none`, the reason why there is none.
    Nothing of energies where there are no labels of them; `forces` where their spread is calibrated."""
    of_forces = {} if forces is None else {"forces": _forces(found, labels, forces)}
    if not labels.has_energy.any():
        return of_forces
    if known is None:
        return {"none": _reason(found), **of_forces}
    told: dict[str, Any] = {
        "calibrated_on": "validation",
        **{key: value for key, value in asdict(known).items() if key != "limit"},
        "limit_hartree_per_sqrt_atom": known.limit,
    }
    for name in JUDGED:
        if name not in found:
            continue
        std, errors = (KCAL * values for values in (deviation(found[name]), _errors(found[name], labels)))
        before = calibration(std, errors)
        told[name] = {
            "members": {key: before[key] for key in ("within_1", "within_2")},
            "calibrated": calibration(known.factor * std, errors),
            "outside": int(outside(found[name], labels, known).sum()),
        }
    return told | of_forces


def _forces(found: Mapping[str, Predictions], labels: Labels, known: ForceFactor) -> dict[str, Any]:
    told: dict[str, Any] = {"calibrated_on": "validation", **asdict(known)}
    for name in (name for name in JUDGED if name in found):
        std, errors = found[name].forces_std, _force_errors(found[name], labels)
        assert std is not None
        some = np.isfinite(errors) & (std > 0.0)
        if some.any():
            before, after = (within(scale * std[some], errors[some]) for scale in (1.0, known.factor))
            told[name] = {"components": int(some.sum()), "members": before, "calibrated": after}
    return told


def lines(found: Mapping[str, Any]) -> Iterator[list[str]]:
    """The terminal's lines of `document`."""
    if "none" in found:
        yield ["uncertainty", "none", found["none"]]
    if "factor" in found:
        yield from _lines_of_energies(found)
    forces = found.get("forces")
    if forces:
        yield ["spread, forces", _factor(forces), f"on components of {forces['structures']} structures for validation"]
        for name in (name for name in JUDGED if name in forces):
            yield [_LABELS[name], *_shares(forces[name])]


def _lines_of_energies(found: Mapping[str, Any]) -> Iterator[list[str]]:
    limit = f"{_MILLI * found['limit_hartree_per_sqrt_atom']:.3g} mHa per sqrt(atom)"
    yield ["spread", _factor(found), f"on {found['structures']} structures for validation; outside: beyond {limit}"]
    for name in (name for name in JUDGED if name in found):
        part = found[name]
        number, share = part["calibrated"]["structures"], 100 * found["beyond"]
        yield [_LABELS[name], *_shares(part), f"{part['outside']} of {number} outside, {share:.2g} % expected"]


def _factor(found: Mapping[str, Any]) -> str:
    return f"calibrated: × {found['factor']:.3g} ({found['low']:.2g} to {found['high']:.2g})"


def _shares(part: Mapping[str, Any]) -> tuple[str, str]:
    before, after = part["members"], part["calibrated"]
    one, two = (f"{100 * before[key]:.0f} → {100 * after[key]:.0f} %" for key in ("within_1", "within_2"))
    return f"{one} within 1 σ", f"{two} within 2 σ (normal: 68, 95)"


def _errors(found: Predictions, labels: Labels) -> np.ndarray:
    """(n,) hartree, of the members' mean; NaN without a label."""
    return found.energy.mean(axis=0) - labels.energy[found.indices]


def _force_errors(found: Predictions, labels: Labels) -> np.ndarray:
    """(N, 3) hartree/bohr, of the members' mean; NaN without a label."""
    assert found.forces is not None and labels.forces is not None
    return found.forces - labels.forces[atoms_of(labels.offsets, found.indices)]


def _reason(found: Mapping[str, Predictions]) -> str:
    if any(len(part.energy) < 2 for part in found.values()):
        return "a single network does not know how sure it is; an ensemble does (method.model.members=4, say)"
    number = len(found["validation"].indices) if "validation" in found else 0
    return f"the spread is not calibrated: {number} structures for validation, {FEWEST} with energies are needed"
