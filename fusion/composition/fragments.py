"""Part of a molecule as a molecule of its own: where covalent bonds are cut, hydrogen atoms take the ends.

A link atom stands on the bond it replaces, at the fraction g of its length: positions of the fragment are linear in
those of the molecule: S. Dapprich, I. Komaromi, K. S. Byun, K. Morokuma, M. J. Frisch, J. Mol. Struct. (Theochem)
461-462, 1 (1999), equations 10 to 15. Lengths in bohr, atoms counted from 0.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from ase.data import atomic_numbers, covalent_radii

from fusion.errors import InputError
from fusion.system import System, lowest_spin
from fusion.units import ANGSTROM_PER_BOHR

BONDED = 1.25
"""Atoms nearer than this times the sum of their covalent radii (Cordero et al. 2008) are bonded."""
DOUBLE, PARTIAL = 1.7, 1.35
"""Bond orders from which a cut is refused, and from which it is remarked upon."""
_PAULING_ANGSTROM = 0.3  # length of a bond of order n: that of a single bond - 0.3 ln n (Pauling 1947, rounded)


@dataclass(frozen=True)
class Cut:
    """A bond between an atom `inside` and one `outside`; the link atom stands at the fraction `g` of it."""

    inside: int
    outside: int
    g: float
    order: float

    def described(self, system: System) -> str:
        """`C1–C2`, atoms counted from 1."""
        return f"{system.symbols[self.inside]}{self.inside + 1}–{system.symbols[self.outside]}{self.outside + 1}"


@dataclass(frozen=True, eq=False)
class Fragment:
    """A part of a molecule: the `system` that is calculated, and `jacobian` (F, A), its positions by the molecule's."""

    system: System
    jacobian: np.ndarray
    cuts: tuple[Cut, ...]

    def coordinates(self) -> np.ndarray:
        """The Jacobian (3F, 3A) of all coordinates."""
        return np.kron(self.jacobian, np.eye(3))


def fragment(
    system: System,
    atoms: Sequence[int],
    cuts: Sequence[Cut],
    charge: int | None = None,
    spin: int | None = None,
) -> Fragment:
    """The molecule of `atoms` and a hydrogen atom for each of `cuts`.

    Charge and spin are those given; for a neutral closed shell they are zero where not given. Raises InputError where
    they cannot be known, or cannot be.
    """
    jacobian = np.zeros((len(atoms) + len(cuts), len(system.symbols)))
    jacobian[range(len(atoms)), atoms] = 1.0
    for row, cut in enumerate(cuts, start=len(atoms)):
        jacobian[row, cut.inside], jacobian[row, cut.outside] = 1.0 - cut.g, cut.g
    symbols = (*(system.symbols[atom] for atom in atoms), *("H" for _ in cuts))
    if charge is None:
        if system.charge:
            raise InputError(
                f"{system.name} has charge {system.charge:+d}: say how much of it is on these atoms, charge="
            )
        charge = 0
    assumed = spin is None and system.spin_assumed
    if spin is None:
        spin = lowest_spin(symbols, charge)
        if system.spin or spin:
            whose = f"{system.name} has spin {system.spin}" if system.spin else "these atoms have an odd electron"
            raise InputError(f"{whose}: say which spin (N_up - N_down) they have, spin=")
    name = f"part of {system.name}"
    part = System(name, symbols, jacobian @ system.positions, charge, spin, spin_assumed=assumed)
    return Fragment(part, jacobian, tuple(cuts))


def bonds_across(system: System, atoms: Sequence[int]) -> tuple[Cut, ...]:
    """The covalent bonds between `atoms` and the others, by distance."""
    outside = np.setdiff1d(np.arange(len(system.symbols)), atoms)
    radii = np.array([covalent_radii[number] for number in system.numbers])
    found = []
    for atom in atoms:
        distances = np.linalg.norm(system.positions[outside] - system.positions[atom], axis=1) * ANGSTROM_PER_BOHR
        near = distances < BONDED * (radii[outside] + radii[atom])
        found += [cut(system, atom, int(other)) for other in outside[near]]
    return tuple(found)


def cut(system: System, inside: int, outside: int) -> Cut:
    """The cut of the bond between two atoms. g is the ratio of the covalent radii's sums with and without hydrogen."""
    here, there = (covalent_radii[atomic_numbers[system.symbols[atom]]] for atom in (inside, outside))
    hydrogen = covalent_radii[1]
    length = float(np.linalg.norm(system.positions[inside] - system.positions[outside])) * ANGSTROM_PER_BOHR
    order = math.exp((here + there - length) / _PAULING_ANGSTROM)
    return Cut(inside, outside, float((here + hydrogen) / (here + there)), order)


def refuse_double(system: System, cuts: Sequence[Cut]) -> None:
    """Raise InputError for a bond that a hydrogen atom cannot stand for."""
    for one in cuts:
        if one.order >= DOUBLE:
            raise InputError(
                f"the bond {one.described(system)} is a multiple one (order about {one.order:.1f}), for which hydrogen "
                "is no stand-in: move the border to a single bond, or name the bonds to cut, "
                f"cuts=[[{one.inside + 1},{one.outside + 1}]], if this is meant"
            )


def remark(system: System, cuts: Sequence[Cut]) -> str | None:
    """What is to be said about bonds that are cut; None for single bonds."""
    doubtful = [f"{one.described(system)} of order about {one.order:.1f}" for one in cuts if one.order >= PARTIAL]
    return f"cuts conjugated bonds: {', '.join(doubtful)}" if doubtful else None
