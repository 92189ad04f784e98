"""Matrix products in numba's kernels, by tiles written for the processor's registers.

Tiles consist of vectors of the processor's width, so that the compiler neither splits nor spills them. The sums of
`ROWS` rows times two vectors stay in registers while the right side is read in panels of that width.
"""

from __future__ import annotations

from typing import Any

import llvmlite.binding  # type: ignore[import-untyped]
import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic, overload

from fusion.compilation import INNER, njit
from fusion_ani.simd import INT, OPTIONS, Memory, fused, lane_mask, splat

_WIDE = bool(llvmlite.binding.get_host_cpu_features().get("avx512f", False))
_BYTES = 64 if _WIDE else 32
ROWS = 9 if _WIDE else 6
"""Rows of the largest tile; smaller tiles have two thirds and one third of them."""
STEP = ROWS // 3
"""Number of rows of left sides is a multiple of this."""
DEPTH, HEIGHT = 256, 252
"""Columns and rows of left sides that fit into the cache together with the right side."""


def panel(size: int) -> int:
    """Columns of a tile for numbers of `size` bytes."""
    return 2 * _BYTES // size


def _tile(rows: int, masked: bool = False) -> Any:
    """C = S + A B for `rows` rows of C and one panel of its columns; if `masked`, columns from `columns` on are kept.

    `at_` are offsets in the arrays, `ld_` the distances between lines; the columns of A are
    `step_a` apart. The rows of B come in `count` blocks of `deep`, which begin at multiples of `deep` lines.
    """

    @intrinsic
    def tile(  # type: ignore[no-untyped-def]
        context, c, at_c, ld_c, start, at_s, ld_s, a, at_a, ld_a, step_a, b, at_b, ld_b, blocks, count, deep, columns
    ):
        arrays = {0: c, 3: start, 6: a, 10: b, 13: blocks}
        signature = types.void(*(arrays.get(place, types.int64) for place in range(17)))

        def generate(context: Any, builder: Any, signature: Any, values: Any) -> Any:
            kinds = signature.args
            c, start, a, b = (Memory(context, builder, kinds[n], values[n]) for n in (0, 3, 6, 10))
            blocks = context.make_array(kinds[13])(context, builder, values[13]).data
            lanes = panel(c.size) // 2
            number = [ir.Constant(INT, n) for n in range(max(rows, lanes) + 1)]
            masks = [lane_mask(builder, values[16], half * lanes, lanes) if masked else None for half in (0, 1)]
            sums = [cgutils.alloca_once(builder, ir.VectorType(c.real, lanes)) for _ in range(2 * rows)]
            lines = [builder.add(values[7], builder.mul(values[8], number[row])) for row in range(rows)]

            def place(at: Any, line: Any, row: int, half: int) -> Any:
                return builder.add(builder.add(at, builder.mul(line, number[row])), number[half * lanes])

            for n, total in enumerate(sums):
                builder.store(start.load(place(values[4], values[5], n // 2, n % 2), lanes, masks[n % 2]), total)
            with cgutils.for_range(builder, values[14]) as outer:
                block = builder.load(builder.gep(blocks, [outer.index]))
                left = builder.mul(outer.index, values[15])
                right = builder.add(values[11], builder.mul(builder.mul(block, values[15]), values[12]))
                with cgutils.for_range(builder, values[15]) as inner:
                    line = builder.add(right, builder.mul(inner.index, values[12]))
                    halves = [b.load(builder.add(line, number[half * lanes]), lanes, masks[half]) for half in (0, 1)]
                    column = builder.mul(builder.add(left, inner.index), values[9])
                    for row in range(rows):
                        factor = splat(builder, a.scalar(builder.add(lines[row], column)), lanes)
                        for half in (0, 1):
                            total = sums[2 * row + half]
                            builder.store(fused(builder, builder.load(total), factor, halves[half]), total)
            for n, total in enumerate(sums):
                c.store(builder.load(total), place(values[1], values[2], n // 2, n % 2), masks[n % 2])
            return context.get_dummy_value()

        return signature, generate

    return tile


_third, _two_thirds, _whole = _tile(STEP), _tile(2 * STEP), _tile(ROWS)
_one, _some, _many = (_tile(rows, masked=True) for rows in (1, STEP, ROWS))


def panel_of(array: Any) -> Any:
    """Columns of a tile for an array's numbers, a compile-time constant."""


@overload(panel_of)
def _panel_of(array: Any) -> Any:
    width = panel(array.dtype.bitwidth // 8)

    def implementation(array: Any) -> Any:
        return width

    return implementation


@njit(**OPTIONS, **INNER)
def product(c, ld_c, start, at_s, ld_s, step_s, a, ld_a, rows, b, at_b, size_b, ins, outs):  # type: ignore[no-untyped-def]
    """C = S + A B for C, A and S (from `at_s` on) in flat arrays with lines of `ld_`; `rows` a multiple of STEP.

    B lies, from `at_b` on, in panels of `size_b` numbers, row by row. `ins` are the blocks of its rows (as many as a
    panel has columns) that the columns of A stand for, `outs` the panels that those of C and S (`step_s` apart) do.
    """
    width, depth = panel_of(c), len(ins)
    for out in range(len(outs)):
        right, of = at_b + outs[out] * size_b, at_s + out * step_s
        row = 0
        while row < rows:
            to, line, left = row * ld_c + out * width, of + row * ld_s, row * ld_a
            sides = start, line, ld_s, a, left, ld_a, 1, b, right, width, ins, depth, width, width
            if rows - row >= ROWS:
                _whole(c, to, ld_c, *sides)
                row += ROWS
            elif rows - row >= 2 * STEP:
                _two_thirds(c, to, ld_c, *sides)
                row += 2 * STEP
            else:
                _third(c, to, ld_c, *sides)
                row += STEP


@njit(**OPTIONS)
def product_of(c, start, a, turned, b):  # type: ignore[no-untyped-def]
    """C = S + A B, or S + A^T B if `turned`, for matrices with contiguous lines; S may be C.

    S has a single line if it is the same for all lines of C. Blocks of A and B stay in the cache while they are used.
    """
    width, blocks = panel_of(c), np.zeros(1, np.int64)
    rows, columns, depth = len(c), c.shape[1], len(b)
    ld_a, step_a = (1, a.shape[1]) if turned else (a.shape[1], 1)
    for begin in range(0, depth, DEPTH):
        deep = min(DEPTH, depth - begin)
        source = start if begin == 0 else c
        ld_s = 0 if len(source) == 1 else columns
        for top in range(0, rows, HEIGHT):
            for column in range(0, columns, width):
                right, wide = begin * columns + column, columns - column
                row, bottom = top, min(rows, top + HEIGHT)
                while row < bottom:
                    to, of, left = row * columns + column, row * ld_s + column, row * ld_a + begin * step_a
                    sides = source, of, ld_s, a, left, ld_a, step_a, b, right, columns, blocks, 1, deep, wide
                    if bottom - row >= ROWS:
                        _many(c, to, columns, *sides)
                        row += ROWS
                    elif bottom - row >= STEP:
                        _some(c, to, columns, *sides)
                        row += STEP
                    else:
                        _one(c, to, columns, *sides)
                        row += 1
