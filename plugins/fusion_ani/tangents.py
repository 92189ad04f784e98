"""Products of many vectors with the Jacobian of environment vectors by the vectors to neighbours, from both sides.

Training on forces needs both products for every member of an ensemble: the gradient of the energy pulled back to the
neighbours (forces), and directions of neighbours pushed forward to the environment vectors (the way from errors of
forces to parameters). Exponentials are computed once for all members. Compiled; conventions are those of `kernels`.
"""

from __future__ import annotations

import numpy as np

from fusion.compilation import INNER, njit
from fusion_ani.aev import COSINE_FACTOR
from fusion_ani.kernels import TRIPLES, _factors, _list, _push, _radial, _room, _slopes, _triples
from fusion_ani.simd import OPTIONS, contract, outer


@njit(**OPTIONS, **INNER)
def _angular(forward, base, lists, places, constants, work, values, moved):  # type: ignore[no-untyped-def]
    """Process the angular parts of a centre's lines: triples of all pairs of elements, in lists of `TRIPLES`."""
    begin, _, _, close = lists
    _, numbers, indices, runs = work[:4]
    elements = len(places)
    listed = run = 0
    for e in range(elements):
        for f in range(e, elements):
            runs[0, run], runs[1, run] = base + places[e, f], listed
            for j in range(begin[1, e], begin[1, e + 1]):
                start = j + 1 if e == f else begin[1, f]
                listed = _triples(j, start, begin[1, f + 1], close, numbers, indices, listed)
                if listed >= TRIPLES:
                    runs[1, run + 1] = listed
                    _finish(forward, np.int64(run + 1), close, constants, work, values, moved)
                    runs[0, 0], runs[1, 0] = base + places[e, f], 0
                    listed = run = 0
            if listed > runs[1, run]:
                run += 1
    if listed:
        runs[1, run] = listed
        _finish(forward, np.int64(run), close, constants, work, values, moved)


@njit(**OPTIONS, **INNER)
def _finish(forward, count, close, constants, work, values, moved):  # type: ignore[no-untyped-def]
    """Process the listed triples for every member."""
    scalars, _, shifts, angles = constants
    _, numbers, indices, runs, turned, lengths = work
    listed = runs[1, count]
    _factors(listed, numbers, turned, lengths, scalars[5], scalars[4], shifts, angles)
    _slopes(listed, numbers, turned, lengths, scalars[5], scalars[4], shifts, angles)
    for member in range(len(values)):
        if forward:
            _moved_triples(listed, numbers, indices, close, moved[member])
        for run in range(count):
            at, start, stop = runs[0, run], runs[1, run], runs[1, run + 1]
            if forward:
                into = values[member]
                outer(into, at, numbers[5], lengths[0], turned[0], start, stop, shifts, angles[0])
                outer(into, at, numbers[6], lengths[0], turned[2], start, stop, shifts, angles[0])
                outer(into, at, numbers[7], lengths[2], turned[0], start, stop, shifts, angles[0])
            else:
                factors = lengths[0], lengths[2], turned[0], turned[2]
                into = numbers[5], numbers[6], numbers[7]
                contract(values[member], at, *factors, start, stop, *into, shifts, angles[0])
        if not forward:
            _copy(moved[member, :3], close[7:])
            _push(listed, numbers, indices, close)
            _copy(close[7:], moved[member, :3])


@njit(**OPTIONS, **INNER)
def _copy(source, target):  # type: ignore[no-untyped-def]
    for axis in range(len(target)):
        for n in range(target.shape[1]):
            target[axis, n] = source[axis, n]


@njit(**OPTIONS, **INNER)
def _moved_triples(listed, numbers, indices, close, moved):  # type: ignore[no-untyped-def]
    """Compute changes of the triples' factors: of the switching functions (5), the cosine (6) and the mean length (7).

    `moved`: changes of the vectors to neighbours, over their lengths (0, 1, 2), and of these lengths (3).
    """
    real = close.dtype.type
    for t in range(listed):
        j, k = indices[0, t], indices[1, t]
        along_j, along_k = moved[3, j], moved[3, k]
        turn = moved[0, j] * close[0, k] + moved[1, j] * close[1, k] + moved[2, j] * close[2, k]
        turn += moved[0, k] * close[0, j] + moved[1, k] * close[1, j] + moved[2, k] * close[2, j]
        stretch = along_j * close[6, j] + along_k * close[6, k]
        slope = close[5, j] * along_j * close[4, k] + close[4, j] * close[5, k] * along_k
        numbers[5, t] = real(2.0) * slope
        numbers[6, t] = numbers[2, t] * (real(COSINE_FACTOR) * turn - numbers[0, t] * stretch)
        numbers[7, t] = numbers[2, t] * real(0.5) * (along_j + along_k)


@njit(**OPTIONS)
def pushed(  # type: ignore[no-untyped-def]
    vectors, first, other, species, atoms, constants, radial_places, places, directions, out, begin, line
):
    """Add J u, changes of the environment vectors along `directions` u (M, P, 3), to lines from `begin` of `out`."""
    scalars, shifts = constants[:2]
    lists, work = _room(vectors, first, atoms, len(places), constants)
    ends, which, all_of, _ = lists
    radial, numbers = work[:2]
    ones, scale, eta = numbers[4], scalars[0], scalars[2]
    most = all_of.shape[1]
    away, near = np.zeros((len(out), 4, most), vectors.dtype), np.zeros((len(out), 4, most), vectors.dtype)
    change = np.zeros(most, vectors.dtype)
    for row in range(len(atoms)):
        i, base, count = atoms[row], (begin + row) * line, first[atoms[row] + 1] - first[atoms[row]]
        _list(vectors, first[i], first[i + 1], other, species, scalars, lists)
        _radial_slopes(count, all_of, eta, shifts, radial)
        for member in range(len(out)):
            _moved(count, all_of, which, directions[member], scale, away[member])
            for n in range(count):
                change[n] = all_of[5, n] * away[member, 3, n]
                numbers[5, n] = all_of[4, n] * away[member, 3, n]
            for e in range(len(places)):
                start, stop, at = ends[0, e], ends[0, e + 1], base + radial_places[e]
                outer(out[member], at, change, ones, radial[0], start, stop, scalars[:1], shifts)
                outer(out[member], at, numbers[5], ones, radial[2], start, stop, scalars[:1], shifts)
            for n in range(ends[1, len(places)]):
                for axis in range(4):
                    near[member, axis, n] = away[member, axis, which[1, n]]
        _angular(np.bool_(True), base, lists, places, constants, work, out, near)


@njit(**OPTIONS)
def pulled(  # type: ignore[no-untyped-def]
    vectors, first, other, species, atoms, constants, radial_places, places, gradients, begin, line, out
):
    """Write g J to `out` (M, P, 3): gradients by `vectors` from `gradients` g by the lines from `begin` on."""
    scalars, shifts = constants[:2]
    lists, work = _room(vectors, first, atoms, len(places), constants)
    ends, which, all_of, _ = lists
    radial, numbers = work[:2]
    ones, scale, eta = numbers[4], scalars[0], scalars[2]
    near = np.zeros((len(out), 4, all_of.shape[1]), vectors.dtype)
    for row in range(len(atoms)):
        i, base, count = atoms[row], (begin + row) * line, first[atoms[row] + 1] - first[atoms[row]]
        _list(vectors, first[i], first[i + 1], other, species, scalars, lists)
        _radial_slopes(count, all_of, eta, shifts, radial)
        for member in range(len(out)):
            for e in range(len(places)):
                factors = ones, ones, radial[0], radial[2]
                start, stop, at = ends[0, e], ends[0, e + 1], base + radial_places[e]
                into = numbers[5], numbers[6], numbers[7]
                contract(gradients[member], at, *factors, start, stop, *into, scalars[:1], shifts)
            for n in range(count):
                slope = scale * (all_of[5, n] * numbers[5, n] + all_of[4, n] * numbers[6, n])
                for axis in range(3):
                    out[member, which[0, n], axis] = slope * all_of[axis, n]
        near[:] = vectors.dtype.type(0.0)
        _angular(np.bool_(False), base, lists, places, constants, work, gradients, near)
        for member in range(len(out)):
            for n in range(ends[1, len(places)]):
                for axis in range(3):
                    out[member, which[0, which[1, n]], axis] += scale * near[member, axis, n]


@njit(**OPTIONS, **INNER)
def _radial_slopes(count, all_of, eta, shifts, radial):  # type: ignore[no-untyped-def]
    """Compute Gaussians of the distances from the shifts (0), these distances (1) and the derivatives (2)."""
    _radial(count, all_of, eta, shifts, radial)
    real = radial.dtype.type
    for u in range(count * len(shifts)):
        radial[2, u] = real(-2.0) * eta * radial[1, u] * radial[0, u]


@njit(**OPTIONS, **INNER)
def _moved(count, all_of, which, directions, scale, moved):  # type: ignore[no-untyped-def]
    """Compute changes of the vectors to neighbours over their lengths (0, 1, 2) and of the lengths (3), Angstrom."""
    for n in range(count):
        p, inverse = which[0, n], scale * all_of[6, n]
        x, y, z = directions[p, 0], directions[p, 1], directions[p, 2]
        moved[3, n] = scale * (x * all_of[0, n] + y * all_of[1, n] + z * all_of[2, n])
        moved[0, n], moved[1, n], moved[2, n] = x * inverse, y * inverse, z * inverse
