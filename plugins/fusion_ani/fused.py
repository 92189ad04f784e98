"""Environment vectors and whole energies as single differentiable operations: the fast way on CPUs.

First derivatives are analytic. Where one is to be differentiated again (Hessians, training on forces) both fall back on
the plain torch path, which is exact for every order.
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
"""From so many atoms on they are sorted by the elements near them."""

LINES = 135
"""Atoms whose networks are computed at once: enough for the matrix products, few enough for the cache."""

ATOMS_PER_THREAD = 32
"""Fewer, times members, are done sooner than a thread is woken."""

Block = tuple[int, np.ndarray, int]
"""Element, atoms, and bits of the elements near them."""


@cache
def constants(environment: Environment, dtype: np.dtype) -> tuple[Any, ...]:
    """What the kernels want to know of the environment, as tuples of numbers of that kind."""
    real = dtype.type
    radial = environment.radial_cutoff, environment.radial_eta
    numbers = (ANGSTROM_PER_BOHR, *radial, environment.angular_cutoff, environment.angular_eta, environment.zeta)
    angles = np.array(environment.angle_shifts)
    kinds = (numbers, environment.radial_shifts, environment.angular_shifts)
    found = [tuple(map(real, values)) for values in kinds]
    return *found, (tuple(map(real, 0.5 * np.cos(angles))), tuple(map(real, 0.5 * np.sin(angles))))


def blocks(environment: Environment, pairs: Neighbours, species: np.ndarray, elements: int) -> list[Block]:
    """The atoms in blocks of one element, where there are many of them with similar neighbours."""
    bits = np.zeros(1, np.int64)
    keys = species
    if len(species) >= ATOMS_SORTED:
        from fusion_ani import kernels

        array = pairs.vectors.detach().contiguous().numpy()
        # Rounding must not leave out a neighbour that the kernel counts: a margin.
        numbers = array.dtype.type(ANGSTROM_PER_BOHR), array.dtype.type(environment.angular_cutoff * (1 + 1e-5))
        bits = kernels.near(array, pairs.first.numpy(), pairs.other.numpy(), species, *numbers)
        keys = species << elements | bits
    order = np.argsort(keys.astype(np.min_scalar_type(int(keys.max()))), kind="stable")
    counts = np.bincount(species, minlength=elements)
    everything = sum(1 << int(element) for element in np.flatnonzero(counts))
    found, start = [], 0
    for element in np.flatnonzero(counts).tolist():
        size = int(counts[element])
        parts = -(-size // LINES)
        for part in range(parts):
            atoms = order[start + part * size // parts : start + (part + 1) * size // parts]
            found.append((element, atoms, everything if len(bits) == 1 else int(np.bitwise_or.reduce(bits[atoms]))))
        start += size
    return found


@cache
def _threads(process: int, count: int) -> ThreadPoolExecutor:
    """A pool of this process: a forked one has none of the threads."""
    return ThreadPoolExecutor(count)


def in_threads(work: Callable[[Any], None], tasks: Sequence[Any], count: int) -> None:
    """Do `work` on each of the tasks, in `count` threads of which this is one."""
    queue = iter(tasks)  # a list's iterator gives each task to one thread

    def several() -> None:
        for task in queue:
            work(task)

    helpers = [_threads(os.getpid(), count - 1).submit(several) for _ in range(count - 1)] if count > 1 else []
    several()
    for helper in helpers:
        helper.result()


def _ranges(layout: Layout) -> tuple[list[slice], int]:
    """Rows to be done at once, and in how many threads."""
    atoms = len(layout.row)
    count = max(1, min(torch.get_num_threads(), atoms // ATOMS_PER_THREAD))
    bounds = np.linspace(0, atoms, 4 * count + 1 if count > 1 else 2).astype(int).tolist()
    return [slice(one, two) for one, two in pairwise(bounds)], count


def _lists(environment: Environment, displacements: Tensor, layout: Layout) -> tuple[tuple[Any, ...], tuple[Any, ...]]:
    """What the kernels want before and after the rows' atoms."""
    array = displacements.detach().contiguous().numpy()
    width, blocks = len(layout.present), np.arange(len(layout.present))
    high, low = np.maximum(blocks[:, None], blocks), np.minimum(blocks[:, None], blocks)
    places = width * environment.radial + (high * (high + 1) // 2 + low) * environment.angular
    lists = array, layout.first.numpy(), layout.neighbour.numpy(), layout.species.numpy()
    return lists, (constants(environment, array.dtype), blocks * environment.radial, places)


def environment_vectors(environment: Environment, displacements: Tensor, layout: Layout) -> Tensor:
    """(N, F) in the rows and columns of `layout`, from `displacements` (P, 3) in bohr; not differentiable."""
    from fusion_ani import kernels

    lists, rest = _lists(environment, displacements, layout)
    order, line = layout.order.numpy(), environment.size(len(layout.present))
    result = np.zeros((len(order), line), lists[0].dtype)

    def work(rows: slice) -> None:
        kernels.forward(*lists, order[rows], *rest, result[rows].ravel(), line)

    in_threads(work, *_ranges(layout))
    return torch.from_numpy(result)


def environment_gradient(environment: Environment, displacements: Tensor, layout: Layout, gradient: Tensor) -> Tensor:
    """(P, 3) by `displacements` in bohr, of what has `gradient` (N, F) by the environment vectors."""
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
    """The gradient as a function that can be differentiated again."""
    twice = torch.is_grad_enabled()
    with torch.enable_grad():
        values = plain(displacements)
        (found,) = torch.autograd.grad(values, displacements, gradient, create_graph=twice)
    return found


class Energies(torch.autograd.Function):
    """Sums (M, B) by `fast(differentiate)`, which also gives their mean's gradient (P, 3) by `displacements`.

    Other derivatives (of a single member, second ones) come from `plain(displacements)`, the same by torch operations.
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
