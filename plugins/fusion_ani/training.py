"""Training passes of ANI on CPUs: energies, forces and stress of many conformations and their parameters' gradients.

Environment vectors have no parameters and are computed once (`environments`). Compiled kernels do the other work that
depends on the geometry alone, matrix products over all atoms of an element evaluate the networks (`dense`), and torch
evaluates charge networks on the same vectors. With F = -J^T g, the gradient of a loss of forces is the gradient of the
energy's directional derivative along J u, where u is the derivative of the loss by the pairs' slopes.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from fusion.chemistry.units import BOHR_PER_ANGSTROM
from fusion.potentials.charges import balanced, dipoles
from fusion.potentials.training.passes import Back, Differentiated, Found, add_gradients
from fusion.potentials.training.targets import atoms_of
from fusion_ani.environments import Environments, Rows
from fusion_ani.fused import ATOMS_PER_THREAD, in_threads
from fusion_ani.pairs import Pairs, Store
from fusion_ani.stacks import Room, Stack

if TYPE_CHECKING:
    from fusion.datasets import Labelled
    from fusion_ani.network import ANI


class Passes:
    """`fusion.potentials.training.passes.Passes` of an ANI model on one data set."""

    def __init__(self, model: ANI, labelled: Labelled, memory_gb: float) -> None:
        self.model, self.labelled, self.plain = model, labelled, Differentiated(model, labelled)
        dtype = np.dtype(str(next(model.parameters()).dtype).removeprefix("torch."))
        cutoff = model.environment.radial_cutoff * BOHR_PER_ANGSTROM
        self.store = Store(labelled, cutoff, dtype, memory_gb)
        numbers = torch.from_numpy(np.asarray(labelled.numbers).astype(np.int64))
        self.species = model.indices(numbers).cpu().numpy()
        sizes = len(labelled), len(model.elements)
        most = memory_gb * 1e9 - self.store.size
        self.environments = Environments(model.environment, self.species, *sizes, dtype, most)
        self.room = Room(dtype)

    def __call__(
        self, indices: np.ndarray, forces: bool, stress: bool, learn: bool, dipoles: bool = False
    ) -> tuple[Found, Back | None]:
        """Evaluate as the core's `Passes` does; the results are on the CPU and valid until the next call."""
        if next(self.model.parameters()).device.type != "cpu":
            return self.plain(indices, forces, stress, learn, dipoles)
        rows = self._rows(indices)
        moved = forces or stress
        pairs = self.store.batch(indices) if moved or not self.environments.has(indices) else None
        vectors = self.room.array(("vectors",), len(rows.order), len(self.environments.columns))
        self.environments.vectors(indices, rows, pairs, vectors)
        shared = self.environments.columns, self.model.alpha, self.room
        stacks = [Stack(self.model.tensors(element), part, *shared, element) for element, part in rows.groups]
        sums, gradients = self._forward(rows, vectors, stacks, len(indices), moved)
        values = Found(torch.from_numpy(sums))
        if moved and pairs is not None:
            slopes = self.environments.pulled(rows, pairs, gradients)
            values = replace(
                values,
                forces=torch.from_numpy(pairs.forces(slopes)) if forces else None,
                stress=torch.from_numpy(pairs.stress(slopes)) if stress else None,
            )
        if dipoles and self.model.charges is not None:
            values = replace(values, dipole=self._dipoles(indices, rows, vectors, learn))

        def back(by: Found) -> None:
            self._back(rows, pairs, vectors, stacks, by)
            if values.dipole is not None:
                add_gradients(self.model, values, Found(by.energy, dipole=by.dipole))

        return values, back if learn else None

    def _rows(self, indices: np.ndarray) -> Rows:
        offsets = self.store.offsets
        places = atoms_of(offsets, indices)
        system = np.repeat(np.arange(len(indices)), offsets[indices + 1] - offsets[indices])
        return Rows.of(places, system, self.species[places])

    def _forward(
        self, rows: Rows, vectors: np.ndarray, stacks: list[Stack], systems: int, moved: bool
    ) -> tuple[np.ndarray, np.ndarray]:
        """Energies (M, B), float64, and, if `moved`, their gradients (M, N, F) by the vectors."""
        from fusion_ani import layers

        count, line = vectors.shape
        energies = self.room.array(("energies",), self.model.members, count)
        gradients = self.room.array(("gradients",), self.model.members, count if moved else 0, line)

        def work(task: tuple[Stack, int]) -> None:
            stack, member = task
            stack.energies(member, vectors[stack.rows], energies[member, stack.rows])
            if moved:
                stack.gradient(member, gradients[member, stack.rows])

        self._for_members(work, stacks, count)
        own = np.bincount(rows.system, self.model.self_energies.values.numpy()[rows.species], systems)
        return layers.sums(energies, rows.system, systems) + own, gradients

    def _back(self, rows: Rows, pairs: Pairs | None, vectors: np.ndarray, stacks: list[Stack], by: Found) -> None:
        """Add to the gradients of the parameters."""
        moved = by.forces is not None or by.stress is not None
        factors = by.energy.numpy()
        if not moved and not factors.any():  # the loss has only dipoles
            return
        count, line = vectors.shape
        changes = self.room.array(("changes",), len(factors), count if moved else 0, line)
        if moved:
            assert pairs is not None
            wanted = (None if one is None else one.numpy() for one in (by.forces, by.stress))
            self.environments.pushed(rows, pairs, pairs.directions(*wanted), changes)
        of_atoms = np.take(factors.astype(vectors.dtype), rows.system, axis=1)

        def work(task: tuple[Stack, int]) -> None:
            stack, member = task
            part = stack.rows
            stack.learn(member, of_atoms[member, part], vectors[part], changes[member, part if moved else slice(0)])

        learning = [stack for stack in stacks if stack.learns]
        for stack in learning:
            stack.prepare()
        self._for_members(work, learning, count)
        for stack in learning:
            stack.finish()

    def _for_members(self, work: Callable[[tuple[Stack, int]], None], stacks: list[Stack], atoms: int) -> None:
        """Apply `work` to every stack and member, in as many threads as torch has; largest stacks first."""
        members = self.model.members
        sorted_stacks = sorted(stacks, key=lambda stack: stack.rows.start - stack.rows.stop)
        tasks = [(stack, member) for stack in sorted_stacks for member in range(members)]
        in_threads(work, tasks, max(1, min(torch.get_num_threads(), atoms * members // ATOMS_PER_THREAD)))

    def _dipoles(self, indices: np.ndarray, rows: Rows, vectors: np.ndarray, learn: bool) -> Tensor:
        """Dipoles (M, B, 3); differentiable by the parameters of the charge networks if they `learn`."""
        assert self.model.charges is not None
        data, system = self.labelled, torch.from_numpy(np.sort(rows.system))
        inputs = ((element, torch.from_numpy(vectors[part])) for element, part in rows.groups)
        positions = torch.from_numpy(np.asarray(data.positions)[data.atoms(indices)])
        total = torch.from_numpy(np.asarray(data.charge)[indices].astype(np.int64))
        with torch.set_grad_enabled(learn):
            raw = self.model.outputs(self.model.charges, inputs, torch.from_numpy(self.environments.columns))
            charges = balanced(raw[:, torch.from_numpy(np.argsort(rows.order))], system, total)
            return dipoles(charges, positions, system, len(indices))
