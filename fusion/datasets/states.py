"""Charges and spins of conformations in array files, under the same keys as in structure files."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from fusion.chemistry import structure_state
from fusion.chemistry.formulas import formula
from fusion.datasets.blocks import HEAVIEST, Block, Broken
from fusion.datasets.labelled import UNKNOWN_SPIN

_PER_FRAME = ("positions", "energy", "forces", "stress", "dipole", "fold")


def by_state(block: Block, arrays: Mapping[str, Any]) -> Iterator[Block | Broken]:
    """Yield runs of the block's conformations with equal charge and spin.

    `arrays` are those of the file whose key states a charge or spin, with one number for all conformations or one for
    each. Arrays of other shapes are ignored.
    """
    from ase import Atoms

    frames, numbers = len(block.positions), block.numbers
    columns = {key: values for key, array in arrays.items() if (values := _column(array, frames)) is not None}
    if not columns or not frames or numbers.ndim != 1 or not ((numbers > 0) & (numbers <= HEAVIEST)).all():
        yield block
        return
    table = np.stack(list(columns.values()), axis=1)
    changes = (np.flatnonzero((table[1:] != table[:-1]).any(axis=1)) + 1).tolist()
    for start, end in zip([0, *changes], [*changes, frames], strict=True):
        stated = dict(zip(columns, table[start].tolist(), strict=True))
        atoms = Atoms(numbers, info=stated)
        try:
            state = structure_state.read(atoms)
        except structure_state.Misstated as error:
            name = block.name or formula(atoms.get_chemical_symbols())
            yield Broken(f"{name} #{block.first + start}", str(error), end - start)
            continue
        parts = {name: value[start:end] for name in _PER_FRAME if (value := getattr(block, name)) is not None}
        spin = UNKNOWN_SPIN if state.spin is None else state.spin
        yield replace(block, first=block.first + start, charge=state.charge, spin=spin, **parts)


def _column(array: Any, frames: int) -> np.ndarray | None:
    """Numbers (F,) for the conformations; None for an array of another shape or type."""
    values = np.asarray(array)
    if values.dtype.kind not in "iuf" or values.size not in (1, frames) or values.ndim > 2:
        return None
    return np.broadcast_to(np.ravel(values).astype(float), (frames,))
