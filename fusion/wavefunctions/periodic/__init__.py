"""Periodic wavefunctions: the cell, features and distances with its periodicity, and plane waves.

A wavefunction of a periodic system at the Gamma point is a real function with the period of the cell in every electron.
It follows from functions of the angles theta_m = b_m . r, with reciprocal vectors b_m of the cell (`cell`): features of
electrons and pairs (`features`), the Jastrow factor (`jastrow`), orbitals and envelopes (`plane_waves`). `mean_field`
has the exact Hartree-Fock energy of the electron gas.
"""

from fusion.wavefunctions.periodic.cell import Cell, cell_of
from fusion.wavefunctions.periodic.features import Angles, PeriodicPairs, periodic_features
from fusion.wavefunctions.periodic.jastrow import PeriodicJastrow
from fusion.wavefunctions.periodic.plane_waves import PlaneWaveEnvelope, PlaneWaveOrbitals

__all__ = [
    "Angles",
    "Cell",
    "PeriodicJastrow",
    "PeriodicPairs",
    "PlaneWaveEnvelope",
    "PlaneWaveOrbitals",
    "cell_of",
    "periodic_features",
]
