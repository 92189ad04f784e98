"""The network and its derivatives on CPUs, compiled by numba. Import this module only where it is used.

`CHUNK` points at a time go through all layers forward and back, so that intermediate results stay in the processor's
cache. Matrices over (points, columns) are stored in panels of as many columns as two vector registers hold, panel by
panel, then row by row; columns beyond the network's width are zero. A matrix product keeps a tile of `ROWS` rows of
one panel in registers.
"""

from __future__ import annotations

import math
from typing import Any

import llvmlite.binding  # type: ignore[import-untyped]
import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic, overload

from fusion.compilation import INNER, njit

CHUNK = 48
"""Number of points processed at a time; a multiple of ROWS."""
_WIDE = bool(llvmlite.binding.get_host_cpu_features().get("avx512f", False))
ROWS = 12 if _WIDE else 6
_OPTIONS: dict[str, Any] = {"nogil": True, "cache": True, "error_model": "numpy"}
_EXACT = {"contract"}
_FREE = {"contract", "reassoc", "nsz", "arcp"}  # without nnan and ninf: numbers that are not finite must stay so
_INT = ir.IntType(64)


def panel(size: int) -> int:
    """Number of columns of a panel, for numbers of `size` bytes."""
    return (128 if _WIDE else 64) // size


@intrinsic
def _tile(context, out, at_out, bias, at_bias, left, at_left, step, right, at_right, panels):  # type: ignore[no-untyped-def]
    """out (ROWS, panel) = bias + left @ right; `left` in `panels` panels `step` apart, `right` in their rows."""
    i = types.int64
    signature = types.void(out, i, bias, i, left, i, i, right, i, i)

    def generate(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        size = out.dtype.bitwidth // 8
        width, lanes = panel(size), panel(size) // 2
        vector = ir.VectorType(context.get_value_type(out.dtype), lanes)
        data = {n: context.make_array(signature.args[n])(context, builder, values[n]).data for n in (0, 2, 4, 7)}
        zeros = ir.Constant(ir.VectorType(ir.IntType(32), lanes), [0] * lanes)

        def at(array: int, place: Any, offset: int) -> Any:
            return builder.gep(data[array], [builder.add(place, ir.Constant(_INT, offset))])

        def load(array: int, place: Any, offset: int) -> Any:
            return builder.load(builder.bitcast(at(array, place, offset), vector.as_pointer()), align=size)

        def splat(value: Any) -> Any:
            undefined = ir.Constant(vector, ir.Undefined)
            single = builder.insert_element(undefined, value, ir.Constant(ir.IntType(32), 0))
            return builder.shuffle_vector(single, undefined, zeros)

        sums = [[cgutils.alloca_once(builder, vector) for _ in (0, 1)] for _ in range(ROWS)]
        for row in sums:
            for half, total in enumerate(row):
                builder.store(load(2, values[3], half * lanes), total)
        with cgutils.for_range(builder, values[9]) as outer:
            of_left = builder.add(values[5], builder.mul(outer.index, values[6]))
            of_right = builder.add(values[8], builder.mul(outer.index, ir.Constant(_INT, width * width)))
            with cgutils.for_range(builder, ir.Constant(_INT, width)) as inner:
                line = builder.add(of_right, builder.mul(inner.index, ir.Constant(_INT, width)))
                column = builder.add(of_left, inner.index)
                halves = [load(7, line, half * lanes) for half in (0, 1)]
                for number, row in enumerate(sums):
                    factor = splat(builder.load(at(4, column, number * width)))
                    for half, total in zip(halves, row, strict=True):
                        product = builder.fmul(factor, half, flags=("contract",))
                        builder.store(builder.fadd(builder.load(total), product, flags=("contract",)), total)
        for number, row in enumerate(sums):
            for half, total in enumerate(row):
                place = builder.bitcast(at(0, values[1], number * width + half * lanes), vector.as_pointer())
                builder.store(builder.load(total), place, align=size)
        return context.get_dummy_value()

    return signature, generate


@intrinsic
def _times_power_of_two(context, x, shifted):  # type: ignore[no-untyped-def]
    """x 2^n, where the last bits of `shifted` are the integer n."""

    def generate(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        integer, mantissa = (ir.IntType(32), 23) if x == types.float32 else (ir.IntType(64), 52)
        bits, n = (builder.bitcast(value, integer) for value in values)
        return builder.bitcast(builder.add(bits, builder.shl(n, ir.Constant(integer, mantissa))), values[0].type)

    return x(x, shifted), generate


def _exp(x: Any) -> Any:
    """exp(x) for x <= 0, accurate to rounding; exp(-87) for all smaller x."""


@overload(_exp, jit_options={"fastmath": _EXACT})  # a sum in another order would lose the rounding
def _compiled_exp(x: Any) -> Any:
    single = x == types.float32
    terms = tuple(1.0 / math.factorial(n) for n in range(7 if single else 13, -1, -1))
    # Added to a small number, it leaves the nearest integer in the last bits.
    magic = 1.5 * 2.0 ** (23 if single else 52)
    high, low = (0.693145751953125, 1.4286068203094173e-06) if single else (0.6931471803691238, 1.9082149292705877e-10)

    def implementation(x: Any) -> Any:
        real = type(x)
        x = real(-87.0) if x < real(-87.0) else x
        shifted = x * real(1.4426950408889634) + real(magic)
        n = shifted - real(magic)
        r = (x - n * real(high)) - n * real(low)
        p = real(terms[0])
        for place in range(1, len(terms)):
            p = p * r + real(terms[place])
        return _times_power_of_two(p, shifted)

    return implementation


@njit(fastmath=_EXACT, **_OPTIONS, **INNER)
def _product(out, bias, left, right, rows):  # type: ignore[no-untyped-def]
    """out = bias + left @ right for out (panels of it, CHUNK, panel), bias (panels of it, panel), right in panels."""
    outs, chunk, width = out.shape
    ins = left.shape[0]
    out_, bias_, left_, right_ = out.reshape(-1), bias.reshape(-1), left.reshape(-1), right.reshape(-1)
    for column in range(outs):
        for row in range(0, rows, ROWS):
            to, of = (column * chunk + row) * width, row * width
            _tile(out_, to, bias_, column * width, left_, of, chunk * width, right_, column * ins * width * width, ins)


@njit(fastmath=_FREE, **_OPTIONS, **INNER)
def _tanh(h, rows):  # type: ignore[no-untyped-def]
    """h <- tanh(h)."""
    real = h.dtype.type
    for column in range(h.shape[0]):
        for row in range(rows):
            for k in range(h.shape[2]):
                x = h[column, row, k]
                e = _exp(real(-2.0) * abs(x))
                t = (real(1.0) - e) / (real(1.0) + e)
                h[column, row, k] = t if x > real(0.0) else -t


@njit(fastmath=_FREE, **_OPTIONS, **INNER)
def _norm_and_elu(x, width, epsilon, scale, shift, normed, inverse, h, rows):  # type: ignore[no-untyped-def]
    """h = ELU(scale normed + shift), normed = (x - mean) inverse over the first `width` columns of x."""
    real = x.dtype.type
    panels, _, columns = x.shape
    of_width = real(1.0) / real(width)
    empty = real(panels * columns - width)
    for row in range(rows):
        total = real(0.0)
        for column in range(panels):
            for k in range(columns):
                total += x[column, row, k]
        mean = total * of_width
        total = -empty * mean * mean  # contribution of the padding columns
        for column in range(panels):
            for k in range(columns):
                difference = x[column, row, k] - mean
                total += difference * difference
        by = real(1.0) / math.sqrt(total * of_width + real(epsilon))
        inverse[row] = by
        for column in range(panels):
            for k in range(columns):
                n = (x[column, row, k] - mean) * by
                y = n * scale[column, k] + shift[column, k]
                normed[column, row, k] = n
                h[column, row, k] = _exp(min(y, real(0.0))) - real(1.0) if y < real(0.0) else y


@njit(fastmath=_FREE, **_OPTIONS, **INNER)
def _norm_and_elu_back(gradient, width, scale, normed, inverse, h, rows):  # type: ignore[no-untyped-def]
    """gradient by h <- gradient by x, for `_norm_and_elu`."""
    real = gradient.dtype.type
    panels, _, columns = gradient.shape
    of_width = real(1.0) / real(width)
    for row in range(rows):
        total, projected = real(0.0), real(0.0)
        for column in range(panels):
            for k in range(columns):
                g = gradient[column, row, k] * (min(h[column, row, k], real(0.0)) + real(1.0)) * scale[column, k]
                gradient[column, row, k] = g
                total += g
                projected += g * normed[column, row, k]
        total *= of_width
        projected *= of_width
        by = inverse[row]
        for column in range(panels):
            for k in range(columns):
                g = gradient[column, row, k] - total - normed[column, row, k] * projected
                gradient[column, row, k] = g * by


@njit(fastmath=_FREE, **_OPTIONS, **INNER)
def _factors(h, weight, bias, energies, start, factors, gradient, rows):  # type: ignore[no-untyped-def]
    """Compute the factors of the points from `start` on, and the gradient of sum_k factor_k energy_k by h."""
    panels, _, columns = h.shape
    for row in range(rows):
        z0, z1, z2 = bias[0], bias[1], bias[2]
        for column in range(panels):
            for k in range(columns):
                x = h[column, row, k]
                z0 += x * weight[0, column, k]
                z1 += x * weight[1, column, k]
                z2 += x * weight[2, column, k]
        c = (
            _slope(z0, 0, energies, factors, start + row),
            _slope(z1, 1, energies, factors, start + row),
            _slope(z2, 2, energies, factors, start + row),
        )
        for column in range(panels):
            for k in range(columns):
                w0, w1, w2 = weight[0, column, k], weight[1, column, k], weight[2, column, k]
                gradient[column, row, k] = c[0] * w0 + c[1] * w1 + c[2] * w2


@njit(fastmath=_FREE, **_OPTIONS, **INNER)
def _slope(z, k, energies, factors, point):  # type: ignore[no-untyped-def]
    """Store the factor f = 2 sigmoid(z / 2) and return energy df/dz."""
    real = factors.dtype.type
    e = _exp(real(-0.5) * abs(z))
    s = real(1.0) / (real(1.0) + e)
    f = real(2.0) * (s if z > real(0.0) else e * s)
    factors[point, k] = f
    return energies[point, k] * f * (real(0.5) - real(0.25) * f)


@njit(**_OPTIONS)
def in_panels(weights, right, back):  # type: ignore[no-untyped-def]
    """Arrange weights (B, out, in) as right sides of products: transposed into `right`, unchanged into `back`.

    Both are (B, panels of columns, rows, panel), padded with zeros.
    """
    columns = right.shape[3]
    for b in range(weights.shape[0]):
        for n in range(weights.shape[1]):
            for k in range(weights.shape[2]):
                right[b, n // columns, k, n % columns] = weights[b, n, k]
                back[b, k // columns, n, k % columns] = weights[b, n, k]


@njit(fastmath=_EXACT, **_OPTIONS)
def network(inputs, energies, first, blocks, last, width, epsilon, factors, slopes):  # type: ignore[no-untyped-def]
    """Compute factors (G, 3) of the `inputs` (G, 11) and `slopes` (G, 11) of sum_k factor_k energy_k.

    `first` = (weight, its transpose, bias), `last` = (weight (3, panels, panel), bias), `blocks` = (weights,
    transposes, biases, scales, shifts) with the blocks as the first index; square ones with one added to the diagonal.
    """
    depth, panels = blocks[2].shape[:2]
    columns = blocks[2].shape[2]
    ins = first[0].shape[1] // columns
    x = np.zeros((ins, CHUNK, columns), inputs.dtype)
    h = np.empty((depth + 1, panels, CHUNK, columns), inputs.dtype)
    normed = np.empty((depth, panels, CHUNK, columns), inputs.dtype)
    inverse = np.empty((depth, CHUNK), inputs.dtype)
    work, gradient = np.empty_like(h[0]), np.empty_like(h[0])
    zeros = np.zeros((max(ins, panels), columns), inputs.dtype)
    for begin in range(0, len(inputs), CHUNK):
        points = min(CHUNK, len(inputs) - begin)
        rows = (points + ROWS - 1) // ROWS * ROWS
        for row in range(points):
            for k in range(inputs.shape[1]):
                x[k // columns, row, k % columns] = inputs[begin + row, k]
        _product(h[0], first[2], x, first[0], rows)
        _tanh(h[0], rows)
        for b in range(depth):
            _product(work, blocks[2][b], h[b], blocks[0][b], rows)
            _norm_and_elu(work, width, epsilon, blocks[3][b], blocks[4][b], normed[b], inverse[b], h[b + 1], rows)
        _factors(h[depth], last[0], last[1], energies, begin, factors, gradient, points)
        gradient[:, points:rows] = 0.0
        for b in range(depth - 1, -1, -1):
            _norm_and_elu_back(gradient, width, blocks[3][b], normed[b], inverse[b], h[b + 1], rows)
            _product(work, zeros, gradient, blocks[1][b], rows)
            work, gradient = gradient, work
        for column in range(panels):
            for row in range(rows):
                for k in range(columns):
                    t = h[0, column, row, k]
                    gradient[column, row, k] *= inputs.dtype.type(1.0) - t * t
        _product(x, zeros, gradient, first[1], rows)
        for row in range(points):
            for k in range(inputs.shape[1]):
                slopes[begin + row, k] = x[k // columns, row, k % columns]
