"""Infrared and Raman intensities of a vibrational analysis: settings, the method of the dipoles, and results."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from fusion.errors import CalculationError, InputError
from fusion.files.atomic import make_folder
from fusion.methods import abilities, protocol
from fusion.runs.layout import CHECKPOINT

if TYPE_CHECKING:
    from fusion.chemistry.system import System
    from fusion.methods.protocol import Method
    from fusion.methods.recorded import Journal
    from fusion.runs.results import Result
    from fusion.runs.run import Run
    from fusion.tasks.geometry.normal_modes import NormalModes
    from fusion.tasks.vibrations.property_derivatives import Slopes

FOLDER = "dipoles"
"""Folder in a run's directory for the journal of a second method."""

_DERIVATIVES = {"dipole": "dipole_derivatives", "polarizability": "polarizability_derivatives"}
_LASERS_NM = (150.0, 2500.0)


@dataclass(frozen=True)
class Shown:
    """Settings of a spectrum.

    `range_cm1`: only modes within it get intensities; `scale`: factor on the wavenumbers in spectrum and pictures;
    `half_width_cm1`: half width of a line at half its height; `laser_nm`: wavelength of the exciting Raman laser.
    """

    range_cm1: tuple[float, float] | None = None
    scale: float = 1.0
    half_width_cm1: float = 10.0
    laser_nm: float = 532.0

    def check(self) -> None:
        """Check the settings. Raises InputError."""
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
        """Mask (n,) of the modes that get intensities: real `frequencies` (n,), cm^-1, within the range."""
        low, high = self.range_cm1 or (0.0, np.inf)
        return (frequencies > 0) & (frequencies * self.scale >= low) & (frequencies * self.scale <= high)


@dataclass(frozen=True)
class Settings:
    """Infrared and, with `raman`, Raman intensities from a second method `entry` (in the form of
    `fusion.methods.by_name`), or from the method of the Hessian if `entry` is None."""

    entry: str | Mapping[str, Any] | None
    raman: bool
    shown: Shown
    temperature_k: float

    @property
    def names(self) -> tuple[str, ...]:
        """Properties whose derivatives along the modes give the intensities."""
        return ("dipole", "polarizability") if self.raman else ("dipole",)


def planned(settings: Settings, method: Method, system: System, run: Run) -> Intensities:
    """Return the intensities of the settings, with their second method built.

    Raises InputError for wrong settings, a method without dipoles or polarisabilities, a foreign checkpoint.
    """
    settings.shown.check()
    if not isinstance(settings.raman, bool):
        raise InputError(f"task.raman must be true or false, not {settings.raman}")
    if not (settings.raman or settings.entry):
        return Intensities(settings, None)
    if any(system.pbc):
        raise InputError(f"{system.name} is periodic: a crystal's dipole is not defined; remove task.dipoles")
    names = frozenset(settings.names)
    if settings.entry is None:
        if not names <= protocol.available(method):
            lacking = " and ".join(sorted(names - method.provides))
            raise InputError(
                f"task.raman needs {lacking}, which {method.name} does not give; "
                "task.dipoles=METHOD takes dipoles and polarizabilities from another method: task.dipoles=hf"
            )
        protocol.require(method, names, "task.raman", [system])
        return Intensities(settings, None)
    from fusion.methods import by_name

    try:
        second = by_name.method(settings.entry)
    except InputError as error:
        raise InputError(f"task.dipoles: {error}") from error
    protocol.require(second, names, f"task.dipoles={second.name}", [system])
    intensities = Intensities(settings, second)
    intensities.resume_note(system, run)
    return intensities


@dataclass(frozen=True)
class Intensities:
    """Intensities of a run; `second`: the method of the dipoles, None where it is the method of the Hessian."""

    settings: Settings
    second: Method | None

    def resume_note(self, system: System, run: Run) -> str | None:
        """Note on the resumed dipoles of a second method; None where they start anew."""
        from fusion.methods.recorded import resume_note

        note = None if self.second is None else resume_note(self.second, system, self._run(run), FOLDER)
        return note and f"dipoles: {note.partition(' (')[0]} ({FOLDER}/{CHECKPOINT})"

    def beside_hessian(self, method: Method, system: System) -> frozenset[str]:
        """Properties to request together with the Hessian: the dipole, and the derivatives that the method provides
        itself or that cost nothing more."""
        if self.second is not None or "dipole" not in method.provides or any(system.pbc):
            return frozenset()
        numerical = "hessian" not in method.provides
        derivatives = {_DERIVATIVES[name] for name in self.settings.names}
        return frozenset(self.settings.names) | (derivatives if numerical else derivatives & method.provides)

    def calculate(
        self, journal: Journal, stationary: Result, modes: NormalModes, start: System, run: Run
    ) -> dict[str, Any]:
        """Intensities for `result.json`; empty where the method has no dipoles. Raises CalculationError.

        `stationary` is the result with the Hessian at the stationary point, `start` the system of the run.
        """
        if self.second is None and not self.beside_hessian(journal, stationary.system):
            return {}
        with self._source(journal, start, run) as source:
            with_dipole, slopes = self._slopes(source, stationary, modes)
        described: dict[str, Any] = {name: slope.details for name, slope in slopes.items()}
        if self.second is not None:
            described = self._described() | described
            if with_dipole.message:
                described["remark"] = with_dipole.message
        return {**self._numbers(with_dipole, slopes, modes), "intensities": described}

    def spectrum(self) -> dict[str, Any]:
        """Settings of the spectrum for `result.json`."""
        shown = self.settings.shown
        settings: dict[str, Any] = {"scale": shown.scale, "half_width_cm1": shown.half_width_cm1}
        if shown.range_cm1 is not None:
            settings["range_cm1"] = list(shown.range_cm1)
        if self.settings.raman:
            settings |= {"laser_nm": shown.laser_nm, "temperature_k": self.settings.temperature_k}
        return settings

    def _slopes(self, source: Method, stationary: Result, modes: NormalModes) -> tuple[Result, dict[str, Slopes]]:
        """The result with dipole and polarisability at the stationary point, and their derivatives along the modes."""
        from fusion.console.phases import phase
        from fusion.tasks.vibrations.property_derivatives import along_modes, calculations

        chosen = self.settings.shown.chosen(modes.frequencies)
        provided = stationary.properties if self.second is None else source.provides
        missing = [name for name in self.settings.names if _DERIVATIVES[name] not in provided]
        first = int(self.second is not None)
        total = first + calculations(chosen, len(missing))
        if not total:
            return stationary, self._of_nuclei(source, stationary, modes, self.settings.names)
        by = "by differences along modes" if missing else "derivatives of the method itself"
        with phase("dipoles", total) as bar:
            with_dipole = self._with_dipole(source, stationary, lambda _, text: bar(0, text))
            bar(first, by)
            slopes = self._of_nuclei(
                source, with_dipole, modes, [name for name in self.settings.names if name not in missing]
            )
            if missing:
                slopes |= along_modes(
                    source, stationary.system, modes, chosen, missing, lambda done: bar(first + done, by)
                )
            bar(total, by)
        return with_dipole, slopes

    def _with_dipole(self, source: Method, stationary: Result, tell: Callable[[int, str], None]) -> Result:
        """The result at the stationary point with dipole and derivatives from the method of the dipoles. `tell` is
        called in every cycle of a method that reports its cycles."""
        if self.second is None:
            return stationary
        analytic = {_DERIVATIVES[name] for name in self.settings.names} & source.provides
        reporting = abilities.reporting(self.second)
        with reporting.watched(tell) if reporting else nullcontext():
            (result,) = source.calculate([stationary.system], {"energy", *self.settings.names, *analytic})
        if result.status != "ok":
            raise CalculationError(result.message or result.status)
        return result

    def _of_nuclei(self, source: Method, result: Result, modes: NormalModes, names: Iterable[str]) -> dict[str, Slopes]:
        """Derivatives of the properties `names` along the modes, from those by the nuclei in `result`."""
        from fusion.tasks.vibrations.property_derivatives import of_nuclei

        all_slopes = {}
        for name in names:
            charge = result.system.charge if name == "dipole" else 0
            slopes = of_nuclei(modes, np.asarray(result.properties[_DERIVATIVES[name]]), charge)
            slopes.values[~self.settings.shown.chosen(modes.frequencies)] = np.nan
            by = "the method itself" if _DERIVATIVES[name] in source.provides else "central differences by the nuclei"
            all_slopes[name] = replace(slopes, details={"by": by, **slopes.details})
        return all_slopes

    def _numbers(self, result: Result, slopes: Mapping[str, Slopes], modes: NormalModes) -> dict[str, Any]:
        """Intensities, dipole and polarisability for `result.json`."""
        from fusion.tasks.vibrations.infrared import dipole_magnitude, strengths

        masses = modes.reduced_masses
        numbers: dict[str, Any] = {
            "ir_intensities_km_per_mol": strengths(slopes["dipole"].values, masses).tolist(),
            "dipole_debye": dipole_magnitude(np.asarray(result.properties["dipole"])),
        }
        if self.settings.raman:
            from fusion.tasks.vibrations.raman import activities, cross_sections

            activity, ratios = activities(slopes["polarizability"].values, masses)
            cross_section = cross_sections(
                modes.frequencies * self.settings.shown.scale,
                activity,
                self.settings.shown.laser_nm,
                self.settings.temperature_k,
            )
            numbers |= {
                "raman_activities_angstrom4_per_dalton": activity.tolist(),
                "depolarization_ratios": ratios.tolist(),
                "raman_cross_sections_cm2_per_sr": cross_section.tolist(),
                "polarizability_bohr3": np.asarray(result.properties["polarizability"]).tolist(),
            }
        return numbers

    def _described(self) -> dict[str, Any]:
        """Description of the second method for `result.json`, as for the first."""
        assert self.second is not None
        described = {
            "label": self.second.label,
            "method": self.second.name,
            "kind": self.second.kind,
            "weights": abilities.weights(self.second),
            "settings": self._node(),
        }
        return {key: value for key, value in described.items() if value is not None}

    def _node(self) -> Any:
        from omegaconf import OmegaConf

        from fusion.methods import by_name

        assert self.settings.entry is not None
        return OmegaConf.to_container(by_name.node(*by_name.parts(self.settings.entry)), resolve=True)

    def _run(self, run: Run) -> Run:
        """The run for the journal of the second method: its settings, and a folder of its own for the checkpoint."""
        from omegaconf import OmegaConf

        config = OmegaConf.create({"method": self._node(), "dtype": None, "weights": None})
        return run.part(Path(FOLDER), config)

    @contextmanager
    def _source(self, journal: Journal, start: System, run: Run) -> Iterator[Method]:
        from fusion.methods.recorded import Journal

        if self.second is None:
            yield journal
            return
        part = self._run(run)
        make_folder(part.directory, run.directory)
        with Journal(self.second, start, part, FOLDER) as second_journal:
            yield second_journal


def experiment(config: Mapping[str, Any], system: System) -> dict[str, Any] | None:
    """Observed fundamentals of the molecule from its `conf/system` node: `fundamentals_cm1`, each degenerate set once,
    and `source`. None where the node has none, and for ions, other spins, isotopes and held atoms."""
    from fusion.chemistry.constraints import isotopes
    from fusion.chemistry.formulas import formula

    observed = config.get("fundamentals_cm1")
    differs = system.charge or system.spin or system.fixed is not None or isotopes(system)
    if not observed or differs or formula(config["symbols"]) != system.formula:
        return None
    return {
        "fundamentals_cm1": sorted(float(value) for value in observed),
        "source": str(config["fundamentals_source"]),
    }


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)
