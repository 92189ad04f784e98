"""One member's network of one element on many atoms, compiled, by matrix products over all atoms: energies, their
gradient by the inputs, and the gradients of both by the parameters.

Let z_l = W_l a_(l-1) + b_l and a_l = phi(z_l), with a linear last layer. The energy of an atom is e = a_L, its gradient
g = de/da_0. The parameters' gradient of sum_n (c_n e_n + g_n v_n), v a direction of the inputs, takes a tangent pass
and its transpose. The letter d marks a change along v; D_l = de/dz_l comes from the gradient pass:

    da_l = phi' dz_l,   dz_l = W_l da_(l-1)                          da_0 = v
    Z_l  = phi' (Z_(l+1) W_(l+1)) + phi'' (D_(l+1) W_(l+1)) dz_l     Z_L = c
    grad W_l = sum_n Z_l a_(l-1) + D_l da_(l-1),    grad b_l = sum_n Z_l

This is the derivative of the gradient pass by the parameters, without a recorded graph.

Call the passes in the order of their definitions. `network`: weights (M, out, in) and biases (M, out) by layer, the
last with one output; `columns` (F), the inputs of the first layer that x (n, F) has; CELU's alpha, None for exp(-z^2).
`work`, of length `room`, holds the intermediate results of one member on one x.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from fusion.compilation import INNER, njit
from fusion_ani.products import product_of
from fusion_ani.simd import OPTIONS, exp

_VALUE, _SLOPE, _BEND, _ALONG, _DOWN, _UP, _CHANGE, _MOVED = map(np.int64, range(8))
"""Intermediate results of a layer: a, phi', phi'', D_(l+1) W_(l+1), D, Z, dz, da."""
_PARTS = 8
Arrays = tuple[tuple[np.ndarray, ...], tuple[np.ndarray, ...], np.ndarray, np.floating[Any] | None]
"""Type of a `network`."""
_BLOCK = 504  # atoms whose numbers stay in the cache from one layer to the next


def room(rows: int, weights: Sequence[np.ndarray]) -> int:
    """Length of the `work` array for this number of atoms."""
    return _PARTS * rows * sum(weight.shape[1] for weight in weights)


@njit(**OPTIONS, **INNER)
def _parts(work, rows, weights, layer):  # type: ignore[no-untyped-def]
    """Part (8, n, out) of `work` that belongs to a layer."""
    before, size = 0, weights[layer].shape[1]
    for lower in range(layer):
        before += weights[lower].shape[1]
    begin = _PARTS * rows * before
    return work[begin : begin + _PARTS * rows * size].reshape(_PARTS, rows, size)


@njit(**OPTIONS, **INNER)
def _below(x, part, work, weights, layer):  # type: ignore[no-untyped-def]
    """Intermediate result `part` (n, in) of the layer below, or x."""
    return x if layer == 0 else _parts(work, len(x), weights, layer - 1)[part]


@njit(**OPTIONS, **INNER)
def _turned(weight, columns):  # type: ignore[no-untyped-def]
    """Transpose (in, out) of the given columns of a weight (out, all)."""
    turned = np.empty((len(columns), len(weight)), weight.dtype)
    for i in range(len(columns)):
        for o in range(len(weight)):
            turned[i, o] = weight[o, columns[i]]
    return turned


@njit(**OPTIONS, **INNER)
def _activate(alpha, value, slope, bend):  # type: ignore[no-untyped-def]
    """Replace the values z by phi, and write its derivatives."""
    real = value.dtype.type
    for n in range(len(value)):
        for u in range(value.shape[1]):
            z = value[n, u]
            if alpha is None:
                bell = exp(-z * z)
                value[n, u], slope[n, u] = bell, real(-2.0) * z * bell
                bend[n, u] = (real(4.0) * z * z - real(2.0)) * bell
            else:
                low = z if z < real(0.0) else real(0.0)
                slant = exp(low * (real(1.0) / alpha))
                value[n, u], slope[n, u] = (z - low) + alpha * (slant - real(1.0)), slant
                bend[n, u] = slant * (real(1.0) / alpha) if z < real(0.0) else real(0.0)


@njit(**OPTIONS)
def energies(network, member, x, work, out):  # type: ignore[no-untyped-def]
    """Write the energies (n,) of atoms with inputs x."""
    weights, biases, columns, alpha = network
    rows, last = len(x), len(weights) - 1
    for layer in range(last + 1):
        source, parts = _below(x, _VALUE, work, weights, layer), _parts(work, rows, weights, layer)
        turned = _turned(weights[layer][member], columns if layer == 0 else np.arange(source.shape[1]))
        for begin in range(0, rows, _BLOCK):
            end = min(rows, begin + _BLOCK)
            value, slope, bend = parts[_VALUE, begin:end], parts[_SLOPE, begin:end], parts[_BEND, begin:end]
            product_of(value, biases[layer][member : member + 1], source[begin:end], False, turned)
            if layer < last:
                _activate(alpha, value, slope, bend)
            else:
                slope[:], bend[:] = x.dtype.type(1.0), x.dtype.type(0.0)
    outputs = _parts(work, rows, weights, last)
    for n in range(rows):
        out[n] = outputs[_VALUE, n, 0]


@njit(**OPTIONS, **INNER)
def _back(part, seed, work, weights, member, layer, rows, begin, end, out):  # type: ignore[no-untyped-def]
    """Write `part` of the layer above times that layer's weights; for the last layer, the `seed` (n, 1)."""
    if layer == len(weights) - 1:
        for n in range(len(out)):
            out[n, 0] = seed[n, 0]
    else:
        above = _parts(work, rows, weights, layer + 1)[part, begin:end]
        product_of(out, np.zeros((1, out.shape[1]), out.dtype), above, False, weights[layer + 1][member])


@njit(**OPTIONS, **INNER)
def _times(a, b, result):  # type: ignore[no-untyped-def]
    for n in range(len(a)):
        for u in range(a.shape[1]):
            result[n, u] = a[n, u] * b[n, u]


@njit(**OPTIONS)
def gradient(network, member, work, out):  # type: ignore[no-untyped-def]
    """Write the energies' gradient g (n, F) by the inputs."""
    weights, _, columns, _ = network
    rows, real = len(out), out.dtype
    first = weights[0][member]
    if len(columns) < first.shape[1]:
        first = first[:, columns]
    for begin in range(0, rows, _BLOCK):
        end = min(rows, begin + _BLOCK)
        seed = np.ones((end - begin, 1), real)
        for layer in range(len(weights) - 1, -1, -1):
            parts = _parts(work, rows, weights, layer)
            along = parts[_ALONG, begin:end]
            _back(_DOWN, seed, work, weights, member, layer, rows, begin, end, along)
            _times(parts[_SLOPE, begin:end], along, parts[_DOWN, begin:end])
        lowest = _parts(work, rows, weights, np.int64(0))[_DOWN, begin:end]
        product_of(out[begin:end], np.zeros((1, len(columns)), real), lowest, False, first)


@njit(**OPTIONS, **INNER)
def _tangents(network, member, moves, work):  # type: ignore[no-untyped-def]
    """Compute the changes dz and da along v."""
    weights, _, columns, _ = network
    rows = len(moves)
    for layer in range(len(weights)):
        source, parts = _below(moves, _MOVED, work, weights, layer), _parts(work, rows, weights, layer)
        turned = _turned(weights[layer][member], columns if layer == 0 else np.arange(source.shape[1]))
        product_of(parts[_CHANGE], np.zeros((1, turned.shape[1]), moves.dtype), source, False, turned)
        _times(parts[_SLOPE], parts[_CHANGE], parts[_MOVED])


@njit(**OPTIONS, **INNER)
def _bent(parts, begin, end):  # type: ignore[no-untyped-def]
    """Add the term of phi'' to Z."""
    for n in range(begin, end):
        for u in range(parts.shape[2]):
            parts[_UP, n, u] += parts[_BEND, n, u] * parts[_ALONG, n, u] * parts[_CHANGE, n, u]


@njit(**OPTIONS)
def learn(network, member, factors, x, moves, work, by_weights, by_biases):  # type: ignore[no-untyped-def]
    """Add the gradient of sum_n (c_n e_n + g_n v_n) by the member's parameters to `by_weights` and `by_biases`.

    c are the `factors` (n,), v the `moves` (n, F), or none (0, F). Arrays with no members are skipped.
    """
    weights, _, columns, _ = network
    rows, moved = len(x), len(moves) > 0
    some = np.zeros((weights[0].shape[1] if len(columns) < weights[0].shape[2] else 0, len(columns)), x.dtype)
    if moved:
        _tangents(network, member, moves, work)
    for begin in range(0, rows, _BLOCK):
        end = min(rows, begin + _BLOCK)
        seed = factors[begin:end].reshape(-1, 1)
        for layer in range(len(weights) - 1, -1, -1):
            parts = _parts(work, rows, weights, layer)
            up, down = parts[_UP, begin:end], parts[_DOWN, begin:end]
            _back(_UP, seed, work, weights, member, layer, rows, begin, end, up)
            _times(parts[_SLOPE, begin:end], up, up)
            if moved:
                _bent(parts, begin, end)
            if len(by_biases[layer]):
                into = by_biases[layer][member]
                for n in range(len(up)):
                    for u in range(len(into)):
                        into[u] += up[n, u]
            if len(by_weights[layer]):
                matrix = some if layer == 0 and len(some) else by_weights[layer][member]
                product_of(matrix, matrix, up, True, _below(x, _VALUE, work, weights, layer)[begin:end])
                if moved:
                    product_of(matrix, matrix, down, True, _below(moves, _MOVED, work, weights, layer)[begin:end])
    for o in range(len(some) if len(by_weights[0]) else 0):
        for i in range(len(columns)):
            by_weights[0][member, o, columns[i]] += some[o, i]
