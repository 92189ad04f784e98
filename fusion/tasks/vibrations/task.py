"""Harmonic vibrations at a minimum: normal modes, zero-point energy, thermochemistry, infrared and Raman spectra."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from fusion.errors import CalculationError, InputError
from fusion.methods import protocol
from fusion.parallel import processes
from fusion.runs.results import Result
from fusion.runs.task import StartPlan, Title, Trajectory, existing_trajectories
from fusion.tasks.relax import relaxation as relaxing
from fusion.tasks.relax import report as relax_report
from fusion.tasks.relax.relaxation import short
from fusion.tasks.structures import task as structures_task
from fusion.tasks.structures.task import StructuresTask
from fusion.tasks.vibrations.analysis import Conditions, describe, free_motions
from fusion.tasks.vibrations.hessian import NEEDS, calculated, save

if TYPE_CHECKING:
    from fusion.chemistry.system import System
    from fusion.methods.protocol import Method
    from fusion.methods.recorded import Journal
    from fusion.runs.run import Run
    from fusion.tasks.vibrations.intensities import Intensities

HESSIAN = "hessian.npy"
MODES = Path("modes")
PICTURE = "modes.png"
INFRARED, RAMAN = "infrared.png", "raman.png"
_NEARLY_STATIONARY = 1e-3  # hartree/bohr; for a smaller force the message says how to accept it


@dataclass(frozen=True)
class VibrationsPlan(StartPlan):
    """Vibrations with their intensities; `start` has the masses of the settings."""

    intensities: Intensities


class Vibrations:
    """Relaxes, then diagonalises the mass-weighted Hessian without translations and rotations. If the structure holds
    atoms, the Hessian is that of the free coordinates, and nothing is projected out. Forces with error bars give
    frequencies with error bars (`fusion.tasks.vibrations.stochastic`).

    `relax`: relax first; `fmax`: largest force of a stationary point, hartree/bohr. `masses`: masses in dalton by atom,
    counted from 1, in place of those of the structure file, for isotopes. `spread`: give the standard deviation of
    every frequency, for an ensemble with members' Hessians. `dipoles`: a second method for dipoles and
    polarisabilities, written as in a list of methods; `raman`: calculate Raman intensities as well; `spectrum`: the
    fields of `fusion.tasks.vibrations.intensities.Shown`.
    """

    def __init__(
        self,
        relax: bool,
        optimiser: Mapping[str, Any],
        fmax: float,
        steps: int,
        temperature_k: float = 298.15,
        pressure_bar: float = 1.0,
        symmetry_number: int | None = None,
        masses: Mapping[int, float] | None = None,
        noise_cm1: float = 20.0,
        spread: bool = True,
        dipoles: str | Mapping[str, Any] | None = None,
        raman: bool = False,
        spectrum: Mapping[str, Any] | None = None,
        name: str = "vibrations",
    ) -> None:
        from fusion.tasks.vibrations.intensities import Settings, Shown

        self.name, self._relax, self._masses, self._spread = name, relax, masses, spread
        self._settings = relaxing.Settings(optimiser, fmax, steps)
        self._conditions = Conditions(temperature_k, pressure_bar, symmetry_number, noise_cm1)
        self._intensities = Settings(dipoles, raman, Shown(**(spectrum or {})), temperature_k)

    needs = NEEDS

    def check(self, method: Method, system: System, run: Run) -> VibrationsPlan:
        """Raises InputError for wrong settings, a method without forces, a second method without dipoles, or a foreign
        checkpoint."""
        from fusion.methods.recorded import resume_note
        from fusion.tasks.vibrations.intensities import planned

        relaxing.check_settings(self._settings, system)
        start = with_masses(system, self._masses)
        self._conditions.check()
        noisy = protocol.has_noisy_forces(method)
        needs = {"energy", "forces", "forces_stderr"} if noisy else self.needs
        protocol.require(method, needs, f"task {self.name}", [start], error_bars=True)
        resume_note(method, start, run, self.name)
        return VibrationsPlan(method, system, start, planned(self._intensities, method, start, run))

    def of_set(self) -> StructuresTask:
        """Return the task for many structures: frequencies and thermochemistry, without intensities. Raises InputError
        for wrong settings."""
        from fusion.tasks.relax.together import Relaxations
        from fusion.tasks.vibrations.together import ManyVibrations

        relaxing.check_numbers(self._settings)
        self._conditions.check()
        if self._masses:
            raise InputError("task.masses is for one structure; a file may state the masses of each of many structures")
        purpose = f"task {self.name}"
        relaxations = Relaxations(self._settings, purpose) if self._relax else None
        return StructuresTask(self.name, ManyVibrations(relaxations, self._settings.fmax, self._conditions, purpose))

    def title(self, plan: VibrationsPlan, run: Run) -> Title:
        """Method, system and steps for the title, and notes on masses, held atoms and a resumed run."""
        from fusion.methods.recorded import resume_note
        from fusion.runs.report import title_of

        steps = (
            relax_report.describe(self._settings) + ", then vibrations"
            if self._relax
            else "vibrations without relaxation"
        )
        if plan.intensities.second is not None:
            steps += f", dipoles of {plan.intensities.second.label}"
        notes = (
            "the forces have error bars, and so have the frequencies"
            if protocol.has_noisy_forces(plan.method)
            else None,
            ", ".join(f"task.masses: atom {number} {mass:g} Da" for number, mass in (self._masses or {}).items()),
            "modes of the free coordinates alone: no translations or rotations are projected out"
            if plan.system.fixed is not None
            else None,
            resume_note(plan.method, plan.start, run, self.name),
            plan.intensities.resume_note(plan.start, run),
        )
        return (plan.method.label, title_of(plan.system), steps), tuple(note for note in notes if note)

    def run(self, plan: VibrationsPlan, run: Run) -> Result:
        """Return the result at the stationary point, with frequencies, modes and thermochemistry in its details."""
        from fusion.methods.recorded import Journal
        from fusion.tasks.geometry.normal_modes import normal_modes
        from fusion.tasks.geometry.structures import write_structure
        from fusion.tasks.vibrations.mode_files import write_modes

        if processes.rank() != 0:  # only the first process calculates
            return Result(plan.system)
        relaxed, system, intensities = None, plan.start, plan.intensities
        with Journal(plan.method, system, run, self.name) as journal:
            if protocol.has_noisy_forces(plan.method):
                return self._with_errors(journal, plan, run)
            if self._relax:
                relaxed = relaxing.relax(journal, system, self._settings, run.directory / relaxing.TRAJECTORY)
                if relaxed.failure is not None:
                    return relax_report.outcome(relaxed, run)
                system = relaxed.result.system
                write_structure(run.directory / relaxing.STRUCTURE, relaxed.result)
            with_hessian = calculated(journal, system, intensities, self._spread, run)
            masses, hessian = system.nuclear_masses, np.asarray(with_hessian.properties["hessian"])
            modes = normal_modes(hessian, system.positions, masses, any(system.pbc), system.fixed)
            try:
                strengths, failure = intensities.calculate(journal, with_hessian, modes, plan.start, run), None
            except CalculationError as error:  # the frequencies remain valid
                strengths, failure = {}, f"no intensities: {error}"
        # The journal holds the original result; change a copy.
        result = replace(with_hessian, properties=dict(with_hessian.properties), details=dict(with_hessian.details))
        for name in ("hessian", "dipole_derivatives", "polarizability", "polarizability_derivatives"):
            result.properties.pop(name, None)
        save(run.directory / HESSIAN, hessian)
        details = describe(result, modes, self._conditions)
        members = result.properties.pop("hessian_members", None)
        if members is not None:
            from fusion.tasks.geometry.normal_modes import spread

            deviations = spread(np.asarray(members), modes, system.positions, masses, any(system.pbc), system.fixed)
            details["frequencies_std_cm1"] = deviations.tolist()
        write_modes(run.directory / MODES, system, modes)
        if relaxed is not None:
            details["relaxation"] = relax_report.details_of(relaxed)
            details["relaxation"].pop("verdict", None)  # the verdict of the vibrations replaces it
        result.details |= details | strengths
        if system.fixed is not None:
            result.warnings = [*result.warnings, *free_motions(system)]
        self._spectrum(result, intensities, run)
        self._judge(result, relaxed, run)
        if failure is not None:
            _without_intensities(result, failure)
        return result

    def _with_errors(self, journal: Journal, plan: VibrationsPlan, run: Run) -> Result:
        """Result with forces that have error bars; intensities come from a second method alone."""
        from fusion.tasks.vibrations import stochastic_run
        from fusion.tasks.vibrations.mode_files import write_modes

        found = stochastic_run.calculate(journal, plan.start, self._settings, self._relax, run)
        if isinstance(found, Result):
            return found
        result, failure = stochastic_run.result_of(found, self._settings, self._conditions), None
        if plan.intensities.second is not None:
            try:
                result.details |= plan.intensities.calculate(journal, result, found.modes, plan.start, run)
            except CalculationError as error:  # the frequencies remain valid
                failure = f"no intensities: {error}"
        save(run.directory / HESSIAN, found.differences.hessian)
        write_modes(run.directory / MODES, result.system, found.modes)
        if result.system.fixed is not None:
            result.warnings = [*result.warnings, *free_motions(result.system)]
        self._spectrum(result, plan.intensities, run)
        if failure is not None:
            _without_intensities(result, failure)
        return result

    def _spectrum(self, result: Result, intensities: Intensities, run: Run) -> None:
        """Add the settings of the spectrum and observed fundamentals; write `spectrum.csv` if there are intensities."""
        from fusion.tasks.vibrations import spectrum
        from fusion.tasks.vibrations.intensities import experiment

        observed = experiment(run.config.system, result.system)
        if observed is not None:
            result.details["experiment"] = observed
        (run.directory / spectrum.CSV).unlink(missing_ok=True)
        if result.details.get("ir_intensities_km_per_mol"):
            result.details["spectrum"] = intensities.spectrum()
            spectrum.write(run.directory / spectrum.CSV, result.details)

    def _judge(self, result: Result, relaxed: relaxing.Relaxed | None, run: Run) -> None:
        """Set status and message. Away from a stationary point the frequencies are not those of the molecule."""
        from fusion.chemistry.constraints import free_part
        from fusion.tasks.geometry.structures import largest_force, without_torque

        forces, fmax = free_part(result.system, np.asarray(result.properties["forces"])), self._settings.fmax
        if not any(result.system.pbc) and result.system.fixed is None:
            forces = without_torque(forces, result.system.positions)
        force = largest_force(forces)
        vibrations = result.details["vibrations"]
        vibrations["largest_force_hartree_per_bohr"] = force
        if relaxed is not None and not relaxed.converged:
            result.status, result.message = "not_converged", relax_report.why_not(relaxed, run)
        elif force > fmax:
            result.status = "not_converged"
            advice = "" if relaxed is not None else "; task.relax=true relaxes first"
            advice += f", task.fmax={short(1.5 * force)} accepts it" if force < _NEARLY_STATIONARY else ""
            result.message = (
                f"not a stationary point: largest force {short(force)} Ha/bohr, above {short(fmax)} Ha/bohr{advice}"
            )
        else:
            vibrations["verdict"] = f"{vibrations['nature']}; largest force {short(force)} Ha/bohr"

    @staticmethod
    def rows(document: dict[str, Any]) -> Iterator[list[str]]:
        """Yield the table of frequencies, remarks on them, zero-point and Gibbs energy."""
        from fusion.tasks.relax import stochastic_report
        from fusion.tasks.vibrations.report import rows

        if "structures" in document:
            yield from structures_task.rows(document)
            return
        yield from relax_report.rows(document.get("relaxation") or {})
        yield from stochastic_report.rows(document.get("relaxation") or {})
        yield from rows(document)

    @staticmethod
    def draw(directory: Path) -> None:
        """Draw `modes.png` of a finished run, `infrared.png` and `raman.png` if there are intensities, and
        `relaxation.png`."""
        from fusion.tasks.relax import plot
        from fusion.tasks.vibrations import modes_plot, spectrum_plot

        plot.draw(directory / relaxing.TRAJECTORY, directory / relaxing.PICTURE)
        modes_plot.draw(directory, directory / PICTURE)
        spectrum_plot.draw(directory, directory / INFRARED)
        spectrum_plot.draw_raman(directory, directory / RAMAN)

    @staticmethod
    def trajectories(directory: Path) -> list[Trajectory]:
        """Structures to be looked at in turn."""
        files = [(MODES / path.name, path.stem) for path in sorted((directory / MODES).glob("*.xyz"))]
        modes = [
            Trajectory(f"mode {int(stem)}", directory / file, mode=True) for file, stem in files if stem.isdecimal()
        ]
        relaxation = existing_trajectories(directory, {"relaxation": relaxing.TRAJECTORY})
        return [*modes, *relaxation, *structures_task.trajectories(directory)]

    @staticmethod
    def files(directory: Path) -> list[str]:
        """Names of the files written."""
        from fusion.tasks.vibrations.spectrum import CSV

        files = (relaxing.STRUCTURE, relaxing.TRAJECTORY, HESSIAN, CSV)
        names = [name for name in files if (directory / name).is_file()]
        modes = sorted(path.name for path in (directory / MODES).glob("*.xyz"))
        names += structures_task.files(directory)
        if not modes:
            return names
        return [*names, f"{MODES}/{modes[0]} …" if len(modes) > 1 else f"{MODES}/{modes[0]}"]


def _without_intensities(result: Result, failure: str) -> None:
    """Mark a result whose frequencies are valid and whose intensities failed."""
    message = result.message if result.status != "ok" else None
    result.status, result.message = "not_converged", "; ".join(filter(None, [message, failure]))
    result.details["vibrations"]["verdict"] = result.message


def with_masses(system: System, replaced: Mapping[int, float] | None) -> System:
    """The system with the masses (dalton) of single atoms, counted from 1, replaced. Raises InputError."""
    from fusion.tasks.geometry.structures import atom_indices

    if not replaced:
        return system
    masses = np.array(system.nuclear_masses)
    for number, mass in replaced.items():
        (index,) = atom_indices([number], system, "task.masses")
        if isinstance(mass, bool) or not isinstance(mass, (int, float)) or not 0 < mass < 1000:
            raise InputError(
                f"task.masses: atom {number} cannot have the mass {mass}; give dalton: 2.014 for deuterium"
            )
        masses[index] = mass
    return replace(system, masses=masses)
