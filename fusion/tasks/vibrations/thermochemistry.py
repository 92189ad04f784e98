"""Ideal-gas thermochemistry of a molecule from its harmonic frequencies: rigid rotor, harmonic oscillator.

The partition functions are ASE's (`ase.thermochemistry.IdealGasThermo`; Cramer, Essentials of Computational Chemistry,
2nd ed., chapter 10).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import Any, Final, Literal

import numpy as np
from ase import Atoms
from ase import units as ase_units
from ase.thermochemistry import HarmonicMode, HarmonicThermo, IdealGasThermo, RRHOMode

from fusion.chemistry import units

LOW_CM1: Final[float] = 100.0
"""Modes below it have a doubtful harmonic entropy; the quasi-harmonic one is given as well (Grimme's omega_0)."""

_JOULE_PER_MOL_K: Final[float] = float(ase_units.mol / ase_units.J)  # of one eV/K per molecule

Shape = Literal["monatomic", "linear", "nonlinear"]


def thermochemistry(
    atoms: Atoms,
    energy: float,
    frequencies: np.ndarray,
    shape: Shape,
    symmetry_number: int,
    spin: int,
    temperature_k: float,
    pressure_bar: float,
) -> dict[str, Any]:
    """Enthalpy, entropy and Gibbs energy of an ideal gas; `energy` in hartree, real `frequencies` in cm^-1.

    `atoms` has geometry and masses; `spin` is N_up - N_down (the ground state's degeneracy is spin + 1). `quasi_rrho`
    interpolates the entropy of modes below 100 cm^-1 towards that of a free rotor: S. Grimme, Chem. Eur. J. 18, 9955
    (2012), omega_0 = 100 cm^-1.
    """
    energies = frequencies * ase_units.invcm
    gas = IdealGasThermo(
        energies, shape, atoms=atoms, symmetrynumber=symmetry_number, spin=0.5 * spin, vib_selection="all"
    )
    pascal = pressure_bar * 1e5
    thermal = gas.get_enthalpy(temperature_k, verbose=False)
    entropy = gas.get_entropy(temperature_k, pascal, verbose=False)
    capacity = _heat_capacity(partial(gas.get_enthalpy, verbose=False), temperature_k)
    results: dict[str, Any] = {
        "model": "ideal gas, rigid rotor, harmonic oscillator",
        "temperature_k": temperature_k,
        "pressure_bar": pressure_bar,
        "symmetry_number": symmetry_number,
        "multiplicity": spin + 1,
        **_functions(energy, thermal, entropy, {"heat_capacity_cp_j_per_mol_k": capacity}, temperature_k),
    }
    low = int((frequencies < LOW_CM1).sum())
    if low:
        inertia = float(np.mean(atoms.get_moments_of_inertia()))
        change = sum(_towards_rotor(float(value), inertia, temperature_k) for value in energies)
        results["quasi_rrho"] = {
            "model": "entropy of low modes towards a free rotor, Grimme 2012, omega_0 = 100 cm^-1",
            "low_modes": low,
            "entropy_j_per_mol_k": (entropy + change) * _JOULE_PER_MOL_K,
            "gibbs_hartree": results["gibbs_hartree"] - temperature_k * change * units.HARTREE_PER_EV,
        }
    return results


def held_thermochemistry(
    energy: float, frequencies: np.ndarray, spin: int, temperature_k: float, pressure_bar: float
) -> dict[str, Any]:
    """Thermochemistry of a system with held atoms, from its harmonic modes alone. Arguments as in `thermochemistry`.

    There is no pV term: the enthalpy equals the internal energy, and the Gibbs energy the Helmholtz energy.
    """
    solid = HarmonicThermo(frequencies * ase_units.invcm)
    thermal = solid.get_internal_energy(temperature_k, verbose=False)
    entropy = solid.get_entropy(temperature_k, verbose=False) + ase_units.kB * math.log(spin + 1)
    capacity = _heat_capacity(partial(solid.get_internal_energy, verbose=False), temperature_k)
    return {
        "model": "harmonic oscillators alone: held atoms leave neither translations nor rotations",
        "temperature_k": temperature_k,
        "pressure_bar": pressure_bar,
        "multiplicity": spin + 1,
        **_functions(energy, thermal, entropy, {"heat_capacity_cv_j_per_mol_k": capacity}, temperature_k),
    }


def by_wavenumber(frequencies: np.ndarray, temperature_k: float) -> tuple[np.ndarray, np.ndarray]:
    """Derivatives of enthalpy and Gibbs energy by real `frequencies` (n,) in cm^-1: two arrays (n,) in hartree cm.

    For the energy e of a quantum, x = e / kT and n = 1 / (exp(x) - 1) they are 1/2 + n - x n (n + 1) and 1/2 + n.
    """
    x = frequencies / units.CM1_PER_HARTREE / (units.HARTREE_PER_KELVIN * temperature_k)
    quanta = 1.0 / np.expm1(np.minimum(x, 500.0))
    gibbs = 0.5 + quanta
    return (gibbs - x * quanta * (quanta + 1.0)) / units.CM1_PER_HARTREE, gibbs / units.CM1_PER_HARTREE


def _heat_capacity(thermal: Callable[[float], float], temperature_k: float) -> float:
    """Central difference of `thermal` (eV), J/(mol K)."""
    width = 1e-3 * temperature_k
    above, below = (thermal(temperature_k + sign * width) for sign in (1, -1))
    return (above - below) / (2.0 * width) * _JOULE_PER_MOL_K


def _functions(
    energy: float, thermal: float, entropy: float, heat_capacity: dict[str, float], temperature_k: float
) -> dict[str, float]:
    """Enthalpy, entropy, heat capacity and Gibbs energy; `energy` in hartree, `thermal` in eV, `entropy` in eV/K."""
    return {
        "enthalpy_correction_hartree": thermal * units.HARTREE_PER_EV,
        "enthalpy_hartree": energy + thermal * units.HARTREE_PER_EV,
        "entropy_j_per_mol_k": entropy * _JOULE_PER_MOL_K,
        **heat_capacity,
        "gibbs_correction_hartree": (thermal - temperature_k * entropy) * units.HARTREE_PER_EV,
        "gibbs_hartree": energy + (thermal - temperature_k * entropy) * units.HARTREE_PER_EV,
    }


def _towards_rotor(energy: float, inertia: float, temperature_k: float) -> float:
    """Change of a mode's entropy by the interpolation, eV/K; energy in eV, mean inertia in dalton Angstrom^2."""
    interpolated = RRHOMode(energy, inertia, tau=LOW_CM1).get_entropy(temperature_k, contributions=False)
    return float(interpolated - HarmonicMode(energy).get_vib_entropy_contribution(temperature_k))
