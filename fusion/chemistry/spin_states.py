"""Notes on structures without a stated spin whose lowest spin is doubtful.

Atoms follow Hund's rules as ASE tabulates them. Molecules with two electrons in a degenerate pair of orbitals are
triplets: 12 valence electrons of two main-group atoms (O2, S2, SO, NF), the hydrides NH, PH, OH+, and CH2, NH2+, B2.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from fusion.chemistry.system import System

_WORDS = ("singlet", "doublet", "triplet", "quartet", "quintet", "sextet", "septet", "octet")
_MOST_ATOMS = 200
"""Largest number of atoms of a system that is searched for separate molecules."""
_APART_ANGSTROM = 0.7
"""Atoms are separate if their distance exceeds the sum of their covalent radii by this."""


def name(multiplicity: int) -> str:
    """Name of a multiplicity: `singlet`, `doublet`, ..., `multiplicity 9`."""
    return _WORDS[multiplicity - 1] if multiplicity <= len(_WORDS) else f"multiplicity {multiplicity}"


def note(system: System) -> str | None:
    """Return a note for a system whose assumed spin is doubtful or an open shell; None for any other."""
    if not system.spin_assumed:
        return None
    reason = _reason(system)
    if reason is None:
        return None
    return f"no spin is stated for {system.formula}: it is taken as a {name(system.multiplicity)}; {reason}"


def ground_multiplicity(symbols: Sequence[str], charge: int = 0) -> int | None:
    """Multiplicity 2S + 1 of the ground state of an atom, or a small molecule with degenerate orbitals; or None."""
    if len(symbols) == 1:
        return _of_atom(symbols[0], charge)
    return 3 if _is_triplet(symbols, charge) else None


def _reason(system: System) -> str | None:
    ground = ground_multiplicity(system.symbols, system.charge)
    if ground is not None:
        differs = ground != system.multiplicity
        return f"its ground state is a {name(ground)} (multiplicity={ground})" if differs else None
    metals = [symbol for symbol in dict.fromkeys(system.symbols) if _is_transition_metal(symbol)]
    if metals:
        return f"{', '.join(metals)} may have more unpaired electrons (multiplicity={system.multiplicity + 2}, ...)"
    if system.spin and system.n_electrons > 1:
        odd = f"its number of electrons, {system.n_electrons}, is odd"
        return odd if system.charge else f"{odd}: a radical, unless a charge was left out (charge=1 or -1)"
    part = None if system.charge or any(system.pbc) else _open_part(system)
    return None if part is None else f"it holds {part[0]}, whose ground state is a {name(part[1])}"


def _open_part(system: System) -> tuple[str, int] | None:
    """Formula and multiplicity of the first separate molecule or atom whose ground state has a higher spin."""
    from ase.data import covalent_radii
    from scipy.sparse.csgraph import connected_components

    from fusion.chemistry.formulas import formula
    from fusion.chemistry.units import ANGSTROM_PER_BOHR

    if not 1 < len(system.symbols) <= _MOST_ATOMS:
        return None
    radii = covalent_radii[system.numbers]
    distances = np.linalg.norm(system.positions[:, None] - system.positions, axis=-1) * ANGSTROM_PER_BOHR
    near = distances < radii[:, None] + radii + _APART_ANGSTROM
    number, labels = connected_components(near, directed=False)
    for part in range(number if number > 1 else 0):
        symbols = [symbol for symbol, label in zip(system.symbols, labels, strict=True) if label == part]
        ground = ground_multiplicity(symbols)
        if ground is not None and ground > 1:
            return formula(symbols), ground
    return None


def _of_atom(symbol: str, charge: int) -> int | None:
    """Multiplicity of an atom; a main-group ion has that of the neutral atom with the same number of electrons."""
    from ase.data import atomic_numbers, chemical_symbols, ground_state_magnetic_moments

    electrons = atomic_numbers[symbol] - charge
    if charge and (_is_transition_metal(symbol) or not 0 < electrons < len(chemical_symbols)):
        return None
    isoelectronic = chemical_symbols[electrons]
    if charge and _is_transition_metal(isoelectronic):
        return None
    moment = float(ground_state_magnetic_moments[electrons])
    return None if np.isnan(moment) else round(moment) + 1


def _is_triplet(symbols: Sequence[str], charge: int) -> bool:
    valences = [_valence(symbol) for symbol in symbols]
    if None in valences:
        return False
    electrons = sum(valence for valence in valences if valence is not None) - charge
    hydrogens = sum(symbol == "H" for symbol in symbols)
    if len(symbols) == 2:
        borons = charge == 0 and set(symbols) <= {"B", "Al"}
        return borons or (hydrogens, electrons) in ((0, 12), (1, 6))
    return len(symbols) == 3 and (hydrogens, electrons) == (2, 6) and not {"C", "N"}.isdisjoint(symbols)


def _valence(symbol: str) -> int | None:
    """Number of valence electrons of an atom of groups 1, 2 and 13 to 17; None for others."""
    from ase.data import atomic_numbers

    number = atomic_numbers[symbol]
    for noble, following in ((0, 2), (2, 10), (10, 18), (18, 36), (36, 54), (54, 86)):
        if noble < number < following:
            place, length = number - noble, following - noble
            if length == 2 or place <= 2:
                return place
            group = place if length == 8 else place - (length - 8)
            return group if group >= 3 else None
    return None


def _is_transition_metal(symbol: str) -> bool:
    """True for groups 3 to 11, lanthanides and actinides."""
    from ase.data import atomic_numbers

    number = atomic_numbers[symbol]
    return any(first <= number <= last for first, last in ((21, 29), (39, 47), (57, 79), (89, 111)))
