"""Reader of PDB files: models, charges of atoms, one of the alternative locations; it ignores placeholder cells."""

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
    """Yield the models of a file; an unreadable model yields the reason instead. Raises ValueError."""
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
    except Exception as error:  # ASE's parser raises exceptions of many types
        return reader_errors.reason(error, path)
    isotopes.set_masses(atoms, symbols)
    charges = [structure_state.whole(line[78:80].strip()) or 0 for _, line in chosen]
    if any(line[78:80].strip() for _, line in chosen):
        atoms.set_initial_charges(charges)
    return _with_cell(atoms, head, path.name, notes)


def _with_cell(atoms: Atoms, head: Sequence[str], name: str, notes: list[str]) -> Atoms | str:
    """Remove a placeholder cell; return a message if the cell has more atoms than the file."""
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
    """Select the rows of one alternative location (column 17), that of the highest total occupancy; add notes."""
    occupancies: dict[str, float] = {}
    for _, line in rows:
        location = line[16:17].strip()
        if location:
            occupancies[location] = occupancies.get(location, 0.0) + _occupancy(line)
    if len(occupancies) < 2:
        return list(rows), []
    chosen_location = max(occupancies, key=lambda location: occupancies[location])
    chosen: dict[tuple[str, str], tuple[int, str]] = {}
    for number, line in rows:
        key = (line[:6] + line[12:16], line[17:27])
        if key not in chosen or line[16:17] == chosen_location or not line[16:17].strip():
            chosen[(f"{number}", "") if not line[16:17].strip() else key] = (number, line)
    left_out = len(rows) - len(chosen)
    return list(chosen.values()), [
        f"alternative location {chosen_location} is used: {left_out} atoms of other locations are left out"
    ]


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
        return "an atom lacks a number in one of the columns 31-38, 39-46 and 47-54, which hold the coordinates"
    text = line[78:80].strip()
    if text and structure_state.whole(text) is None:
        return f"columns 79-80 hold '{text}', which is not a charge like 1+ or 2-"
    return None
