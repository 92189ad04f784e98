"""Infrared and Raman intensities of a vibrational analysis: what is asked for, from which method, what is found."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from fusion import methods
from fusion.atomic import make_folder
from fusion.errors import CalculationError, InputError
from fusion.runs import CHECKPOINT

if TYPE_CHECKING:
    from fusion.methods import Method
    from fusion.results import Result
    from fusion.runs import Run
    from fusion.system import System
    from fusion.tasks.harmonic.normal_modes import NormalModes
    from fusion.tasks.harmonic.slopes import Slopes
    from fusion.tasks.interruption.journal import Journal

FOLDER = "dipoles"
"""Where in a run's directory the calculations of a second method are recorded."""

_DERIVATIVES = {"dipole": "dipole_derivatives", "polarizability": "polarizability_derivatives"}
_LASERS_NM = (150.0, 2500.0)


@dataclass(frozen=True)
class Shown:
    """What a spectrum shows. `range_cm1`: only the modes within have intensities; `scale`: of the wavenumbers in
    spectrum and pictures; `half_width_cm1`: of a line at half its height; `laser_nm`: what the Raman lines are
    scattered from."""

    range_cm1: tuple[float, float] | None = None
    scale: float = 1.0
    half_width_cm1: float = 10.0
    laser_nm: float = 532.0

    def check(self) -> None:
        """Raises InputError."""
        for name, value, low, high in (
            ("scale", self.scale, 0.5, 1.5),
            ("half_width_cm1", self.half_width_cm1, 0.01, 1000.0),
            ("laser_nm", self.laser_nm, *_LASERS_NM),
        ):
            if not _is_number(value) or not low <= value <= high:
                raise InputError(f"task.spectrum.{name} must be a number from {low:g} to {high:g}, not {value}")
        limits = self.range_cm1
        if limits is not None and not (
            len(limits) == 2 and all(map(_is_number, limits)) and 0 <= limits[0] < limits[1]
        ):
            raise InputError(
                f"task.spectrum.range_cm1 must be two wavenumbers, the lower first: [400,4000], not {list(limits)}"
            )

    def chosen(self, frequencies: np.ndarray) -> np.ndarray:
        """Which modes (n,), cm^-1, are to have intensities: real ones within the range, bool."""
        low, high = self.range_cm1 or (0.0, np.inf)
        return (frequencies > 0) & (frequencies * self.scale >= low) & (frequencies * self.scale <= high)


@dataclass
class Intensities:
    """Infrared, and with `raman` Raman intensities, from `entry`, a method as `fusion.named` has them, or from the
    method of the Hessian itself."""

    entry: str | Mapping[str, Any] | None
    raman: bool
    shown: Shown
    temperature_k: float

    @cached_property
    def second(self) -> Method | None:
        """The method of the dipoles, where it is another."""
        from fusion import named

        return None if self.entry is None else named.method(self.entry)

    def check(self, method: Method, system: System, run: Run) -> None:
        """Raises InputError: settings, a method without dipoles or polarisabilities, a foreign checkpoint."""
        self.shown.check()
        if not isinstance(self.raman, bool):
            raise InputError(f"task.raman must be true or false, not {self.raman}")
        if not (self.raman or self.entry):
            return
        if any(system.pbc):
            raise InputError(f"{system.name} is periodic: a crystal's dipole is not defined, leave task.dipoles out")
        names = frozenset(self._names)
        try:
            second = self.second
        except InputError as error:
            raise InputError(f"task.dipoles: {error}") from error
        if second is None:
            if not names <= methods.available(method):
                lacking = " and ".join(sorted(names - method.provides))
                raise InputError(
                    f"task.raman needs {lacking}, which {method.name} does not give; "
                    "task.dipoles=METHOD takes dipoles and polarizabilities from another: task.dipoles=hf"
                )
            methods.require(method, names, "task.raman", [system])
            return
        methods.require(second, names, f"task.dipoles={second.name}", [system])
        self.going_on(system, run)

    def going_on(self, system: System, run: Run) -> str | None:
        """The note that says where the dipoles of a second method go on; None for a beginning."""
        from fusion.tasks.interruption.journal import going_on

        note = None if self.second is None else going_on(self.second, system, self._run(run), FOLDER)
        return note and f"dipoles: {note.partition(' (')[0]} ({FOLDER}/{CHECKPOINT})"

    @property
    def label(self) -> str | None:
        """What the second method is called; None without one."""
        return None if self.second is None else str(getattr(self.second, "label", self.second.name))

    def beside_hessian(self, method: Method, system: System) -> frozenset[str]:
        """What the method of the Hessian is to be asked for with it: its dipole, and what costs nothing more or the
        method gives itself."""
        if self.second is not None or "dipole" not in method.provides or any(system.pbc):
            return frozenset()
        numerical = "hessian" not in method.provides
        slopes = {_DERIVATIVES[name] for name in self._names}
        return frozenset(self._names) | (slopes if numerical else slopes & method.provides)

    def calculate(self, journal: Journal, found: Result, modes: NormalModes, start: System, run: Run) -> dict[str, Any]:
        """What `result.json` says of intensities; nothing where the method has no dipoles. `found` is the result with
        the Hessian, at the stationary point; `start` the system of the run. Raises CalculationError."""
        if self.second is None and not self.beside_hessian(journal, found.system):
            return {}
        with self._source(journal, start, run) as source:
            there, slopes = self._slopes(source, found, modes)
        described: dict[str, Any] = {name: slope.how for name, slope in slopes.items()}
        if self.second is not None:
            described = self._described() | described
            if there.message:
                described["remark"] = there.message
        return {**self._numbers(there, slopes, modes), "intensities": described}

    def spectrum(self) -> dict[str, Any]:
        """How intensities are shown, for `result.json`."""
        shown = self.shown
        found: dict[str, Any] = {"scale": shown.scale, "half_width_cm1": shown.half_width_cm1}
        if shown.range_cm1 is not None:
            found["range_cm1"] = list(shown.range_cm1)
        if self.raman:
            found |= {"laser_nm": shown.laser_nm, "temperature_k": self.temperature_k}
        return found

    @property
    def _names(self) -> tuple[str, ...]:
        return ("dipole", "polarizability") if self.raman else ("dipole",)

    def _slopes(self, source: Method, found: Result, modes: NormalModes) -> tuple[Result, dict[str, Slopes]]:
        """The result with dipole and polarisability at the stationary point, and their derivatives along the modes."""
        from fusion.phases import phase
        from fusion.tasks.harmonic.slopes import along_modes, calculations

        chosen = self.shown.chosen(modes.frequencies)
        known = found.properties if self.second is None else source.provides
        rest = [name for name in self._names if _DERIVATIVES[name] not in known]
        first = int(self.second is not None)
        total = first + calculations(chosen, len(rest))
        if not total:
            return found, self._of_nuclei(source, found, modes, self._names)
        by = "by differences along modes" if rest else "derivatives of the method itself"
        with phase("dipoles", total) as bar:
            there = self._there(source, found, lambda _, text: bar(0, text))
            bar(first, by)
            slopes = self._of_nuclei(source, there, modes, [name for name in self._names if name not in rest])
            if rest:
                slopes |= along_modes(source, found.system, modes, chosen, rest, lambda done: bar(first + done, by))
            bar(total, by)
        return there, slopes

    def _there(self, source: Method, found: Result, tell: Callable[[int, str], None]) -> Result:
        """The result at the stationary point with what the method of the dipoles gives there. `tell` hears of the
        cycles of a method that tells of them."""
        if self.second is None:
            return found
        analytic = {_DERIVATIVES[name] for name in self._names} & source.provides
        watched = getattr(self.second, "watched", None)
        with watched(tell) if watched else nullcontext():
            (there,) = source.calculate([found.system], {"energy", *self._names, *analytic})
        if there.status != "ok":
            raise CalculationError(there.message or there.status)
        return there

    def _of_nuclei(self, source: Method, there: Result, modes: NormalModes, names: Iterable[str]) -> dict[str, Slopes]:
        from fusion.tasks.harmonic.slopes import of_nuclei

        found = {}
        for name in names:
            charge = there.system.charge if name == "dipole" else 0
            slopes = of_nuclei(modes, np.asarray(there.properties[_DERIVATIVES[name]]), charge)
            slopes.values[~self.shown.chosen(modes.frequencies)] = np.nan
            by = "the method itself" if _DERIVATIVES[name] in source.provides else "central differences by the nuclei"
            found[name] = replace(slopes, how={"by": by, **slopes.how})
        return found

    def _numbers(self, there: Result, slopes: Mapping[str, Slopes], modes: NormalModes) -> dict[str, Any]:
        from fusion.tasks.harmonic.infrared import dipole_magnitude, strengths

        masses = modes.reduced_masses
        found: dict[str, Any] = {
            "ir_intensities_km_per_mol": strengths(slopes["dipole"].values, masses).tolist(),
            "dipole_debye": dipole_magnitude(np.asarray(there.properties["dipole"])),
        }
        if self.raman:
            from fusion.tasks.harmonic.raman import activities, cross_sections

            strong, ratios = activities(slopes["polarizability"].values, masses)
            scattered = cross_sections(
                modes.frequencies * self.shown.scale, strong, self.shown.laser_nm, self.temperature_k
            )
            found |= {
                "raman_activities_angstrom4_per_dalton": strong.tolist(),
                "depolarization_ratios": ratios.tolist(),
                "raman_cross_sections_cm2_per_sr": scattered.tolist(),
                "polarizability_bohr3": np.asarray(there.properties["polarizability"]).tolist(),
            }
        return found

    def _described(self) -> dict[str, Any]:
        """The second method as `result.json` has the first."""
        assert self.second is not None
        described = {
            "label": self.label,
            "method": self.second.name,
            "kind": self.second.kind,
            "weights": getattr(self.second, "weights", None),
            "settings": self._node(),
        }
        return {key: value for key, value in described.items() if value is not None}

    def _node(self) -> Any:
        from omegaconf import OmegaConf

        from fusion import named

        assert self.entry is not None
        return OmegaConf.to_container(named.node(*named.parts(self.entry)), resolve=True)

    def _run(self, run: Run) -> Run:
        """The run as the journal of the second method sees it: its settings, and a checkpoint beside the run's."""
        from omegaconf import OmegaConf

        config = OmegaConf.create({"method": self._node(), "dtype": None, "weights": None})
        return run.part(Path(FOLDER), config)

    @contextmanager
    def _source(self, journal: Journal, start: System, run: Run) -> Iterator[Method]:
        from fusion.tasks.interruption.journal import Journal

        if self.second is None:
            yield journal
            return
        part = self._run(run)
        make_folder(part.directory, run.directory)
        with Journal(self.second, start, part, FOLDER) as own:
            yield own


def experiment(config: Mapping[str, Any], system: System) -> dict[str, Any] | None:
    """Observed fundamentals that a `conf/system` node states of these molecules: `fundamentals_cm1`, each degenerate
    set once, and `source`. None where there are none, or of an ion, another spin, isotopes or held atoms."""
    from fusion.chemistry.constraints import isotopes
    from fusion.system import formula

    observed = config.get("fundamentals_cm1")
    another = system.charge or system.spin or system.fixed is not None or isotopes(system)
    if not observed or another or formula(config["symbols"]) != system.formula:
        return None
    return {
        "fundamentals_cm1": sorted(float(value) for value in observed),
        "source": str(config["fundamentals_source"]),
    }


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)
