"""Export of ANI models to other programs, with a comparison of the written file with fusion's own kernels."""

from __future__ import annotations

import copy
import importlib.util
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import torch
from ase import Atoms
from torch import Tensor

from fusion.chemistry.structures import from_atoms
from fusion.chemistry.system import System
from fusion.chemistry.units import ANGSTROM_PER_BOHR
from fusion.errors import CalculationError, InputError
from fusion.potentials import PotentialMethod
from fusion.zoo.card import Card
from fusion_ani.network import ANI

_PACKAGES = {"torchani": "torchani", "metatomic": "metatomic-torch"}
_ENERGY_LIMIT, _FORCE_LIMIT = 1e-7, 1e-6
"""Largest differences in hartree and hartree/bohr; torchani's activation is accurate to about 1e-7 in float64."""
_ATOMS, _ATOM_BOX_ANGSTROM, _CLOSEST_ANGSTROM = 14, 2.5, 0.9
"""Smallest number of atoms of the compared structures, edge of the cube for each atom, and smallest distance."""

Evaluation = Callable[[Tensor, Tensor, Tensor | None], tuple[Tensor, Tensor]]
"""Energy in hartree and forces in hartree/Angstrom from atomic numbers, positions and cell in Angstrom."""


def export(model: ANI, form: str, path: Path, card: Card) -> str:
    """Write `model` to `path` as one of its formats, and compare the file with the model in float64.

    Returns a sentence on the largest differences. Raises InputError if the format's package is missing, and
    CalculationError if the numbers differ.
    """
    if importlib.util.find_spec(form) is None:
        raise InputError(f"--to {form} needs the package {_PACKAGES[form]}: pip install {_PACKAGES[form]}")
    if form == "torchani":
        from fusion_ani import torchani_state

        torchani_state.write(model, path, card)
        return compared(model, torchani_state.evaluation(path), form)
    from fusion_ani import metatomic_check, metatomic_model

    metatomic_model.write(model, path, card)
    return compared(model, metatomic_check.evaluation(path), form)


def compared(model: ANI, evaluation: Evaluation, form: str) -> str:
    """Compare the energies and forces of an exported model with those of fusion; return a sentence on it."""
    method = PotentialMethod("ani", copy.deepcopy(model), dtype="float64")
    systems = list(structures(model))
    energy_difference, force_difference = 0.0, 0.0
    for result in method.calculate(systems, {"energy", "forces"}):
        assert result.energy is not None
        system = result.system
        positions = torch.tensor(system.positions * ANGSTROM_PER_BOHR)
        cell = None if system.cell is None else torch.tensor(system.cell * ANGSTROM_PER_BOHR)
        energy, forces = evaluation(torch.tensor(system.numbers), positions, cell)
        energy_difference = max(energy_difference, abs(float(energy) - result.energy))
        difference = forces.numpy() * ANGSTROM_PER_BOHR - result.properties["forces"]
        force_difference = max(force_difference, float(np.abs(difference).max()))
    sentence = (
        f"{len(systems)} structures: energies differ by at most {energy_difference:.1e} Ha, "
        f"forces by {force_difference:.1e} Ha/bohr"
    )
    if not (energy_difference < _ENERGY_LIMIT and force_difference < _FORCE_LIMIT):
        raise CalculationError(f"the {form} model does not equal fusion's; {sentence}")
    return sentence


def structures(model: ANI) -> Iterator[System]:
    """Yield random structures that have all elements of the model: three molecules, and a periodic one."""
    generator = np.random.default_rng(0)
    atoms = max(_ATOMS, len(model.elements))
    symbols = [model.elements[index % len(model.elements)] for index in range(atoms)]
    box = _ATOM_BOX_ANGSTROM * atoms ** (1 / 3)
    for periodic in (False, False, False, True):
        yield from_atoms(Atoms(symbols, _spread(generator, atoms, box), cell=np.eye(3) * box, pbc=periodic))


def _spread(generator: np.random.Generator, atoms: int, box: float) -> np.ndarray:
    """Random positions (A, 3) in a periodic box, no two of them closer than the smallest distance, in Angstrom."""
    positions: list[np.ndarray] = []
    while len(positions) < atoms:
        candidate = generator.uniform(0.0, box, 3)
        shifts = np.array([candidate - other for other in positions]).reshape(-1, 3)
        shifts -= box * np.round(shifts / box)
        if not len(shifts) or np.linalg.norm(shifts, axis=1).min() > _CLOSEST_ANGSTROM:
            positions.append(candidate)
    return np.array(positions)
