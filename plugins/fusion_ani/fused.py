"""Environment vectors and whole energies as single differentiable operations: the fast path on CPUs.

First derivatives are analytic. If a derivative is differentiated again (Hessians, training on forces), both use the
plain torch path, which is exact in every order.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from torch import Tensor

from fusion.chemistry.units import ANGSTROM_PER_BOHR
from fusion.potentials import Neighbours
from fusion_ani.aev import Environment, Layout, vectors

ATOMS_SORTED = 128
"""Least number of atoms that are sorted by the elements near them."""

LINES = 135
"""Atoms whose networks are computed at once: enough for the matrix products, few enough for the cache."""

ATOMS_PER_THREAD = 32
"""Least number of atoms, times members, per thread: fewer take less time than waking the thread."""

Block = tuple[int, np.ndarray, int]
"""Element, its atoms, and bits of the elements near them."""


@cache
def constants(environment: Environment, dtype: np.dtype) -> tuple[Any, ...]:
    """Parameters of the environment as the kernels take them: tuples of numbers of `dtype`."""
    real = dtype.type
    radial = environment.radial_cutoff, environment.radial_eta
    numbers = (ANGSTROM_PER_BOHR, *radial, environment.angular_cutoff, environment.angular_eta, environment.zeta)
    angles = np.array(environment.angle_shifts)
    kinds = (numbers, environment.radial_shifts, environment.angular_shifts)
    tuples = [tuple(map(real, values)) for values in kinds]
    return *tuples, (tuple(map(real, 0.5 * np.cos(angles))), tuple(map(real, 0.5 * np.sin(angles))))


def blocks(environment: Environment, pairs: Neighbours, species: np.ndarray, elements: int) -> list[Block]:
    """Split the atoms into blocks of one element; large systems are sorted so that a block has similar neighbours."""
    bits = np.zeros(1, np.int64)
    keys = species
    if len(species) >= ATOMS_SORTED:
        from fusion_ani import kernels

        array = pairs.vectors.detach().contiguous().numpy()
        # The margin keeps rounding from dropping a neighbour that the kernel counts.
        numbers = array.dtype.type(ANGSTROM_PER_BOHR), array.dtype.type(environment.angular_cutoff * (1 + 1e-5))
        bits = kernels.near(array, pairs.first.numpy(), pairs.other.numpy(), species, *numbers)
        keys = species << elements | bits
    order = np.argsort(keys.astype(np.min_scalar_type(int(keys.max()))), kind="stable")
    counts = np.bincount(species, minlength=elements)
    everything = sum(1 << int(element) for element in np.flatnonzero(counts))
    result, start = [], 0
    for element in np.flatnonzero(counts).tolist():
        size = int(counts[element])
        parts = -(-size // LINES)
        for part in range(parts):
            atoms = order[start + part * size // parts : start + (part + 1) * size // parts]
            result.append((element, atoms, everything if len(bits) == 1 else int(np.bitwise_or.reduce(bits[atoms]))))
        start += size
    return result


@cache
def _threads(process: int, count: int) -> ThreadPoolExecutor:
    """Pool of threads of one process; a forked process does not inherit the threads."""
    return ThreadPoolExecutor(count)


def in_threads(work: Callable[[Any], None], tasks: Sequence[Any], count: int) -> None:
    """Apply `work` to each of the tasks, in `count` threads including the calling one."""
    queue = iter(tasks)  # a list's iterator gives each task to one thread

    def several() -> None:
        for task in queue:
            work(task)

    helpers = [_threads(os.getpid(), count - 1).submit(several) for _ in range(count - 1)] if count > 1 else []
    several()
    for helper in helpers:
        helper.result()


def _ranges(layout: Layout) -> tuple[list[slice], int]:
    """Slices of rows for one task each, and the number of threads."""
    atoms = len(layout.row)
    count = max(1, min(torch.get_num_threads(), atoms // ATOMS_PER_THREAD))
    bounds = np.linspace(0, atoms, 4 * count + 1 if count > 1 else 2).astype(int).tolist()
    return [slice(start, stop) for start, stop in pairwise(bounds)], count


def _lists(environment: Environment, displacements: Tensor, layout: Layout) -> tuple[tuple[Any, ...], tuple[Any, ...]]:
    """Arguments of the kernels before and after the atoms."""
    array = displacements.detach().contiguous().numpy()
    width, blocks = len(layout.present), np.arange(len(layout.present))
    high, low = np.maximum(blocks[:, None], blocks), np.minimum(blocks[:, None], blocks)
    places = width * environment.radial + (high * (high + 1) // 2 + low) * environment.angular
    lists = array, layout.first.numpy(), layout.neighbour.numpy(), layout.species.numpy()
    return lists, (constants(environment, array.dtype), blocks * environment.radial, places)


def environment_vectors(environment: Environment, displacements: Tensor, layout: Layout) -> Tensor:
    """Environment vectors (N, F) in the order of `layout`, from `displacements` (P, 3) in bohr; not differentiable."""
    from fusion_ani import kernels

    lists, rest = _lists(environment, displacements, layout)
    order, line = layout.order.numpy(), environment.size(len(layout.present))
    result = np.zeros((len(order), line), lists[0].dtype)

    def work(rows: slice) -> None:
        kernels.forward(*lists, order[rows], *rest, result[rows].ravel(), line)

    in_threads(work, *_ranges(layout))
    return torch.from_numpy(result)


def environment_gradient(environment: Environment, displacements: Tensor, layout: Layout, gradient: Tensor) -> Tensor:
    """Gradient (P, 3) by `displacements` in bohr, from the `gradient` (N, F) by the environment vectors."""
    from fusion_ani import kernels

    lists, rest = _lists(environment, displacements, layout)
    order, line = layout.order.numpy(), environment.size(len(layout.present))
    source, result = gradient.contiguous().numpy(), np.empty_like(lists[0])

    def work(rows: slice) -> None:
        kernels.backward(*lists, order[rows], *rest, source[rows].ravel(), line, result)

    in_threads(work, *_ranges(layout))
    return torch.from_numpy(result)


class EnvironmentVectors(torch.autograd.Function):
    """`environment_vectors` with an analytic gradient."""

    @staticmethod
    def forward(ctx: Any, displacements: Tensor, environment: Environment, layout: Layout) -> Tensor:
        ctx.save_for_backward(displacements)
        ctx.environment, ctx.layout = environment, layout
        return environment_vectors(environment, displacements, layout)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        (displacements,) = ctx.saved_tensors
        if torch.is_grad_enabled():

            def plain(displacements: Tensor) -> Tensor:
                return vectors(ctx.environment, displacements * ANGSTROM_PER_BOHR, ctx.layout)

            return _by_plain(plain, displacements, gradient), None, None
        return environment_gradient(ctx.environment, displacements, ctx.layout, gradient), None, None


def _by_plain(plain: Callable[[Tensor], Tensor], displacements: Tensor, gradient: Tensor) -> Tensor:
    """Gradient by torch operations, which can be differentiated again."""
    twice = torch.is_grad_enabled()
    with torch.enable_grad():
        values = plain(displacements)
        (result,) = torch.autograd.grad(values, displacements, gradient, create_graph=twice)
    return result


class Energies(torch.autograd.Function):
    """Energies (M, B) from `fast(differentiate)`, which also gives their mean's gradient (P, 3) by `displacements`.

    Other derivatives (of a single member, or second ones) come from `plain(displacements)`, the same energies by torch
    operations.
    """

    @staticmethod
    def forward(
        ctx: Any,
        displacements: Tensor,
        fast: Callable[[bool], tuple[Tensor, Tensor | None]],
        plain: Callable[[Tensor], Tensor],
        pairs: Neighbours,
    ) -> Tensor:
        members, ctx.of_mean = fast(ctx.needs_input_grad[0])
        ctx.save_for_backward(displacements)
        ctx.plain, ctx.pairs = plain, pairs
        return members

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        (displacements,) = ctx.saved_tensors
        if torch.is_grad_enabled() or not torch.equal(gradient, gradient[:1].expand_as(gradient)):
            return _by_plain(ctx.plain, displacements, gradient), None, None, None
        factor = gradient[0] * len(gradient)
        if not bool((factor == 1.0).all()):
            of_pairs = factor[ctx.pairs.system[ctx.pairs.centre]].to(displacements.dtype)
            return ctx.of_mean * of_pairs[:, None], None, None, None
        return ctx.of_mean, None, None, None
