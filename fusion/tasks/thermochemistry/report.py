"""Report of task=thermochemistry: content of `result.json`, tables for the terminal, Markdown and CSV."""

from __future__ import annotations

import csv
import io
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from fusion.chemistry import g2, units
from fusion.chemistry.reactions import Reaction
from fusion.console.format import count
from fusion.tasks.thermochemistry import balance
from fusion.tasks.thermochemistry.balance import Change, Formation
from fusion.tasks.thermochemistry.species import Level, Species

TABLE, MARKDOWN = "thermochemistry.csv", "thermochemistry.md"
UNITS = {"kcal/mol": units.KCAL_MOL_PER_HARTREE, "kJ/mol": units.KJ_MOL_PER_HARTREE}

Row = dict[str, Any]


def document(
    species: Mapping[str, Species],
    molecules: Sequence[str],
    reactions: Sequence[Reaction],
    levels: Sequence[Level],
    atoms: Mapping[str, bool],
    conditions: balance.Conditions,
    pressure_bar: float,
) -> dict[str, Any]:
    """`thermochemical` of `result.json`, energies in hartree. `atoms`: true for each level with atomic energies."""
    formations = [
        _formation(species[name], species, level.label, conditions)
        for level in levels
        if atoms[level.label]
        for name in molecules
    ]
    changes = [_reaction(entry, species, level.label, conditions) for level in levels for entry in reactions]
    return {
        "temperature_k": conditions.temperature_k,
        "pressure_bar": pressure_bar,
        "zero_point_scale": conditions.scale,
        "spin_orbit_of_atoms": conditions.spin_orbit,
        "model": "ideal gas, rigid rotor, harmonic oscillator, at geometries and frequencies of " + levels[0].label,
        "experiment": g2.SOURCE,
        "levels": [level.label for level in levels],
        "without_atoms": [level.label for level in levels if not atoms[level.label]],
        "species": [_species(entry) for entry in species.values()],
        "formation": formations,
        "reactions": changes,
        "formation_errors_hartree": _statistics(formations, levels),
        "reaction_errors_hartree": _statistics(changes, levels),
    }


def _formation(species: Species, all_species: Mapping[str, Species], level: str, conditions: balance.Conditions) -> Row:
    reaction = balance.atomisation(species)
    change = balance.change(reaction, all_species, level, conditions)
    row: Row = {"name": species.name, "level": level, "missing": balance.missing(reaction, all_species, level)}
    measured = None if species.experiment is None else g2.measured(species.experiment)
    atomised = balance.experiment(reaction, all_species)
    if measured is not None and atomised is not None:
        row |= {
            "experiment_0_hartree": measured.formation_0,
            "experiment_298_hartree": measured.formation_298,
            "atomisation_experiment_0_hartree": atomised.at_0,
        }
    if change is None:
        return _plain(row)
    formed = balance.formation(species, change)
    row |= {f"atomisation_{key}": value for key, value in _change(change).items()}
    row |= {"stderr_hartree": change.stderr, "std_hartree": change.std}
    if formed is not None:
        row |= {"formation_0_hartree": formed.at_0, "formation_298_hartree": formed.at_298}
        if measured is not None:
            row["error_hartree"] = formed.at_298 - measured.formation_298
    return _plain(row)


def _reaction(reaction: Reaction, species: Mapping[str, Species], level: str, conditions: balance.Conditions) -> Row:
    row: Row = {"name": str(reaction), "level": level, "missing": balance.missing(reaction, species, level)}
    change, measured = balance.change(reaction, species, level, conditions), balance.experiment(reaction, species)
    if measured is not None:
        row |= {"experiment_0_hartree": measured.at_0, "experiment_298_hartree": measured.at_298}
    if change is not None:
        row |= _change(change) | {"stderr_hartree": change.stderr, "std_hartree": change.std}
        row |= {} if measured is None else {"error_hartree": _error(change, measured)}
    return _plain(row)


def _error(calculated: Change, measured: Formation) -> float:
    return calculated.enthalpy_room - measured.at_298


def _change(calculated: Change) -> Row:
    return {
        "energy_hartree": calculated.electronic,
        "enthalpy_0_hartree": calculated.enthalpy_0,
        "enthalpy_hartree": calculated.enthalpy,
        "enthalpy_298_hartree": calculated.enthalpy_room,
        "gibbs_hartree": calculated.gibbs,
    }


def _species(species: Species) -> Row:
    return _plain(
        {
            "name": species.name,
            "formula": species.system.formula,
            "charge": species.system.charge or None,
            "spin": species.system.spin,
            "experiment": species.experiment,
            "status": species.status,
            "problem": species.problem,
            "zero_point_energy_hartree": species.zero_point if species.energies else None,
            "thermal_enthalpy_hartree": species.thermal if species.energies else None,
            **species.details,
            "energies": [
                _plain(
                    {
                        "level": level,
                        "energy_hartree": energy.value,
                        "stderr_hartree": energy.stderr,
                        "std_hartree": energy.std,
                        "message": energy.message,
                    }
                )
                for level, energy in species.energies.items()
            ],
        }
    )


def _plain(row: Row) -> Row:
    return {key: value for key, value in row.items() if not (value is None or (isinstance(value, list) and not value))}


def _statistics(rows: Sequence[Row], levels: Sequence[Level]) -> dict[str, Any]:
    by_level = {}
    for level in levels:
        compared = [row for row in rows if row["level"] == level.label and "error_hartree" in row]
        errors = balance.statistics([(row["name"], row["error_hartree"]) for row in compared])
        if errors is not None:
            by_level[level.label] = errors
    return by_level


def problems(document: Mapping[str, Any]) -> list[str]:
    """Reasons for species, and for levels of species, without a usable energy."""
    reasons = [f"{species['name']}: {species['problem']}" for species in document["species"] if "problem" in species]
    for species in document["species"]:
        for energy in species.get("energies", ()):
            if "energy_hartree" not in energy and "problem" not in species:
                reasons.append(f"{species['name']}: {energy['level']}: {energy.get('message', 'no energy')}")
    return reasons


def rows(document: Mapping[str, Any], unit: str) -> Iterator[list[str]]:
    """Yield lines of the summary: a table of molecules and one of reactions per level, and their errors."""
    for title, header, lines, errors in blocks(document, unit):
        yield ["", ""]
        yield [title, ""]
        widths = [max(len(line[column]) for line in (header, *lines)) for column in range(len(header))]
        for line in (header, *lines):
            cells = [f"{line[0]:<{widths[0]}}", *(f"{cell:>{w}}" for cell, w in zip(line[1:], widths[1:], strict=True))]
            yield ["  " + "  ".join(cells).rstrip(), ""]
        if errors:
            yield ["  " + errors, ""]
    yield ["", ""]
    yield from (list(remark) for remark in _remarks(document))


def blocks(document: Mapping[str, Any], unit: str) -> Iterator[tuple[str, list[str], list[list[str]], str]]:
    """Yield title, header, lines and errors of each table: for each level the molecules, then the reactions."""
    scale = UNITS[unit]
    temperature = f"{document['temperature_k']:g} K"
    for level in document["levels"]:
        lines = [row for row in document["formation"] if row["level"] == level]
        if lines:
            header = [
                "",
                "ΔatH(0)",
                "exp. ΔatH(0)",
                "ΔfH(0)",
                "ΔfH(298)",
                "exp. ΔfH(298)",
                "error",
                f"ΔatG({temperature})",
            ]
            keys: tuple[str, ...] = (
                "atomisation_enthalpy_0_hartree",
                "atomisation_experiment_0_hartree",
                "formation_0_hartree",
                "formation_298_hartree",
                "experiment_298_hartree",
                "error_hartree",
                "atomisation_gibbs_hartree",
            )
            title = f"atomisation and formation, {unit}, {level}"
            yield title, *_table(lines, header, keys, scale, 3), _errors(document, "formation", level, unit)
        lines = [row for row in document["reactions"] if row["level"] == level]
        if lines:
            header = ["", "ΔE", "ΔH(0)", f"ΔH({temperature})", f"ΔG({temperature})", "exp. ΔH(298)", "error"]
            keys = (
                "energy_hartree",
                "enthalpy_0_hartree",
                "enthalpy_hartree",
                "gibbs_hartree",
                "experiment_298_hartree",
                "error_hartree",
            )
            title = f"reactions, {unit}, {level}"
            yield title, *_table(lines, header, keys, scale, 2), _errors(document, "reaction", level, unit)


def _table(
    lines: Sequence[Row], header: list[str], keys: Sequence[str], scale: float, uncertain: int
) -> tuple[list[str], list[list[str]]]:
    """Header and cells, with a last column for the errors of the energies if there are any."""
    deviations = any("stderr_hartree" in row or "std_hartree" in row for row in lines)
    cells = []
    for row in lines:
        numbers = [_number(row.get(key), scale, key == "error_hartree") for key in keys]
        if "missing" in row:
            numbers[uncertain] = f"no {', '.join(row['missing'])}"
        extra = [_deviation(row, scale)] if deviations else []
        cells.append([str(row["name"]), *numbers, *extra])
    return [*header, *(["±"] if deviations else [])], cells


def _number(value: float | None, scale: float, signed: bool = False) -> str:
    if value is None:
        return "–"
    return f"{value * scale:{'+' if signed else ''}.1f}".replace("-0.0", "0.0")


def _deviation(row: Row, scale: float) -> str:
    """Format the statistical error and the spread of an ensemble: `0.4 model`."""
    words = [
        f"{row[key] * scale:.1f}{word}"
        for key, word in (("stderr_hartree", ""), ("std_hartree", " model"))
        if key in row
    ]
    return ", ".join(words) or "–"


def _errors(document: Mapping[str, Any], kind: str, level: str, unit: str) -> str:
    errors = document[f"{kind}_errors_hartree"].get(level)
    if not errors or errors["number"] < 2:
        return ""
    scale = UNITS[unit]
    return (
        f"errors of {errors['number']}: mean {errors['mean'] * scale:+.1f}, "
        f"mean absolute {errors['mean_absolute'] * scale:.1f}, "
        f"largest {errors['largest'] * scale:+.1f} ({errors['largest_of']})"
    )


def _remarks(document: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    scale = document["zero_point_scale"]
    scaled = "not scaled" if scale == 1 else f"scaled by {scale:g}"
    level = document["levels"][0]
    treatment = f"harmonic, {level}, zero-point energies {scaled}"
    yield ("corrections", f"{treatment}; {document['temperature_k']:g} K, {document['pressure_bar']:g} bar")
    if document["formation"]:
        coupling = "with" if document["spin_orbit_of_atoms"] else "without"
        yield ("atoms", f"measured heats of formation at 0 K; calculated {coupling} spin-orbit coupling")
    for label in document["without_atoms"] if document["formation"] else ():
        yield ("atomisation", f"none with {label}: it has no meaningful energies of single atoms")
    if any("experiment_298_hartree" in row for row in (*document["formation"], *document["reactions"])):
        yield ("experiment", document["experiment"])
    yield from (("note", text) for text in notes(document))
    yield from (("left out", text) for text in problems(document))


def notes(document: Mapping[str, Any]) -> Iterator[str]:
    """Species whose corrections lack modes, and messages of the methods on energies in use; species with the same
    message share a note."""
    for species in document["species"]:
        number = species.get("modes_below_noise")
        if number and "problem" not in species:
            modes = "an imaginary mode counts" if number == 1 else f"{number} imaginary modes count"
            yield f"{species['name']}: {modes} as noise (task.noise_cm1) and in no correction: the entropy is too low"
    species_by_message: dict[str, list[str]] = {}
    for species in document["species"]:
        for energy in species.get("energies", ()):
            if "problem" not in species and "energy_hartree" in energy and "message" in energy:
                species_by_message.setdefault(_wording(energy["message"]), []).append(species["name"])
    yield from (f"{', '.join(names)}: {message}" for message, names in species_by_message.items())


def _wording(message: str) -> str:
    """A message without the numbers that belong to one species, so that equal messages compare equal."""
    return re.sub(r":[^:;]*members differ by[^;]*;", ";", message)


def markdown(document: Mapping[str, Any], unit: str) -> str:
    """The tables in Markdown."""
    parts = []
    for title, header, lines, errors in blocks(document, unit):
        parts += [f"**{title[0].upper()}{title[1:]}**", ""]
        parts += [_line(header), _line(["---", *["---:"] * (len(header) - 1)]), *map(_line, lines), ""]
        parts += [f"{errors[0].upper()}{errors[1:]}.", ""] if errors else []
    parts += [f"{label[0].upper()}{label[1:]}: {text}." for label, text in _remarks(document)]
    return "\n".join(parts) + "\n"


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def table(document: Mapping[str, Any], unit: str) -> str:
    """Content of the CSV: one line per molecule or reaction and level, with every energy in a column of its own."""
    lines = [{"kind": kind, **row} for kind in ("formation", "reactions") for row in document[kind]]
    names = list(dict.fromkeys(key for line in lines for key in line if key != "missing"))
    suffix = unit.replace("/", "_per_")
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow([name.replace("hartree", suffix) for name in (*names, "missing")])
    for line in lines:
        cells = [line.get(name) for name in names]
        formatted = [
            f"{cell * UNITS[unit]:.6f}" if isinstance(cell, float) and math.isfinite(cell) else cell for cell in cells
        ]
        writer.writerow([*formatted, " ".join(line.get("missing", ()))])
    return text.getvalue()


def summary(document: Mapping[str, Any]) -> str | None:
    """Reason why the run is not complete, in one line; None if it is."""
    reasons = problems(document)
    if not reasons:
        return None
    number = count(len(reasons), "calculation")
    return f"{number} left out of all sums: {'; '.join(reasons[:3])}{' ...' if len(reasons) > 3 else ''}"
