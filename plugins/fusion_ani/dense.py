"""One member's network of one element on many atoms: energies, their gradient by the inputs, and gradients by the
parameters of both, by matrix products over all atoms.

With z_l = W_l a_(l-1) + b_l, a_l = phi(z_l), the energy of an atom e = w a_L + b and g = de/da_0 its gradient, the
parameters' gradient of sum_n (c_n e_n + g_n v_n), with directions v of the inputs, takes a tangent pass and its
transpose: a dot over a letter is the change along v, D_l = de/dz_l what the gradient pass leaves behind,

    da_l = phi' (W_l da_(l-1))                               da_0 = v
    Z_l  = phi' (Z_(l+1) W_(l+1)) + phi'' (D_(l+1) W_(l+1)) dz_l     Z_(L+1) = c
    grad W_l = sum_n Z_l a_(l-1) + D_l da_(l-1),    grad b_l = sum_n Z_l

which is the derivative of the gradient pass by the parameters, without recording anything.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numba import njit

from fusion_ani.simd import OPTIONS, exp


@njit(**OPTIONS)
def _celu(z, bias, alpha, value, slope):  # type: ignore[no-untyped-def]
    real = z.dtype.type
    scale = real(1.0) / alpha
    for n in range(len(z)):
        for u in range(z.shape[1]):
            x = z[n, u] + bias[u]
            z[n, u] = x
            low = x if x < real(0.0) else real(0.0)
            slant = exp(low * scale)
            slope[n, u] = slant
            value[n, u] = (x - low) + alpha * (slant - real(1.0))


@njit(**OPTIONS)
def _gaussian(z, bias, alpha, value, slope):  # type: ignore[no-untyped-def]
    real = z.dtype.type
    for n in range(len(z)):
        for u in range(z.shape[1]):
            x = z[n, u] + bias[u]
            z[n, u] = x
            bell = exp(-x * x)
            slope[n, u] = real(-2.0) * x * bell
            value[n, u] = bell


@njit(**OPTIONS)
def _celu_bent(z, value, slope, alpha, up, along, change, result):  # type: ignore[no-untyped-def]
    """result = phi' up + phi'' along change."""
    real = z.dtype.type
    scale = real(1.0) / alpha
    for n in range(len(z)):
        for u in range(z.shape[1]):
            bend = slope[n, u] * scale if z[n, u] < real(0.0) else real(0.0)
            result[n, u] = slope[n, u] * up[n, u] + bend * along[n, u] * change[n, u]


@njit(**OPTIONS)
def _gaussian_bent(z, value, slope, alpha, up, along, change, result):  # type: ignore[no-untyped-def]
    real = z.dtype.type
    for n in range(len(z)):
        for u in range(z.shape[1]):
            bend = (real(4.0) * z[n, u] * z[n, u] - real(2.0)) * value[n, u]
            result[n, u] = slope[n, u] * up[n, u] + bend * along[n, u] * change[n, u]


@njit(**OPTIONS)
def _times(one, other, result):  # type: ignore[no-untyped-def]
    for n in range(len(one)):
        for u in range(one.shape[1]):
            result[n, u] = one[n, u] * other[n, u]


@njit(**OPTIONS)
def _outer(rows, columns, result):  # type: ignore[no-untyped-def]
    for n in range(len(rows)):
        for u in range(len(columns)):
            result[n, u] = rows[n] * columns[u]


class Room:
    """Arrays that are used again and again, grown when needed: fresh memory costs more than the products in it."""

    def __init__(self) -> None:
        self._kept: dict[tuple[object, ...], np.ndarray] = {}

    def array(self, key: tuple[object, ...], shape: tuple[int, ...], dtype: np.dtype) -> np.ndarray:
        """Of that shape, its content whatever was left there; one key stands for one array at a time."""
        size = math.prod(shape)
        kept = self._kept.get(key)
        if kept is None or len(kept) < size or kept.dtype != dtype:
            kept = self._kept[key] = np.empty(size + size // 4, dtype)
        return kept[:size].reshape(shape)


@dataclass(frozen=True)
class Parameters:
    """Of one member: weights (out, in) and biases (out,) by layer, the last with one output; or their gradients."""

    weights: Sequence[np.ndarray]
    biases: Sequence[np.ndarray]


class Network:
    """A network at work on the atoms of one batch; the steps are to be taken in the order in which they stand here.

    `alpha` is CELU's; None stands for exp(-x^2). `room` keeps the arrays, `key` tells this network's from others'.
    """

    def __init__(self, parameters: Parameters, alpha: float | None, room: Room, key: tuple[object, ...]) -> None:
        self.parameters, self.room, self.key = parameters, room, key
        real = parameters.weights[0].dtype.type
        self.alpha = real(1.0 if alpha is None else alpha)
        self.activate, self.bent = (_celu, _celu_bent) if alpha is not None else (_gaussian, _gaussian_bent)

    def _array(self, name: str, layer: int, rows: int, columns: int) -> np.ndarray:
        return self.room.array((*self.key, name, layer), (rows, columns), self.parameters.weights[0].dtype)

    def energies(self, x: np.ndarray) -> np.ndarray:
        """(n,) from inputs; `x` (2 n, F) has them in its first half, the second is for their directions."""
        weights, biases = self.parameters.weights, self.parameters.biases
        rows = len(x) // 2
        self.rows, self.values = rows, [x]
        self.sums: list[np.ndarray] = []
        self.slopes: list[np.ndarray] = []
        for layer, (weight, bias) in enumerate(zip(weights[:-1], biases[:-1], strict=True)):
            size = len(weight)
            z, slope = self._array("z", layer, rows, size), self._array("slope", layer, rows, size)
            value = self._array("value", layer, 2 * rows, size)
            np.dot(self.values[-1][:rows], weight.T, out=z)
            self.activate(z, bias, self.alpha, value[:rows], slope)
            self.sums.append(z)
            self.slopes.append(slope)
            self.values.append(value)
        found: np.ndarray = self.values[-1][:rows] @ weights[-1][0]
        return found + biases[-1][0]

    def gradient(self, out: np.ndarray | None) -> None:
        """Write g (n, F) to `out`; without it only what the way to the parameters needs is computed."""
        weights = self.parameters.weights
        self.back: list[np.ndarray] = []  # (2 n, out): Z, then D
        self.along: list[np.ndarray] = []  # D_(l+1) W_(l+1)
        for layer in range(len(weights) - 2, -1, -1):
            size = len(weights[layer])
            back, along = self._array("back", layer, 2 * self.rows, size), self._array("along", layer, self.rows, size)
            if layer == len(weights) - 2:
                along[:] = weights[-1][0]
            else:
                np.dot(self.back[0][self.rows :], weights[layer + 1], out=along)
            _times(self.slopes[layer], along, back[self.rows :])
            self.back.insert(0, back)
            self.along.insert(0, along)
        if out is not None:
            np.dot(self.back[0][self.rows :], weights[0], out=out)

    def learn(self, factors: np.ndarray, moved: bool, gradients: Parameters) -> None:
        """Write the gradient of sum_n (c_n e_n + g_n v_n): c are `factors` (n,), v the second half of `x` if `moved`.

        The first layer's goes to `gradients.weights[0]` as it is to the inputs of `x`.
        """
        if moved:
            self._tangents()
        weights, rows = self.parameters.weights, self.rows
        span = slice(None) if moved else slice(rows)
        last = self.values[-1]
        gradients.weights[-1][0] = factors @ last[:rows]
        if moved:
            gradients.weights[-1][0] += last[rows:].sum(axis=0)
        gradients.biases[-1][0] = factors.sum()
        for layer in range(len(weights) - 2, -1, -1):
            size = len(weights[layer])
            back = self.back[layer]
            if moved:
                up = self._array("up", 0, rows, size)
                if layer == len(weights) - 2:
                    _outer(factors, weights[-1][0], up)
                else:
                    np.dot(self.back[layer + 1][:rows], weights[layer + 1], out=up)
                kind = self.sums[layer], self.values[layer + 1][:rows], self.slopes[layer]
                self.bent(*kind, self.alpha, up, self.along[layer], self.changes[layer], back[:rows])
            else:
                np.multiply(back[rows:], factors[:, None], out=back[:rows])
            np.dot(back[span].T, self.values[layer][span], out=gradients.weights[layer])
            np.sum(back[:rows], axis=0, out=gradients.biases[layer])

    def _tangents(self) -> None:
        """Second halves of `values`: changes along v."""
        weights, rows = self.parameters.weights, self.rows
        self.changes: list[np.ndarray] = []
        for layer in range(len(weights) - 1):
            change = self._array("change", layer, rows, len(weights[layer]))
            np.dot(self.values[layer][rows:], weights[layer].T, out=change)
            _times(self.slopes[layer], change, self.values[layer + 1][rows:])
            self.changes.append(change)
