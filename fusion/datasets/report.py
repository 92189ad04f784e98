"""Report on labelled structures: structures left out on reading, duplicates, outliers, and checks."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

_KINDS = 5


@dataclass
class Report:
    """Counts of structures; `left_out` has (name, reason) for each structure that could not be used."""

    read: int = 0
    energy_unit: str = "hartree"
    """Unit in which the energies were read."""
    left_out: list[tuple[str, str]] = field(default_factory=list)
    excluded: dict[str, int] = field(default_factory=dict)
    """Numbers of structures that a setting excludes, by their description."""
    without: dict[str, int] = field(default_factory=dict)
    """Numbers of structures that are used without a label, by the label's name."""
    duplicates: int = 0
    contradictions: int = 0
    """Duplicates whose energies differ by more than rounding."""
    outliers: list[tuple[str, float]] = field(default_factory=list)
    """(name, distance of the energy from the median in robust standard deviations)."""
    checks: list[str] = field(default_factory=list)
    """Results of the checks, one sentence each."""
    level_of_theory: str | None = None
    """Level of theory that the files state; None if one of them states none."""

    def notes(self) -> Iterator[str]:
        """Yield the lines for the user."""
        if self.left_out:
            yield f"{len(self.left_out)} of {self.read} structures left out: " + "; ".join(_reasons(self.grouped()))
        for description, number in self.excluded.items():
            yield f"{number} {description}"
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
        """Group the reasons for leaving structures out, most frequent first, with the first structure of each."""
        return grouped(self.left_out)

    def document(self) -> dict[str, Any]:
        """Return the report for result.json."""
        content: dict[str, Any] = {"structures": self.read - len(self.left_out), "duplicates": self.duplicates}
        if self.left_out:
            content["left_out"] = self.grouped()
        if self.excluded:
            content["excluded"] = dict(self.excluded)
        if self.without:
            content["without"] = dict(self.without)
        if self.contradictions:
            content["contradicting_duplicates"] = self.contradictions
        if self.outliers:
            content["outliers"] = [{"structure": name, "deviations": value} for name, value in self.outliers]
        if self.checks:
            content["checks"] = list(self.checks)
        return content


def grouped(problems: Iterable[tuple[str, str]]) -> list[dict[str, Any]]:
    """Group problems that differ only in numbers and names of structures; each group has the text of its first."""
    groups: dict[str, dict[str, Any]] = {}
    for name, problem in problems:
        reason = problem.replace(name, "it")
        kind = re.sub(r"\d[\d.]*", "#", reason)
        group = groups.setdefault(kind, {"reason": reason, "structures": 0, "first": name})
        group["structures"] += 1
    return sorted(groups.values(), key=lambda group: -group["structures"])


def _reasons(groups: list[dict[str, Any]]) -> Iterator[str]:
    for group in groups[:_KINDS]:
        number = f"{group['structures']:,}, first {group['first']}" if group["structures"] > 1 else group["first"]
        yield f"{group['reason']} ({number})"
    if len(groups) > _KINDS:
        yield f"{sum(group['structures'] for group in groups[_KINDS:])} for other reasons"
