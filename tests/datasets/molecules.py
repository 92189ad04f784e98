"""Conformations with labels in closed form: energies of free atoms and Morse bonds between all pairs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import h5py
import numpy as np
from ase import Atoms, units
from ase.calculators.singlepoint import SinglePointCalculator
from ase.data import covalent_radii
from ase.io import write

from fusion import datasets
from fusion.datasets.naming import absolute, node

HARTREE, BOHR = units.Hartree, units.Bohr
KCAL = {"energy_unit": "kcal/mol"}
_D, _A = 0.17, 1.1
_SHAPES = {
    "OHH": [[0, 0, 0], [0.96, 0, 0], [-0.24, 0.93, 0]],
    "CO": [[0, 0, 0], [1.13, 0, 0]],
    "NHHH": [[0, 0, 0.1], [0.94, 0, -0.27], [-0.47, 0.81, -0.27], [-0.47, -0.81, -0.27]],
}


def labels(numbers: np.ndarray, positions: np.ndarray) -> tuple[float, np.ndarray]:
    """Energy (hartree) and forces (hartree/bohr) at positions (A, 3) in bohr."""
    energy, forces = float(np.sum(-0.5 * numbers.astype(float) ** 2.39)), np.zeros_like(positions)
    for i in range(len(numbers)):
        for j in range(i):
            vector = positions[i] - positions[j]
            distance = float(np.linalg.norm(vector))
            rest = (covalent_radii[numbers[i]] + covalent_radii[numbers[j]]) / BOHR
            decay = np.exp(-_A * (distance - rest))
            energy += _D * ((1 - decay) ** 2 - 1)
            pull = -2 * _D * _A * (1 - decay) * decay * vector / distance
            forces[i] += pull
            forces[j] -= pull
    return energy, forces


def frames(number: int = 24, seed: int = 0, shapes: tuple[str, ...] = tuple(_SHAPES)) -> list[Atoms]:
    """Structures near the minima of three molecules by turns, with labels in eV and Angstrom."""
    random, structures = np.random.default_rng(seed), []
    for index in range(number):
        shape = shapes[index % len(shapes)]
        atoms = Atoms([*shape], np.array(_SHAPES[shape]) + random.normal(scale=0.06, size=(len(shape), 3)))
        energy, forces = labels(atoms.numbers, atoms.positions / BOHR)
        atoms.calc = SinglePointCalculator(atoms, energy=energy * HARTREE, forces=forces * HARTREE / BOHR)
        structures.append(atoms)
    return structures


def energies(many: list[Atoms]) -> np.ndarray:
    """Energies of the structures, hartree."""
    return np.array([atoms.get_potential_energy() for atoms in many]) / HARTREE


def forces(many: list[Atoms]) -> np.ndarray:
    """Forces (N, 3) of all atoms, hartree/bohr."""
    return np.concatenate([atoms.get_forces() for atoms in many]) * BOHR / HARTREE


def write_hdf5(path: Path, many: list[Atoms], style: str = "pyanitools", high: int = 0) -> Path:
    """Write one of the layouts of the ANI data sets; the last `high` conformations are those of high energy."""
    with h5py.File(path, "w") as file:
        for formula in dict.fromkeys(str(atoms.symbols) for atoms in many):
            same = [atoms for atoms in many if str(atoms.symbols) == formula]
            group = file.create_group(f"set/{formula}" if style == "pyanitools" else formula)
            positions = np.array([atoms.positions for atoms in same])
            first = len(same) - high
            if style == "pyanitools":
                group["species"] = np.array([symbol.encode() for symbol in same[0].symbols])
                group["coordinates"], group["energies"] = positions[:first], energies(same[:first])
                group["forces"] = np.array([atoms.get_forces() for atoms in same[:first]]) / HARTREE
                group["coordinatesHE"], group["energiesHE"] = positions[first:], energies(same[first:])
            else:
                group["atomic_numbers"], group["coordinates"] = same[0].numbers.astype(np.uint8), positions
                group["wb97x_dz.energy"] = energies(same)
                group["wb97x_dz.forces"] = np.array([atoms.get_forces() for atoms in same]) / HARTREE
    return path


def write_npz(path: Path, many: list[Atoms], padded: bool) -> Path:
    """Write kcal/mol and Angstrom, like rMD17 (one molecule) or padded with zeros."""
    per = HARTREE * units.mol / units.kcal  # kcal/mol in a hartree
    largest = max(map(len, many))
    numbers, positions = np.zeros((len(many), largest), int), np.zeros((len(many), largest, 3))
    pulls = np.zeros_like(positions)
    for row, atoms in enumerate(many):
        numbers[row, : len(atoms)], positions[row, : len(atoms)] = atoms.numbers, atoms.positions
        pulls[row, : len(atoms)] = atoms.get_forces() / HARTREE * per
    content = {"energies": energies(many) * per, "forces": pulls}
    content |= {"Z": numbers, "R": positions} if padded else {"nuclear_charges": numbers[0], "coords": positions}
    np.savez(path, **content)
    return path


def write_folder(path: Path, many: list[Atoms]) -> Path:
    path.mkdir()
    for number, atoms in enumerate(many):
        write(path / f"{number:03d}.xyz", atoms, format="extxyz")
    return path


def write_extxyz(path: Path, many: list[Atoms]) -> Path:
    """Write `data.xyz` into the directory `path`."""
    write(path / "data.xyz", many, format="extxyz")
    return path / "data.xyz"


def load(path: Path, **options: Any) -> datasets.Labelled:
    """Load a data file as `data=PATH data.KEY=VALUE` does."""
    return datasets.load(absolute(node({"data": str(path), **options}), path.parent), path.parent)
