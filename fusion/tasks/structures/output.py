"""Files of a calculation of many structures: one extended XYZ, one table, and the failures with their reasons."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from fusion.chemistry import units
from fusion.chemistry.system import System
from fusion.files.atomic import write_atomically
from fusion.runs.results import Result
from fusion.tasks.geometry.structures import header, largest_force

STRUCTURES, TABLE, FAILURES = "structures.extxyz", "structures.csv", "failures.csv"
LABELS = "labels.extxyz"

_EV_ANGSTROM = {"forces": units.EV_ANGSTROM_PER_HARTREE_BOHR, "forces_std": units.EV_ANGSTROM_PER_HARTREE_BOHR}
_NUMBERS = {
    "energy": units.EV_PER_HARTREE,
    "energy_std": units.EV_PER_HARTREE,
    "energy_stderr": units.EV_PER_HARTREE,
}
_COLUMNS = (
    "name", "formula", "atoms", "charge", "multiplicity", "status", "energy_hartree", "energy_stderr_hartree",
    "energy_std_hartree", "largest_force_hartree_per_bohr", "wall_s",
)  # fmt: skip


def write_structures(path: Path, results: Iterable[tuple[str, Result]], **more: Any) -> None:
    """Write an extended XYZ file, in eV and Angstrom, of results with their names.

    `more` are further entries of every comment line.
    """
    write_atomically(path, "".join(_frame(result, {"name": name} | more) for name, result in results))


def write_table(path: Path, rows: Sequence[tuple[str, Result, float]]) -> None:
    """Write a CSV table of results with their names and times; numbers that a task adds have columns of their own."""
    own = list(dict.fromkeys(key for _, result, _ in rows for key in _own_numbers(result)))
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    table.writerow([*_COLUMNS, *own, "message"])
    for name, result, wall in rows:
        numbers = _own_numbers(result)
        table.writerow([*_row(name, result, wall), *(numbers.get(key, "") for key in own), result.message or ""])
    write_atomically(path, text.getvalue())


def write_failures(path: Path, failures: Sequence[tuple[str, str, str]]) -> None:
    """Write a CSV table of structures without a result: name, status and reason; remove the file without any."""
    if not failures:
        path.unlink(missing_ok=True)
        return
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    table.writerow(["name", "status", "reason"])
    table.writerows(failures)
    write_atomically(path, text.getvalue())


def _row(name: str, result: Result, wall: float) -> Iterator[Any]:
    system, forces = result.system, result.properties.get("forces")
    yield from (name, system.formula, len(system.symbols), system.charge, system.multiplicity, result.status)
    for value in (result.energy, result.energy_stderr, result.energy_std):
        yield "" if value is None else f"{value:.10f}"
    yield "" if forces is None else f"{largest_force(np.asarray(forces)):.3e}"
    yield f"{wall:.4f}"


def _own_numbers(result: Result) -> Mapping[str, Any]:
    """Numbers that the task adds for the table, by the name of the column."""
    columns: Mapping[str, Any] = result.details.get("columns", {})
    return columns


def _frame(result: Result, more: Mapping[str, Any]) -> str:
    """One structure of an extended XYZ file."""
    system, arrays = result.system, {}
    for name, scale in _EV_ANGSTROM.items():
        if name in result.properties:
            arrays[name] = np.asarray(result.properties[name], dtype=float) * scale
    info: dict[str, Any] = dict(more) | {"status": result.status}
    if result.message:
        info["message"] = result.message
    for name, scale in _NUMBERS.items():
        value = getattr(result, name)
        if value is not None:
            info[name] = value * scale
    if "dipole" in result.properties:
        info["dipole"] = np.asarray(result.properties["dipole"], dtype=float) * units.ANGSTROM_PER_BOHR
    if "stress" in result.properties:
        stress = np.asarray(result.properties["stress"], dtype=float)
        info["stress"] = stress * units.EV_ANGSTROM3_PER_HARTREE_BOHR3
    info |= header(system)
    columns = [system.positions * units.ANGSTROM_PER_BOHR, *arrays.values()]
    named = "".join(f":{name}:R:3" for name in arrays)
    words = [*_lattice(system), f"Properties=species:S:1:pos:R:3{named}"]
    words += [f"{key}={_quoted(value)}" for key, value in info.items()]
    lines = [str(len(system.symbols)), " ".join(words)]
    for symbol, row in zip(system.symbols, np.concatenate(columns, axis=1).tolist(), strict=True):
        lines.append(f"{symbol:2s} " + " ".join(f"{value:16.10f}" for value in row))
    return "\n".join(lines) + "\n"


def _lattice(system: System) -> Iterator[str]:
    if system.cell is not None:
        vectors = " ".join(f"{value:.10f}" for value in (system.cell * units.ANGSTROM_PER_BOHR).ravel())
        yield f'Lattice="{vectors}"'
        yield f'pbc="{" ".join("T" if axis else "F" for axis in system.pbc)}"'


def _quoted(value: Any) -> str:
    """Value of an entry of a comment line; floating-point numbers in full precision."""
    if isinstance(value, float):
        return repr(float(value))
    if isinstance(value, np.ndarray):
        return f'"{" ".join(repr(float(number)) for number in value.ravel())}"'
    text = " ".join(str(value).replace('"', "'").replace("\\", "/").split())
    return text if text.isalnum() else f'"{text}"'
