"""Environment vectors and whole energies as single differentiable operations: the fast way on CPUs.

First derivatives are analytic. Where one is to be differentiated again (Hessians, training on forces) both fall back on
the plain torch path, which is exact for every order.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from typing import Any

import numpy as np
import torch
from torch import Tensor

from fusion.potentials import Neighbours
from fusion.units import ANGSTROM_PER_BOHR
from fusion_ani.aev import Environment, Layout

ATOMS_PER_THREAD = 128
"""Fewer are done sooner than a thread is woken."""

ATOMS_SORTED = 256
"""From so many atoms on they are sorted by the elements near them."""


def lay_out(environment: Environment, pairs: Neighbours, species: Tensor, elements: int) -> Layout:
    """The layout of a neighbour list, in groups of similar rows where there are many atoms on a CPU."""
    if len(species) < ATOMS_SORTED or pairs.vectors.device.type != "cpu":
        return Layout(species, pairs.centre, pairs.other, pairs.first, elements)
    array = pairs.vectors.detach().contiguous().numpy()

    def near(other: np.ndarray) -> np.ndarray:
        from fusion_ani import kernels

        # Rounding must not leave out a neighbour that the kernel counts: a margin.
        numbers = array.dtype.type(ANGSTROM_PER_BOHR), array.dtype.type(environment.angular_cutoff * (1 + 1e-5))
        result: np.ndarray = kernels.near(array, pairs.first.numpy(), other, *numbers)
        return result

    return Layout(species, pairs.centre, pairs.other, pairs.first, elements, near)


@cache
def _constants(environment: Environment, dtype: np.dtype) -> tuple[Any, ...]:
    real = dtype.type
    radial = environment.radial_cutoff, environment.radial_eta
    numbers = (ANGSTROM_PER_BOHR, *radial, environment.angular_cutoff, environment.angular_eta, environment.zeta)
    angles = np.array(environment.angle_shifts)
    arrays = (np.array(environment.radial_shifts), np.array(environment.angular_shifts), np.cos(angles), np.sin(angles))
    return (tuple(map(real, numbers)), *(array.astype(dtype) for array in arrays))


@cache
def _threads(process: int, count: int) -> ThreadPoolExecutor:
    """A pool of this process: a forked one has none of the threads."""
    return ThreadPoolExecutor(count)


def _each_range(atoms: int, work: Callable[[int, int], None]) -> None:
    """Do `work(start, stop)` for ranges that cover the atoms, in threads where there are many."""
    count = min(torch.get_num_threads(), atoms // ATOMS_PER_THREAD)
    if count < 2:
        work(0, atoms)
        return
    bounds = np.linspace(0, atoms, 4 * count + 1).astype(int).tolist()
    list(_threads(os.getpid(), count).map(work, bounds[:-1], bounds[1:]))


def environment_vectors(environment: Environment, displacements: Tensor, layout: Layout) -> Tensor:
    """(N, F) in the rows and columns of `layout`, from `displacements` (P, 3) in bohr; not differentiable."""
    from fusion_ani import kernels

    array = displacements.detach().contiguous().numpy()
    lists = layout.first.numpy(), layout.other.numpy(), layout.row.numpy()
    elements = len(layout.present)
    result = np.zeros((len(layout.row), environment.size(elements)), array.dtype)
    numbers, *arrays = _constants(environment, array.dtype)

    def work(start: int, stop: int) -> None:
        kernels.forward(array, *lists, start, stop, elements, numbers, *arrays, result)

    _each_range(len(layout.row), work)
    return torch.from_numpy(result)


def environment_gradient(environment: Environment, displacements: Tensor, layout: Layout, gradient: Tensor) -> Tensor:
    """(P, 3) by `displacements` in bohr, of what has `gradient` (N, F) by the environment vectors."""
    from fusion_ani import kernels

    array = displacements.detach().contiguous().numpy()
    lists = layout.first.numpy(), layout.other.numpy(), layout.row.numpy()
    source, result = gradient.contiguous().numpy(), np.empty_like(array)
    numbers, *arrays = _constants(environment, array.dtype)

    def work(start: int, stop: int) -> None:
        kernels.backward(array, *lists, start, stop, len(layout.present), numbers, *arrays, source, result)

    _each_range(len(layout.row), work)
    return torch.from_numpy(result)


class EnvironmentVectors(torch.autograd.Function):
    """`environment_vectors` with an analytic gradient; `plain(displacements)` is the same by torch operations."""

    @staticmethod
    def forward(
        ctx: Any, displacements: Tensor, environment: Environment, layout: Layout, plain: Callable[[Tensor], Tensor]
    ) -> Tensor:
        ctx.save_for_backward(displacements)
        ctx.environment, ctx.layout, ctx.plain = environment, layout, plain
        return environment_vectors(environment, displacements, layout)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        (displacements,) = ctx.saved_tensors
        if torch.is_grad_enabled():
            return _by_plain(ctx.plain, displacements, gradient), None, None, None
        return environment_gradient(ctx.environment, displacements, ctx.layout, gradient), None, None, None


def _by_plain(plain: Callable[[Tensor], Tensor], displacements: Tensor, gradient: Tensor) -> Tensor:
    """The gradient as a function that can be differentiated again."""
    twice = torch.is_grad_enabled()
    with torch.enable_grad():
        values = plain(displacements)
        (found,) = torch.autograd.grad(values, displacements, gradient, create_graph=twice)
    return found


class Energies(torch.autograd.Function):
    """Sums (M, B) of `fast(displacements, differentiate)`, which also gives the gradient (P, 3) of the members' mean.

    Other derivatives (of a single member, second ones) come from `plain(displacements)`, the same by torch operations.
    """

    @staticmethod
    def forward(
        ctx: Any,
        displacements: Tensor,
        fast: Callable[[Tensor, bool], tuple[Tensor, Tensor | None]],
        plain: Callable[[Tensor], Tensor],
        system: Tensor,
        centre: Tensor,
    ) -> Tensor:
        members, ctx.of_mean = fast(displacements, ctx.needs_input_grad[0])
        ctx.save_for_backward(displacements)
        ctx.plain, ctx.system, ctx.centre = plain, system, centre
        return members

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        (displacements,) = ctx.saved_tensors
        if torch.is_grad_enabled() or not torch.equal(gradient, gradient[:1].expand_as(gradient)):
            return _by_plain(ctx.plain, displacements, gradient), None, None, None, None
        factor = gradient[0] * len(gradient)
        if not bool((factor == 1.0).all()):
            of_pairs = factor[ctx.system[ctx.centre]].to(displacements.dtype)
            return ctx.of_mean * of_pairs[:, None], None, None, None, None
        return ctx.of_mean, None, None, None, None
