"""Files that a run appends to and a resumed run continues: text, and frames of extended XYZ."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from fusion.errors import InputError
from fusion.files.atomic import naming, record

if TYPE_CHECKING:
    from ase import Atoms

    from fusion.chemistry.system import System


class AppendedFile:
    """Text file that is only appended to. A resumed run keeps the first `length` bytes, as recorded in its checkpoint.

    Raises InputError if the file is shorter.
    """

    def __init__(self, path: Path, length: int = 0) -> None:
        size = path.stat().st_size if path.is_file() else 0
        if size < length:
            raise InputError(
                f"{path} is shorter than its checkpoint expects ({size} of {length} bytes); cannot resume. "
                "Without ckpt=last the run starts anew"
            )
        self._path = record(path)
        with naming(path):
            self._file = path.open("r+b" if length else "wb")
            self._file.truncate(length)
            self._file.seek(length)
        self.length = length

    def write(self, text: str) -> None:
        data = text.encode()
        with naming(self._path):
            self._file.write(data)
            self._file.flush()
        self.length += len(data)

    def sync(self) -> None:
        """Write the data to disk, so that it survives a crash of the machine."""
        with naming(self._path):
            os.fsync(self._file.fileno())

    def close(self) -> None:
        with naming(self._path):
            self._file.close()


def frame(system: System, atoms: Atoms, results: Mapping[str, Any], step: int, time_fs: float) -> str:
    """Format `atoms` as extended XYZ for ASE: Angstrom, eV, and momenta in ASE's unit, sqrt(amu eV).

    `results` are those of ASE. ASE's own writer would take longer than a step of a small molecule.
    """
    words = ["Properties=species:S:1:pos:R:3:momenta:R:3:forces:R:3", f"step={step}", f"time_fs={time_fs:.10g}"]
    words += [f"{key}={results[key]:.9f}" for key in ("energy", "energy_std") if key in results]
    if any(system.pbc):
        words.append(f'Lattice="{_numbers(np.asarray(atoms.cell).ravel())}"')
    words.append('pbc="' + " ".join("FT"[flag] for flag in system.pbc) + '"')
    if "stress" in results:
        xx, yy, zz, yz, xz, xy = results["stress"]
        words.append(f'stress="{_numbers([xx, xy, xz, xy, yy, yz, xz, yz, zz])}"')
    if system.charge:
        words.append(f"charge={system.charge}")
    table = np.hstack([atoms.positions, atoms.get_momenta(), results["forces"]])
    line = " ".join(["%s", *["%.8f"] * 9])
    if system.masses is not None:
        words[0] += ":masses:R:1"
        table, line = np.column_stack([table, system.masses]), line + " %.8f"
    ends = [""] * len(table)
    if system.fixed is not None:
        words[0] += ":move_mask:L:3"
        ends = ["".join("FT"[free].rjust(3) for free in row) for row in (~system.fixed).tolist()]
    atom_rows = zip(system.symbols, table.tolist(), ends, strict=True)
    rows = [line % (symbol, *row) + end for symbol, row, end in atom_rows]
    return "\n".join([str(len(rows)), " ".join(words), *rows, ""])


def _numbers(values: Iterable[float]) -> str:
    return " ".join(f"{value:.10g}" for value in values)
