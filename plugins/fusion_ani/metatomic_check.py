"""Evaluation of a metatomic file, as a simulation program does it: neighbours from outside, forces by autograd."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from ase import Atoms
from ase.neighborlist import neighbor_list
from metatensor.torch import Labels, TensorBlock
from metatomic.torch import (
    ModelEvaluationOptions,
    ModelOutput,
    System,
    load_atomistic_model,
    register_autograd_neighbors,
)
from torch import Tensor

from fusion.chemistry.units import HARTREE_PER_EV

_SAMPLES = ["first_atom", "second_atom", "cell_shift_a", "cell_shift_b", "cell_shift_c"]


def evaluation(path: Path) -> Callable[[Tensor, Tensor, Tensor | None], tuple[Tensor, Tensor]]:
    """Return a function of atomic numbers, positions (N, 3) and a cell in Angstrom.

    It returns the energy () in hartree and the forces (N, 3) in hartree/Angstrom of the model in the file.
    """
    model = load_atomistic_model(str(path))
    options = ModelEvaluationOptions(length_unit="Angstrom", outputs={"energy": ModelOutput(unit="eV")})
    (neighbours,) = model.requested_neighbor_lists()

    def evaluated(numbers: Tensor, positions: Tensor, cell: Tensor | None) -> tuple[Tensor, Tensor]:
        positions = positions.clone().requires_grad_(True)
        box = torch.zeros(3, 3, dtype=positions.dtype) if cell is None else cell
        periodic = torch.full((3,), cell is not None)
        system = System(numbers.to(torch.int32), positions, box, periodic)
        block = neighbour_block(numbers, positions, box, cell is not None, neighbours.cutoff)
        register_autograd_neighbors(system, block, check_consistency=True)
        system.add_neighbor_list(neighbours, block)
        energy = model([system], options, check_consistency=True)["energy"].block().values.sum()
        (gradient,) = torch.autograd.grad(energy, positions)
        return HARTREE_PER_EV * energy.detach(), -HARTREE_PER_EV * gradient

    return evaluated


def neighbour_block(numbers: Tensor, positions: Tensor, cell: Tensor, periodic: bool, cutoff: float) -> TensorBlock:
    """List of all pairs within the cutoff, in both directions, as metatomic wants it."""
    atoms = Atoms(numbers.numpy(), positions.detach().numpy(), cell=cell.numpy(), pbc=periodic)
    first, second, vectors, shifts = neighbor_list("ijDS", atoms, cutoff)
    samples = np.concatenate([first[:, None], second[:, None], shifts], axis=1)
    return TensorBlock(
        values=torch.tensor(vectors)[:, :, None],
        samples=Labels(_SAMPLES, torch.tensor(samples, dtype=torch.int32)),
        components=[Labels.range("xyz", 3)],
        properties=Labels.range("distance", 1),
    )
