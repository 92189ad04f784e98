"""Compared values from the results of the parts: sums of energies with their errors, forces, costs.

Statistical errors come from independent runs: the errors of a sum's terms, and of the two sides of a difference, add
in quadrature. The spread of an ensemble is that of the members' own sums, because errors common to all structures
cancel. It is not a statistical error and is never combined with one.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from fusion.chemistry.units import EV_PER_HARTREE
from fusion.tasks.compare.subject import Quantity

_MEMBERS = "energy_members_hartree"
_FORCES, _FORCES_STDERR = "forces_hartree_per_bohr", "forces_stderr_hartree_per_bohr"


@dataclass(frozen=True)
class Value:
    """A sum of energies in hartree with its statistical error and its spread over an ensemble, each None where there is
    none. Where a term is missing, `energy` is None and `missing` is the reason."""

    energy: float | None
    stderr: float | None = None
    std: float | None = None
    missing: str | None = None


def total(quantity: Quantity, documents: Mapping[str, Mapping[str, Any] | None], zeros: frozenset[str]) -> Value:
    """Sum over the terms from the results (result.json) by structure; the energies of the structures `zeros` are 0."""
    terms = [(name, coefficient) for name, coefficient in quantity.terms if name not in zeros]
    merged: dict[str, float] = {}
    for name, coefficient in terms:
        merged[name] = merged.get(name, 0.0) + coefficient
    coefficients = {name: coefficient for name, coefficient in merged.items() if coefficient}
    for name in coefficients or merged:  # a point above itself needs its energy too
        reason = problem(documents.get(name))
        if reason is not None:
            return Value(None, missing=f"{name}: {reason}" if len(documents) > 1 else reason)
    results = {name: documents[name] or {} for name in coefficients}
    if quantity.state is not None:
        (result,) = results.values()
        return excitation(result, quantity.state)
    energy = sum(coefficient * results[name]["energy"]["value"] for name, coefficient in coefficients.items())
    errors = [
        coefficient * stderr
        for name, coefficient in coefficients.items()
        if (stderr := results[name]["energy"].get("stderr")) is not None
    ]
    stated = any(document["energy"].get("stderr") is not None for document in _good(documents))
    ensemble = any(document.get("energy_std_hartree") is not None for document in _good(documents))
    spread = (
        _spread(coefficients, results) if coefficients else 0.0 if ensemble else None
    )  # zero for a scan point relative to itself
    return Value(float(energy), math.hypot(*errors) if errors or stated else None, spread)


def excitation(document: Mapping[str, Any], state: int) -> Value:
    """Energy of a state, counted from 0, above the lowest; every state of a level has the energy of the level."""
    levels = document["excited"]["states"]
    states = [level for level in levels for _ in range(level["states"])]
    if state >= len(states):
        return Value(None, missing=f"only {len(states)} states")
    gap, error = states[state].get("gap_ev", 0.0), states[state].get("stderr_gap_ev")
    return Value(gap / EV_PER_HARTREE, None if error is None else error / EV_PER_HARTREE)


def difference(value: Value, reference: Value) -> tuple[float | None, float | None]:
    """Difference `value` - `reference` and its statistical error, hartree; None where there is none."""
    if value.energy is None or reference.energy is None:
        return None, None
    errors = [error for error in (value.stderr, reference.stderr) if error is not None]
    return value.energy - reference.energy, math.hypot(*errors) if errors else None


def problem(document: Mapping[str, Any] | None) -> str | None:
    """Reason why a result cannot be used; None if it can."""
    if document is None:
        return "no result"
    if document["status"] != "ok":
        return str(document.get("message") or document["status"].replace("_", " "))
    return None if (document.get("energy") or {}).get("value") is not None else "no energy"


def forces_difference(
    documents: Mapping[str, Mapping[str, Any] | None], reference: Mapping[str, Mapping[str, Any] | None]
) -> dict[str, float] | None:
    """Largest norm and root mean square (over components) of the differences of atomic forces, hartree/bohr.

    They cover all structures for which both methods have forces; None where there is none. If the forces of a method
    have error bars, the largest norm has one: that of the force with this norm.
    """
    differences, errors = [], []
    for name, document in documents.items():
        other = reference.get(name)
        if document is None or other is None or problem(document) or problem(other):
            continue
        if len(document["system"]["symbols"]) > 1 and _FORCES in document and _FORCES in other:
            differences.append(np.array(document[_FORCES]) - np.array(other[_FORCES]))
            own, others = (np.array(result.get(_FORCES_STDERR, 0.0)) for result in (document, other))
            errors.append(np.hypot(own, others) + np.zeros_like(differences[-1]))
    if not differences:
        return None
    stacked, norms = np.concatenate(differences), np.linalg.norm(np.concatenate(differences), axis=1)
    worst, mean = int(norms.argmax()), np.sqrt(np.mean(stacked**2))
    numbers = {"max_hartree_per_bohr": float(norms[worst]), "rms_hartree_per_bohr": float(mean)}
    error = np.concatenate(errors)[worst]
    if error.any() and norms[worst] > 0:
        numbers["max_stderr_hartree_per_bohr"] = float(np.linalg.norm(stacked[worst] / norms[worst] * error))
    return numbers | {"structures": len(differences)}


def cost(documents: Sequence[Mapping[str, Any] | None]) -> dict[str, Any]:
    """Wall and CPU seconds of all calculations together, and the largest memory of the process.

    They are marked as a lower bound if an interruption lost a part of the cost.
    """
    costs = [document["cost"] for document in documents if document is not None and document.get("cost")]
    if not costs:
        return {}
    summed: dict[str, Any] = {key: sum(cost[key] for cost in costs) for key in ("wall_s", "cpu_s")}
    summed["peak_memory_bytes"] = max(cost["peak_memory_bytes"] for cost in costs)
    return summed | ({"lower_bound": True} if any(cost.get("since_interruption") for cost in costs) else {})


def lowest(names: Sequence[str], documents: Mapping[str, Mapping[str, Any] | None]) -> str:
    """The structure of lowest energy among those calculated; the first where there is none."""
    good = [name for name in names if problem(documents.get(name)) is None]
    return min(good, key=lambda name: documents[name]["energy"]["value"]) if good else names[0]  # type: ignore[index]


def _good(documents: Mapping[str, Mapping[str, Any] | None]) -> list[Mapping[str, Any]]:
    return [document for document in documents.values() if document is not None and problem(document) is None]


def _spread(coefficients: Mapping[str, float], results: Mapping[str, Mapping[str, Any]]) -> float | None:
    """Standard deviation (ddof=1) of the members' sums, hartree. For a single energy the stated deviation suffices."""
    if all(_MEMBERS in results[name] for name in coefficients):
        members = sum(coefficient * np.array(results[name][_MEMBERS]) for name, coefficient in coefficients.items())
        return float(np.std(members, ddof=1))
    if len(coefficients) == 1:
        ((name, coefficient),) = coefficients.items()
        std = results[name].get("energy_std_hartree")
        return None if std is None else abs(coefficient) * float(std)
    return None
