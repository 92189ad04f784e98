"""Protocol of estimators: observables besides the energy, measured while the walkers of an evaluation move."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol, cast

import numpy as np
from torch import Tensor, nn

from fusion.chemistry.system import System
from fusion.errors import InputError
from fusion.wavefunctions.hamiltonians import LocalEnergy, Point
from fusion.wavefunctions.statistics import blocked


@dataclass(frozen=True)
class Estimates:
    """Values from an evaluation, to merge into a `Result`: properties, details of ``vmc``, and files by name."""

    properties: dict[str, np.ndarray | float] = field(default_factory=dict)
    details: dict[str, Any] = field(default_factory=dict)
    files: dict[str, bytes] = field(default_factory=dict)


class Estimator(Protocol):
    """One observable, an ``nn.Module`` built with ``system=``.

    Its persistent buffers are part of the checkpoint, for sums that are not series, such as the counts of a histogram.
    They are zero at the start of an evaluation.
    """

    name: str
    measures: tuple[str, ...]
    """Names of its series; without any, `finish` must bear that nothing has been measured."""
    every: int
    """Iterations between two measurements."""

    def __call__(self, point: Point, local: LocalEnergy) -> Mapping[str, Tensor]:
        """Return local values (B, ...) of every series, float64, whose means over |psi|^2 are wanted."""
        ...

    def finish(self, series: Mapping[str, np.ndarray]) -> Estimates:
        """Turn the means of all iterations (T, ...) into values with errors; all of ``measures`` are there."""
        ...


def refuse_cell(system: System, name: str, reason: str) -> None:
    """Raise InputError for a periodic system, in which the observable `name` is not defined or not available."""
    if system.cell is not None:
        raise InputError(
            f"method.evaluation.estimators.{name}: {reason} in the periodic cell of {system.name}; remove it"
        )


def clear(estimator: Estimator) -> None:
    """Set the persistent buffers of an estimator to zero."""
    for value in cast(nn.Module, estimator).state_dict().values():
        if isinstance(value, Tensor):
            value.zero_()


def check_same(setting: str, stored: Mapping[str, float], current: Mapping[str, float]) -> None:
    """Raise InputError if the sums of a checkpoint were made with other settings of their estimator."""
    for name, value in current.items():
        if stored[name] != value:
            raise InputError(
                f"{setting}.{name}={value:g}: the evaluation in the checkpoint began with {stored[name]:g}; "
                "keep it, or evaluate anew with task=evaluate"
            )


def blocked_columns(series: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Means and blocked standard errors of every component of a series (T, ...)."""
    columns = [blocked(column) for column in series.reshape(len(series), -1).T]
    shape = series.shape[1:]
    return np.array([c.value for c in columns]).reshape(shape), np.array([c.stderr for c in columns]).reshape(shape)


def with_stderr(value: Any, stderr: Any) -> dict[str, Any]:
    """Value and error for JSON, which lacks nan: None if the series was too short for an error."""
    value, stderr = np.asarray(value, dtype=float), np.asarray(stderr, dtype=float)
    return {"value": value.tolist(), "stderr": stderr.tolist() if np.isfinite(stderr).all() else None}
