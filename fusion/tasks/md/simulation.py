"""Steps of molecular dynamics with forces from any method, their records, and the state to resume from.

Units are ASE's: eV, Angstrom, amu and the corresponding time. Files state their units in the names of columns.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms, units
from ase.calculators.calculator import all_changes

from fusion.chemistry import constraints
from fusion.chemistry.neighbours import closest_pair
from fusion.chemistry.system import System
from fusion.chemistry.units import BOHR_PER_ANGSTROM, EV_ANGSTROM_PER_HARTREE_BOHR, HARTREE_PER_EV
from fusion.errors import CalculationError, InputError
from fusion.methods import abilities, protocol
from fusion.methods.ase_calculator import FusionCalculator, NotConverged, in_ase_units
from fusion.runs.results import Result
from fusion.runs.trajectory_files import AppendedFile, frame
from fusion.tasks.geometry.structures import constrained, moved
from fusion.tasks.md.ensembles import BAR, Ensemble, set_velocities, stand_still

CLOSEST_ANGSTROM = 0.1
HOTTEST = 10.0
"""Highest temperature, as a multiple of the requested one; above it the system explodes. The limit is raised for small
systems, which fluctuate more, and for cold ones, which may start strained."""
COLDEST_LIMIT_K = 1000.0

_FORMATS = {"hartree": "{:.10f}", "k": "{:.4f}", "fs": "{:.10g}", "bar": "{:.4f}", "angstrom3": "{:.6f}"}


class Surface(FusionCalculator):
    """Calculator for the steps of dynamics: all `requested` properties in one call, with the total time in `seconds`.

    `last` is the latest result of the method. Every error becomes NotConverged: the user's input has been checked.
    """

    def __init__(self, method: protocol.Method, system: System) -> None:
        super().__init__(method, system.charge, system.spin)
        self.requested: frozenset[str] = frozenset({"forces"})
        self.last = Result(system)
        self.seconds = 0.0
        self._start = system
        self._positions, self._cell = np.empty(0), np.empty(0)

    def calculate(
        self,
        atoms: Atoms | None = None,
        properties: Sequence[str] | None = None,
        system_changes: Iterable[str] = all_changes,
    ) -> None:
        """Calculate the `requested` properties with the method, whatever ASE asks for. Raises NotConverged."""
        assert atoms is not None
        self.atoms, self._positions, self._cell = atoms, atoms.positions.copy(), np.array(atoms.cell)
        began = time.perf_counter()
        try:
            self.last = self.evaluated(self.system(atoms), self.requested)
        except InputError as error:
            raise NotConverged(str(error)) from error
        finally:
            self.seconds += time.perf_counter() - began
        self.results = in_ase_units(self.last)

    def check_state(self, atoms: Atoms, tol: float = 0.0) -> list[str]:
        """Changes since the last calculation. Only positions and cell can change, so that the check is fast."""
        same = np.array_equal(atoms.positions, self._positions) and np.array_equal(np.asarray(atoms.cell), self._cell)
        return [] if same else ["positions", "cell"]

    def memory(self) -> dict[str, Any]:
        """The method's memory of its last result."""
        method = abilities.remembering(self.method)
        return {} if method is None else method.memory()

    def recall(self, memory: dict[str, Any]) -> None:
        """Give the method back what `memory` returned."""
        method = abilities.remembering(self.method)
        if method is not None:
            method.recall(memory)

    def set_results(self, atoms: Atoms, results: dict[str, Any]) -> None:
        """Set the `results` of an earlier calculation of `atoms`."""
        self.atoms, self._positions, self._cell = atoms, atoms.positions.copy(), np.array(atoms.cell)
        self.results = dict(results)

    def system(self, atoms: Atoms) -> System:
        try:
            return moved(self._start, atoms)
        except InputError as error:
            raise NotConverged(str(error)) from error


@dataclass
class Extremes:
    """Extremes over all steps, which the files need not show: departures from the domain of the model."""

    largest_spread: float | None = None
    """Largest standard deviation of an ensemble's energies, eV."""
    largest_step: int = 0
    outside: int = 0
    """Number of steps outside the domain."""
    first_outside: int | None = None

    def look(self, step: int, result: Result, spread: float | None) -> None:
        if spread is not None and spread > (self.largest_spread or 0.0):
            self.largest_spread, self.largest_step = spread, step
        if (result.details.get("domain") or {}).get("outside"):
            self.outside += 1
            self.first_outside = step if self.first_outside is None else self.first_outside


class Simulation:
    """A system in motion. `advance` makes one step; from `state` a later process resumes bit for bit.

    Files are `md.csv`, a row every `log_every` steps, and `md.extxyz`, a frame every `save_every` steps.
    """

    def __init__(
        self,
        ensemble: Ensemble,
        surface: Surface,
        system: System,
        seed: int,
        *,
        timestep_fs: float,
        temperature_k: float,
        log_every: int,
        save_every: int,
    ) -> None:
        self.ensemble, self.surface, self.start = ensemble, surface, system
        self.timestep_fs, self.temperature_k = timestep_fs, temperature_k
        self.log_every, self.save_every = log_every, save_every
        self.random = np.random.default_rng(abs(seed))
        self.atoms = constrained(system)
        self.atoms.calc = surface
        self.freedom = ensemble.degrees_of_freedom(self.atoms)
        self._half_inverse_masses = 0.5 / self.atoms.get_masses()[:, None]
        self.step, self.extremes = 0, Extremes()
        self._logs_stress = all(system.pbc) and "stress" in surface.method.provides

    def begin(self, directory: Path, other: Mapping[str, Any] | None = None) -> None:
        """Start with thermal velocities, or from the final state `other` of another run; the files begin anew."""
        if other is None:
            set_velocities(self.atoms, self.temperature_k, self.freedom, self.random)
        else:
            self._place(other)
            self.atoms.set_momenta(self.atoms.get_momenta())  # held atoms get none
            stand_still(self.atoms)
        self._open(directory, {})
        self.surface.recall({})
        self.surface.requested = self._properties(0)
        self.integrator = self._integrator()
        self.atoms.get_potential_energy()
        self._record()

    def resume(self, directory: Path, state: Mapping[str, Any]) -> None:
        """Resume from the state of an earlier process; the files lose anything written after it."""
        self._place(state)
        self.step, self.extremes = state["step"], Extremes(**state["seen"])
        self.surface.set_results(self.atoms, state["results"])
        self.surface.recall(state.get("memory", {}))
        self.integrator = self._integrator()
        self.ensemble.restore(self.integrator, state["ensemble"])
        self.random.bit_generator.state = state["random"]
        self._open(directory, state["lengths"])
        self.state = state

    def advance(self) -> None:
        """Make one step. Raises CalculationError if the method fails or the system flies apart."""
        self.surface.requested = self._properties(self.step + 1)
        self.integrator.step()
        self.step += 1
        self._check()
        self._record()

    @property
    def time_fs(self) -> float:
        return self.step * self.timestep_fs

    @property
    def temperature(self) -> float:
        """Temperature in K: 2 Ekin / (degrees of freedom * k)."""
        return 2.0 * self.kinetic / (self.freedom * units.kB)

    @property
    def kinetic(self) -> float:
        """Kinetic energy in eV. ASE's own function takes several times as long, which counts at every step."""
        momenta = self.atoms.arrays["momenta"]
        return float(np.vdot(momenta * self._half_inverse_masses, momenta))

    @property
    def potential(self) -> float:
        """Potential energy in eV."""
        return float(self.surface.results["energy"])

    def text(self, seconds: float, steps: int) -> str:
        """Text of the progress line; the last `steps` took `seconds`."""
        speed = ns_per_day(self.timestep_fs, seconds / steps)
        energy = self.potential * HARTREE_PER_EV
        return f"{self.time_fs / 1000:.3f} ps  {self.temperature:.0f} K  {energy:.4f} Ha  {speed:.2g} ns/day"

    def result(self) -> Result:
        """Result of the method for the structure of `state`, in atomic units."""
        results, cell = self.state["results"], self.state["cell"] * BOHR_PER_ANGSTROM
        positions = constraints.placed(self.start, self.state["positions"] * BOHR_PER_ANGSTROM)
        system = self.start.moved(positions, cell if self.start.cell is not None else None)
        result = Result(system, energy=results["energy"] * HARTREE_PER_EV)
        if "energy_std" in results:
            result.energy_std = results["energy_std"] * HARTREE_PER_EV
        result.properties["forces"] = results["forces"] / EV_ANGSTROM_PER_HARTREE_BOHR
        if self.state["domain"] is not None:
            result.details["domain"] = self.state["domain"]
        result.message = self.state["message"]
        return result

    def sync(self) -> None:
        """Write the files to disk, before the checkpoint that depends on them."""
        self._frames.sync()
        self._table.sync()

    def close(self) -> None:
        self._frames.close()
        self._table.close()

    def _integrator(self) -> Any:
        return self.ensemble.integrator(self.atoms, self.timestep_fs, self.temperature_k, self.random)

    def _properties(self, step: int) -> frozenset[str]:
        logged = self._logs_stress and (step % self.log_every == 0 or step % self.save_every == 0)
        return self.ensemble.needs | ({"stress"} if logged else set())

    def _open(self, directory: Path, lengths: dict[str, int]) -> None:
        self._frames = AppendedFile(directory / "md.extxyz", lengths.get("frames", 0))
        self._table = AppendedFile(directory / "md.csv", lengths.get("table", 0))

    def _place(self, state: Mapping[str, Any]) -> None:
        held = self.atoms.constraints
        self.atoms.set_constraint()  # the constraint would round the positions of the free atoms
        self.atoms.set_cell(state["cell"])
        self.atoms.set_positions(state["positions"])
        self.atoms.set_momenta(state["momenta"])
        self.atoms.set_constraint(held)

    def _record(self) -> None:
        """Update the extremes, write due rows and frames, and only then set the new state."""
        self.extremes.look(self.step, self.surface.last, self.surface.results.get("energy_std"))
        if self.step % self.log_every == 0:
            self._check_distances()
            row = self._row()
            if self.step == 0:
                self._table.write(",".join(row) + "\n")
            self._table.write(",".join(row.values()) + "\n")
        if self.step % self.save_every == 0:
            self._frames.write(frame(self.start, self.atoms, self.surface.results, self.step, self.time_fs))
        self.state = {
            "step": self.step,
            "symbols": list(self.start.symbols),
            "positions": self.atoms.positions.copy(),
            "momenta": self.atoms.get_momenta(),
            "cell": np.array(self.atoms.cell),
            "results": dict(self.surface.results),
            "ensemble": self.ensemble.state(self.integrator),
            "random": self.random.bit_generator.state,
            "seen": dict(vars(self.extremes)),
            "domain": self.surface.last.details.get("domain"),
            "message": self.surface.last.message,
            "memory": self.surface.memory(),
            "lengths": {"frames": self._frames.length, "table": self._table.length},
        }

    def _check(self) -> None:
        limit = HOTTEST * max(self.temperature_k, COLDEST_LIMIT_K) * (1.0 + 10.0 / self.freedom)
        hot = self.temperature
        if not hot <= limit or not np.isfinite(self.surface.results["forces"]).all():
            raise CalculationError(f"the temperature is {hot:.3g} K: the system flies apart")

    def _check_distances(self) -> None:
        cell = None if self.start.cell is None else np.asarray(self.atoms.cell) * BOHR_PER_ANGSTROM
        closest = closest_pair(self.atoms.positions * BOHR_PER_ANGSTROM, cell, self.start.pbc)
        if closest is not None and closest[2] < CLOSEST_ANGSTROM * BOHR_PER_ANGSTROM:
            i, j, distance = closest
            raise CalculationError(
                f"atoms {i + 1} ({self.start.symbols[i]}) and {j + 1} ({self.start.symbols[j]}) are "
                f"{distance / BOHR_PER_ANGSTROM:.3f} Angstrom apart: they collapse"
            )

    def _row(self) -> dict[str, str]:
        """Row of md.csv by column; quantities that do not apply have no column."""
        kinetic, results = self.kinetic, self.surface.results
        conserved = self.ensemble.conserved(self.integrator)
        values: dict[str, float | None] = {
            "time_fs": self.time_fs,
            "temperature_k": self.temperature,
            "kinetic_hartree": kinetic * HARTREE_PER_EV,
            "potential_hartree": self.potential * HARTREE_PER_EV,
            "total_hartree": (self.potential + kinetic) * HARTREE_PER_EV,
            "conserved_hartree": None if conserved is None else conserved * HARTREE_PER_EV,
        }
        if "energy_std" in results:
            values["energy_std_hartree"] = results["energy_std"] * HARTREE_PER_EV
        if self._logs_stress:
            volume = float(self.atoms.get_volume())
            virial = -float(np.sum(results["stress"][:3])) / 3.0
            values["volume_angstrom3"] = volume
            values["pressure_bar"] = (virial + 2.0 * kinetic / (3.0 * volume)) / BAR
        row = {key: _FORMATS[key.split("_")[-1]].format(value) for key, value in values.items() if value is not None}
        return {"step": str(self.step), **row}


def ns_per_day(timestep_fs: float, step_s: float) -> float:
    """Simulated nanoseconds per day if a step takes `step_s` seconds."""
    return timestep_fs * 1e-6 * 86400.0 / step_s
