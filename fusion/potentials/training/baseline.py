"""Errors of a trained potential beside those of the mean of its training data, and a verdict. Hartree."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from fusion.chemistry.units import KCAL_MOL_PER_HARTREE
from fusion.potentials.training.composition import counts, fit

if TYPE_CHECKING:
    from fusion.potentials.training.targets import Labels

LEARNED: Final = 0.9
"""Largest error, as a share of that of the mean, at which a model counts as better than the mean."""


def compared(labels: Labels, numbers: np.ndarray, training: np.ndarray, part: np.ndarray, error: float) -> Any:
    """Compare the mean absolute `error` (kcal/mol) of a model on `part` with that of the mean of the `training` data.

    The mean is a constant energy per element, fitted to the training data: for conformations of one molecule their mean
    energy. Returns the document of the comparison; None if there is nothing to learn in `part`.
    """
    known = np.isfinite(labels.energy)
    training, part = training[known[training]], part[known[part]]
    if not len(training) or not len(part) or not np.isfinite(error):
        return None
    elements = np.unique(numbers)
    compositions = counts(numbers, np.asarray(labels.offsets), elements.tolist())
    values = fit(compositions[training], labels.energy[training], np.zeros(len(elements)))
    deviations = labels.energy[part] - compositions[part] @ values
    of_mean = float(np.abs(deviations).mean()) * KCAL_MOL_PER_HARTREE
    if of_mean < 1e-6:
        return None
    return {"mean_mae_kcal_mol": of_mean, "ratio": error / of_mean, "learned": bool(error < LEARNED * of_mean)}


def lines(document: Mapping[str, Any] | None) -> Iterator[list[str]]:
    """Yield the verdict for the terminal."""
    if not document:
        return
    of_mean = f"{document['mean_mae_kcal_mol']:.3g} kcal/mol"
    if document["learned"]:
        share = f"{100.0 * document['ratio']:.2g} %"
        yield ["verdict", f"learned: the error is {share} of that of the mean of the data, {of_mean}"]
        return
    yield [
        "verdict",
        f"NOT LEARNED: no better than the mean of the data, whose error is {of_mean}",
        "train longer, at another learning rate, or give the model fusion.potentials.SelfEnergies",
    ]
