"""Basis sets for excited states: Rydberg orbitals reach much further than those of a ground state."""

from __future__ import annotations

from typing import Any

from fusion.chemistry.system import System
from fusion.wavefunctions.hartree_fock import DIFFUSE_PRETRAINING, assigned, basis_label, molecule_in

SMALLEST = 0.015
"""Exponent (1/bohr^2) that the most diffuse s and p functions reach: those of hydrogen's 2s and 2p need 0.02. The p
functions of helium in aug-cc-pVTZ end at 0.2, and its triplet P lies 3 eV too high without more."""

RATIO = 3.0
"""Ratio of the exponents of neighbouring diffuse functions."""

MOMENTA = (0, 1)
"""Angular momenta of the added functions."""


def diffuse_molecule(system: System) -> tuple[Any, str]:
    """Build PySCF's molecule in a triple-zeta basis with diffuse functions, and more of these at the nuclei of the
    largest charge; the second result is a label of the basis.

    Raises InputError without a basis.
    """
    from pyscf import gto

    names = assigned(system, DIFFUSE_PRETRAINING)
    heaviest = system.symbols[int(system.charges.argmax())]
    shells = gto.format_basis({heaviest: names[heaviest]})[heaviest]
    added = [[momentum, [exponent, 1.0]] for momentum in MOMENTA for exponent in _further(shells, momentum)]
    label = basis_label(names) + (" with more diffuse functions" if added else "")
    return molecule_in(system, {**names, heaviest: shells + added}), label


def _further(shells: list[Any], momentum: int) -> list[float]:
    """Exponents below those of the shells of one angular momentum, down to SMALLEST."""
    exponent = min((row[0] for shell in shells if shell[0] == momentum for row in shell[1:]), default=1.0)
    exponents = []
    while exponent > SMALLEST:
        exponent /= RATIO
        exponents.append(exponent)
    return exponents
