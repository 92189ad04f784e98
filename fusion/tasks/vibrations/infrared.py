"""Infrared intensities of normal modes in the double-harmonic approximation.

Wilson, Decius and Cross, Molecular Vibrations (1955), ch. 7: the integrated absorption coefficient of a fundamental is

    A_i = N_A / (12 epsilon_0 c^2) |d mu / d Q_i|^2,

with the mass-weighted normal coordinate Q_i.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from scipy import constants

from fusion.chemistry import units
from fusion.tasks.geometry.normal_modes import NormalModes

KM_MOL: Final[float] = (
    constants.N_A / (12.0 * constants.epsilon_0 * constants.c**2) * constants.e**2 / constants.atomic_mass / 1000.0
)
"""km/mol of one e^2/dalton: 42.256 km/mol per (debye/Angstrom)^2/dalton."""


def intensities(modes: NormalModes, dipole_derivatives: np.ndarray) -> np.ndarray:
    """Intensities (n,) in km/mol of n modes from the derivatives (3A, 3) of the dipole in e.

    The intensity of an imaginary mode has no meaning.
    """
    flat = modes.displacements.reshape(len(modes.frequencies), len(dipole_derivatives))
    return strengths(flat @ dipole_derivatives, modes.reduced_masses)


def strengths(slopes: np.ndarray, reduced_masses: np.ndarray) -> np.ndarray:
    """Intensities (n,) in km/mol from the derivatives (n, 3), e, of the dipole along displacements of norm one, and
    their reduced masses (n,) in dalton."""
    return np.asarray(KM_MOL * (slopes**2).sum(axis=1) / reduced_masses)


def dipole_magnitude(dipole: np.ndarray) -> float:
    """Magnitude in debye of a dipole (3,) in e bohr."""
    return float(np.linalg.norm(dipole) * units.DEBYE_PER_ATOMIC_DIPOLE)
