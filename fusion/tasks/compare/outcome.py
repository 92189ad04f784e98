"""Results of a comparison: one object for `result.json`, from which tables and picture are made."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from fusion.chemistry import energy_zeros
from fusion.errors import InputError
from fusion.runs.warning_summary import kind
from fusion.tasks.compare import energies
from fusion.tasks.compare.jobs import Part, has_basis, has_ghosts
from fusion.tasks.compare.methods import Entry
from fusion.tasks.compare.subject import Quantity, Subject

Documents = dict[str, Any]

_DISTINCT = 3.0
"""Standard errors of a difference above which noise has not chosen the lower one of two energies."""


def check_common(subject: Subject, entries: Sequence[Entry], reference: Entry) -> None:
    """Raise InputError where no method can be compared with the reference. For one molecule only forces, and total
    energies with the same zero, are comparable."""
    others = [entry for entry in entries if entry is not reference]
    if not subject.absolute or not others:
        return
    if any(_same_zero(entry, reference) or (_gives_forces(entry) and _gives_forces(reference)) for entry in others):
        return
    labels = " and ".join(entry.label for entry in others)
    raise InputError(
        f"{labels} and {reference.label} have neither a zero of energy nor forces in common; compare a reaction "
        "(task.reaction), a scan (task.scan) or task.atomisation=true"
    )


def describe(
    subject: Subject,
    entries: Sequence[Entry],
    reference: Entry,
    plan: Mapping[str, Sequence[Part]],
    refusals: Mapping[str, Mapping[str, str]],
    ended: Mapping[str, str | None],
    zero: str | None,
) -> dict[str, Any]:
    """The `comparison` of result.json: `methods` with status, cost and differences of forces, `quantities` with every
    method's value and difference to the reference, and `notes` in words."""
    documents = {label: _documents(planned, subject) for label, planned in plan.items()}
    quantities, chosen = list(subject.quantities), zero is not None
    if subject.points:
        zero = zero or energies.lowest([point.structure for point in subject.points], documents[reference.label])
        quantities = list(subject.relative_to(zero))
    comparison: dict[str, Any] = {"kind": subject.kind, "title": subject.title, "against": reference.label}
    if subject.points:
        comparison |= {"axis": subject.axis, "zero": zero}
    comparison["methods"] = []
    for entry in entries:
        label = entry.label
        reasons = _reasons(plan[label], refusals[label], ended.get(label))
        row = _method(entry, documents[label], documents[reference.label], reasons, reference)
        comparison["methods"].append(row | _error_of_zero(documents[label], zero if subject.points else None))
    comparison["quantities"] = [
        _quantity(quantity, entries, reference, documents, plan, subject) for quantity in quantities
    ]
    noisy = [] if chosen or not subject.points else noisy_zero(comparison)
    comparison["notes"] = [*noisy, *_notes(subject, entries, reference, comparison), *_doubts(documents)]
    return comparison


def _error_of_zero(documents: Documents, zero: str | None) -> dict[str, float]:
    """Statistical error of a method's energy of the zero of a scan, which is in all its relative energies."""
    stderr = ((documents.get(zero or "") or {}).get("energy") or {}).get("stderr")
    return {} if stderr is None else {"zero_stderr_hartree": stderr}


def noisy_zero(comparison: Mapping[str, Any]) -> list[str]:
    """A note if noise may have chosen the lowest point of the reference, whose energy is then too low."""
    for quantity in comparison["quantities"]:
        value = quantity["values"][comparison["against"]]
        stderr = value.get("stderr_hartree")
        if (
            quantity["label"] != comparison["zero"]
            and stderr
            and value.get("energy_hartree", math.inf) < _DISTINCT * stderr
        ):
            return [
                f"{comparison['zero']}, the lowest point of {comparison['against']}, is not clearly below "
                f"{quantity['label']}: energies relative to it may be too high by about one error bar; task.zero "
                "chooses the point beforehand"
            ]
    return []


def warnings(plan: Mapping[str, Sequence[Part]]) -> list[str]:
    """Last warning of each kind from every method, with the number of structures it applies to."""
    lines = []
    for label, planned in plan.items():
        kinds: dict[str, tuple[str, int]] = {}
        for part in planned:
            for text in (part.document or {}).get("warnings") or ():
                kinds[kind(text)] = f"{part.structure.name}: {text}", kinds.get(kind(text), ("", 0))[1] + 1
        for text, times in kinds.values():
            lines.append(f"{label}, {text}" + (f" ({times} of {len(planned)} structures)" if len(planned) > 1 else ""))
    return lines


def _doubts(documents: Mapping[str, Documents]) -> list[str]:
    """A note for each method with warnings about its own results."""
    notes = []
    for label, results in documents.items():
        doubtful = [name for name, document in results.items() if (document or {}).get("warnings")]
        if doubtful:
            notes.append(f"{label}: doubtful for {', '.join(doubtful)}, see the warnings")
    return notes


def status(comparison: Mapping[str, Any]) -> tuple[str, str | None]:
    """Status of the comparison, and a message that names the incomplete methods; their rows give the reasons."""
    incomplete = [method for method in comparison["methods"] if method["status"] != "ok"]
    if not incomplete:
        return "ok", None
    worst = "failed" if any(method["status"] == "failed" for method in incomplete) else "not_converged"
    return worst, f"not all calculations succeeded: {', '.join(method['label'] for method in incomplete)}"


def _documents(planned: Sequence[Part], subject: Subject) -> Documents:
    """Results by structure. A method without a basis uses a fragment's result also for the fragment with ghosts.

    Atoms whose energy is zero by definition have none, with or without ghosts.
    """
    documents = {part.structure.name: part.document for part in planned}
    if planned and not has_basis(planned[0].entry):
        for structure in subject.structures:
            plain = structure.name.removesuffix("-ghosts")
            if structure.ghosts and structure.name not in documents and plain in documents:
                documents[structure.name] = documents[plain]
    return documents


def _reasons(planned: Sequence[Part], refused: Mapping[str, str], ended: str | None) -> dict[str, str]:
    """Reasons why structures have no usable result, by structure."""
    reasons = dict(refused)
    for part in planned:
        problem = energies.problem(part.document)
        if problem is not None and part.structure.name not in reasons:
            reasons[part.structure.name] = part.reason or (ended if part.document is None else None) or problem
    return reasons


def _method(
    entry: Entry, documents: Documents, reference: Documents, reasons: Mapping[str, str], against: Entry
) -> dict[str, Any]:
    """Row of `methods` in the comparison: settings, status, cost, and differences of forces to the method `against`."""
    described: dict[str, Any] = {
        "label": entry.label,
        "method": entry.method.name,
        "kind": entry.method.kind,
        "level": entry.level,
        "energy_zero": entry.zero,
        "status": "ok",
    }
    if reasons:
        unconverged = all((documents.get(name) or {}).get("status") == "not_converged" for name in reasons)
        described["status"] = "not_converged" if unconverged else "failed"
        name, reason = next(iter(reasons.items()))
        others = f" (and {len(reasons) - 1} more)" if len(reasons) > 1 else ""
        described["reason"] = f"{name}: {reason}{others}" if len(documents) > 1 else reason
    described["done"] = sum(energies.problem(document) is None for document in documents.values())
    described["of"] = len(documents)
    described |= energies.cost(list(documents.values()))
    forces = energies.forces_difference(documents, reference) if entry is not against else None
    return described | ({"forces_difference": forces} if forces else {})


def _quantity(
    quantity: Quantity,
    entries: Sequence[Entry],
    reference: Entry,
    documents: Mapping[str, Documents],
    plan: Mapping[str, Sequence[Part]],
    subject: Subject,
) -> dict[str, Any]:
    """Row of `quantities` in the comparison: every method's value and its difference to the reference."""
    names = {structure.name for structure in subject.structures}
    described: dict[str, Any] = {"label": quantity.label, "terms": dict(quantity.terms)}
    if quantity.coordinate is not None:
        described["coordinate"] = quantity.coordinate
    totals = {}
    for entry in entries:
        by_definition = names - set(documents[entry.label]) if entry.zero == energy_zeros.ATOMISATION else set()
        totals[entry.label] = energies.total(quantity, documents[entry.label], frozenset(by_definition))
    described["values"] = {}
    for entry in entries:
        value = totals[entry.label]
        numbers: dict[str, Any] = {
            "energy_hartree": value.energy,
            "stderr_hartree": value.stderr,
            "std_hartree": value.std,
            "missing": value.missing,
        }
        if entry is not reference and (not subject.absolute or _same_zero(entry, reference)):
            difference, error = energies.difference(value, totals[reference.label])
            numbers |= {"difference_hartree": difference, "difference_stderr_hartree": error}
        described["values"][entry.label] = {key: item for key, item in numbers.items() if item is not None}
    return described


def _same_zero(first: Entry, second: Entry) -> bool:
    return first.zero == second.zero == energy_zeros.TOTAL


def _gives_forces(entry: Entry) -> bool:
    return entry.forces and "forces" in entry.method.provides


def _notes(subject: Subject, entries: Sequence[Entry], reference: Entry, comparison: Mapping[str, Any]) -> list[str]:
    notes = []
    literature = subject.structures[0].system.reference
    if subject.absolute:
        if literature is not None:
            notes.append(f"literature: {literature.value:.6f} Ha, {literature.source}")
        own_zero = [entry.label for entry in entries if entry is not reference and not _same_zero(entry, reference)]
        if own_zero:
            labels = ", ".join(own_zero) if reference.zero == energy_zeros.TOTAL else reference.label
            atomised = [entry.label for entry in entries if entry.zero == energy_zeros.ATOMISATION]
            if atomised:
                notes.append(f"{', '.join(atomised)}: atomisation energies, relative to separate atoms")
            notes.append(
                f"{labels}: energies relative to the zero of their training data; reaction, relative and atomisation "
                "energies can be compared (task.reaction, task.scan, task.atomisation=true)"
            )
    if subject.kind == "binding" and any(structure.ghosts for structure in subject.structures):
        without_basis = [entry.label for entry in entries if not has_basis(entry)]
        without_ghosts = [entry.label for entry in entries if has_basis(entry) and not has_ghosts(entry)]
        if without_basis:
            notes.append(f"{', '.join(without_basis)}: no basis, so no counterpoise correction is needed")
        if without_ghosts:
            notes.append(f"{', '.join(without_ghosts)}: accepts no ghost atoms, so no counterpoise correction")
    if subject.kind == "solvation":
        notes.append("free energies at the geometry of the gas phase, for equal concentrations in gas and solution")
    if any("std_hartree" in value for quantity in comparison["quantities"] for value in quantity["values"].values()):
        place = "shaded in the picture" if subject.points else "± model, or in brackets"
        notes.append(f"{place}: standard deviation over the members of an ensemble, not a statistical error")
    if any(method.get("lower_bound") for method in comparison["methods"]):
        notes.append("≥: resumed calculation; the cost before the interruption is not counted")
    return notes
