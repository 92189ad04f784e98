"""Neighbour search in molecules, compiled by numba. Imported only inside functions: numba is slow to import."""

from __future__ import annotations

from typing import Any

import numpy as np

from fusion.compilation import INNER, njit

FEW = 48
"""Number of atoms up to which comparing all pairs is fastest; more atoms are sorted into cells."""

# Loops instead of assignments of arrays to slices, which make numba compile the text of an error message as well.
_OPTIONS: dict[str, Any] = {"nogil": True, "cache": True, "error_model": "numpy"}


@njit(**_OPTIONS)
def pairs(positions, rows, starts, cutoff):  # type: ignore[no-untyped-def]
    """Pairs of atoms closer than `cutoff`: neighbours (P,) and the index of each atom's first pair (N + 1,).

    Atom n is at positions[rows[n]]; molecule b has the atoms starts[b] up to, not including, starts[b + 1].
    """
    first = np.zeros(len(rows) + 1, np.int64)
    other = np.empty(64 * len(rows) + 1024, np.int64)
    end = 0
    for molecule in range(len(starts) - 1):
        begin, stop = starts[molecule], starts[molecule + 1]
        atoms = stop - begin
        if atoms <= FEW:
            if end + atoms * atoms > len(other):
                other = _longer(other, end + atoms * atoms)
            for i in range(begin, stop):
                end = _compare(positions, rows, i, begin, stop, cutoff, other, end)
                first[i + 1] = end
        else:
            other, end = _through_cells(positions, rows, begin, stop, cutoff, first, other, np.int64(end))
    return other[:end].copy(), first


@njit(**_OPTIONS, **INNER)
def _longer(other, size):  # type: ignore[no-untyped-def]
    longer = np.empty(2 * size, np.int64)
    for p in range(len(other)):
        longer[p] = other[p]
    return longer


@njit(**_OPTIONS, **INNER)
def _compare(positions, rows, i, start, stop, cutoff, other, end):  # type: ignore[no-untyped-def]
    """Append the atoms of start..stop that are near atom i to `other`; return the new end of that list."""
    limit = cutoff * cutoff
    centre = positions[rows[i]]
    for j in range(start, stop):
        neighbour = positions[rows[j]]
        x, y, z = neighbour[0] - centre[0], neighbour[1] - centre[1], neighbour[2] - centre[2]
        other[end] = j
        end += (x * x + y * y + z * z < limit) and i != j
    return end


@njit(**_OPTIONS, **INNER)
def _through_cells(positions, rows, begin, stop, cutoff, first, other, end):  # type: ignore[no-untyped-def]
    """`pairs` of one molecule, sorted into cells at least half a cutoff wide: compares cells at most two apart."""
    atoms, limit = stop - begin, cutoff * cutoff
    low, shape, inverse = np.empty(3), np.empty(3, np.int64), np.empty(3)
    most = int((8.0 * atoms) ** (1.0 / 3.0)) + 1
    for axis in range(3):
        smallest = largest = float(positions[rows[begin], axis])
        for i in range(begin, stop):
            smallest, largest = min(smallest, positions[rows[i], axis]), max(largest, positions[rows[i], axis])
        span = largest - smallest
        if not span < np.inf:
            span = 0.0  # no distance to such an atom is less than the cutoff
        low[axis], shape[axis] = smallest, max(1, min(most, int(2.0 * span / cutoff)))
        inverse[axis] = shape[axis] / span * (1.0 - 1e-9) if span > 0.0 else 0.0
    cell, place = np.zeros((atoms, 3), np.int64), np.zeros(shape[0] * shape[1] * shape[2] + 1, np.int64)
    for n in range(atoms):
        for axis in range(3):
            coordinate = (positions[rows[begin + n], axis] - low[axis]) * inverse[axis]
            cell[n, axis] = min(int(coordinate), shape[axis] - 1) if coordinate > 0.0 else 0
        place[(cell[n, 0] * shape[1] + cell[n, 1]) * shape[2] + cell[n, 2] + 1] += 1
    for c in range(1, len(place)):
        place[c] += place[c - 1]
    slot = place[:-1].copy()
    order, sorted_ = np.empty(atoms, np.int64), np.empty((3, atoms), positions.dtype)
    for n in range(atoms):
        index = (cell[n, 0] * shape[1] + cell[n, 1]) * shape[2] + cell[n, 2]
        order[slot[index]] = begin + n
        for axis in range(3):
            sorted_[axis, slot[index]] = positions[rows[begin + n], axis]
        slot[index] += 1
    for n in range(atoms):
        centre = positions[rows[begin + n]]
        if end + atoms > len(other):
            other = _longer(other, end + atoms)
        z_first, z_last = max(cell[n, 2] - 2, 0), min(cell[n, 2] + 2, shape[2] - 1)
        for x_cell in range(max(cell[n, 0] - 2, 0), min(cell[n, 0] + 3, shape[0])):
            for y_cell in range(max(cell[n, 1] - 2, 0), min(cell[n, 1] + 3, shape[1])):
                row = (x_cell * shape[1] + y_cell) * shape[2]
                for slot_of in range(place[row + z_first], place[row + z_last + 1]):
                    x, y, z = (
                        sorted_[0, slot_of] - centre[0],
                        sorted_[1, slot_of] - centre[1],
                        sorted_[2, slot_of] - centre[2],
                    )
                    other[end] = order[slot_of]
                    end += (x * x + y * y + z * z < limit) and order[slot_of] != begin + n
        first[begin + n + 1] = end
    return other, end


@njit(**_OPTIONS)
def differences(positions, rows, first, other):  # type: ignore[no-untyped-def]
    """Vectors (P, 3) from each atom to its neighbours."""
    result = np.empty((len(other), 3), positions.dtype)
    for i in range(len(first) - 1):
        for p in range(first[i], first[i + 1]):
            for axis in range(3):
                result[p, axis] = positions[rows[other[p]], axis] - positions[rows[i], axis]
    return result


@njit(**_OPTIONS)
def gathered(gradient, rows, first, other, size):  # type: ignore[no-untyped-def]
    """Gradient (size, 3) by positions of a function whose gradient by `differences` is `gradient` (P, 3)."""
    result = np.zeros((size, 3), gradient.dtype)
    for i in range(len(first) - 1):
        x = y = z = gradient.dtype.type(0.0)
        for p in range(first[i], first[i + 1]):
            neighbour = rows[other[p]]
            x, y, z = x + gradient[p, 0], y + gradient[p, 1], z + gradient[p, 2]
            result[neighbour, 0] += gradient[p, 0]
            result[neighbour, 1] += gradient[p, 1]
            result[neighbour, 2] += gradient[p, 2]
        result[rows[i], 0] -= x
        result[rows[i], 1] -= y
        result[rows[i], 2] -= z
    return result
