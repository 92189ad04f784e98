"""Dimers whose cations have a hole: geometries, basis sets and distances of the benchmark of localisation."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from pyscf import gto

STARTS = {"first": 0.9, "second": 0.1, "both": 0.5}
"""Share of the hole of the starting density that is on the first fragment."""
Atoms = list[tuple[str, tuple[float, float, float]]]


@dataclass(frozen=True)
class Case:
    """Dimer; distances (Angstrom) between the nuclei of He or between the planes of the others."""

    name: str
    basis: str
    distances: tuple[float, ...]
    identical: bool = True

    @property
    def starts(self) -> list[str]:
        """Starting densities that differ."""
        return [start for start in STARTS if not (self.identical and start == "second")]


CASES = {
    "helium": Case("He2+", "cc-pvdz", (1.1, 1.5, 2.0, 3.0, 4.0, 5.0)),
    "ethene": Case("(C2H4)2+", "def2-svp", (3.5,)),
    "benzene": Case("(C6H6)2+", "def2-svp", (3.5, 5.0)),
    "bases": Case("adenine-thymine+", "def2-svp", (3.4,), identical=False),
}

BASES = {  # Angstrom, relaxed with ANI-2x
    "adenine": """
        C -2.330 -0.575 0.012; N -1.991 0.757 -0.025; C -0.621 0.812 -0.007; C -0.221 -0.517 0.039;
        N -1.305 -1.379 0.053; C 1.166 -0.740 0.067; N 1.995 0.310 0.052; C 1.454 1.537 0.007;
        N 0.174 1.889 -0.026; N 1.683 -1.991 0.085; H -3.367 -0.887 0.008; H -2.613 1.550 -0.059;
        H 2.172 2.356 -0.006; H 1.065 -2.773 0.240; H 2.671 -2.096 0.247
    """,
    "thymine": """
        C -2.638 0.791 0.000; C -1.167 0.536 0.000; C -0.232 1.498 0.000; N 1.118 1.228 0.000;
        C 1.639 -0.054 0.000; O 2.830 -0.282 0.000; N 0.666 -1.031 0.000; C -0.723 -0.865 0.000;
        O -1.462 -1.831 0.000; H -2.864 1.862 0.000; H -3.109 0.333 0.876; H -3.109 0.333 -0.876;
        H -0.495 2.553 0.000; H 1.800 1.972 0.000; H 1.001 -1.986 0.000
    """,
}


def fragments(case: str) -> tuple[Atoms, Atoms]:
    """Both fragments, in the plane z = 0 and centred."""
    if case == "helium":
        return [("He", (0.0, 0.0, 0.0))], [("He", (0.0, 0.0, 0.0))]
    if case == "bases":
        return base("adenine"), base("thymine")
    if case == "ethene":  # experiment
        carbons: Atoms = [("C", (0.6695 * sign, 0.0, 0.0)) for sign in (1, -1)]
        hydrogens: Atoms = [("H", (1.2321 * x, 0.9289 * y, 0.0)) for x in (1, -1) for y in (1, -1)]
        return carbons + hydrogens, carbons + hydrogens
    turns = np.exp(1j * np.pi / 3 * np.arange(6))
    rings = (("C", 1.397 * turns), ("H", (1.397 + 1.084) * turns))  # experiment
    benzene = [(symbol, (float(turn.real), float(turn.imag), 0.0)) for symbol, ring in rings for turn in ring]
    return benzene, benzene


def base(name: str) -> Atoms:
    """Nucleobase with the mean of its heavy atoms at the origin."""
    rows = [line.split() for line in BASES[name].split(";")]
    positions = np.array([[float(word) for word in row[1:]] for row in rows])
    positions -= positions[[row[0] != "H" for row in rows]].mean(axis=0)
    return [(row[0], (x, y, z)) for row, (x, y, z) in zip(rows, positions.tolist(), strict=True)]


def molecule(atoms: Atoms, charge: int, basis: str) -> gto.Mole:
    """Neutral closed shell, or its cation, a doublet."""
    return gto.M(atom=atoms, charge=charge, spin=charge, basis=basis, verbose=0)


def shifted(atoms: Atoms, distance: float) -> Atoms:
    """Atoms moved along z."""
    return [(symbol, (x, y, z + distance)) for symbol, (x, y, z) in atoms]
