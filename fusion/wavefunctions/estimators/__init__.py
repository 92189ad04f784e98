"""Observables measured during an evaluation, each a function of the walkers (`Estimator`)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial

from fusion.chemistry.system import System
from fusion.errors import InputError
from fusion.wavefunctions.estimators.density import Density
from fusion.wavefunctions.estimators.density_matrix import DensityMatrix
from fusion.wavefunctions.estimators.forces import Forces, forces
from fusion.wavefunctions.estimators.multipoles import Dipole, Quadrupole, dipole
from fusion.wavefunctions.estimators.pair_density import PairDensity
from fusion.wavefunctions.estimators.protocol import Estimates, Estimator, clear
from fusion.wavefunctions.estimators.spin import Spin
from fusion.wavefunctions.estimators.virial import Virial

__all__ = [
    "Density",
    "DensityMatrix",
    "Dipole",
    "Estimates",
    "Estimator",
    "Forces",
    "PairDensity",
    "Quadrupole",
    "Spin",
    "Virial",
    "build",
    "clear",
    "forces",
    "standard",
]

Builders = Mapping[str, Callable[..., Estimator | None] | None]


def standard(spin_every: int) -> Builders:
    """Builders of the estimators of every evaluation."""
    return {"spin": partial(Spin, every=spin_every), "dipole": dipole, "virial": Virial, "forces": forces}


def build(system: System, builders: Builders) -> list[Estimator]:
    """Build the estimators of ``system``; an entry that is None, or returns None for this system, is left out.

    Raises InputError for an estimator measured every 0 iterations, or two that measure the same.
    """
    made = [make(system=system) for make in builders.values() if make is not None]
    estimators = [estimator for estimator in made if estimator is not None]
    for estimator in estimators:
        if estimator.every < 1:
            key = f"method.evaluation.estimators.{estimator.name}.every"
            raise InputError(f"{key} must be at least 1, not {estimator.every}")
    names = [name for estimator in estimators for name in dict.fromkeys((estimator.name, *estimator.measures))]
    for name in names:
        if names.count(name) > 1:
            raise InputError(f"method.evaluation.estimators: two of them measure {name}; remove one")
    return estimators
