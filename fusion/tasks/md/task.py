"""Molecular dynamics with the forces of any method: at constant energy, temperature, or temperature and pressure."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fusion.config.checks import check_whole, is_number
from fusion.errors import CalculationError, InputError
from fusion.methods import protocol
from fusion.parallel import processes
from fusion.runs.layout import CHECKPOINT
from fusion.runs.results import Result
from fusion.runs.state import is_own, read_state, write_state
from fusion.runs.task import Plan, Title, Trajectory, existing_trajectories

if TYPE_CHECKING:
    from fusion.chemistry.system import System
    from fusion.methods.protocol import Method
    from fusion.runs.run import Run
    from fusion.tasks.md.ensembles import Ensemble
    from fusion.tasks.md.simulation import Simulation
    from fusion.tasks.md.table import Drift

_SAVE_S = 60.0
"""Time between checkpoints; a kill loses at most the work of this time, or of one step."""


@dataclass(frozen=True)
class SimulationPlan(Plan):
    """Simulation in `ensemble`, from `state`, the content of a checkpoint, if there is one."""

    ensemble: Ensemble
    state: Mapping[str, Any] | None


class MolecularDynamics:
    """Steps of `ensemble` (a config with `_target_`, see `fusion.tasks.md.ensembles`) from the system's geometry.

    Velocities are thermal at `temperature_k`, from the run's seed, or those of the run whose checkpoint is given.
    """

    needs = frozenset({"forces"})

    def __init__(
        self,
        name: str,
        ensemble: Mapping[str, Any],
        temperature_k: float,
        timestep_fs: float,
        time_ps: float,
        steps: int | None,
        log_every: int,
        save_every: int,
        checkpoint_every: int,
        discard: float,
        drift_limit_mev: float,
    ) -> None:
        self.name, self._settings = name, ensemble
        self.temperature_k, self.timestep_fs = temperature_k, timestep_fs
        self.log_every, self.save_every, self.checkpoint_every = log_every, save_every, checkpoint_every
        self.discard, self.drift_limit_mev = discard, drift_limit_mev
        self._time_ps, self._steps = time_ps, steps

    def check(self, method: Method, system: System, run: Run) -> SimulationPlan:
        """Raises InputError for wrong settings, a method without forces, or a checkpoint of another simulation."""
        from hydra.utils import instantiate

        from fusion.chemistry import constraints

        self._check_settings()
        constraints.check_free(system, "move")
        ensemble: Ensemble = instantiate(self._settings)
        ensemble.check(system, self.temperature_k)
        protocol.require(method, ensemble.needs, f"task {self.name}", [system])
        state = read_state(run, self.name)
        if state is not None:
            self._check_state(state, system, run)
        return SimulationPlan(method, system, ensemble, state)

    def _check_state(self, state: Mapping[str, Any], system: System, run: Run) -> None:
        """Raise InputError for the checkpoint of another system or, to resume, of another simulation."""
        import numpy as np

        from fusion.chemistry import constraints
        from fusion.chemistry.units import BOHR_PER_ANGSTROM

        if state["symbols"] != list(system.symbols):
            raise InputError(f"{run.checkpoint} has other atoms than {system.formula} ({system.name})")
        elsewhere = constraints.elsewhere(system, np.asarray(state["positions"]) * BOHR_PER_ANGSTROM)
        if elsewhere:
            raise InputError(
                f"{run.checkpoint}: the held atom {elsewhere[0]} of {system.name} has another position there"
            )
        if is_own(run):
            current = _of_system(system)
            # checkpoints of earlier versions do not state the system
            stored = state["identity"] | (state.get("system") or current)
            for key, value in (self._identity(run) | current).items():
                if stored.get(key) != value:
                    raise InputError(
                        f"{run.checkpoint} belongs to a run with another {key}: {stored.get(key)}, not "
                        f"{value}; to continue from its last state, start in another directory with ckpt=RUN_DIR"
                    )

    def title(self, plan: SimulationPlan, run: Run) -> Title:
        """Method, system, ensemble and length for the title, and notes on the forces and the start."""
        from fusion.console.format import count
        from fusion.runs.report import title_of

        length = f"{self.steps * self.timestep_fs / 1000:g} ps in {count(self.steps, 'step')}"
        parts = (
            plan.method.label,
            title_of(plan.system),
            plan.ensemble.title + (f" at {self.temperature_k:g} K" if plan.ensemble.thermostat else ""),
            f"{length} of {self.timestep_fs:g} fs",
        )
        notes = []
        if "forces" not in plan.method.provides:
            notes.append(f"forces by central differences: {6 * len(plan.system.symbols)} energies for each step")
        if plan.state is not None and is_own(run):
            notes.append(f"resuming from step {plan.state['step']} of {self.steps} ({CHECKPOINT})")
        elif plan.state is not None:
            notes.append(f"from the last structure and velocities of {run.checkpoint}")
        return parts, tuple(notes)

    def run(self, plan: SimulationPlan, run: Run) -> Result:
        """Run all remaining steps. If the system flies apart the run fails, with the last good structure."""
        from fusion.tasks.md.simulation import Simulation, Surface

        if processes.rank() != 0:  # only the first process calculates
            return Result(plan.system)
        simulation = Simulation(
            plan.ensemble,
            Surface(plan.method, plan.system),
            plan.system,
            run.seed,
            timestep_fs=self.timestep_fs,
            temperature_k=self.temperature_k,
            log_every=self.log_every,
            save_every=self.save_every,
        )
        if plan.state is not None and is_own(run):
            simulation.resume(run.directory, plan.state)
        else:
            simulation.begin(run.directory, plan.state)
        failure = None
        try:
            timing = self._advance(simulation, run)
        except CalculationError as error:
            last_step = f"step {simulation.step}, {simulation.time_fs:g} fs"
            advice = f"try task.timestep_fs={self.timestep_fs / 2:g}, or relax the structure first"
            failure, timing = f"{error} ({last_step}); {advice}", {}
        finally:  # also when stopped: no step is lost
            self._save(simulation, run)
            simulation.close()
        return self._result(plan.ensemble, simulation, run.directory, failure, timing)

    @staticmethod
    def rows(document: dict[str, Any]) -> Iterator[list[str]]:
        """Yield temperature, pressure, energy conservation, spread of the model, and speed."""
        from fusion.tasks.md.table import rows

        yield from rows(document["md"]) if "md" in document else ()

    @staticmethod
    def draw(directory: Path) -> None:
        """Draw `md.png`, as soon as md.csv has two rows."""
        from fusion.tasks.md import plot

        plot.draw(directory)

    @staticmethod
    def trajectories(directory: Path) -> list[Trajectory]:
        """Structures to be looked at in turn."""
        return existing_trajectories(directory, {"trajectory": "md.extxyz"})

    @staticmethod
    def files(directory: Path) -> list[str]:
        """Names of the files written."""
        return [name for name in ("md.extxyz", "md.csv") if (directory / name).is_file()]

    @staticmethod
    def stands(directory: Path) -> str | None:
        """Progress by the last row of md.csv."""
        from fusion.tasks.md.table import read_table

        table = read_table(directory)
        if not table or not len(table["step"]):
            return None
        step, time_fs, kelvin, energy = (
            table[key][-1] for key in ("step", "time_fs", "temperature_k", "potential_hartree")
        )
        return f"step {step:.0f}, {time_fs:g} fs, {kelvin:.0f} K, E = {energy:.5f} Ha"

    @property
    def steps(self) -> int:
        """Number of steps of the whole run."""
        return self._steps if self._steps is not None else max(1, round(1000.0 * self._time_ps / self.timestep_fs))

    def _advance(self, simulation: Simulation, run: Run) -> dict[str, float]:
        """Make the remaining steps; return the time of a step and the share of the method in it."""
        from fusion.console.phases import REFRESH_S, phase
        from fusion.runs.signals import between_steps
        from fusion.tasks.md.simulation import ns_per_day

        first, began, surface = simulation.step, time.perf_counter(), simulation.surface
        surface.seconds, shown, due = 0.0, 0.0, time.monotonic() + _SAVE_S
        with phase("simulating", self.steps, first) as bar, between_steps() as stop_if_asked:
            while simulation.step < self.steps:
                simulation.advance()
                stop_if_asked()
                if simulation.step % self.checkpoint_every == 0 or time.monotonic() > due:
                    self._save(simulation, run)
                    due = time.monotonic() + _SAVE_S
                taken = time.perf_counter() - began
                if (
                    taken > shown + REFRESH_S or simulation.step == self.steps
                ):  # writing the line is slower than this check
                    bar(simulation.step, simulation.text(taken, simulation.step - first))
                    shown = taken
        taken, steps = time.perf_counter() - began, simulation.step - first
        if steps <= 0:
            return {}
        return {
            "timed_steps": steps,
            "step_ms": 1000.0 * taken / steps,
            "model_fraction": surface.seconds / taken,
            "ns_per_day": ns_per_day(self.timestep_fs, taken / steps),
        }

    def _save(self, simulation: Simulation, run: Run) -> None:
        simulation.sync()
        write_state(run, self._content(simulation, run))

    def _content(self, simulation: Simulation, run: Run) -> dict[str, Any]:
        """Content of the checkpoint."""
        system = _of_system(simulation.start)
        return {"task": self.name, "identity": self._identity(run), "system": system, **simulation.state}

    def _identity(self, run: Run) -> dict[str, Any]:
        """Settings that determine the trajectory, apart from its length and seed."""
        config = run.config
        return {
            "method": _plain(config.get("method")),
            "weights": config.get("weights"),
            "dtype": config.get("dtype"),
            "ensemble": _plain(self._settings),
            **{key: getattr(self, key) for key in ("temperature_k", "timestep_fs", "log_every", "save_every")},
        }

    def _result(
        self,
        ensemble: Ensemble,
        simulation: Simulation,
        directory: Path,
        failure: str | None,
        timing: dict[str, float],
    ) -> Result:
        """Result at the last structure, with averages of the whole run in its details."""
        from fusion.tasks.md import table as md_table

        result, atoms = simulation.result(), len(simulation.start.symbols)
        table = md_table.read_table(directory)
        drift = md_table.drift(table, atoms, self.discard)
        averages = md_table.averages(table, self.discard)
        md: dict[str, Any] = {
            "ensemble": ensemble.title,
            "steps": simulation.state["step"],
            "timestep_fs": self.timestep_fs,
            "degrees_of_freedom": simulation.freedom,
            "initial_temperature_k": float(table["temperature_k"][0]) if table else None,
            "target_temperature_k": self.temperature_k if ensemble.thermostat else None,
            "discarded_fraction": self.discard,
            **averages,
            "drift": drift.plain() if drift is not None else None,
            **md_table.departures(simulation.state, atoms, self.timestep_fs),
            **timing,
        }
        result.details["md"] = {key: value for key, value in md.items() if value is not None}
        if failure is not None:
            result.status, result.message = "failed", failure
        else:
            self._judge(result, drift, ensemble.thermostat)
        return result

    def _judge(self, result: Result, drift: Drift | None, thermostat: bool) -> None:
        """Check the conservation of energy and the mean temperature; add faults to the message of the last structure.

        Without a thermostat, energy that is not conserved makes the run unconverged.
        """
        md, faults = result.details["md"], []
        problem = drift.problem(self.drift_limit_mev) if drift is not None else None
        if problem is not None:
            faults.append(f"{problem}; try task.timestep_fs={self.timestep_fs / 2:g}")
            result.status = "ok" if thermostat else "not_converged"
        elif drift is not None and not thermostat:
            md["verdict"] = f"the total energy stays within {drift.scatter_mev_per_atom:.2g} meV per atom"
        mean = md.get("temperature_k")
        if thermostat and mean and mean["stderr"] is not None:
            deviation = abs(mean["value"] - self.temperature_k)
            if deviation > 4.0 * mean["stderr"] and deviation > 0.05 * self.temperature_k + 1.0:
                kelvin = f"{mean['value']:.0f} K, not {self.temperature_k:g} K"
                faults.append(f"the mean temperature is {kelvin}: not yet in equilibrium (task.time_ps, task.discard)")
        result.message = "; ".join(part for part in (*faults, result.message) if part) or None

    def _check_settings(self) -> None:
        if not (is_number(self.temperature_k) and self.temperature_k >= 0):
            raise InputError(f"task.temperature_k must be zero or more, not {self.temperature_k}")
        for key, value in (
            ("timestep_fs", self.timestep_fs),
            ("time_ps", self._time_ps),
            ("drift_limit_mev", self.drift_limit_mev),
        ):
            if not (is_number(value) and value > 0):
                raise InputError(f"task.{key} must be positive, not {value}")
        counts = {"log_every": self.log_every, "save_every": self.save_every, "checkpoint_every": self.checkpoint_every}
        for key, number in (counts | ({} if self._steps is None else {"steps": self._steps})).items():
            check_whole(f"task.{key}", number)
        if not (is_number(self.discard) and 0 <= self.discard < 1):
            raise InputError(f"task.discard must be a fraction of the run, at least 0 and below 1, not {self.discard}")


def _of_system(system: System) -> dict[str, Any]:
    """Properties of a system besides its atoms that determine the trajectory."""
    return {"charge": system.charge, "spin": system.spin, "masses": system.nuclear_masses.tolist()}


def _plain(config: Any) -> Any:
    from omegaconf import OmegaConf

    return OmegaConf.to_container(config, resolve=True) if OmegaConf.is_config(config) else config
