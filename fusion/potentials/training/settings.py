"""The settings of a training, checked: conf/training/potential.yaml says what each is."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np

from fusion.config.checks import check_whole
from fusion.errors import InputError

LABELS = ("energy", "forces", "stress", "dipole")
"""What the loss can have a weight for."""
_PLACE = "method.training"
_STEPS, _MOST_EPOCHS = 30_000, 1000
_RATE, _RATE_TUNED = 1e-3, 2e-4  # steps of 1e-3 undo much of what a pretrained ANI knows before they improve it


@dataclass(frozen=True)
class Weight:
    """A weight in the loss: its values at even distances over the training, from beginning to end."""

    values: tuple[float, ...]

    def at(self, fraction: float) -> float:
        """After that fraction of the training, on the straight lines between the values."""
        return float(np.interp(fraction, np.linspace(0.0, 1.0, len(self.values)), self.values))

    @property
    def ever(self) -> bool:
        """Whether it is ever more than zero."""
        return any(value > 0.0 for value in self.values)

    @classmethod
    def read(cls, name: str, given: Any) -> Weight:
        """From a number, or a list of numbers. Raises InputError."""
        values = tuple(given) if isinstance(given, Sequence) and not isinstance(given, str) else (given,)
        if not values or not all(_is_number(value) and value >= 0.0 for value in values):
            raise InputError(
                f"{_PLACE}.loss.{name} is a number of at least 0, or a list of them for the course of the training, "
                f"[0.1, 1.0]; not {given!r}"
            )
        return cls(tuple(map(float, values)))


@dataclass(frozen=True)
class Plateau:
    """The learning rate is multiplied by `factor` after `patience` validations without a better one."""

    factor: float
    patience: int
    stop_below: float


@dataclass(frozen=True)
class Settings:
    """Of one training."""

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
        """Whether the energy is trained, or a derivative of it."""
        return self.energy.ever or self.forces.ever or self.stress.ever

    @classmethod
    def read(cls, config: Mapping[str, Any], structures: int, tuned: bool = False) -> Settings:
        """From `method.training`, for so many structures to learn from; `tuned`: by a model that has learned before.

        Raises InputError for a value that is none.
        """
        given = dict(config)
        if given["learning_rate"] is None:
            given["learning_rate"] = _RATE_TUNED if tuned else _RATE
        if given["batch"] is None:
            given["batch"] = max(8, min(64, structures // 100))
        if given["epochs"] is None and given["batch"]:
            steps = -(-structures // given["batch"])  # in an epoch
            given["epochs"] = max(1, min(_MOST_EPOCHS, _STEPS // max(1, steps)))
        for group in ("loss", "plateau", "rates"):
            if not isinstance(given[group], Mapping):
                raise InputError(f"{_PLACE}.{group} is a group: {_PLACE}.{group}.KEY=VALUE")
        loss, plateau = dict(given.pop("loss")), dict(given.pop("plateau"))
        unknown = sorted(set(loss) - set(LABELS))
        if unknown:
            raise InputError(f"{_PLACE}.loss.{unknown[0]}: there is {', '.join(LABELS)}")
        for name in LABELS:
            given[name] = Weight.read(name, loss.get(name, 0.0))
        for name in ("frozen", "new_elements"):
            some = given[name]
            given[name] = (some,) if isinstance(some, str) else tuple(map(str, some))
        given["rates"] = dict(given["rates"])
        known = {field.name for field in fields(cls)}
        surplus = sorted(set(given) - known)
        if surplus:
            raise InputError(f"{_PLACE} has no setting {surplus[0]!r}")
        found = cls(plateau=Plateau(**plateau), **given)
        found._check()
        return found

    def _check(self) -> None:
        whole: dict[str, tuple[Any, int]] = {
            "epochs": (self.epochs, 1),
            "batch": (self.batch, 1),
            "validate_every": (self.validate_every, 1),
            "plateau.patience": (self.plateau.patience, 1),
        }
        if self.patience is not None:
            whole["patience"] = (self.patience, 1)
        for name, (number, least) in whole.items():
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
        if not isinstance(self.leave_out, bool):
            raise InputError(f"{_PLACE}.leave_out must be true or false, not {self.leave_out!r}")
        if not any(getattr(self, name).ever for name in LABELS):
            raise InputError(f"{_PLACE}.loss: a weight must be more than 0")
        for element, energy in (self.self_energies or {}).items():
            if not _is_number(energy):
                raise InputError(f"{_PLACE}.self_energies.{element} must be a number (hartree), not {energy!r}")


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)
