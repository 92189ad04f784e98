"""DM21's energy density and its derivatives by hand: one pass forward and one back through the network, no graph.

With the energies q_k that the factors f_k enhance, d e / d x = sum_k q_k d f_k / d x + f_k d q_k / d x: the first term
is one backward pass with the cotangents q_k, the second is known in closed form.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import torch
from torch import Tensor

from fusion.functionals import DensityFeatures
from fusion_dm21 import kernels
from fusion_dm21.network import LDA, NORM_EPSILON, OFFSET, OMEGAS, raw
from fusion_dm21.network import energies as enhanced

if TYPE_CHECKING:
    from fusion_dm21.network import DM21, Block


def derivatives(model: DM21, features: DensityFeatures) -> tuple[Tensor, DensityFeatures]:
    """The energy density (G,) and its derivatives by the features, the spins as they are.

    The network is evaluated in its own precision, all else in that of the features.
    """
    assert features.grad is not None
    x, q = raw(features), enhanced(features)
    magnitude = x.abs() + OFFSET
    f, slopes = factors(model, torch.log(magnitude), q)
    by_x = (slopes * x.sign() / magnitude).T
    by_rho = f[:, 0] * (4.0 / 3.0 * LDA) * features.rho.clamp(min=0.0) ** (1.0 / 3.0)
    total = by_x[2] * features.grad.sum(dim=0)
    found = DensityFeatures(
        rho=by_x[0:2] + by_rho,
        grad=2.0 * (total + by_x[3:5, None] * features.grad),
        tau=by_x[5:7].contiguous(),
        hfx={
            omega: torch.stack([by_x[7 + place], by_x[9 + place]]) + f[:, 1 + place]
            for place, omega in enumerate(OMEGAS)
        },
    )
    return (f * q).sum(dim=1), found


def factors(model: DM21, inputs: Tensor, energies: Tensor) -> tuple[Tensor, Tensor]:
    """The factors f (G, 3) of the logarithms `inputs` (G, 11), and sum_k energies_k df_k / d inputs (G, 11)."""
    real = model.input.weight.dtype
    arrays = [tensor.to(real).contiguous().numpy() for tensor in (inputs, energies)]
    first, blocks, last = _packed(model)
    found = [np.empty((len(array), size), array.dtype) for array, size in zip(arrays, (3, 11), strict=True)]
    width = model.input.out_features

    def work(start: int, stop: int) -> None:
        kernels.network(*arrays, first, blocks, last, width, NORM_EPSILON, start, stop, *found)

    _each_range(len(inputs), work)
    f, slopes = (torch.from_numpy(array).to(inputs.dtype) for array in found)
    return f, slopes


def _packed(model: DM21) -> tuple[Any, ...]:
    """The weights as `kernels.network` wants them; half a millisecond, so that they are never those of yesterday."""
    columns = kernels.panel(model.input.weight.element_size())
    width = model.input.out_features
    one = torch.eye(width, dtype=model.input.weight.dtype)
    layers = cast("list[Block]", list(model.blocks))
    squares = [block.linear.weight.detach() + one for block in layers]

    def rows(tensors: list[Tensor]) -> np.ndarray:
        return np.stack([_padded(tensor.detach()[None], columns)[:, 0] for tensor in tensors])

    entry = model.input.weight.detach()
    first = (_panels(entry.T, columns), _panels(entry, columns), rows([model.input.bias])[0])
    blocks = (
        np.stack([_panels(square.T, columns) for square in squares]),
        np.stack([_panels(square, columns) for square in squares]),
        rows([block.linear.bias for block in layers]),
        rows([block.norm.weight for block in layers]),
        rows([block.norm.bias for block in layers]),
    )
    return first, blocks, (rows(list(model.output.weight)), model.output.bias.detach().numpy())


def _padded(matrix: Tensor, columns: int) -> np.ndarray:
    """(K, N) as (panels of N, K, columns)."""
    wide = torch.nn.functional.pad(matrix, (0, -matrix.shape[1] % columns))
    return wide.unflatten(1, (-1, columns)).transpose(0, 1).numpy()


def _panels(matrix: Tensor, columns: int) -> np.ndarray:
    """(K, N) as (panels of N, panels of K times columns, columns), with zeros at the ends."""
    tall = torch.nn.functional.pad(matrix, (0, 0, 0, -matrix.shape[0] % columns))
    return np.ascontiguousarray(_padded(tall, columns))


def _each_range(points: int, work: Callable[[int, int], None]) -> None:
    """`work(start, stop)` on ranges of all points, by as many threads as torch has."""
    chunks = -(-points // kernels.CHUNK)
    count = min(torch.get_num_threads(), chunks)
    if count < 2:
        work(0, points)
        return
    edges = [chunks * part // count * kernels.CHUNK for part in range(count)] + [points]
    with ThreadPoolExecutor(count) as pool:
        list(pool.map(work, edges[:-1], edges[1:]))
