"""The settings of a training, checked: conf/training/functional.yaml says what each is."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fusion.config.checks import check_whole
from fusion.errors import InputError
from fusion.functionals.training.dataset import KINDS
from fusion.functionals.training.labels import Level


@dataclass(frozen=True)
class Stability:
    """Of the stability term: see `stability.instability`; `limit` in kcal/mol, `gap` in hartree."""

    weight: float
    systems: int
    gap: float
    limit: float


@dataclass(frozen=True)
class Settings:
    """Of one training."""

    data: Path | None
    level: Level
    steps: int
    batch: int
    learning_rate: float
    tail: float
    weights: Mapping[str, float]
    stability: Stability
    validate_every: int
    self_consistent: bool

    @classmethod
    def read(cls, config: Mapping[str, Any], start_dir: Path) -> Settings:
        """From `method.training`. Raises InputError for a value that is none, in one line."""
        given = dict(config)
        for group in ("stability", "weights"):
            if not isinstance(given[group], Mapping):
                raise InputError(f"method.training.{group} is a group: method.training.{group}.KEY=VALUE")
        if not isinstance(given["self_consistent"], bool):
            raise InputError(f"method.training.self_consistent must be true or false, not {given['self_consistent']!r}")
        level = Level(str(given.pop("basis")), str(given.pop("density")), given.pop("grid_level"))
        level.check()
        data = given.pop("data")
        found = cls(
            data=None if data is None else start_dir / Path(str(data)).expanduser(),
            level=level,
            stability=Stability(**given.pop("stability")),
            weights=dict(given.pop("weights")),
            **given,
        )
        found._check()
        return found

    def _check(self) -> None:
        whole = {"steps": (self.steps, 1), "batch": (self.batch, 1), "validate_every": (self.validate_every, 1)}
        for name, (number, least) in {**whole, "stability.systems": (self.stability.systems, 0)}.items():
            check_whole(f"method.training.{name}", number, least)
        positive = {"learning_rate": self.learning_rate, "tail": self.tail}
        positive |= {f"stability.{item}": getattr(self.stability, item) for item in ("gap", "limit")}
        for name, value in positive.items():
            if not _is_number(value) or value <= 0:
                raise InputError(f"method.training.{name} must be a positive number, not {value!r}")
        known = (*KINDS, "total")
        for name, value in {**self.weights, "stability": self.stability.weight}.items():
            where = "stability.weight" if name == "stability" else f"weights.{name}"
            if name not in (*known, "stability"):
                raise InputError(
                    f"method.training.{where}: there is no such kind of energy; there is {', '.join(known)}"
                )
            if not _is_number(value) or value < 0:
                raise InputError(f"method.training.{where} must be a number of at least 0, not {value!r}")
        if set(self.weights) != set(known):
            raise InputError(f"method.training.weights needs {', '.join(known)}")


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)
