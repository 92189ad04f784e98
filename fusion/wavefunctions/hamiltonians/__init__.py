"""Hamiltonians as sums of terms, each a function of a `Point`."""

from fusion.wavefunctions.hamiltonians.effective_core import EffectiveCore, effective_core
from fusion.wavefunctions.hamiltonians.ewald import Ewald
from fusion.wavefunctions.hamiltonians.hamiltonian import Hamiltonian, LocalEnergy, Term, build, coulomb, molecular
from fusion.wavefunctions.hamiltonians.point import Point
from fusion.wavefunctions.hamiltonians.terms import Coulomb, Kinetic

__all__ = [
    "Coulomb",
    "EffectiveCore",
    "Ewald",
    "Hamiltonian",
    "Kinetic",
    "LocalEnergy",
    "Point",
    "Term",
    "build",
    "coulomb",
    "effective_core",
    "molecular",
]
