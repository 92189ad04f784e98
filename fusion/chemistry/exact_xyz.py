"""Extended XYZ with all digits of the coordinates; ASE's own writer rounds them to 1e-8 Angstrom."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import numpy as np

from fusion.chemistry import structure_state
from fusion.chemistry.structures import from_atoms

if TYPE_CHECKING:
    from ase import Atoms


def text(atoms: Atoms, charge: int | None = None, spin: int | None = None, name: str | None = None) -> str:
    """Write ASE Atoms with cell, charge, multiplicity, masses, held coordinates and `name` for `system=FILE`.

    `charge` and `spin` = N_up - N_down override those of the atoms; an attached calculator is not used. Raises
    InputError for anything that the atoms state and that cannot be used.
    """
    plain = atoms.copy()  # has no calculator
    system = from_atoms(plain, charge, spin, name)
    state = structure_state.read(plain, charge, spin)
    comment, columns = ["Properties=species:S:1:pos:R:3"], [plain.get_positions()]
    if system.cell is not None:
        comment.append(f'Lattice="{_numbers(np.asarray(plain.cell).ravel())}"')
        comment.append(f'pbc="{" ".join("FT"[axis] for axis in system.pbc)}"')
    if state.charge_stated:
        comment.append(f"charge={state.charge}")
    if state.spin is not None:
        comment.append(f"multiplicity={state.spin + 1}")
    if name is not None:
        comment.append(f'name="{_word(name)}"')
    if system.masses is not None:
        comment[0] += ":masses:R:1"
        columns.append(system.masses[:, None])
    ends = [""] * len(plain)
    if system.fixed is not None:
        comment[0] += ":move_mask:L:3"
        ends = ["".join(f" {'FT'[free]}" for free in row) for row in (~system.fixed).tolist()]
    rows = zip(system.symbols, np.hstack(columns), ends, strict=True)
    lines = [f"{symbol} {_numbers(row)}{end}" for symbol, row, end in rows]
    return "\n".join([str(len(lines)), " ".join(comment), *lines, ""])


def _numbers(values: Iterable[Any]) -> str:
    return " ".join(repr(float(value)) for value in values)


def _word(value: Any) -> str:
    return " ".join(str(value).replace('"', "'").replace("\\", "/").split())
