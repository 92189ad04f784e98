"""Raman scattering by normal modes: Placzek's polarisability theory in the double-harmonic approximation.

D. A. Long, The Raman Effect (2002), ch. 4 and 5; the same formulas with their units in D. Porezag and M. R. Pederson,
Phys. Rev. B 54, 7830 (1996), and J. Neugebauer, M. Reiher, C. Kind and B. A. Hess, J. Comput. Chem. 23, 895 (2002).
With the derivative of the polarisability by a mass-weighted normal coordinate, its mean a' and anisotropy gamma',

    a' = (xx + yy + zz) / 3
    gamma'^2 = ((xx - yy)^2 + (yy - zz)^2 + (zz - xx)^2) / 2 + 3 (xy^2 + yz^2 + zx^2),

light that is polarised linearly and scattered at right angles has

    activity S = 45 a'^2 + 7 gamma'^2,    depolarisation rho = 3 gamma'^2 / (45 a'^2 + 4 gamma'^2).
"""

from __future__ import annotations

from typing import Final

import numpy as np
from scipy import constants

from fusion.chemistry import units

ANGSTROM4: Final[float] = units.ANGSTROM_PER_BOHR**4

_DARK = 1e-4  # Angstrom^4/dalton; below it the depolarisation is noise
_CM = 100.0  # per metre


def activities(slopes: np.ndarray, reduced_masses: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Activities (n,) in Angstrom^4/dalton and depolarisation ratios (n,), from 0 to 3/4, of n modes.

    `slopes`: derivatives (n, 3, 3), bohr^2, of the polarisability along displacements of norm one, with the reduced
    masses (n,) in dalton that belong to them. The ratio is NaN for activities below 1e-4 Angstrom^4/dalton.
    """
    mean = np.trace(slopes, axis1=1, axis2=2) / 3.0
    traceless = 0.5 * (slopes + slopes.transpose(0, 2, 1)) - mean[:, None, None] * np.eye(3)
    scale = ANGSTROM4 / reduced_masses
    isotropic, anisotropic = scale * mean**2, scale * 1.5 * (traceless**2).sum(axis=(1, 2))
    strengths = 45.0 * isotropic + 7.0 * anisotropic
    with np.errstate(invalid="ignore", divide="ignore"):
        ratios = 3.0 * anisotropic / (45.0 * isotropic + 4.0 * anisotropic)
    return strengths, np.where(strengths > _DARK, ratios, np.nan)


def cross_sections(wavenumbers: np.ndarray, strengths: np.ndarray, laser_nm: float, temperature_k: float) -> np.ndarray:
    """Differential cross-sections (n,) in cm^2/sr of the Stokes lines; NaN for imaginary modes.

    (2 pi)^4 / 45 (nu_0 - nu)^4 h / (8 pi^2 c nu) S / (1 - exp(-h c nu / k T)) with `wavenumbers` nu (n,) in cm^-1 and
    activities `strengths` S (n,) in Angstrom^4/dalton. The polarisability is the static one.
    """
    nu = np.where(wavenumbers > 0, wavenumbers, np.nan) * _CM
    activity = strengths * 1e-40 / constants.atomic_mass  # m^4/kg
    zero_point = constants.h / (8.0 * np.pi**2 * constants.c * nu)  # Q^2, kg m^2
    populated = -np.expm1(-constants.h * constants.c * nu / (constants.k * temperature_k))
    shifted = 1e9 / laser_nm - nu
    return np.asarray((2.0 * np.pi) ** 4 / 45.0 * shifted**4 * zero_point * activity / populated * _CM**2)
