"""Settings of a distillation, with checks; conf/task/distill.yaml describes each of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from fusion.config.checks import check_number, check_whole
from fusion.errors import InputError

SELECTIONS = ("uncertain", "random")


@dataclass(frozen=True)
class Target:
    """Mean absolute errors on the test at which the rounds end: kcal/mol, and kcal/mol/Angstrom of the components."""

    energy_kcal: float | None = None
    forces_kcal_angstrom: float | None = None

    def reached(self, errors: Mapping[str, Any]) -> bool:
        """True if there is a target and `errors` (keys as here, with `_mae`) are within it."""
        stated = {key: value for key, value in vars(self).items() if value is not None}
        return bool(stated) and all(errors[key.replace("_kcal", "_mae_kcal")] <= limit for key, limit in stated.items())


@dataclass(frozen=True)
class Settings:
    """Settings of a distillation."""

    teacher: Any
    budget: int
    test: int
    rounds: int
    temperature_k: float
    selection: str
    epochs: int
    target: Target
    baseline: Any

    @classmethod
    def read(cls, values: Mapping[str, Any]) -> Settings:
        """Read the settings of the task. Raises InputError for a missing teacher or a value without meaning."""
        if values["teacher"] is None:
            raise InputError("task.teacher is missing, a method: task.teacher=dft, or 'task.teacher={method: dm21}'")
        for name in ("budget", "test", "rounds", "epochs"):
            check_whole(f"task.{name}", values[name])
        check_number("task.temperature_k", values["temperature_k"], positive=True)
        if values["selection"] not in SELECTIONS:
            raise InputError(f"task.selection must be {' or '.join(SELECTIONS)}, not {values['selection']!r}")
        least = 10 * values["rounds"] + values["test"]
        if values["budget"] < least:
            raise InputError(
                f"task.budget={values['budget']} is too small for a test of {values['test']} and {values['rounds']} "
                f"rounds of at least 10 labels: {least} or more, or fewer of these"
            )
        target = values["target"] or {}
        unknown = sorted(set(target) - set(Target.__dataclass_fields__))
        if unknown:
            raise InputError(f"task.target has no {unknown[0]!r}; it has {', '.join(Target.__dataclass_fields__)}")
        for name, limit in target.items():
            if limit is not None:
                check_number(f"task.target.{name}", limit, positive=True)
        return cls(**{**values, "target": Target(**target)})

    @property
    def shares(self) -> list[int]:
        """Numbers of labels of the rounds, all of the budget but the test."""
        whole, rest = divmod(self.budget - self.test, self.rounds)
        return [whole + (number < rest) for number in range(self.rounds)]
