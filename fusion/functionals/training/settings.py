"""Settings of a training, checked; conf/training/functional.yaml describes each."""

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
    """Settings of the stability term: see `stability.instability`; `limit` in kcal/mol, `gap` in hartree."""

    weight: float
    systems: int
    gap: float
    limit: float


@dataclass(frozen=True)
class Settings:
    """Settings of one training."""

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
        """Read `method.training`. Raises InputError for an invalid value, in one line."""
        unread = dict(config)
        for group in ("stability", "weights"):
            if not isinstance(unread[group], Mapping):
                raise InputError(
                    f"method.training.{group} is a group of settings: use method.training.{group}.KEY=VALUE"
                )
        if not isinstance(unread["self_consistent"], bool):
            raise InputError(
                f"method.training.self_consistent must be true or false, not {unread['self_consistent']!r}"
            )
        level = Level(str(unread.pop("basis")), str(unread.pop("density")), unread.pop("grid_level"))
        level.check()
        data = unread.pop("data")
        settings = cls(
            data=None if data is None else start_dir / Path(str(data)).expanduser(),
            level=level,
            stability=Stability(**unread.pop("stability")),
            weights=dict(unread.pop("weights")),
            **unread,
        )
        settings._check()
        return settings

    def _check(self) -> None:
        integers = {"steps": (self.steps, 1), "batch": (self.batch, 1), "validate_every": (self.validate_every, 1)}
        for name, (number, least) in {**integers, "stability.systems": (self.stability.systems, 0)}.items():
            check_whole(f"method.training.{name}", number, least)
        positive = {"learning_rate": self.learning_rate, "tail": self.tail}
        positive |= {f"stability.{item}": getattr(self.stability, item) for item in ("gap", "limit")}
        for name, value in positive.items():
            if not _is_number(value) or value <= 0:
                raise InputError(f"method.training.{name} must be a positive number, not {value!r}")
        kinds = (*KINDS, "total")
        for name, value in {**self.weights, "stability": self.stability.weight}.items():
            where = "stability.weight" if name == "stability" else f"weights.{name}"
            if name not in (*kinds, "stability"):
                raise InputError(
                    f"method.training.{where}: there is no such kind of energy; the kinds are {', '.join(kinds)}"
                )
            if not _is_number(value) or value < 0:
                raise InputError(f"method.training.{where} must be a number of at least 0, not {value!r}")
        if set(self.weights) != set(kinds):
            raise InputError(f"method.training.weights needs {', '.join(kinds)}")


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)
