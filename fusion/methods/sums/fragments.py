"""Fragments of a molecule, with hydrogen link atoms at the covalent bonds that are cut.

A link atom lies on the bond that it replaces, at the fraction g of its length, so that the positions of the fragment
are linear in those of the molecule: S. Dapprich, I. Komaromi, K. S. Byun, K. Morokuma, M. J. Frisch, J. Mol. Struct.
(Theochem) 461-462, 1 (1999), equations 10 to 15. Lengths in bohr, atoms counted from 0.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from ase.data import atomic_numbers, covalent_radii

from fusion.chemistry.formulas import lowest_spin
from fusion.chemistry.system import System
from fusion.chemistry.units import ANGSTROM_PER_BOHR
from fusion.errors import InputError

BONDED = 1.25
"""Atoms nearer than this times the sum of their covalent radii (Cordero et al. 2008) are bonded."""
DOUBLE, PARTIAL = 1.7, 1.35
"""Bond orders from which a cut is refused, and from which a remark is made."""
_PAULING_ANGSTROM = 0.3  # length of a bond of order n: that of a single bond - 0.3 ln n (Pauling 1947, rounded)


@dataclass(frozen=True)
class Cut:
    """A cut bond between an atom `inside` and one `outside`; the link atom lies at the fraction `g` of its length."""

    inside: int
    outside: int
    g: float
    order: float

    def described(self, system: System) -> str:
        """Name of the bond with atoms counted from 1: `C1–C2`."""
        return f"{system.symbols[self.inside]}{self.inside + 1}–{system.symbols[self.outside]}{self.outside + 1}"


@dataclass(frozen=True, eq=False)
class Fragment:
    """A part of a molecule: the `system` to calculate, and `jacobian` (F, A), the derivatives of its positions by the
    molecule's."""

    system: System
    jacobian: np.ndarray
    cuts: tuple[Cut, ...]

    def coordinates(self) -> np.ndarray:
        """Jacobian (3F, 3A) of all coordinates."""
        return np.kron(self.jacobian, np.eye(3))


def fragment(
    system: System,
    atoms: Sequence[int],
    cuts: Sequence[Cut],
    charge: int | None = None,
    spin: int | None = None,
) -> Fragment:
    """The fragment of `atoms` with a hydrogen atom for each of `cuts`.

    Charge and spin are zero if they are not given and the molecule is a neutral closed shell. Raises InputError if they
    are needed but not given, or impossible.
    """
    jacobian = np.zeros((len(atoms) + len(cuts), len(system.symbols)))
    jacobian[range(len(atoms)), atoms] = 1.0
    for row, cut in enumerate(cuts, start=len(atoms)):
        jacobian[row, cut.inside], jacobian[row, cut.outside] = 1.0 - cut.g, cut.g
    symbols = (*(system.symbols[atom] for atom in atoms), *("H" for _ in cuts))
    if charge is None:
        if system.charge:
            raise InputError(f"{system.name} has charge {system.charge:+d}: give the charge of these atoms, charge=")
        charge = 0
    assumed = spin is None and system.spin_assumed
    if spin is None:
        spin = lowest_spin(symbols, charge)
        if system.spin or spin:
            reason = f"{system.name} has spin {system.spin}" if system.spin else "these atoms have an odd electron"
            raise InputError(f"{reason}: give the spin (N_up - N_down) of these atoms, spin=")
    name = f"part of {system.name}"
    part = System(name, symbols, jacobian @ system.positions, charge, spin, spin_assumed=assumed)
    return Fragment(part, jacobian, tuple(cuts))


def bonds_across(system: System, atoms: Sequence[int]) -> tuple[Cut, ...]:
    """Covalent bonds between `atoms` and the other atoms, judged by distances."""
    outside = np.setdiff1d(np.arange(len(system.symbols)), atoms)
    radii = np.array([covalent_radii[number] for number in system.numbers])
    cuts = []
    for atom in atoms:
        distances = np.linalg.norm(system.positions[outside] - system.positions[atom], axis=1) * ANGSTROM_PER_BOHR
        near = distances < BONDED * (radii[outside] + radii[atom])
        cuts += [cut(system, atom, int(other)) for other in outside[near]]
    return tuple(cuts)


def cut(system: System, inside: int, outside: int) -> Cut:
    """The cut of a bond between two atoms. g is the length of a bond to hydrogen over that of the bond, by covalent
    radii; the bond order follows from the length (Pauling)."""
    radius_inside, radius_outside = (covalent_radii[atomic_numbers[system.symbols[atom]]] for atom in (inside, outside))
    hydrogen = covalent_radii[1]
    length = float(np.linalg.norm(system.positions[inside] - system.positions[outside])) * ANGSTROM_PER_BOHR
    order = math.exp((radius_inside + radius_outside - length) / _PAULING_ANGSTROM)
    return Cut(inside, outside, float((radius_inside + hydrogen) / (radius_inside + radius_outside)), order)


def refuse_double(system: System, cuts: Sequence[Cut]) -> None:
    """Raise InputError for a multiple bond, which a bond to hydrogen cannot replace."""
    for bond in cuts:
        if bond.order >= DOUBLE:
            raise InputError(
                f"the bond {bond.described(system)} is a multiple bond (order about {bond.order:.1f}), which hydrogen "
                "cannot replace: move the border to a single bond, or confirm the cut by "
                f"cuts=[[{bond.inside + 1},{bond.outside + 1}]]"
            )


def remark(system: System, cuts: Sequence[Cut]) -> str | None:
    """Remark on conjugated bonds that are cut; None for single bonds."""
    doubtful = [f"{bond.described(system)} of order about {bond.order:.1f}" for bond in cuts if bond.order >= PARTIAL]
    return f"cuts conjugated bonds: {', '.join(doubtful)}" if doubtful else None
