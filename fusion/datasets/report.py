"""What was noticed about labelled structures: what was left out on reading, duplicates, outliers, checks."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

_KINDS = 5


@dataclass
class Report:
    """Counts are of structures; `left_out` has (name, reason) of each structure that could not be used."""

    read: int = 0
    energy_unit: str = "hartree"
    """In which the energies were read."""
    left_out: list[tuple[str, str]] = field(default_factory=list)
    excluded: dict[str, int] = field(default_factory=dict)
    """Structures that a setting leaves out, by what they are."""
    without: dict[str, int] = field(default_factory=dict)
    """Structures that are used though they lack a label, by its name."""
    duplicates: int = 0
    contradictions: int = 0
    """Duplicates whose energies differ by more than rounding."""
    outliers: list[tuple[str, float]] = field(default_factory=list)
    """(name, distance of the energy per atom from the median, in robust standard deviations)."""
    checks: list[str] = field(default_factory=list)
    """What was compared and how it came out, a sentence each."""

    def notes(self) -> Iterator[str]:
        """A line for each thing a user should know."""
        if self.left_out:
            yield f"{len(self.left_out)} of {self.read} structures left out: " + "; ".join(_told(self.grouped()))
        for what, number in self.excluded.items():
            yield f"{number} {what}"
        for label, number in self.without.items():
            yield f"{number} structure{'s' if number > 1 else ''} without {label}"
        if self.duplicates:
            differ = f", {self.contradictions} of them with another energy" if self.contradictions else ""
            yield f"{self.duplicates} duplicates of other structures{differ} (kept, in the same part of a split)"
        if self.outliers:
            name, distance = self.outliers[0]
            yield f"{len(self.outliers)} outliers in energy (kept), the furthest {name}, {distance:.0f} deviations away"
        yield from self.checks

    def grouped(self) -> list[dict[str, Any]]:
        """Reasons for leaving structures out, the most frequent first, with the first structure of each."""
        return grouped(self.left_out)

    def document(self) -> dict[str, Any]:
        """For result.json."""
        found: dict[str, Any] = {"structures": self.read - len(self.left_out), "duplicates": self.duplicates}
        if self.left_out:
            found["left_out"] = self.grouped()
        if self.excluded:
            found["excluded"] = dict(self.excluded)
        if self.without:
            found["without"] = dict(self.without)
        if self.contradictions:
            found["contradicting_duplicates"] = self.contradictions
        if self.outliers:
            found["outliers"] = [{"structure": name, "deviations": value} for name, value in self.outliers]
        if self.checks:
            found["checks"] = list(self.checks)
        return found


def grouped(problems: Iterable[tuple[str, str]]) -> list[dict[str, Any]]:
    """Problems that differ only in numbers and in the structure they name together, as the first of them says it."""
    groups: dict[str, dict[str, Any]] = {}
    for name, problem in problems:
        reason = problem.replace(name, "it")
        kind = re.sub(r"\d[\d.]*", "#", reason)
        group = groups.setdefault(kind, {"reason": reason, "structures": 0, "first": name})
        group["structures"] += 1
    return sorted(groups.values(), key=lambda group: -group["structures"])


def _told(groups: list[dict[str, Any]]) -> Iterator[str]:
    for group in groups[:_KINDS]:
        number = f"{group['structures']:,}, first {group['first']}" if group["structures"] > 1 else group["first"]
        yield f"{group['reason']} ({number})"
    if len(groups) > _KINDS:
        yield f"{sum(group['structures'] for group in groups[_KINDS:])} for other reasons"
