"""Environment vectors and their gradients on CPUs, compiled by numba. Import this module only where it is used.

The formulas are those of `fusion_ani.aev`. A centre's neighbours and triples are listed, by element, in short arrays.
Every loop runs over contiguous numbers, so that the compiler vectorises it, and no array is as long as the list of all
triples. `constants` holds tuples, so that their lengths are fixed when the kernels are compiled.
"""

from __future__ import annotations

import math

import numpy as np

from fusion.compilation import INNER, njit
from fusion_ani.aev import COSINE_FACTOR, RADIAL_FACTOR
from fusion_ani.simd import OPTIONS, combine, contract, cosine, exp, log, outer, sine

TRIPLES = 256
"""Number of triples that are processed at once."""
_VECTOR = 16  # a multiple of the vector length of processors


@njit(**OPTIONS)
def near(vectors, first, other, species, scale, cutoff):  # type: ignore[no-untyped-def]
    """Integer (N,) for each centre, whose bits mark the `species` of its neighbours within `cutoff`."""
    result = np.zeros(len(first) - 1, np.int64)
    limit = (cutoff / scale) ** 2
    for i in range(len(first) - 1):
        for p in range(first[i], first[i + 1]):
            x, y, z = vectors[p, 0], vectors[p, 1], vectors[p, 2]
            if x * x + y * y + z * z <= limit:
                result[i] |= 1 << species[other[p]]
    return result


@njit(**OPTIONS, **INNER)
def _padded(count):  # type: ignore[no-untyped-def]
    return (count + _VECTOR - 1) // _VECTOR * _VECTOR


@njit(**OPTIONS, **INNER)
def _room(vectors, first, atoms, elements, constants):  # type: ignore[no-untyped-def]
    """Allocate arrays for the neighbours of one of `atoms`, for triples, for runs of triples, and for their factors."""
    _, radial_shifts, shifts, angles = constants
    most = 0
    for i in atoms:
        most = max(most, first[i + 1] - first[i])
    most = _padded(most)
    triples = _padded(TRIPLES + most)
    real = vectors.dtype
    begin, which = np.empty((2, elements + 2), np.int64), np.empty((2, most), np.int64)
    lists = begin, which, np.zeros((7, most), real), np.zeros((10, most), real)
    numbers, indices = np.ones((8, triples), real), np.zeros((2, triples), np.int32)
    runs = np.empty((2, elements * (elements + 1) // 2 + 2), np.int64)
    turned, lengths = np.zeros((3, triples * len(angles[0])), real), np.zeros((3, triples * len(shifts)), real)
    return lists, (np.zeros((3, most * len(radial_shifts)), real), numbers, indices, runs, turned, lengths)


@njit(**OPTIONS, **INNER)
def _list(vectors, start, stop, other, species, numbers, lists):  # type: ignore[no-untyped-def]
    """List the neighbours start..stop by element: element e has `begin[row, e]` up to `begin[row, e + 1]`.

    Row 0 holds all neighbours, row 1 those within the angular cutoff. Columns of a neighbour: unit vector (0, 1, 2),
    length (3), switching function (4) and its derivative (5), inverse length (6).
    """
    begin, which, all_of, close = lists
    real = all_of.dtype.type
    scale, radial_cutoff, _, cutoff = numbers[:4]
    elements = begin.shape[1] - 2
    begin[:] = 0
    for p in range(start, stop):
        begin[0, species[other[p]] + 2] += 1
    for element in range(elements):
        begin[0, element + 2] += begin[0, element + 1]
    for p in range(start, stop):
        element = species[other[p]]
        n = begin[0, element + 1]
        begin[0, element + 1] += 1
        which[0, n] = p
        all_of[0, n], all_of[1, n], all_of[2, n] = vectors[p, 0], vectors[p, 1], vectors[p, 2]
    count = stop - start
    all_of[:3, count : _padded(count)] = real(1.0)
    for n in range(_padded(count)):
        x, y, z = all_of[0, n] * scale, all_of[1, n] * scale, all_of[2, n] * scale
        r = math.sqrt(x * x + y * y + z * z)
        inverse = real(1.0) / r
        all_of[0, n], all_of[1, n], all_of[2, n], all_of[3, n] = x * inverse, y * inverse, z * inverse, r
        turn = r / radial_cutoff - real(0.5)
        inside = r <= radial_cutoff
        all_of[4, n] = real(RADIAL_FACTOR * 0.5) * (real(1.0) - sine(turn)) if inside else real(0.0)
        slope = real(-RADIAL_FACTOR * 0.5 * math.pi) / radial_cutoff * cosine(turn)
        all_of[5, n] = slope if inside else real(0.0)
        all_of[6, n] = inverse
    count = 0
    for element in range(elements):
        for n in range(begin[0, element], begin[0, element + 1]):
            if all_of[3, n] <= cutoff:
                which[1, count] = n
                for axis in range(4):
                    close[axis, count] = all_of[axis, n]
                close[6, count] = all_of[6, n]
                count += 1
        begin[1, element + 1] = count
    for n in range(_padded(count)):
        turn = close[3, n] / cutoff - real(0.5)
        close[4, n] = real(0.5) - real(0.5) * sine(turn)
        close[5, n] = real(-0.5 * math.pi) / cutoff * cosine(turn)


@njit(**OPTIONS, **INNER)
def _radial(count, all_of, eta, shifts, radial):  # type: ignore[no-untyped-def]
    """Compute distances from the shifts (row 1) and their Gaussians (row 0), both [n, s]."""
    real = radial.dtype.type
    for n in range(count):
        combine(radial[1], n * len(shifts), all_of[3, n], real(-1.0), shifts, real(0.0), shifts)
    for u in range(count * len(shifts)):
        away = radial[1, u]
        radial[0, u] = exp(-eta * away * away)


@njit(**OPTIONS, **INNER)
def _triples(j, start, stop, close, numbers, indices, listed):  # type: ignore[no-untyped-def]
    """Append triples of neighbours j and k: cosine (0), mean length (1) and product of switching functions (2)."""
    real = numbers.dtype.type
    x, y, z = close[0, j] * real(COSINE_FACTOR), close[1, j] * real(COSINE_FACTOR), close[2, j] * real(COSINE_FACTOR)
    r, switch = real(0.5) * close[3, j], real(2.0) * close[4, j]
    for k in range(start, stop):
        t = listed + k - start
        numbers[0, t] = x * close[0, k] + y * close[1, k] + z * close[2, k]
        numbers[1, t] = r + real(0.5) * close[3, k]
        numbers[2, t] = switch * close[4, k]
        indices[0, t], indices[1, t] = j, k
    return listed + stop - start


@njit(**OPTIONS, **INNER)
def _factors(listed, numbers, turned, lengths, zeta, eta, shifts, angles):  # type: ignore[no-untyped-def]
    """Compute the factors of `listed` triples: angular ones, turned[0] [t, z], and radial ones, lengths[0] [t, s].

    Rows 1 hold their arguments: (1 + cos(theta - t)) / 2 and the distance from the shift.
    """
    real = numbers.dtype.type
    cosines, sines = angles
    padded = _padded(listed)
    for t in range(listed, padded):
        numbers[0, t] = numbers[1, t] = real(0.0)
    for t in range(padded):
        numbers[3, t] = math.sqrt(real(1.0) - numbers[0, t] * numbers[0, t])
    for t in range(padded):
        combine(turned[1], t * len(cosines), real(0.5), numbers[0, t], cosines, numbers[3, t], sines)
        combine(lengths[1], t * len(shifts), numbers[1, t], real(-1.0), shifts, real(0.0), shifts)
    for u in range(padded * len(cosines)):
        turn = max(turned[1, u], real(1e-30))
        turned[1, u] = turn
        turned[0, u] = exp(zeta * log(turn))
    for u in range(padded * len(shifts)):
        away = lengths[1, u]
        lengths[0, u] = exp(-eta * away * away)


@njit(**OPTIONS, **INNER)
def _slopes(listed, numbers, turned, lengths, zeta, eta, shifts, angles):  # type: ignore[no-untyped-def]
    """Compute the derivatives of the factors, rows 2, by the cosine and by the mean length."""
    real = numbers.dtype.type
    cosines, sines = angles
    for t in range(listed):
        slant = -numbers[0, t] / numbers[3, t]
        combine(turned[2], t * len(cosines), real(0.0), real(1.0), cosines, slant, sines)
    for u in range(listed * len(cosines)):
        turned[2, u] *= turned[0, u] * zeta / turned[1, u]
    for u in range(listed * len(shifts)):
        lengths[2, u] = real(-2.0) * eta * lengths[1, u] * lengths[0, u]


@njit(**OPTIONS, **INNER)
def _push(listed, numbers, indices, close):  # type: ignore[no-untyped-def]
    """Add the triples' gradients by the vectors of their two neighbours to rows 7 to 9 of `close`."""
    real = close.dtype.type
    for t in range(listed):
        j, k = indices[0, t], indices[1, t]
        along = real(0.5) * numbers[2, t] * numbers[7, t]
        turn = real(COSINE_FACTOR) * numbers[2, t] * numbers[6, t]
        dot = numbers[0, t] / real(COSINE_FACTOR)
        turn_j, turn_k = turn * close[6, j], turn * close[6, k]
        along_j = along + real(2.0) * close[5, j] * close[4, k] * numbers[5, t] - turn_j * dot
        along_k = along + real(2.0) * close[4, j] * close[5, k] * numbers[5, t] - turn_k * dot
        for axis in range(3):
            unit_j, unit_k = close[axis, j], close[axis, k]
            close[7 + axis, j] += along_j * unit_j + turn_j * unit_k
            close[7 + axis, k] += along_k * unit_k + turn_k * unit_j


@njit(**OPTIONS, **INNER)
def _angular(backward, base, lists, places, constants, work, values):  # type: ignore[no-untyped-def]
    """Add the angular part of a centre's line to `values`, or push its gradient, `values`, back to its neighbours."""
    scalars, _, shifts, angles = constants
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
                    _finish(backward, np.int64(run + 1), close, scalars, shifts, angles, work, values)
                    runs[0, 0], runs[1, 0] = base + places[e, f], 0
                    listed = run = 0
            if listed > runs[1, run]:
                run += 1
    if listed:
        runs[1, run] = listed
        _finish(backward, np.int64(run), close, scalars, shifts, angles, work, values)


@njit(**OPTIONS, **INNER)
def _finish(backward, count, close, scalars, shifts, angles, work, values):  # type: ignore[no-untyped-def]
    """Process the listed triples: `count` runs, each with one place in `values`."""
    _, numbers, indices, runs, turned, lengths = work
    listed = runs[1, count]
    _factors(listed, numbers, turned, lengths, scalars[5], scalars[4], shifts, angles)
    if not backward:
        for run in range(count):
            start, stop = runs[1, run], runs[1, run + 1]
            outer(values, runs[0, run], numbers[2], lengths[0], turned[0], start, stop, shifts, angles[0])
        return
    _slopes(listed, numbers, turned, lengths, scalars[5], scalars[4], shifts, angles)
    for run in range(count):
        start, stop = runs[1, run], runs[1, run + 1]
        factors = lengths[0], lengths[2], turned[0], turned[2]
        contract(values, runs[0, run], *factors, start, stop, numbers[5], numbers[6], numbers[7], shifts, angles[0])
    _push(listed, numbers, indices, close)


@njit(**OPTIONS)
def forward(  # type: ignore[no-untyped-def]
    vectors, first, other, species, atoms, constants, radial_places, places, out, line
):
    """Add the vectors of the centres `atoms` to lines of `out`, each `line` long, from `radial_places` and `places` on.

    `constants`: length of one unit of `vectors` in Angstrom, radial cutoff and eta, angular cutoff, eta and zeta;
    radial shifts; angular shifts; halves of the cosines and of the sines of the angle shifts.
    """
    scalars, shifts = constants[:2]
    lists, work = _room(vectors, first, atoms, len(places), constants)
    begin, all_of, radial, ones = lists[0], lists[2], work[0], work[1][4]
    for row in range(len(atoms)):
        i, base = atoms[row], row * line
        _list(vectors, first[i], first[i + 1], other, species, scalars, lists)
        _radial(first[i + 1] - first[i], all_of, scalars[2], shifts, radial)
        for e in range(len(places)):
            start, stop = begin[0, e], begin[0, e + 1]
            outer(out, base + radial_places[e], all_of[4], ones, radial[0], start, stop, scalars[:1], shifts)
        _angular(np.bool_(False), base, lists, places, constants, work, out)


@njit(**OPTIONS)
def backward(  # type: ignore[no-untyped-def]
    vectors, first, other, species, atoms, constants, radial_places, places, gradient, line, out
):
    """Write to `out` (P, 3) the gradient by `vectors` of a function with `gradient` by the environment vectors."""
    real = vectors.dtype.type
    scalars, shifts = constants[:2]
    lists, work = _room(vectors, first, atoms, len(places), constants)
    begin, which, all_of, close = lists
    radial, numbers = work[:2]
    ones, scale, eta = numbers[4], scalars[0], scalars[2]
    for row in range(len(atoms)):
        i, base, count = atoms[row], row * line, first[atoms[row] + 1] - first[atoms[row]]
        _list(vectors, first[i], first[i + 1], other, species, scalars, lists)
        _radial(count, all_of, eta, shifts, radial)
        for u in range(count * len(shifts)):
            radial[2, u] = real(-2.0) * eta * radial[1, u] * radial[0, u]
        for e in range(len(places)):
            start, stop = begin[0, e], begin[0, e + 1]
            factors = ones, ones, radial[0], radial[2]
            at = base + radial_places[e]
            contract(gradient, at, *factors, start, stop, numbers[5], numbers[6], numbers[7], scalars[:1], shifts)
        for n in range(count):
            slope = scale * (all_of[5, n] * numbers[5, n] + all_of[4, n] * numbers[6, n])
            p = which[0, n]
            out[p, 0], out[p, 1], out[p, 2] = slope * all_of[0, n], slope * all_of[1, n], slope * all_of[2, n]
        close[7:, : begin[1, len(places)]] = real(0.0)
        _angular(np.bool_(True), base, lists, places, constants, work, gradient)
        for n in range(begin[1, len(places)]):
            p = which[0, which[1, n]]
            for axis in range(3):
                out[p, axis] += scale * close[7 + axis, n]
