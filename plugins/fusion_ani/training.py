"""Training passes of ANI on CPUs: energies, forces and stress of many conformations and their parameters' gradients.

Environment vectors have no parameters, so what depends on the geometry alone is done by compiled kernels, and the
networks by products over all atoms of an element (`dense`); those of charges by torch on the same vectors. With F =
-J^T g the gradient of the forces' part of a loss is that of the directional derivative of the energy along J u, u what
the loss says of the pairs of neighbours.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from fusion.linear_algebra import one_thread
from fusion.potentials.charges import balanced, dipoles
from fusion.potentials.training.passes import Back, Differentiated, Found, add_gradients
from fusion.units import BOHR_PER_ANGSTROM
from fusion_ani.dense import Network, Parameters, Room
from fusion_ani.fused import constants
from fusion_ani.pairs import Pairs, Store

if TYPE_CHECKING:
    from fusion.datasets import Labelled
    from fusion_ani.network import ANI


@dataclass(frozen=True)
class _Group:
    """The atoms of one element in a batch, and every member's network at work on them."""

    element: int
    """Index into the model's elements."""
    atoms: np.ndarray
    """(n,) places among the atoms of the batch."""
    inputs: np.ndarray
    """(M, 2 n, F): environment vectors, and room for their changes."""
    networks: list[Network]


class Passes:
    """`fusion.potentials.training.passes.Passes` of an ANI model on one data set.

    `columns` (F) are those of the published vectors that the elements of the data fill, in their order.
    """

    def __init__(self, model: ANI, labelled: Labelled, memory_gb: float) -> None:
        self.model, self.plain = model, Differentiated(model, labelled)
        self.dtype = np.dtype(str(next(model.parameters()).dtype).removeprefix("torch."))
        cutoff = model.environment.radial_cutoff * BOHR_PER_ANGSTROM
        self.store = Store(labelled, cutoff, self.dtype, memory_gb)
        numbers = torch.from_numpy(np.unique(np.asarray(labelled.numbers)).astype(np.int64))
        self.present = np.sort(model.indices(numbers).numpy())
        known = len(model.elements)
        self.columns = np.sort(model.environment.columns(self.present.tolist(), known))
        self.all_columns = len(self.columns) == model.environment.size(known)
        self.line = model.environment.size(len(self.present))
        self.place = np.full(known, -1)
        self.place[self.present] = np.arange(len(self.present))
        blocks = np.arange(len(self.present))
        high, low = np.maximum(blocks[:, None], blocks), np.minimum(blocks[:, None], blocks)
        pair = low * len(blocks) - low * (low - 1) // 2 + high - low  # rows of the upper triangle
        angular = len(blocks) * model.environment.radial + pair * model.environment.angular
        self.kernel = constants(model.environment, self.dtype), blocks * model.environment.radial, angular
        self.room = Room()

    def __call__(
        self, indices: np.ndarray, forces: bool, stress: bool, learn: bool, dipoles: bool = False
    ) -> tuple[Found, Back | None]:
        """As the core's; what is found is on the CPU, and valid until the next call."""
        if next(self.model.parameters()).device.type != "cpu":
            return self.plain(indices, forces, stress, learn, dipoles)
        from fusion_ani import tangents

        pairs = self.store.batch(indices)
        species = self.model.indices(torch.from_numpy(pairs.numbers)).numpy()
        lists = pairs.vectors, pairs.first, pairs.other, self.place[species]
        groups = self._groups(species, lists)
        sums = np.zeros((self.model.members, len(indices)))
        slopes = np.zeros((self.model.members, *pairs.vectors.shape), self.dtype) if forces or stress else None
        own = self.model.self_energies.values.numpy()[species]
        sums += np.bincount(pairs.system, own, len(indices))
        with one_thread():
            for group in groups:
                rows = len(group.atoms)
                gradients = self._array("gradient", group.element, (len(sums), rows, self.line))
                for member, network in enumerate(group.networks):
                    atomic = network.energies(group.inputs[member]).astype(np.float64)
                    sums[member] += np.bincount(pairs.system[group.atoms], atomic, len(indices))
                    if slopes is not None or learn:
                        network.gradient(None if slopes is None else gradients[member])
                if slopes is not None:
                    flat = gradients.reshape(len(sums), -1)
                    tangents.pulled(*lists, group.atoms, *self.kernel, flat, self.line, slopes)
        found = Found(
            torch.from_numpy(sums),
            torch.from_numpy(pairs.forces(slopes)) if forces and slopes is not None else None,
            torch.from_numpy(pairs.stress(slopes)) if stress and slopes is not None else None,
            self._dipoles(indices, pairs, groups, learn) if dipoles and self.model.charges is not None else None,
        )

        def back(by: Found) -> None:
            self._back(pairs, lists, groups, by)
            if found.dipole is not None:
                add_gradients(self.model, found, Found(by.energy, dipole=by.dipole))

        return found, back if learn else None

    def _dipoles(self, indices: np.ndarray, pairs: Pairs, groups: list[_Group], learn: bool) -> torch.Tensor:
        """(M, B, 3), differentiable in the parameters of the charges' networks where they are to `learn`."""
        assert self.model.charges is not None
        data, system = self.plain.labelled, torch.from_numpy(pairs.system)
        rows = ((group.element, torch.from_numpy(group.inputs[0, : len(group.atoms)])) for group in groups)
        row = np.argsort(np.concatenate([group.atoms for group in groups]))
        positions = torch.from_numpy(np.asarray(data.positions)[data.atoms(indices)])
        total = torch.from_numpy(np.asarray(data.charge)[indices].astype(np.int64))
        with torch.set_grad_enabled(learn):
            raw = self.model.outputs(self.model.charges, rows, torch.from_numpy(self.columns))
            charges = balanced(raw[:, torch.from_numpy(row)], system, total)
            return dipoles(charges, positions, system, len(indices))

    def _groups(self, species: np.ndarray, lists: tuple[Any, ...]) -> list[_Group]:
        """With environment vectors made."""
        from fusion_ani import kernels

        members, groups = self.model.members, []
        order = np.argsort(species, kind="stable")
        ends = np.cumsum(np.bincount(species, minlength=len(self.model.elements)))
        for element in self.present.tolist():
            atoms = order[ends[element - 1] if element else 0 : ends[element]]
            if not len(atoms):
                continue
            inputs = self._array("inputs", element, (members, 2 * len(atoms), self.line))
            vectors = inputs[0, : len(atoms)]
            vectors[:] = 0.0
            kernels.forward(*lists, atoms, *self.kernel, vectors.ravel(), self.line)
            inputs[1:, : len(atoms)] = vectors
            networks = [
                Network(self._parameters(element, member), self.model.alpha, self.room, (element, member))
                for member in range(members)
            ]
            groups.append(_Group(element, atoms, inputs, networks))
        return groups

    def _back(self, pairs: Pairs, lists: tuple[Any, ...], groups: list[_Group], by: Found) -> None:
        """Add the gradients of the parameters to what they have."""
        from fusion_ani import tangents

        directions = None
        if by.forces is not None or by.stress is not None:
            directions = pairs.directions(
                None if by.forces is None else by.forces.numpy(), None if by.stress is None else by.stress.numpy()
            )
        factors = by.energy.numpy()
        if directions is None and not factors.any():  # nothing but dipoles
            return
        with one_thread():
            for group in groups:
                if not any(tensor.requires_grad for tensor in self.model.tensors(group.element)):
                    continue
                rows = len(group.atoms)
                if directions is not None:
                    changes = group.inputs.reshape(len(factors), -1)[:, rows * self.line :]
                    changes[:] = 0.0
                    tangents.pushed(*lists, group.atoms, *self.kernel, directions, changes, self.line)
                for member, network in enumerate(group.networks):
                    gradients = self._gradients(group.element, member)
                    of_atoms = factors[member][pairs.system[group.atoms]].astype(self.dtype)
                    network.learn(of_atoms, directions is not None, gradients)
                    self._add(group.element, member, gradients)

    # -- parameters ------------------------------------------------------------------------------------------------
    def _array(self, name: str, element: int, shape: tuple[int, ...]) -> np.ndarray:
        return self.room.array((name, element), shape, self.dtype)

    def _tensors(self, element: int, member: int) -> tuple[list[np.ndarray], list[np.ndarray], np.ndarray | None]:
        """Weights, biases and the inputs' offset of one member, as the model has them."""
        tensors = [tensor.detach().numpy()[member] for tensor in self.model.tensors(element)]
        half = (len(tensors) - 1) // 2 if len(tensors) % 2 else len(tensors) // 2
        return tensors[:half], tensors[half : 2 * half], tensors[-1] if len(tensors) % 2 else None

    def _parameters(self, element: int, member: int) -> Parameters:
        """In the columns of the data, an offset of the inputs as part of the first biases."""
        weights, biases, offset = self._tensors(element, member)
        if offset is not None:
            biases = [biases[0] + weights[0] @ offset, *biases[1:]]
        if not self.all_columns:
            first = self._array(f"first {member}", element, (len(weights[0]), self.line))
            np.take(weights[0], self.columns, axis=1, out=first, mode="clip")
            weights = [first, *weights[1:]]
        return Parameters(weights, biases)

    def _gradients(self, element: int, member: int) -> Parameters:
        """Arrays of the shapes of `_parameters`, to be written to."""
        weights, biases, _ = self._tensors(element, member)
        shapes = [(len(weights[0]), self.line), *(weight.shape for weight in weights[1:])]
        found = [self._array(f"weights {layer}", element, shape) for layer, shape in enumerate(shapes)]
        shifts = [self._array(f"biases {layer}", element, bias.shape) for layer, bias in enumerate(biases)]
        return Parameters(found, shifts)

    def _add(self, element: int, member: int, gradients: Parameters) -> None:
        """To the gradients of what is trained."""
        weights, _, offset = self._tensors(element, member)
        tensors = self.model.tensors(element)
        found = [*gradients.weights, *gradients.biases]
        for index, tensor in enumerate(tensors):
            if not tensor.requires_grad:
                continue
            if tensor.grad is None:
                tensor.grad = torch.zeros_like(tensor)
            into = tensor.grad.numpy()[member]
            if index == len(found):
                into += gradients.biases[0] @ weights[0]
            elif index == 0 and not self.all_columns:
                into[:, self.columns] += found[0]
            else:
                into += found[index]
            if index == 0 and offset is not None:
                into += np.outer(gradients.biases[0], offset)
