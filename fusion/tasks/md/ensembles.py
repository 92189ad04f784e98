"""Ensembles of molecular dynamics: constant energy, temperature, or temperature and pressure. Integrators are ASE's.

Units are ASE's: eV, Angstrom, amu and the corresponding time. An ensemble creates an integrator for atoms with
velocities and a calculator. `state` and `restore` handle what a checkpoint needs besides positions, momenta, cell and
random state.
"""

from __future__ import annotations

import warnings
from copy import copy
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from ase import units
from ase.constraints import FixCom
from ase.md.langevinbaoab import LangevinBAOAB
from ase.md.velocitydistribution import Stationary, ZeroRotation, thermalize_momenta
from ase.md.verlet import VelocityVerlet

from fusion.config.checks import check_switch, is_number
from fusion.errors import InputError

if TYPE_CHECKING:
    from ase import Atoms

    from fusion.chemistry.system import System

BAR = 1e5 * units.Pascal


class Ensemble(Protocol):
    """Equations of motion of molecular dynamics."""

    title: str
    needs: frozenset[str]
    """Properties needed at every step."""
    thermostat: bool
    """True if a thermostat controls the temperature."""

    def check(self, system: System, temperature_k: float) -> None:
        """Raise InputError for wrong settings, and for systems that the ensemble does not apply to."""

    def degrees_of_freedom(self, atoms: Atoms) -> int:
        """Number of free velocity components, the average of 2 Ekin / (k T). Called once, at the start."""

    def integrator(self, atoms: Atoms, timestep_fs: float, temperature_k: float, random: np.random.Generator) -> Any:
        """ASE's dynamics, whose `step()` makes one step."""

    def conserved(self, integrator: Any) -> float | None:
        """Energy (eV) that exact integration would conserve; None where there is none."""

    def state(self, integrator: Any) -> dict[str, Any]:
        """State of the integrator for a checkpoint."""

    def restore(self, integrator: Any, state: dict[str, Any]) -> None:
        """Restore the integrator's `state`."""


class ConstantEnergy:
    """NVE: velocity Verlet. Momentum, and for a molecule angular momentum, are conserved; both are zero unless atoms
    are held."""

    title, thermostat = "NVE, velocity Verlet", False
    needs = frozenset({"forces"})

    def check(self, system: System, temperature_k: float) -> None:
        return None

    def degrees_of_freedom(self, atoms: Atoms) -> int:
        if len(atoms) == 1 or atoms.constraints:
            return free_coordinates(atoms)
        if any(atoms.pbc):
            return 3 * len(atoms) - 3
        moments = atoms.get_moments_of_inertia()
        return 3 * len(atoms) - 3 - int(np.sum(moments > 1e-6 * max(moments.max(), 1e-300)))

    def integrator(self, atoms: Atoms, timestep_fs: float, temperature_k: float, random: np.random.Generator) -> Any:
        return VelocityVerlet(atoms, timestep_fs * units.fs)

    def conserved(self, integrator: Any) -> float | None:
        atoms = integrator.atoms
        return float(atoms.get_potential_energy() + atoms.get_kinetic_energy())

    def state(self, integrator: Any) -> dict[str, Any]:
        return {}

    def restore(self, integrator: Any, state: dict[str, Any]) -> None:
        return None


class Langevin:
    """NVT: Langevin dynamics in the BAOAB splitting (Leimkuhler & Matthews 2013). The centre of mass is at rest unless
    atoms are held.

    Positions are sampled at the right temperature to a high order of the time step. The kinetic temperature of a mode
    of frequency w is too low by the factor 1 - (w dt)^2 / 4.
    """

    title, thermostat = "Langevin", True
    needs = frozenset({"forces"})

    def __init__(self, friction_per_ps: float) -> None:
        self.friction_per_ps = friction_per_ps

    def check(self, system: System, temperature_k: float) -> None:
        if not (is_number(self.friction_per_ps) and self.friction_per_ps > 0):
            raise InputError(
                f"ensemble.friction_per_ps must be positive, not {self.friction_per_ps}; without friction: ensemble=nve"
            )

    def degrees_of_freedom(self, atoms: Atoms) -> int:
        return free_coordinates(atoms) - (3 if len(atoms) > 1 and not atoms.constraints else 0)

    def integrator(self, atoms: Atoms, timestep_fs: float, temperature_k: float, random: np.random.Generator) -> Any:
        return self._integrator(atoms, timestep_fs, temperature_k, random, hydrostatic=True)

    def conserved(self, integrator: Any) -> float | None:
        atoms = integrator.atoms
        return float(atoms.get_potential_energy() + atoms.get_kinetic_energy() - integrator.heat)

    def state(self, integrator: Any) -> dict[str, Any]:
        return {"heat": integrator.heat}

    def restore(self, integrator: Any, state: dict[str, Any]) -> None:
        integrator.heat = state["heat"]

    def _integrator(
        self, atoms: Atoms, timestep_fs: float, temperature_k: float, random: np.random.Generator, **settings: Any
    ) -> Any:
        if len(atoms) > 1 and not atoms.constraints:
            atoms.set_constraint(FixCom())
        tau = 1000.0 * units.fs / self.friction_per_ps
        with warnings.catch_warnings():  # ASE warns that it is untested with FixCom; the tests here cover it
            warnings.simplefilter("ignore")
            return _Thermostat(
                atoms, timestep_fs * units.fs, temperature_K=temperature_k, T_tau=tau, rng=random, **settings
            )


class ConstantPressure(Langevin):
    """NPT: Langevin dynamics of atoms and cell (Quigley & Probert 2004). The pressure includes the kinetic term."""

    title = "NPT, Langevin"
    needs = frozenset({"forces", "stress"})

    def __init__(self, friction_per_ps: float, pressure_bar: float, barostat_ps: float, isotropic: bool) -> None:
        super().__init__(friction_per_ps)
        self.pressure_bar, self.barostat_ps, self.isotropic = pressure_bar, barostat_ps, isotropic

    def check(self, system: System, temperature_k: float) -> None:
        super().check(system, temperature_k)
        if not all(system.pbc):
            raise InputError(f"ensemble=npt needs a cell periodic in three directions; {system.name} is not")
        if system.fixed is not None:
            raise InputError(f"ensemble=npt moves every atom with the cell, but atoms of {system.name} are held")
        if not is_number(self.pressure_bar):
            raise InputError(f"ensemble.pressure_bar must be a number of bar, not {self.pressure_bar!r}")
        check_switch("ensemble.isotropic", self.isotropic)
        if not (is_number(self.barostat_ps) and self.barostat_ps > 0):
            raise InputError(f"ensemble.barostat_ps must be positive, not {self.barostat_ps}")

    def integrator(self, atoms: Atoms, timestep_fs: float, temperature_k: float, random: np.random.Generator) -> Any:
        return self._integrator(
            atoms,
            timestep_fs,
            temperature_k,
            random,
            externalstress=-self.pressure_bar * BAR,
            hydrostatic=self.isotropic,
            P_tau=1000.0 * units.fs * self.barostat_ps,
        )

    def conserved(self, integrator: Any) -> float | None:
        return None

    def state(self, integrator: Any) -> dict[str, Any]:
        # Copy these: ASE changes the cell's momentum in place.
        return {"p_eps": copy(integrator.p_eps), "force_eps": copy(integrator.force_eps)}

    def restore(self, integrator: Any, state: dict[str, Any]) -> None:
        integrator.p_eps, integrator.force_eps = state["p_eps"], state["force_eps"]


class _Thermostat(LangevinBAOAB):
    """ASE's integrator, which also sums up the heat received from the thermostat (Bussi & Parrinello 2007)."""

    heat = 0.0

    def _BAOAB_OU(self, drag_gamma_mod: Any = 0.0) -> None:
        before = self.atoms.get_kinetic_energy()
        super()._BAOAB_OU(drag_gamma_mod)
        self.heat += float(self.atoms.get_kinetic_energy() - before)


def free_coordinates(atoms: Atoms) -> int:
    """Number of Cartesian coordinates that no constraint holds."""
    held = sum(constraint.get_removed_dof(atoms) for constraint in atoms.constraints)
    return 3 * len(atoms) - int(held)


def set_velocities(atoms: Atoms, temperature_k: float, freedom: int, random: np.random.Generator) -> None:
    """Set Maxwell-Boltzmann velocities without net momentum and, for a molecule, without rotation.

    They are scaled so that 2 Ekin = `freedom` k T exactly. A single atom keeps its momentum, and so do systems with
    held atoms.
    """
    thermalize_momenta(atoms, temperature_k, rng=random)
    stand_still(atoms)
    kinetic = atoms.get_kinetic_energy()
    target = 0.5 * freedom * units.kB * temperature_k
    atoms.set_momenta(atoms.get_momenta() * (np.sqrt(target / kinetic) if kinetic > 0 else 0.0))


def stand_still(atoms: Atoms) -> None:
    """Remove the net momentum and, for a molecule, the rotation; not for a single atom or a system with held atoms."""
    if len(atoms) == 1 or atoms.constraints:
        return
    Stationary(atoms, preserve_temperature=False)
    if not any(atoms.pbc):
        with np.errstate(divide="ignore", invalid="ignore"):  # a linear molecule has no moment about its axis
            ZeroRotation(atoms, preserve_temperature=False)
