"""What a run of task=thermochemistry says: the content of `result.json`, tables in the terminal, Markdown and CSV."""

from __future__ import annotations

import csv
import io
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from fusion import g2, report, units
from fusion.reaction import Reaction
from fusion.tasks.thermochemical import balance
from fusion.tasks.thermochemical.balance import Change, Formation
from fusion.tasks.thermochemical.species import Level, Species

TABLE, MARKDOWN = "thermochemistry.csv", "thermochemistry.md"
UNITS = {"kcal/mol": units.KCAL_MOL_PER_HARTREE, "kJ/mol": units.KJ_MOL_PER_HARTREE}

Row = dict[str, Any]


def document(
    known: Mapping[str, Species],
    molecules: Sequence[str],
    reactions: Sequence[Reaction],
    levels: Sequence[Level],
    atoms: Mapping[str, bool],
    conditions: balance.Conditions,
    pressure_bar: float,
) -> dict[str, Any]:
    """`thermochemical` of `result.json`: energies in hartree. `atoms` says of each level whether it has atoms."""
    formations = [
        _formation(known[name], known, level.label, conditions)
        for level in levels
        if atoms[level.label]
        for name in molecules
    ]
    changes = [_reaction(one, known, level.label, conditions) for level in levels for one in reactions]
    return {
        "temperature_k": conditions.temperature_k,
        "pressure_bar": pressure_bar,
        "zero_point_scale": conditions.scale,
        "spin_orbit_of_atoms": conditions.spin_orbit,
        "model": "ideal gas, rigid rotor, harmonic oscillator, at geometries and frequencies of " + levels[0].label,
        "experiment": g2.SOURCE,
        "levels": [level.label for level in levels],
        "without_atoms": [level.label for level in levels if not atoms[level.label]],
        "species": [_species(one) for one in known.values()],
        "formation": formations,
        "reactions": changes,
        "formation_errors_hartree": _statistics(formations, levels),
        "reaction_errors_hartree": _statistics(changes, levels),
    }


def _formation(species: Species, known: Mapping[str, Species], level: str, conditions: balance.Conditions) -> Row:
    reaction = balance.atomisation(species)
    found = balance.change(reaction, known, level, conditions)
    row: Row = {"name": species.name, "level": level, "missing": balance.missing(reaction, known, level)}
    measured = None if species.experiment is None else g2.measured(species.experiment)
    atomised = balance.experiment(reaction, known)
    if measured is not None and atomised is not None:
        row |= {
            "experiment_0_hartree": measured.formation_0,
            "experiment_298_hartree": measured.formation_298,
            "atomisation_experiment_0_hartree": atomised.at_0,
        }
    if found is None:
        return _plain(row)
    formed = balance.formation(species, found)
    row |= {f"atomisation_{key}": value for key, value in _change(found).items()}
    row |= {"stderr_hartree": found.stderr, "std_hartree": found.std}
    if formed is not None:
        row |= {"formation_0_hartree": formed.at_0, "formation_298_hartree": formed.at_298}
        if measured is not None:
            row["error_hartree"] = formed.at_298 - measured.formation_298
    return _plain(row)


def _reaction(reaction: Reaction, known: Mapping[str, Species], level: str, conditions: balance.Conditions) -> Row:
    row: Row = {"name": str(reaction), "level": level, "missing": balance.missing(reaction, known, level)}
    found, measured = balance.change(reaction, known, level, conditions), balance.experiment(reaction, known)
    if measured is not None:
        row |= {"experiment_0_hartree": measured.at_0, "experiment_298_hartree": measured.at_298}
    if found is not None:
        row |= _change(found) | {"stderr_hartree": found.stderr, "std_hartree": found.std}
        row |= {} if measured is None else {"error_hartree": _error(found, measured)}
    return _plain(row)


def _error(found: Change, measured: Formation) -> float:
    return found.enthalpy_room - measured.at_298


def _change(found: Change) -> Row:
    return {
        "energy_hartree": found.electronic,
        "enthalpy_0_hartree": found.enthalpy_0,
        "enthalpy_hartree": found.enthalpy,
        "enthalpy_298_hartree": found.enthalpy_room,
        "gibbs_hartree": found.gibbs,
    }


def _species(one: Species) -> Row:
    return _plain(
        {
            "name": one.name,
            "formula": one.system.formula,
            "charge": one.system.charge or None,
            "spin": one.system.spin,
            "experiment": one.experiment,
            "status": one.status,
            "problem": one.problem,
            "zero_point_energy_hartree": one.zero_point if one.energies else None,
            "thermal_enthalpy_hartree": one.thermal if one.energies else None,
            **one.details,
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
                for level, energy in one.energies.items()
            ],
        }
    )


def _plain(row: Row) -> Row:
    return {key: value for key, value in row.items() if not (value is None or (isinstance(value, list) and not value))}


def _statistics(rows: Sequence[Row], levels: Sequence[Level]) -> dict[str, Any]:
    found = {}
    for level in levels:
        mine = [row for row in rows if row["level"] == level.label and "error_hartree" in row]
        errors = balance.statistics([(row["name"], row["error_hartree"]) for row in mine])
        if errors is not None:
            found[level.label] = errors
    return found


def problems(found: Mapping[str, Any]) -> list[str]:
    """Species, and levels of species, that gave nothing, with the reason."""
    said = [f"{one['name']}: {one['problem']}" for one in found["species"] if "problem" in one]
    for one in found["species"]:
        for energy in one.get("energies", ()):
            if "energy_hartree" not in energy and "problem" not in one:
                said.append(f"{one['name']}: {energy['level']}: {energy.get('message', 'no energy')}")
    return said


def rows(found: Mapping[str, Any], unit: str) -> Iterator[list[str]]:
    """Lines of the summary: a table of molecules and one of reactions per level, and their errors."""
    for title, header, lines, errors in blocks(found, unit):
        yield ["", ""]
        yield [title, ""]
        widths = [max(len(line[column]) for line in (header, *lines)) for column in range(len(header))]
        for line in (header, *lines):
            cells = [f"{line[0]:<{widths[0]}}", *(f"{cell:>{w}}" for cell, w in zip(line[1:], widths[1:], strict=True))]
            yield ["  " + "  ".join(cells).rstrip(), ""]
        if errors:
            yield ["  " + errors, ""]
    yield ["", ""]
    yield from (list(said) for said in _remarks(found))


def blocks(found: Mapping[str, Any], unit: str) -> Iterator[tuple[str, list[str], list[list[str]], str]]:
    """Title, header, lines and errors of each table: per level the molecules, then the reactions."""
    scale = UNITS[unit]
    at = f"{found['temperature_k']:g} K"
    for level in found["levels"]:
        lines = [row for row in found["formation"] if row["level"] == level]
        if lines:
            header = ["", "ΔatH(0)", "exp. ΔatH(0)", "ΔfH(0)", "ΔfH(298)", "exp. ΔfH(298)", "error", f"ΔatG({at})"]
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
            yield title, *_table(lines, header, keys, scale, 3), _errors(found, "formation", level, unit)
        lines = [row for row in found["reactions"] if row["level"] == level]
        if lines:
            header = ["", "ΔE", "ΔH(0)", f"ΔH({at})", f"ΔG({at})", "exp. ΔH(298)", "error"]
            keys = (
                "energy_hartree",
                "enthalpy_0_hartree",
                "enthalpy_hartree",
                "gibbs_hartree",
                "experiment_298_hartree",
                "error_hartree",
            )
            title = f"reactions, {unit}, {level}"
            yield title, *_table(lines, header, keys, scale, 2), _errors(found, "reaction", level, unit)


def _table(
    lines: Sequence[Row], header: list[str], keys: Sequence[str], scale: float, uncertain: int
) -> tuple[list[str], list[list[str]]]:
    """Header and cells; a column of errors of the energies follows where there are any."""
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
    """`0.4 model`, or the statistical error."""
    words = [
        f"{row[key] * scale:.1f}{word}"
        for key, word in (("stderr_hartree", ""), ("std_hartree", " model"))
        if key in row
    ]
    return ", ".join(words) or "–"


def _errors(found: Mapping[str, Any], kind: str, level: str, unit: str) -> str:
    errors = found[f"{kind}_errors_hartree"].get(level)
    if not errors or errors["number"] < 2:
        return ""
    scale = UNITS[unit]
    return (
        f"errors of {errors['number']}: mean {errors['mean'] * scale:+.1f}, "
        f"mean absolute {errors['mean_absolute'] * scale:.1f}, "
        f"largest {errors['largest'] * scale:+.1f} ({errors['largest_of']})"
    )


def _remarks(found: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    scale = found["zero_point_scale"]
    scaled = "not scaled" if scale == 1 else f"scaled by {scale:g}"
    low = found["levels"][0]
    where = f"harmonic, {low}, zero-point energies {scaled}"
    yield ("corrections", f"{where}; {found['temperature_k']:g} K, {found['pressure_bar']:g} bar")
    if found["formation"]:
        coupling = "with" if found["spin_orbit_of_atoms"] else "without"
        yield ("atoms", f"measured heats of formation at 0 K; calculated {coupling} spin-orbit coupling")
    for label in found["without_atoms"] if found["formation"] else ():
        yield ("atomisation", f"not of {label}: its energies of single atoms mean nothing")
    if any("experiment_298_hartree" in row for row in (*found["formation"], *found["reactions"])):
        yield ("experiment", found["experiment"])
    yield from (("note", said) for said in _notes(found))
    yield from (("left out", said) for said in problems(found))


def _notes(found: Mapping[str, Any]) -> Iterator[str]:
    """What methods had to say about energies that are used; species of which the same is said together."""
    said: dict[str, list[str]] = {}
    for one in found["species"]:
        for energy in one.get("energies", ()):
            if "problem" not in one and "energy_hartree" in energy and "message" in energy:
                said.setdefault(_wording(energy["message"]), []).append(one["name"])
    yield from (f"{', '.join(names)}: {message}" for message, names in said.items())


def _wording(message: str) -> str:
    """A message without the numbers of its species."""
    return re.sub(r":[^:;]*members differ by[^;]*;", ";", message)


def markdown(found: Mapping[str, Any], unit: str) -> str:
    """The tables in Markdown."""
    parts = []
    for title, header, lines, errors in blocks(found, unit):
        parts += [f"**{title[0].upper()}{title[1:]}**", ""]
        parts += [_line(header), _line(["---", *["---:"] * (len(header) - 1)]), *map(_line, lines), ""]
        parts += [f"{errors[0].upper()}{errors[1:]}.", ""] if errors else []
    parts += [f"{label[0].upper()}{label[1:]}: {text}." for label, text in _remarks(found)]
    return "\n".join(parts) + "\n"


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def table(found: Mapping[str, Any], unit: str) -> str:
    """The CSV: one line per molecule or reaction and level, every energy in a column of its own."""
    lines = [{"kind": kind, **row} for kind in ("formation", "reactions") for row in found[kind]]
    names = list(dict.fromkeys(key for line in lines for key in line if key != "missing"))
    suffix = unit.replace("/", "_per_")
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow([name.replace("hartree", suffix) for name in (*names, "missing")])
    for line in lines:
        cells = [line.get(name) for name in names]
        shown = [
            f"{cell * UNITS[unit]:.6f}" if isinstance(cell, float) and math.isfinite(cell) else cell for cell in cells
        ]
        writer.writerow([*shown, " ".join(line.get("missing", ()))])
    return text.getvalue()


def summary(found: Mapping[str, Any]) -> str | None:
    """Why the run is not complete, in one line; None where it is."""
    said = problems(found)
    if not said:
        return None
    count = report.count(len(said), "calculation")
    return f"{count} left out of all sums: {'; '.join(said[:3])}{' ...' if len(said) > 3 else ''}"
