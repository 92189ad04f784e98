"""Derivatives of dipole and polarisability along normal modes, from nuclear derivatives or by finite differences.

Differences along modes take two calculations a mode: 6A - 12 for A atoms instead of 6A for all coordinates, and fewer
where only some of the modes are requested.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from fusion.chemistry.system import System
from fusion.errors import CalculationError
from fusion.methods.protocol import Method
from fusion.tasks.geometry.normal_modes import NormalModes
from fusion.tasks.vibrations.infrared import strengths
from fusion.tasks.vibrations.raman import activities

STEP_BOHR: Final[float] = 0.02
"""Displacement along a mode of the atom that moves most: a third of the zero-point amplitude of a stiff stretch. Cubic
terms are then below 0.1 % of a derivative, and the dipole's noise of about 1e-5 e bohr adds less than 0.001 e."""


@dataclass(frozen=True)
class Slopes:
    """Derivatives of one property along the displacements of norm one of n modes."""

    values: np.ndarray
    """(n, ...), the property's unit per bohr; NaN for modes that were left out."""
    details: dict[str, Any]
    """Origin and measured accuracy of the derivatives, for `result.json`."""


def of_nuclei(modes: NormalModes, derivatives: np.ndarray, charge: int = 0) -> Slopes:
    """Derivatives along the modes from the derivatives (3A, ...) by all coordinates of the nuclei.

    The derivatives summed over all atoms are those of a translation: zero for the polarisability, and `charge` times
    the unit matrix for the dipole. The largest deviation from it measures the numerical error.
    """
    flat = modes.displacements.reshape(len(modes.frequencies), len(derivatives))
    total = derivatives.reshape(-1, 3, *derivatives.shape[1:]).sum(axis=0)
    if charge:
        total = total - charge * np.eye(3)
    return Slopes(np.tensordot(flat, derivatives, axes=1), {"sum_over_atoms": float(np.abs(total).max())})


def along_modes(
    source: Method,
    system: System,
    modes: NormalModes,
    chosen: np.ndarray,
    names: Sequence[str],
    tell: Callable[[int], None],
) -> dict[str, Slopes]:
    """Derivatives of the properties `names` (dipole, polarizability) by central differences along `chosen` modes (n,).

    The strongest line of each property is calculated again at twice the step; its change measures the error.
    `tell` is called with the number of calculations done. Raises CalculationError.
    """
    differences = _Differences(source, system, modes, tuple(names), tell)
    chosen_modes = [int(mode) for mode in np.flatnonzero(chosen)]
    derivatives = {name: np.full((len(chosen), *_SHAPES[name]), np.nan) for name in names}
    for mode in chosen_modes:
        for name, slope in differences.at(mode, STEP_BOHR).items():
            derivatives[name][mode] = slope
    described = {"by": "central differences along the modes", "step_bohr": STEP_BOHR, "modes": len(chosen_modes)}
    remarks: dict[str, dict[str, Any]] = {name: dict(described) for name in names}
    if len(chosen_modes):
        strength = {name: _STRENGTHS[name](derivatives[name], modes.reduced_masses) for name in names}
        strongest = {name: chosen_modes[int(np.argmax(strength[name][chosen_modes]))] for name in names}
        wider = {mode: differences.at(mode, 2.0 * STEP_BOHR) for mode in dict.fromkeys(strongest.values())}
        for name, mode in strongest.items():
            mass = modes.reduced_masses[mode : mode + 1]
            at_twice_the_step = float(_STRENGTHS[name](wider[mode][name][None], mass)[0])
            at_the_step = float(strength[name][mode])
            if at_the_step > 0:
                remarks[name]["strongest_changes_by_at_twice_the_step"] = (
                    abs(at_twice_the_step - at_the_step) / at_the_step
                )
    return {name: Slopes(derivatives[name], remarks[name]) for name in names}


def calculations(chosen: np.ndarray, properties: int) -> int:
    """Largest number of calculations that `along_modes` takes for this number of properties."""
    number = int(np.count_nonzero(chosen))
    return 2 * (number + properties) if number and properties else 0


class _Differences:
    """Finite differences, one calculation at a time, so that the journal records each when it is done."""

    def __init__(
        self,
        source: Method,
        system: System,
        modes: NormalModes,
        names: tuple[str, ...],
        tell: Callable[[int], None],
    ) -> None:
        self._source, self._system, self._modes, self._names, self._tell = source, system, modes, names, tell
        self._done = 0

    def at(self, place: int, step: float) -> dict[str, np.ndarray]:
        """Derivatives along a mode's displacement of norm one; the atom that moves most moves by `step`, bohr."""
        mode = self._modes.displacements[place]
        length = step / np.linalg.norm(mode, axis=1).max()
        ahead, behind = (self._calculate(place, sign * length * mode) for sign in (1.0, -1.0))
        return {name: (ahead[name] - behind[name]) / (2.0 * length) for name in self._names}

    def _calculate(self, place: int, move: np.ndarray) -> dict[str, np.ndarray]:
        moved = self._system.moved(self._system.positions + move)
        (result,) = self._source.calculate([moved], frozenset({"energy", *self._names}))
        if result.status != "ok":
            number = self._modes.removed + place + 1
            raise CalculationError(f"displaced along mode {number}: {result.message or result.status}")
        self._done += 1
        self._tell(self._done)
        return {name: np.asarray(result.properties[name], dtype=float) for name in self._names}


def _activities(slopes: np.ndarray, reduced_masses: np.ndarray) -> np.ndarray:
    return activities(slopes, reduced_masses)[0]


_SHAPES: Final[dict[str, tuple[int, ...]]] = {"dipole": (3,), "polarizability": (3, 3)}
_STRENGTHS: Final = {"dipole": strengths, "polarizability": _activities}
