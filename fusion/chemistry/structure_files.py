"""Structures in files: ASE's readers, and what they drop of charge and multiplicity."""

from __future__ import annotations

import io
import itertools
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fusion import bounds
from fusion.chemistry import declared_sizes, structure_state
from fusion.errors import InputError

if TYPE_CHECKING:
    from ase import Atoms

_SUFFIXES = {
    ".xyz": "extxyz", ".extxyz": "extxyz", ".sdf": "sdf", ".mol": "sdf", ".mdl": "sdf", ".db": "db", ".json": "db",
    ".aselmdb": "db", ".pdb": "proteindatabank",
}  # fmt: skip

_CHARGE, _MULTIPLICITY = r"(?P<charge>[+-]?[\d.]+)", r"(?P<multiplicity>\d+)"
_STATED: dict[str, tuple[str, ...]] = {
    "gaussian-in": (rf"^[ \t]*(?P<charge>[+-]?\d+)[ \t,]+{_MULTIPLICITY}(?:[ \t,]+[+-]?\d+)*[ \t]*$",),
    "gaussian-out": (rf"Charge =\s*{_CHARGE}\s+Multiplicity =\s*{_MULTIPLICITY}",),
    "orca-output": (rf"Total Charge\s+Charge\s+\.+\s+{_CHARGE}", rf"Multiplicity\s+Mult\s+\.+\s+{_MULTIPLICITY}"),
    "nwchem-in": (rf"^\s*charge\s+{_CHARGE}", rf"^\s*mult\s+{_MULTIPLICITY}", r"^\s*nopen\s+(?P<unpaired>\d+)"),
    "nwchem-out": (rf"Charge\s*[:=]\s*{_CHARGE}", rf"Spin multiplicity\s*:\s*{_MULTIPLICITY}"),
    "gamess-us-in": (rf"\bICHARG\s*=\s*{_CHARGE}", rf"\bMULT\s*=\s*{_MULTIPLICITY}"),
    "gamess-us-out": (rf"CHARGE OF MOLECULE\s*=\s*{_CHARGE}", rf"SPIN MULTIPLICITY\s*=\s*{_MULTIPLICITY}"),
    "turbomole": (rf"\$(?:chrg|eht\s+charge\s*=)\s*{_CHARGE}", r"unpaired\s*=\s*(?P<unpaired>\d+)"),
    "cjson": (rf'"totalCharge"\s*:\s*{_CHARGE}', rf'"totalSpinMultiplicity"\s*:\s*{_MULTIPLICITY}'),
    "espresso-in": (rf"\btot_charge\s*=\s*{_CHARGE}",),
}
"""Text that states charge and multiplicity in formats whose ASE reader drops it."""
_UNREAD = frozenset(
    {
        "abinit-in", "aims", "castep-cell", "cp2k-restart", "dftb", "gamess-us-punch", "octopus-in", "onetep-in",
        "qbox", "siesta-xv", "turbomole", "xsd", "xtd",
    }
)  # fmt: skip
"""Formats whose charge stands in a second file, or where it is not read."""
_LEAST_PDB_ANGSTROM3 = 4.0
"""Volume per atom below which the cell of a PDB file is a placeholder; diamond has 5.7."""

_IN_COMMENT = re.compile(
    r"\b(\w*charge|\w*multiplicity|mult|unpaired|spin)[\"']?\s*([:=]?)\s*([+-]?\d+(?:\.\d*)?[+-]?)(?=[\s,;|)}]|$)"
)
_COMMENT_PAIR = re.compile(r"\s*([+-]?\d+)\s+([1-9])\s*")


def read_file(path: str, frame: Any, start_dir: Path) -> Atoms:
    """One structure from any file that ASE reads. Raises InputError for what is missing, unreadable or ambiguous."""
    full = start_dir / Path(path).expanduser()
    if full.is_dir() or (not full.exists() and set("*?") & set(path)):
        what = "a directory" if full.is_dir() else "a pattern"
        pattern = f"{path}/*" if full.is_dir() else path
        raise InputError(f"system.path: '{path}' is {what}; -m 'system=glob({pattern})' calculates each file in it")
    if not full.is_file():
        inside = full.is_relative_to(start_dir)
        place = f"'{full.relative_to(start_dir)}' in {start_dir}" if inside else f"'{path}'"
        raise InputError(f"system.path: no file {place}")
    try:
        structures = all_frames(full)
    except Exception as error:  # ASE's readers raise whatever their parsing meets
        raise InputError(f"system.path: cannot read '{path}' as a structure ({_first_line(error)})") from error
    if not structures:
        raise InputError(f"system.path: '{path}' holds no structure")
    return structures[_index(frame, len(structures), path)]


def frames(file: Path) -> Iterator[Atoms | str]:
    """The structures of a file; of one that cannot be read, alone, the reason. Raises what ASE's readers raise."""
    bounds.regular(file)
    kind = _kind(file)
    declared_sizes.check(file, kind)
    if kind == "extxyz":
        yield from _xyz(file)
    elif kind == "sdf":
        from fusion.chemistry import molfile

        yield from molfile.read(file)
    elif kind == "db":
        yield from _rows(file)
    elif kind == "proteindatabank":
        yield from _pdb(file)
    else:
        from ase.io import iread

        stated = _stated(file, kind)
        for atoms in iread(str(file), index=":", format=kind, do_not_split_by_at_sign=True):
            atoms.info |= stated
            yield atoms


def _kind(file: Path) -> str:
    """ASE's name of the format, `extxyz`, `sdf` and `db` for all formats that one reader takes."""
    suffix = file.suffix.lower()
    if suffix in _SUFFIXES:
        return _SUFFIXES[suffix]
    from ase.io.formats import filetype

    kind = str(filetype(str(file)))
    return {"xyz": "extxyz", "mol": "sdf", "json": "db"}.get(kind, kind)


def all_frames(file: Path) -> list[Atoms]:
    """The structures of a file. Raises what ASE's readers raise, and ValueError for one that cannot be read."""
    structures = []
    for number, atoms in enumerate(frames(file), start=1):
        if isinstance(atoms, str):
            raise ValueError(f"structure {number}: {atoms}")
        structures.append(atoms)
    return structures


def _index(frame: Any, number: int, path: str) -> int:
    if frame is None:
        if number > 1:
            raise InputError(f"'{path}' holds {number} structures; choose one: system.frame=0 ... {number - 1}")
        return 0
    index = structure_state.whole(frame)
    if index is None:
        raise InputError(f"system.frame must be a whole number, not {frame!r}")
    if not -number <= index < number:
        raise InputError(f"system.frame={index}, but '{path}' holds {number} structures: 0 ... {number - 1}")
    return index


def _rows(file: Path) -> Iterator[Atoms]:
    """Rows of an ASE database, key-value pairs and data in `info`."""
    from ase.db import connect

    for row in connect(file).select():
        atoms = row.toatoms()
        atoms.info = {**row.key_value_pairs, **(row.data or {})}
        yield atoms


def _xyz(file: Path) -> Iterator[Atoms | str]:
    """Extended or plain XYZ; a broken structure costs no other, as each says how many lines it has."""
    from ase.io.formats import open_with_compression

    with io.TextIOWrapper(open_with_compression(str(file), "rb"), encoding="utf-8", errors="replace") as lines:
        number, head = 0, next(filter(str.strip, lines), None)
        while head is not None:
            number += 1
            if not head.strip().isdecimal():
                begins = head.strip()[:40]
                raise ValueError(f"structure {number} begins with {begins!r} instead of its number of atoms")
            count = int(head)
            body = list(itertools.islice(lines, count + 1))
            following = next(filter(str.strip, lines), None)
            while following is not None and following.lstrip().startswith("VEC"):  # cell vectors, as ADF writes them
                body.append(following)
                following = next(filter(str.strip, lines), None)
            yield _frame(head, body, count)
            head = following


def _frame(head: str, body: Sequence[str], count: int) -> Atoms | str:
    """A structure of an XYZ file from its lines, or the reason why there is none."""
    from ase.io.extxyz import read_xyz

    if count == 0:
        return "no atoms"
    if len(body) <= count:
        return f"it has {max(0, len(body) - 1)} of {count} atoms: the file is cut off"
    if fault := declared_sizes.of_columns(body[0], body[1]):
        return fault
    try:
        atoms: Atoms = next(read_xyz(io.StringIO(head + "".join(body)), 0))
    except KeyError as error:
        return f"unknown element {error}"
    except Exception as error:  # whatever the parsing meets
        return f"ASE cannot read it ({_first_line(error)})"
    return _read_comment(body[0], atoms) or atoms


def _read_comment(comment: str, atoms: Atoms) -> str | None:
    """Put into `info` a state that a comment line states in other ways than key=value: `charge: 1`, or `1 1` alone.

    A bare word, which ASE reads as True, states nothing. Returns what is wrong with a line that states a key twice.
    """
    pair = _COMMENT_PAIR.fullmatch(comment)
    if pair:
        charge, multiplicity = int(pair[1]), int(pair[2])
        if (int(atoms.numbers.sum()) - charge - multiplicity) % 2:
            atoms.info = {"charge": charge, "multiplicity": multiplicity}
        return None
    for key in [key for key in atoms.info if structure_state.is_state_key(key)]:
        if atoms.info[key] is True and not re.search(rf"{re.escape(key)}\s*=", comment):
            del atoms.info[key]
    values: dict[str, str] = {}
    stated = {structure_state.normal(key) for key in atoms.info}
    for key, sign, value in _IN_COMMENT.findall(comment.lower()):
        if not structure_state.is_state_key(key):
            continue
        if sign and structure_state.whole(values.setdefault(key, value)) != structure_state.whole(value):
            return f"its comment line states {key}={values[key]} and {key}={value}"
        if structure_state.normal(key) not in stated:
            atoms.info[key] = value
    return None


def _stated(file: Path, kind: str) -> dict[str, Any]:
    """Entries of `info` for what a file states of its state and ASE's reader drops."""
    patterns = _STATED.get(kind, ())
    text = file.read_text(encoding="utf-8", errors="replace") if patterns else ""
    stated: dict[str, Any] = {}
    for pattern in patterns:
        match = re.search(pattern, text, re.MULTILINE | re.IGNORECASE)
        stated |= match.groupdict() if match else {}
    return {structure_state.UNREAD: kind} if not stated and kind in _UNREAD else stated


def _pdb(file: Path) -> Iterator[Atoms]:
    """Models of a PDB file with the charges of their atoms (columns 79-80); a placeholder cell is taken away."""
    from ase.io import iread

    charges: list[list[str]] = [[]]
    for line in file.read_text(encoding="utf-8", errors="replace").splitlines():
        if line.startswith(("ATOM", "HETATM")):
            charges[-1].append(line[78:80].strip())
        elif line.startswith("END"):
            charges.append([])
    models = (atoms for atoms in iread(str(file), index=":", format="proteindatabank", do_not_split_by_at_sign=True))
    for atoms, written in zip(models, charges, strict=False):
        if len(atoms) == 0:  # ASE makes one of END after ENDMDL
            continue
        if any(written):
            atoms.set_initial_charges([_formal_charge(text) for text in written])
        volume = atoms.cell.volume
        if atoms.pbc.any() and not volume > _LEAST_PDB_ANGSTROM3 * len(atoms):
            atoms.info[structure_state.NOTES] = (
                f"the cell of {file.name} ({volume:.3g} cubic Angstrom) is a placeholder: ignored",
            )
            atoms.pbc = False
            atoms.cell = None
        yield atoms


def _formal_charge(text: str) -> int:
    charge = structure_state.whole(text) if text else 0
    if charge is None:
        raise ValueError(f"columns 79-80 hold {text!r}, which is no charge as in 1+ or 2-")
    return charge


def _first_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]
