"""First geometries of conformers: random turns about single bonds, or RDKit's distance geometry."""

from __future__ import annotations

import numpy as np

from fusion.chemistry import units
from fusion.chemistry.system import System
from fusion.errors import CalculationError, InputError
from fusion.tasks.geometry.bonds import Bonds, turned

TORSIONS, RDKIT = "torsions", "rdkit"


def embedded(system: System, number: int, how: str, random: np.random.Generator) -> np.ndarray:
    """Geometries (n, A, 3) in bohr, the system's own first; by turns of bonds these are at most `number`.

    Raises InputError without RDKit, or for an unknown way, and CalculationError where RDKit finds no geometry.
    """
    if how == TORSIONS:
        return np.concatenate((system.positions[None], turned(Bonds.of(system), number - 1, random)))
    return np.concatenate((system.positions[None], _by_rdkit(system, number - 1, int(random.integers(1 << 30)))))


def check(how: str) -> None:
    """Raise InputError for an unknown way, or one whose package is missing."""
    from importlib.util import find_spec

    if how not in (TORSIONS, RDKIT):
        raise InputError(f"task.embed must be {TORSIONS} or {RDKIT}, not {how!r}")
    if how == RDKIT and find_spec("rdkit") is None:
        raise InputError("task.embed=rdkit needs the package rdkit: pip install 'aiqm-fusion[rdkit]'")


def _by_rdkit(system: System, number: int, seed: int) -> np.ndarray:
    """Geometries by experimental torsion angles and distance geometry (Riniker and Landrum 2015)."""
    from rdkit import Chem
    from rdkit.Chem import AllChem, rdDetermineBonds

    lines = [f"{s} {x:.8f} {y:.8f} {z:.8f}" for s, (x, y, z) in zip(system.symbols, _angstrom(system), strict=True)]
    molecule = Chem.MolFromXYZBlock("\n".join([str(len(lines)), "", *lines]))
    try:
        rdDetermineBonds.DetermineBonds(molecule, charge=system.charge)
    except ValueError as error:
        raise CalculationError(f"RDKit finds no bonds of {system.name}: {str(error).splitlines()[0]}") from error
    found = AllChem.EmbedMultipleConfs(molecule, number, randomSeed=seed)
    if not len(found):
        raise CalculationError(f"RDKit finds no geometry of {system.name}: task.embed={TORSIONS} turns its bonds")
    places = [conformer.GetPositions() for conformer in molecule.GetConformers()]
    return np.array(places) * units.BOHR_PER_ANGSTROM


def _angstrom(system: System) -> np.ndarray:
    return np.asarray(system.positions * units.ANGSTROM_PER_BOHR)
