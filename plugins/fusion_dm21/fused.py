"""DM21's energy density and its derivatives without a graph: one pass forward and one back through the network.

With the energies q_k that the factors f_k enhance, d e / d x = sum_k q_k d f_k / d x + f_k d q_k / d x: the first term
is one backward pass with the cotangents q_k, the second is known in closed form. Threads share the points and
compute with numpy alone: torch's threads would spin on the same cores while they wait for the next operation.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast
from weakref import WeakKeyDictionary

import numpy as np
import torch
from torch import Tensor

from fusion.functionals import DensityFeatures
from fusion_dm21 import kernels
from fusion_dm21.descriptors import FACTORS, FEATURES, LDA, NORM_EPSILON, OFFSET, OMEGAS

if TYPE_CHECKING:
    from fusion_dm21.network import DM21, Block


_KEPT: WeakKeyDictionary[DM21, tuple[list[np.ndarray], tuple[Any, ...]]] = WeakKeyDictionary()


@dataclass(frozen=True)
class Points:
    """Arrays of points: energy densities (G,), if any, and the features or the derivatives by them."""

    energy: np.ndarray
    rho: np.ndarray
    grad: np.ndarray
    tau: np.ndarray
    exchange: tuple[np.ndarray, ...]

    def at(self, points: slice) -> Points:
        """View of some of the points."""
        return self.map(lambda array: array[..., points])

    def map(self, function: Callable[[np.ndarray], np.ndarray]) -> Points:
        """Apply `function` to every array."""
        energy, rho, grad, tau = (function(array) for array in (self.energy, self.rho, self.grad, self.tau))
        return Points(energy, rho, grad, tau, tuple(map(function, self.exchange)))


def derivatives(model: DM21, features: DensityFeatures) -> tuple[Tensor, DensityFeatures]:
    """Energy density (G,) and its derivatives by the features, without symmetrising the spins.

    The network is evaluated in its own precision, everything else in that of the features.
    """
    assert features.grad is not None and features.tau is not None
    rho, grad, tau, *exchange = map(
        _array, (features.rho, features.grad, features.tau, *(features.hfx[omega] for omega in OMEGAS))
    )
    inputs = Points(rho[0], rho, grad, tau, tuple(exchange))
    results = inputs.map(np.empty_like)
    network = _network(model)

    def work(points: slice) -> None:
        _evaluate(network, inputs.at(points), results.at(points))

    _in_parts(inputs.rho.shape[1], work)
    of_rho, of_grad, of_tau = (torch.from_numpy(array) for array in (results.rho, results.grad, results.tau))
    of_exchange = {omega: torch.from_numpy(array) for omega, array in zip(OMEGAS, results.exchange, strict=True)}
    return torch.from_numpy(results.energy), DensityFeatures(rho=of_rho, grad=of_grad, tau=of_tau, hfx=of_exchange)


def _evaluate(network: tuple[Any, ...], points: Points, results: Points) -> None:
    """Evaluate energies and derivatives of some points in one thread."""
    real, (rho, grad) = network[0][0].dtype, (points.rho, points.grad)
    total = grad.sum(axis=0)
    squares = [(total**2).sum(axis=0), *(grad**2).sum(axis=1)]
    local = [array[spin] for spin in (0, 1) for array in points.exchange]
    x = np.stack([*rho, *squares, *points.tau, *local])
    root = np.cbrt(np.maximum(rho, 0.0))
    q = np.stack([LDA * (root**4).sum(axis=0), *(array.sum(axis=0) for array in points.exchange)])
    magnitude = np.abs(x) + OFFSET
    inputs, energies = (np.ascontiguousarray(array.T, real) for array in (np.log(magnitude), q))
    factors, slopes = np.empty((len(inputs), FACTORS), real), np.empty((len(inputs), FEATURES), real)
    kernels.network(inputs, energies, *network, NORM_EPSILON, factors, slopes)
    f, by_x = factors.T, np.sign(x) / magnitude * slopes.T
    results.energy[:] = (f * q).sum(axis=0)
    results.rho[:] = by_x[0:2] + f[0] * (4.0 / 3.0 * LDA) * root
    results.grad[:] = 2.0 * (by_x[2] * total + by_x[3:5, None] * grad)
    results.tau[:] = by_x[5:7]
    for place, array in enumerate(results.exchange):
        array[:] = by_x[[7 + place, 9 + place]] + f[1 + place]


def _network(model: DM21) -> tuple[Any, ...]:
    """Packed weights, reused while no weight has changed: comparing costs less than fresh memory."""
    weights = [_array(parameter) for parameter in model.parameters()]
    cached = _KEPT.get(model)
    if cached is None or not all(map(_same, cached[0], weights)):
        cached = _KEPT[model] = [weight.copy() for weight in weights], _packed(model)
    return cached[1]


def _same(a: np.ndarray, b: np.ndarray) -> bool:
    return a.dtype == b.dtype and np.array_equal(a, b)


def _packed(model: DM21) -> tuple[Any, ...]:
    """Pack the weights as arguments of `kernels.network`."""
    columns = kernels.panel(model.input.weight.element_size())
    layers = cast("list[Block]", list(model.blocks))
    width = model.input.out_features
    squares = np.stack([_array(block.linear.weight) for block in layers])
    squares[:, range(width), range(width)] += 1.0  # the residual connection
    first = (
        *(side[0] for side in _panels(_array(model.input.weight)[None], columns)),
        _rows([model.input.bias], columns)[0],
    )
    blocks = (
        *_panels(squares, columns),
        _rows([block.linear.bias for block in layers], columns),
        _rows([block.norm.weight for block in layers], columns),
        _rows([block.norm.bias for block in layers], columns),
    )
    return first, blocks, (_rows(list(model.output.weight), columns), _array(model.output.bias)), width


def _array(tensor: Tensor) -> np.ndarray:
    array: np.ndarray = tensor.detach().numpy()
    return array


def _panels(weights: np.ndarray, columns: int) -> tuple[np.ndarray, np.ndarray]:
    """Weights (B, out, in) in panels for the forward and the backward pass."""
    count, (outs, ins) = len(weights), (-(-size // columns) for size in weights.shape[1:])
    right = np.zeros((count, outs, ins * columns, columns), weights.dtype)
    back = np.zeros((count, ins, outs * columns, columns), weights.dtype)
    kernels.in_panels(weights, right, back)
    return right, back


def _rows(vectors: list[Tensor], columns: int) -> np.ndarray:
    """Stack vectors (N,) as (B, panels of N, columns), padded with zeros."""
    rows = np.stack([_array(vector) for vector in vectors])
    padded: np.ndarray = np.pad(rows, ((0, 0), (0, -rows.shape[1] % columns))).reshape(len(rows), -1, columns)
    return padded


def _in_parts(points: int, work: Callable[[slice], None]) -> None:
    """Apply `work` to slices of all points, in as many threads as torch has."""
    chunks = -(-points // kernels.CHUNK)
    count = min(torch.get_num_threads(), chunks)
    if count < 2:
        work(slice(0, points))
        return
    edges = [chunks * part // count * kernels.CHUNK for part in range(count)] + [points]
    with ThreadPoolExecutor(count) as pool:
        list(pool.map(work, map(slice, edges[:-1], edges[1:])))
