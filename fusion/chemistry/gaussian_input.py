"""Reader of Gaussian input files: Cartesian coordinates or a Z-matrix, charge, multiplicity, isotopes, frozen atoms.

ASE's reader also takes charge and multiplicity from the title, and drops isotopes.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from ase import Atoms
from ase.data import atomic_numbers, chemical_symbols

from fusion.chemistry import isotopes
from fusion.chemistry.units import ANGSTROM_PER_BOHR

_ATOM = re.compile(r"([A-Za-z]{1,2}|\d{1,3})\d*(?:-[^\s,(]*)?(?:\(([^)]*)\))?[\s,]+(.*)")
_ISOTOPE = re.compile(r"\biso(?:tope)?\s*=\s*(\d+)(\.\d+)?", re.IGNORECASE)
_CONSTRAINED = re.compile(r"modred|readopt|addred|addgic|readfreeze|noatoms", re.IGNORECASE)
_BOHR = re.compile(r"\bunits?\s*=?\s*\(?[^)\s]*\b(?:au|bohr)\b", re.IGNORECASE)


def read(path: Path) -> Iterator[Atoms]:
    """Yield the molecules of a file's jobs, except for jobs that read a checkpoint. Raises ValueError."""
    text = path.read_text(encoding="utf-8", errors="replace")
    jobs = re.split(r"^\s*--link1--\s*$", text, flags=re.MULTILINE | re.IGNORECASE)
    for job in jobs:
        atoms = _molecule(job.splitlines())
        if atoms is not None:
            yield atoms


def _molecule(lines: Sequence[str]) -> Atoms | None:
    content = [line.split("!")[0].rstrip() for line in lines]
    sections = [
        list(group) for filled, group in itertools.groupby(content, key=lambda line: bool(line.strip())) if filled
    ]
    route = " ".join(line for line in (sections[0] if sections else []) if not line.lstrip().startswith("%"))
    if not route.lstrip().startswith("#"):
        if sections:
            raise ValueError("its first section has no route, a line that begins with #")
        return None
    checkpoint = re.search(r"\b(?:geom\s*=?\s*\(?[^)\s]*\b)?(?:allcheck|check(?:point)?)\b", route, re.IGNORECASE)
    if checkpoint and "geom" in route.lower():
        return None
    if len(sections) < 3:
        raise ValueError("it has no molecule: route, title and molecule are sections with an empty line between them")
    words = sections[2][0].replace(",", " ").split()
    if len(words) < 2 or not all(re.fullmatch(r"[+-]?\d+", word) for word in words):
        begins = sections[2][0].strip()[:40]
        raise ValueError(f"its molecule begins with '{begins}' instead of charge and multiplicity, as in 0 1")
    if _CONSTRAINED.search(route) and len(sections) > 3:
        raise ValueError("the section after its molecule states constraints, which are not read; remove it")
    atoms = _atoms(sections[2][1:], sections[3:], ANGSTROM_PER_BOHR if _BOHR.search(route) else 1.0)
    atoms.info |= {"charge": int(words[0]), "multiplicity": int(words[1])}
    return atoms


def _atoms(rows: Sequence[str], following: Sequence[Sequence[str]], unit: float) -> Atoms:
    """Read atoms, in Angstrom, from lines `symbol [freeze] x y z`, or from a Z-matrix and its variables."""
    symbols, nucleons, frozen, positions, vectors = [], [], [], [], []
    for row in rows:
        match = _ATOM.fullmatch(row.strip() + " ")
        if match is None:
            raise ValueError(f"'{row.strip()[:40]}' is not a line of an atom: symbol x y z")
        values = match[3].replace(",", " ").split()
        fixed = len(values) > 3 and re.fullmatch(r"-?\d+", values[0]) is not None and _is_number(values[3])
        coordinates = values[1:4] if fixed else values[:3]
        if len(coordinates) < 3 or not all(map(_is_number, coordinates)) or not any("." in x for x in coordinates):
            return _from_z_matrix(rows, following, unit)
        point = [float(value.replace("D", "e").replace("d", "e")) * unit for value in coordinates]
        if match[1].upper() == "TV":
            vectors.append(point)
            continue
        symbol = _symbol(match[1], row)
        isotope = _ISOTOPE.search(match[2] or "")
        symbols.append(symbol)
        nucleons.append(round(float(isotope[1] + (isotope[2] or ""))) if isotope else isotopes.HYDROGENS.get(symbol, 0))
        frozen.append(fixed and values[0].startswith("-"))
        positions.append(point)
    atoms = Atoms([isotopes.element(symbol) for symbol in symbols], positions=positions)
    if any(nucleons):
        atoms.set_masses([isotopes.mass(*pair) for pair in zip(atoms.get_chemical_symbols(), nucleons, strict=True)])
    if any(frozen):
        from ase.constraints import FixAtoms

        atoms.set_constraint(FixAtoms(mask=frozen))
    if vectors:
        atoms.set_cell(np.array([*vectors, *[[0.0] * 3] * (3 - len(vectors))]))
        atoms.pbc = [axis < len(vectors) for axis in range(3)]
    return atoms


def _symbol(text: str, row: str) -> str:
    number = int(text) if text.isdecimal() else len(chemical_symbols)
    symbol = chemical_symbols[number] if number < len(chemical_symbols) else text.capitalize()
    if "-bq" in row.lower() or not atomic_numbers.get(isotopes.element(symbol)):
        raise ValueError(f"'{row.strip()[:40]}' is not an atom of a known element")
    return symbol


def _is_number(text: str) -> bool:
    try:
        float(text.replace("D", "e").replace("d", "e"))
    except ValueError:
        return False
    return True


def _from_z_matrix(rows: Sequence[str], following: Sequence[Sequence[str]], unit: float) -> Atoms:
    from ase.io.zmatrix import parse_zmatrix

    variables = {}
    for line in itertools.chain.from_iterable(following):
        words = line.replace("=", " ").replace(",", " ").split()
        if len(words) == 2 and _is_number(words[1]):
            variables[words[0]] = float(words[1])
    if any("(" in row for row in rows):
        raise ValueError("isotopes and fragments of a Z-matrix are not read; write Cartesian coordinates")
    try:
        plain = [" ".join(row.replace(",", " ").split()) for row in rows]
        return parse_zmatrix(plain, distance_units=unit, defs=variables)
    except Exception as error:  # ASE's parser raises exceptions of many types
        raise ValueError("its molecule is neither Cartesian coordinates, symbol x y z, nor a Z-matrix") from error
