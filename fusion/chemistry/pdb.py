"""PDB files: models with the charges of their atoms, one of alternative locations, and cells that are placeholders."""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence
from pathlib import Path

from ase import Atoms

from fusion.chemistry import isotopes, reader_errors, structure_state

_LEAST_ANGSTROM3 = 4.0
"""Volume per atom below which a cell is a placeholder; diamond has 5.7."""
_ATOMS = ("ATOM", "HETATM")


def read(path: Path) -> Iterator[Atoms | str]:
    """The models of a file; of one that cannot be read, alone, the reason. Raises ValueError."""
    head: list[str] = []
    rows: list[tuple[int, str]] = []
    for number, line in enumerate(path.read_text(encoding="utf-8", errors="replace").splitlines(), start=1):
        if line.startswith(("CRYST1", "ORIGX")):
            head.append(line)
        elif line.startswith(_ATOMS):
            rows.append((number, line))
        elif line.startswith("END") and rows:
            yield _model(head, rows, path)
            rows = []
    if rows:
        yield _model(head, rows, path)


def _model(head: Sequence[str], rows: Sequence[tuple[int, str]], path: Path) -> Atoms | str:
    from ase.io.proteindatabank import read_proteindatabank

    chosen, notes = _one_location(rows)
    symbols = []
    for number, line in chosen:
        fault = _fault(line)
        if fault:
            return f"{fault} (line {number})"
        symbols.append(line[76:78].strip())
    plain = [line[:76] + f"{isotopes.element(line[76:78].strip()):>2}" + line[78:] for _, line in chosen]
    try:
        atoms: Atoms = read_proteindatabank(io.StringIO("\n".join([*head, *plain, "END", ""])), index=0)
    except Exception as error:  # whatever the parsing meets
        return reader_errors.reason(error, path)
    isotopes.set_masses(atoms, symbols)
    charges = [structure_state.whole(line[78:80].strip()) or 0 for _, line in chosen]
    if any(line[78:80].strip() for _, line in chosen):
        atoms.set_initial_charges(charges)
    return _with_cell(atoms, head, path.name, notes)


def _with_cell(atoms: Atoms, head: Sequence[str], name: str, notes: list[str]) -> Atoms | str:
    """The atoms without a placeholder for a cell; a sentence where a cell holds more than the atoms of the file."""
    group = next((line[55:66].strip() for line in head if line.startswith("CRYST1")), "")
    volume = atoms.cell.volume
    if atoms.pbc.any() and not volume > _LEAST_ANGSTROM3 * len(atoms):
        notes.append(f"the cell of {name} ({volume:.3g} cubic Angstrom) is a placeholder: ignored")
        atoms.pbc = False
        atoms.cell = None
    elif group.upper().replace(" ", "") not in ("", "P1", "1"):
        return (
            f"its CRYST1 has the space group {group}, of which the file holds one asymmetric unit; write all atoms of "
            "the cell with P 1, or remove the line for a molecule"
        )
    if notes:
        atoms.info[structure_state.NOTES] = tuple(notes)
    return atoms


def _one_location(rows: Sequence[tuple[int, str]]) -> tuple[list[tuple[int, str]], list[str]]:
    """The rows with the first of an atom's alternative locations (column 17) of the highest occupancy, and notes."""
    best: dict[str, float] = {}
    for _, line in rows:
        location = line[16:17].strip()
        if location:
            best[location] = best.get(location, 0.0) + _occupancy(line)
    if len(best) < 2:
        return list(rows), []
    kept = max(best, key=lambda location: best[location])
    chosen: dict[tuple[str, str], tuple[int, str]] = {}
    for number, line in rows:
        key = (line[:6] + line[12:16], line[17:27])
        if key not in chosen or line[16:17] == kept or not line[16:17].strip():
            chosen[(f"{number}", "") if not line[16:17].strip() else key] = (number, line)
    left_out = len(rows) - len(chosen)
    return list(chosen.values()), [f"of alternative locations {kept} is used: {left_out} atoms of others are left out"]


def _occupancy(line: str) -> float:
    try:
        return float(line[54:60])
    except ValueError:
        return 1.0


def _fault(line: str) -> str | None:
    try:
        for start in (30, 38, 46):
            float(line[start : start + 8])
    except ValueError:
        return "an atom has no number in each of the columns 31-38, 39-46 and 47-54, where the coordinates belong"
    text = line[78:80].strip()
    if text and structure_state.whole(text) is None:
        return f"columns 79-80 hold '{text}', which is no charge as in 1+ or 2-"
    return None
