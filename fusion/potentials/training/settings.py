"""Settings of a training, with checks; conf/training/potential.yaml describes each of them."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np

from fusion.config.checks import check_switch, check_whole
from fusion.errors import InputError

LABELS = ("energy", "forces", "stress", "dipole")
"""Labels that the loss can have a weight for."""
_PLACE = "method.training"
_STEPS, _MOST_EPOCHS = 30_000, 1000
_RATE, _RATE_TUNED = 1e-3, 2e-4  # a rate of 1e-3 first destroys much of a pretrained ANI's accuracy


@dataclass(frozen=True)
class Weight:
    """Weight in the loss: values at equal intervals from the beginning to the end of the training."""

    values: tuple[float, ...]

    def at(self, fraction: float) -> float:
        """Interpolate the weight linearly at a fraction of the training."""
        return float(np.interp(fraction, np.linspace(0.0, 1.0, len(self.values)), self.values))

    @property
    def ever(self) -> bool:
        """True if the weight is positive at any time."""
        return any(value > 0.0 for value in self.values)

    @classmethod
    def read(cls, name: str, value: Any) -> Weight:
        """Read the weight from a number or a list of numbers; raises InputError for anything else."""
        values = tuple(value) if isinstance(value, Sequence) and not isinstance(value, str) else (value,)
        if not values or not all(_is_number(value) and value >= 0.0 for value in values):
            raise InputError(
                f"{_PLACE}.loss.{name} must be a number of at least 0, or a list of them over the training, "
                f"[0.1, 1.0]; not {value!r}"
            )
        return cls(tuple(map(float, values)))


@dataclass(frozen=True)
class Plateau:
    """Rule that multiplies the learning rate by `factor` after `patience` validations without an improvement."""

    factor: float
    patience: int
    stop_below: float


@dataclass(frozen=True)
class Settings:
    """Settings of one training."""

    epochs: int
    batch: int
    learning_rate: float
    final_learning_rate: float | None
    plateau: Plateau
    weight_decay: float
    average: float
    clip: float | None
    energy: Weight
    forces: Weight
    stress: Weight
    dipole: Weight
    exponential: float | None
    validate_every: int
    patience: int | None
    leave_out: bool
    self_energies: Mapping[str, float] | None
    new_elements: tuple[str, ...]
    frozen: tuple[str, ...]
    rates: Mapping[str, float]
    memory_gb: float

    @property
    def learns_energies(self) -> bool:
        """True if the energy or a derivative of it is trained."""
        return self.energy.ever or self.forces.ever or self.stress.ever

    @classmethod
    def read(cls, config: Mapping[str, Any], structures: int, tuned: bool = False) -> Settings:
        """Read the settings from `method.training`, with defaults for this number of training structures.

        `tuned` is True for a model that starts from weights. Raises InputError for an unknown key or a wrong value.
        """
        values = dict(config)
        if values["learning_rate"] is None:
            values["learning_rate"] = _RATE_TUNED if tuned else _RATE
        if values["batch"] is None:
            values["batch"] = max(8, min(64, structures // 100))
        if values["epochs"] is None and values["batch"]:
            steps = -(-structures // values["batch"])  # in an epoch
            values["epochs"] = max(1, min(_MOST_EPOCHS, _STEPS // max(1, steps)))
        for group in ("loss", "plateau", "rates"):
            if not isinstance(values[group], Mapping):
                raise InputError(f"{_PLACE}.{group} is a group: set {_PLACE}.{group}.KEY=VALUE")
        loss, plateau = dict(values.pop("loss")), dict(values.pop("plateau"))
        unknown = sorted(set(loss) - set(LABELS))
        if unknown:
            raise InputError(f"{_PLACE}.loss.{unknown[0]}: unknown key; the loss takes {', '.join(LABELS)}")
        for name in LABELS:
            values[name] = Weight.read(name, loss.get(name, 0.0))
        for name in ("frozen", "new_elements"):
            names = values[name]
            values[name] = (names,) if isinstance(names, str) else tuple(map(str, names))
        values["rates"] = dict(values["rates"])
        field_names = {field.name for field in fields(cls)}
        unknown_settings = sorted(set(values) - field_names)
        if unknown_settings:
            raise InputError(f"{_PLACE} has no setting {unknown_settings[0]!r}")
        settings = cls(plateau=Plateau(**plateau), **values)
        settings._check()
        return settings

    def _check(self) -> None:
        integers: dict[str, tuple[Any, int]] = {
            "epochs": (self.epochs, 1),
            "batch": (self.batch, 1),
            "validate_every": (self.validate_every, 1),
            "plateau.patience": (self.plateau.patience, 1),
        }
        if self.patience is not None:
            integers["patience"] = (self.patience, 1)
        for name, (number, least) in integers.items():
            check_whole(f"{_PLACE}.{name}", number, least)
        positive: dict[str, Any] = {"learning_rate": self.learning_rate, "memory_gb": self.memory_gb}
        for name in ("clip", "exponential"):
            positive |= {} if getattr(self, name) is None else {name: getattr(self, name)}
        for name, value in positive.items():
            if not _is_number(value) or value <= 0:
                raise InputError(f"{_PLACE}.{name} must be a positive number, not {value!r}")
        at_least: dict[str, Any] = {"weight_decay": self.weight_decay, "plateau.stop_below": self.plateau.stop_below}
        at_least |= {f"rates.{pattern}": rate for pattern, rate in self.rates.items()}
        at_least |= {} if self.final_learning_rate is None else {"final_learning_rate": self.final_learning_rate}
        for name, value in at_least.items():
            if not _is_number(value) or value < 0:
                raise InputError(f"{_PLACE}.{name} must be a number of at least 0, not {value!r}")
        for name, value in {"average": self.average, "plateau.factor": self.plateau.factor}.items():
            if not _is_number(value) or not 0.0 <= value < 1.0:
                raise InputError(f"{_PLACE}.{name} must lie between 0 and 1, not {value!r}")
        check_switch(f"{_PLACE}.leave_out", self.leave_out)
        if not any(getattr(self, name).ever for name in LABELS):
            raise InputError(f"{_PLACE}.loss: a weight must be more than 0")
        for element, energy in (self.self_energies or {}).items():
            if not _is_number(energy):
                raise InputError(f"{_PLACE}.self_energies.{element} must be a number (hartree), not {energy!r}")


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)
