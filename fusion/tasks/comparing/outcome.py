"""What a comparison found: one object for `result.json`, from which tables and picture are made."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from fusion import zeros
from fusion.errors import InputError
from fusion.tasks.comparing import values
from fusion.tasks.comparing.entries import Entry
from fusion.tasks.comparing.parts import Part, has_basis, has_ghosts
from fusion.tasks.comparing.subject import Quantity, Subject
from fusion.warning_summary import kind

Documents = dict[str, Any]


def check_common(subject: Subject, entries: Sequence[Entry], reference: Entry) -> None:
    """Raise InputError where no method has anything in common with the reference: of one molecule only total energies
    with the same zero, and forces, can be compared."""
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
    """The `comparison` of result.json: its `methods` with status, cost and agreement of forces, its `quantities` with
    every method's value and difference to the reference, and `notes` in words."""
    documents = {label: _documents(planned, subject) for label, planned in plan.items()}
    quantities = list(subject.quantities)
    if subject.points:
        zero = zero or values.lowest([point.structure for point in subject.points], documents[reference.label])
        quantities = list(subject.relative_to(zero))
    found: dict[str, Any] = {"kind": subject.kind, "title": subject.title, "against": reference.label}
    if subject.points:
        found |= {"axis": subject.axis, "zero": zero}
    found["methods"] = []
    for entry in entries:
        label = entry.label
        reasons = _reasons(plan[label], refusals[label], ended.get(label))
        found["methods"].append(_method(entry, documents[label], documents[reference.label], reasons, reference))
    found["quantities"] = [_quantity(one, entries, reference, documents, plan, subject) for one in quantities]
    found["notes"] = [*_notes(subject, entries, reference, found), *_doubts(documents)]
    return found


def warnings(plan: Mapping[str, Sequence[Part]]) -> list[str]:
    """The last warning of each kind of every method, with the number of structures that it holds for."""
    found = []
    for label, planned in plan.items():
        kinds: dict[str, tuple[str, int]] = {}
        for part in planned:
            for text in (part.document or {}).get("warnings") or ():
                kinds[kind(text)] = f"{part.structure.name}: {text}", kinds.get(kind(text), ("", 0))[1] + 1
        for text, times in kinds.values():
            found.append(f"{label}, {text}" + (f" ({times} of {len(planned)} structures)" if len(planned) > 1 else ""))
    return found


def _doubts(documents: Mapping[str, Documents]) -> list[str]:
    """A note for each method that doubts its own results."""
    found = []
    for label, of_method in documents.items():
        doubtful = [name for name, document in of_method.items() if (document or {}).get("warnings")]
        if doubtful:
            found.append(f"{label}: doubtful for {', '.join(doubtful)}, see the warnings")
    return found


def status(found: Mapping[str, Any]) -> tuple[str, str | None]:
    """Status of the whole, and which methods did not do everything; why is said method by method."""
    bad = [method for method in found["methods"] if method["status"] != "ok"]
    if not bad:
        return "ok", None
    worst = "failed" if any(method["status"] == "failed" for method in bad) else "not_converged"
    return worst, f"not all was done by {', '.join(method['label'] for method in bad)}"


def _documents(planned: Sequence[Part], subject: Subject) -> Documents:
    """Results by structure. Without a basis a fragment is the same with and without its neighbours' functions."""
    found = {part.structure.name: part.document for part in planned}
    if planned and not has_basis(planned[0].entry):
        for structure in subject.structures:
            if structure.ghosts and structure.name not in found:
                found[structure.name] = found.get(structure.name.removesuffix("-ghosts"))
    return found


def _reasons(planned: Sequence[Part], refused: Mapping[str, str], ended: str | None) -> dict[str, str]:
    """Why structures have no result that could be used."""
    found = dict(refused)
    for part in planned:
        problem = values.problem(part.document)
        if problem is not None and part.structure.name not in found:
            found[part.structure.name] = part.reason or (ended if part.document is None else None) or problem
    return found


def _method(
    entry: Entry, documents: Documents, reference: Documents, reasons: Mapping[str, str], against: Entry
) -> dict[str, Any]:
    described: dict[str, Any] = {
        "label": entry.label,
        "method": entry.method.name,
        "kind": entry.method.kind,
        "level": entry.level,
        "energy_zero": entry.zero,
        "status": "ok",
    }
    if reasons:
        loose = all((documents.get(name) or {}).get("status") == "not_converged" for name in reasons)
        described["status"] = "not_converged" if loose else "failed"
        name, reason = next(iter(reasons.items()))
        others = f" (and {len(reasons) - 1} more)" if len(reasons) > 1 else ""
        described["reason"] = f"{name}: {reason}{others}" if len(documents) > 1 else reason
    described["done"] = sum(values.problem(document) is None for document in documents.values())
    described["of"] = len(documents)
    described |= values.cost(list(documents.values()))
    forces = values.forces_difference(documents, reference) if entry is not against else None
    return described | ({"forces_difference": forces} if forces else {})


def _quantity(
    quantity: Quantity,
    entries: Sequence[Entry],
    reference: Entry,
    documents: Mapping[str, Documents],
    plan: Mapping[str, Sequence[Part]],
    subject: Subject,
) -> dict[str, Any]:
    single = {structure.name for structure in subject.structures}
    described: dict[str, Any] = {"label": quantity.label, "terms": dict(quantity.terms)}
    if quantity.coordinate is not None:
        described["coordinate"] = quantity.coordinate
    found = {}
    for entry in entries:
        by_definition = single - set(documents[entry.label]) if entry.zero == zeros.ATOMISATION else set()
        found[entry.label] = values.total(quantity, documents[entry.label], frozenset(by_definition))
    described["values"] = {}
    for entry in entries:
        value = found[entry.label]
        here: dict[str, Any] = {
            "energy_hartree": value.energy,
            "stderr_hartree": value.stderr,
            "std_hartree": value.std,
            "missing": value.missing,
        }
        if entry is not reference and (not subject.absolute or _same_zero(entry, reference)):
            difference, error = values.difference(value, found[reference.label])
            here |= {"difference_hartree": difference, "difference_stderr_hartree": error}
        described["values"][entry.label] = {key: item for key, item in here.items() if item is not None}
    return described


def _same_zero(one: Entry, other: Entry) -> bool:
    return one.zero == other.zero == zeros.TOTAL


def _gives_forces(entry: Entry) -> bool:
    return entry.forces and "forces" in entry.method.provides


def _notes(subject: Subject, entries: Sequence[Entry], reference: Entry, found: Mapping[str, Any]) -> list[str]:
    notes = []
    known = subject.structures[0].system.reference
    if subject.absolute:
        if known is not None:
            notes.append(f"literature: {known.value:.6f} Ha, {known.source}")
        alone = [entry.label for entry in entries if entry is not reference and not _same_zero(entry, reference)]
        if alone:
            who = ", ".join(alone) if reference.zero == zeros.TOTAL else reference.label
            atomised = [entry.label for entry in entries if entry.zero == zeros.ATOMISATION]
            if atomised:
                notes.append(f"{', '.join(atomised)}: atomisation energies, relative to separate atoms")
            notes.append(
                f"{who}: energies with a zero of their own, that of their training; reaction, relative and atomisation "
                "energies can be compared (task.reaction, task.scan, task.atomisation=true)"
            )
    if subject.kind == "binding" and any(structure.ghosts for structure in subject.structures):
        without = [entry.label for entry in entries if not has_basis(entry)]
        unable = [entry.label for entry in entries if has_basis(entry) and not has_ghosts(entry)]
        if without:
            notes.append(f"{', '.join(without)}: no basis, so nothing to correct")
        if unable:
            notes.append(f"{', '.join(unable)}: takes no basis functions without nuclei, so no counterpoise correction")
    if any("std_hartree" in value for one in found["quantities"] for value in one["values"].values()):
        where = "shaded in the picture" if subject.points else "± model, or in brackets"
        notes.append(f"{where}: standard deviation over the members of an ensemble, no statistical error")
    if any(method.get("lower_bound") for method in found["methods"]):
        notes.append("≥: an interrupted calculation went on; what it cost before is not counted")
    return notes
