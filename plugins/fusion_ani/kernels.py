"""Environment vectors and their gradients on CPUs, compiled by numba. Imported only where they are used.

The formulas are those of `fusion_ani.aev`. A centre's triples of one pair of elements are gathered in short columns
(`COLUMNS`), so that every loop runs over contiguous numbers and the compiler vectorises it; nothing of the size of the
list of triples is ever stored. A centre owns its row and its pairs: ranges of centres may run in threads.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from llvmlite import ir  # type: ignore[import-untyped]
from numba import njit, types
from numba.extending import intrinsic

from fusion_ani.aev import COSINE_FACTOR, RADIAL_FACTOR

COLUMNS = 16
# Without nnan and ninf: what is not finite must stay so.
_OPTIONS: dict[str, Any] = {
    "nogil": True,
    "cache": True,
    "fastmath": {"reassoc", "contract", "nsz", "arcp", "afn"},
    "error_model": "numpy",
}
_LAYOUT = {types.float64: (ir.IntType(64), 52, 1023), types.float32: (ir.IntType(32), 23, 127)}


@intrinsic
def _floor(context: Any, x: Any) -> Any:
    """Largest integer below, as a floating-point number, in one vector instruction."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        function = builder.module.declare_intrinsic("llvm.floor", [arguments[0].type])
        return builder.call(function, arguments)

    return x(x), generate


@intrinsic
def _power_of_two(context: Any, n: Any) -> Any:
    """2^n of a floating-point integer, by its bits."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        integer, mantissa, bias = _LAYOUT[n]
        shifted = builder.add(builder.fptosi(arguments[0], integer), ir.Constant(integer, bias))
        return builder.bitcast(builder.shl(shifted, ir.Constant(integer, mantissa)), arguments[0].type)

    return n(n), generate


@intrinsic
def _exponent(context: Any, x: Any) -> Any:
    """The integer n with 2^n <= x < 2^(n + 1), as a floating-point number, by the bits."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        integer, mantissa, bias = _LAYOUT[x]
        bits = builder.lshr(builder.bitcast(arguments[0], integer), ir.Constant(integer, mantissa))
        return builder.sitofp(builder.sub(bits, ir.Constant(integer, bias)), arguments[0].type)

    return x(x), generate


@njit(**_OPTIONS)
def _exp(x: Any) -> Any:
    """exp(x) for x <= 0 to rounding; what is below exp(-87) counts as that."""
    real = type(x)
    x = real(-87.0) if x < real(-87.0) else x
    n = _floor(x * real(1.4426950408889634) + real(0.5))
    r = (x - n * real(0.693145751953125)) - n * real(1.4286068203094173e-06)
    p = real(1.0 / 6227020800.0)
    p = p * r + real(1.0 / 479001600.0)
    p = p * r + real(1.0 / 39916800.0)
    p = p * r + real(1.0 / 3628800.0)
    p = p * r + real(1.0 / 362880.0)
    p = p * r + real(1.0 / 40320.0)
    p = p * r + real(1.0 / 5040.0)
    p = p * r + real(1.0 / 720.0)
    p = p * r + real(1.0 / 120.0)
    p = p * r + real(1.0 / 24.0)
    p = p * r + real(1.0 / 6.0)
    p = p * r + real(0.5)
    p = (p * r + real(1.0)) * r + real(1.0)
    return p * _power_of_two(n)


@njit(**_OPTIONS)
def _log(x: Any) -> Any:
    """log(x) for x > 0 to rounding: 2 artanh((m - 1) / (m + 1)) of the mantissa, m within sqrt(2) of one."""
    real = type(x)
    n = _exponent(x * real(1.4142135623730951))
    m = x * _power_of_two(-n)
    s = (m - real(1.0)) / (m + real(1.0))
    q = s * s
    p = real(2.0 / 21.0)
    p = p * q + real(2.0 / 19.0)
    p = p * q + real(2.0 / 17.0)
    p = p * q + real(2.0 / 15.0)
    p = p * q + real(2.0 / 13.0)
    p = p * q + real(2.0 / 11.0)
    p = p * q + real(2.0 / 9.0)
    p = p * q + real(2.0 / 7.0)
    p = p * q + real(2.0 / 5.0)
    p = p * q + real(2.0 / 3.0)
    p = p * q + real(2.0)
    return p * s + n * real(0.6931471805599453)


@njit(**_OPTIONS)
def near(vectors, first, other, scale, cutoff):  # type: ignore[no-untyped-def]
    """(N,) for each centre a number whose bits are the elements `other` among neighbours within `cutoff`."""
    result = np.zeros(len(first) - 1, np.int64)
    for i in range(len(first) - 1):
        for p in range(first[i], first[i + 1]):
            x, y, z = vectors[p, 0] * scale, vectors[p, 1] * scale, vectors[p, 2] * scale
            if x * x + y * y + z * z <= cutoff * cutoff:
                result[i] |= 1 << other[p]
    return result


@njit(**_OPTIONS)
def _most(first, start, stop):  # type: ignore[no-untyped-def]
    most = 0
    for i in range(start, stop):
        most = max(most, first[i + 1] - first[i])
    return most


@njit(**_OPTIONS)
def _sort(vectors, scale, start, stop, other, cutoff, begin, pair, near):  # type: ignore[no-untyped-def]
    """Pairs start..stop within `cutoff`, sorted by element: those of e are columns begin[e + 1]..begin[e + 2].

    `near` gets rows: unit vector (0, 1, 2), length (3), switching function (4) and its derivative (5).
    """
    real = near.dtype.type
    elements = len(begin) - 2
    begin[:] = 0
    for p in range(start, stop):
        x, y, z = vectors[p, 0] * scale, vectors[p, 1] * scale, vectors[p, 2] * scale
        if x * x + y * y + z * z <= cutoff * cutoff:
            begin[other[p] + 1] += 1
    for element in range(elements + 1):
        begin[element + 1] += begin[element]
    for p in range(stop - 1, start - 1, -1):
        x, y, z = vectors[p, 0] * scale, vectors[p, 1] * scale, vectors[p, 2] * scale
        square = x * x + y * y + z * z
        if square <= cutoff * cutoff:
            begin[other[p] + 1] -= 1
            slot = begin[other[p] + 1]
            r = math.sqrt(square)
            angle = r * real(math.pi) / cutoff
            pair[slot] = p
            near[0, slot], near[1, slot], near[2, slot], near[3, slot] = x / r, y / r, z / r, r
            near[4, slot] = real(0.5) * math.cos(angle) + real(0.5)
            near[5, slot] = real(-0.5 * math.pi) / cutoff * math.sin(angle)


@njit(**_OPTIONS)
def _factors(cosine, mean, zeta, cosines, sines, eta, shifts, angle, d_angle, length, d_length):  # type: ignore[no-untyped-def]
    """Angular (z, t) and length (s, t) factors of the columns' triples, with derivatives by the cosine and the mean."""
    real = cosine.dtype.type
    for z in range(len(cosines)):
        for t in range(COLUMNS):
            c = cosine[t]
            sine = math.sqrt(real(1.0) - c * c)
            x = real(0.5) + real(0.5) * (c * cosines[z] + sine * sines[z])
            x = real(1e-30) if x < real(1e-30) else x
            value = _exp(zeta * _log(x))
            angle[z, t] = value
            d_angle[z, t] = zeta * value / x * real(0.5) * (cosines[z] - c / sine * sines[z])
    for s in range(len(shifts)):
        for t in range(COLUMNS):
            away = mean[t] - shifts[s]
            value = _exp(-eta * away * away)
            length[s, t] = value
            d_length[s, t] = real(-2.0) * eta * away * value


@njit(**_OPTIONS)
def forward(  # type: ignore[no-untyped-def]
    vectors, first, other, row, start, stop, elements, numbers, radial_shifts, shifts, cosines, sines, out
):
    """Write the vectors of centres start..stop to rows `row` of `out` (N, F), which is zero there.

    `numbers`: length of one unit of `vectors` in Angstrom, radial cutoff and eta, angular cutoff, eta and zeta.
    """
    real = vectors.dtype.type
    scale, radial_cutoff, radial_eta, cutoff, eta, zeta = numbers
    most = _most(first, start, stop)
    begin, pair, near = np.empty(elements + 2, np.int64), np.empty(most, np.int64), np.empty((6, most), real)
    cosine, mean, weight = np.zeros(COLUMNS, real), np.zeros(COLUMNS, real), np.zeros(COLUMNS, real)
    angle, d_angle = np.empty((len(cosines), COLUMNS), real), np.empty((len(cosines), COLUMNS), real)
    length, d_length = np.empty((len(shifts), COLUMNS), real), np.empty((len(shifts), COLUMNS), real)
    for i in range(start, stop):
        target = out[row[i]]
        for p in range(first[i], first[i + 1]):
            x, y, z = vectors[p, 0] * scale, vectors[p, 1] * scale, vectors[p, 2] * scale
            r = math.sqrt(x * x + y * y + z * z)
            if r <= radial_cutoff:
                factor = real(RADIAL_FACTOR * 0.5) * (math.cos(r * real(math.pi) / radial_cutoff) + real(1.0))
                place = other[p] * len(radial_shifts)
                for s in range(len(radial_shifts)):
                    away = r - radial_shifts[s]
                    target[place + s] += factor * _exp(-radial_eta * away * away)
        _sort(vectors, scale, first[i], first[i + 1], other, cutoff, begin, pair, near)
        place = elements * len(radial_shifts)
        for two in range(elements):
            for one in range(two + 1):
                count = 0
                for j in range(begin[one + 1], begin[one + 2]):
                    for k in range(j + 1 if one == two else begin[two + 1], begin[two + 2]):
                        dot = near[0, j] * near[0, k] + near[1, j] * near[1, k] + near[2, j] * near[2, k]
                        cosine[count] = real(COSINE_FACTOR) * dot
                        mean[count] = real(0.5) * (near[3, j] + near[3, k])
                        weight[count] = real(2.0) * near[4, j] * near[4, k]
                        count += 1
                        if count == COLUMNS:
                            _factors(cosine, mean, zeta, cosines, sines, eta, shifts, angle, d_angle, length, d_length)
                            _add(weight, angle, length, target, place)
                            count = 0
                if count:
                    weight[count:] = real(0.0)
                    _factors(cosine, mean, zeta, cosines, sines, eta, shifts, angle, d_angle, length, d_length)
                    _add(weight, angle, length, target, place)
                place += len(shifts) * len(cosines)


@njit(**_OPTIONS)
def _add(weight, angle, length, target, place):  # type: ignore[no-untyped-def]
    for s in range(len(length)):
        for t in range(COLUMNS):
            length[s, t] *= weight[t]
        for z in range(len(angle)):
            total = weight.dtype.type(0.0)
            for t in range(COLUMNS):
                total += length[s, t] * angle[z, t]
            target[place + s * len(angle) + z] += total


@njit(**_OPTIONS)
def backward(  # type: ignore[no-untyped-def]
    vectors, first, other, row, start, stop, elements, numbers, radial_shifts, shifts, cosines, sines, gradient, out
):
    """Write to `out` (P, 3) the gradient by `vectors` of a function whose gradient by the result is `gradient`."""
    real = vectors.dtype.type
    scale, radial_cutoff, radial_eta, cutoff, eta, zeta = numbers
    most = _most(first, start, stop)
    begin, pair, near = np.empty(elements + 2, np.int64), np.empty(most, np.int64), np.empty((6, most), real)
    cosine, mean, which = np.zeros(COLUMNS, real), np.zeros(COLUMNS, real), np.empty((2, COLUMNS), np.int64)
    angle, d_angle = np.empty((len(cosines), COLUMNS), real), np.empty((len(cosines), COLUMNS), real)
    length, d_length = np.empty((len(shifts), COLUMNS), real), np.empty((len(shifts), COLUMNS), real)
    slopes, work, force = np.empty((3, COLUMNS), real), np.empty((2, COLUMNS), real), np.empty((3, most), real)
    for i in range(start, stop):
        source = gradient[row[i]]
        for p in range(first[i], first[i + 1]):
            x, y, z = vectors[p, 0] * scale, vectors[p, 1] * scale, vectors[p, 2] * scale
            r = math.sqrt(x * x + y * y + z * z)
            slope = real(0.0)
            if r <= radial_cutoff:
                angle_r = r * real(math.pi) / radial_cutoff
                factor = real(RADIAL_FACTOR * 0.5) * (math.cos(angle_r) + real(1.0))
                d_factor = real(-RADIAL_FACTOR * 0.5 * math.pi) / radial_cutoff * math.sin(angle_r)
                place = other[p] * len(radial_shifts)
                for s in range(len(radial_shifts)):
                    away = r - radial_shifts[s]
                    value = source[place + s] * _exp(-radial_eta * away * away)
                    slope += value * (d_factor - real(2.0) * radial_eta * away * factor)
            slope *= scale / r
            out[p, 0], out[p, 1], out[p, 2] = slope * x, slope * y, slope * z
        _sort(vectors, scale, first[i], first[i + 1], other, cutoff, begin, pair, near)
        force[:, : begin[elements + 1]] = real(0.0)
        place = elements * len(radial_shifts)
        for two in range(elements):
            for one in range(two + 1):
                count = 0
                for j in range(begin[one + 1], begin[one + 2]):
                    for k in range(j + 1 if one == two else begin[two + 1], begin[two + 2]):
                        dot = near[0, j] * near[0, k] + near[1, j] * near[1, k] + near[2, j] * near[2, k]
                        cosine[count] = real(COSINE_FACTOR) * dot
                        mean[count] = real(0.5) * (near[3, j] + near[3, k])
                        which[0, count], which[1, count] = j, k
                        count += 1
                        if count == COLUMNS:
                            _factors(cosine, mean, zeta, cosines, sines, eta, shifts, angle, d_angle, length, d_length)
                            _slopes(angle, d_angle, length, d_length, source, place, slopes, work)
                            _push(count, which, cosine, slopes, near, force)
                            count = 0
                if count:
                    _factors(cosine, mean, zeta, cosines, sines, eta, shifts, angle, d_angle, length, d_length)
                    _slopes(angle, d_angle, length, d_length, source, place, slopes, work)
                    _push(count, which, cosine, slopes, near, force)
                place += len(shifts) * len(cosines)
        for slot in range(begin[elements + 1]):
            p = pair[slot]
            out[p, 0] += scale * force[0, slot]
            out[p, 1] += scale * force[1, slot]
            out[p, 2] += scale * force[2, slot]


@njit(**_OPTIONS)
def _slopes(angle, d_angle, length, d_length, source, place, slopes, work):  # type: ignore[no-untyped-def]
    """The triples' sums over s, z of source * length * angle (0) and its derivatives by cosine (1) and mean (2)."""
    real = slopes.dtype.type
    for t in range(COLUMNS):
        slopes[0, t] = slopes[1, t] = slopes[2, t] = real(0.0)
    for s in range(len(length)):
        for t in range(COLUMNS):
            work[0, t] = work[1, t] = real(0.0)
        for z in range(len(angle)):
            factor = source[place + s * len(angle) + z]
            for t in range(COLUMNS):
                work[0, t] += factor * angle[z, t]
                work[1, t] += factor * d_angle[z, t]
        for t in range(COLUMNS):
            slopes[0, t] += length[s, t] * work[0, t]
            slopes[1, t] += length[s, t] * work[1, t]
            slopes[2, t] += d_length[s, t] * work[0, t]


@njit(**_OPTIONS)
def _push(count, which, cosine, slopes, near, force):  # type: ignore[no-untyped-def]
    """Add the triples' gradients by the vectors of their two neighbours."""
    real = slopes.dtype.type
    for t in range(count):
        j, k = which[0, t], which[1, t]
        both = real(2.0) * near[4, j] * near[4, k]
        along = real(0.5) * both * slopes[2, t]
        turn = real(COSINE_FACTOR) * both * slopes[1, t]
        dot = cosine[t] / real(COSINE_FACTOR)
        along_j = along + real(2.0) * near[5, j] * near[4, k] * slopes[0, t] - turn / near[3, j] * dot
        along_k = along + real(2.0) * near[4, j] * near[5, k] * slopes[0, t] - turn / near[3, k] * dot
        for axis in range(3):
            force[axis, j] += along_j * near[axis, j] + turn / near[3, j] * near[axis, k]
            force[axis, k] += along_k * near[axis, k] + turn / near[3, k] * near[axis, j]
