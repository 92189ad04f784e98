"""Analysis of a stationary point for `result.json`: its modes in numbers and words, and its thermochemistry."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from fusion.chemistry import units
from fusion.config.checks import check_number, check_whole, is_number
from fusion.errors import InputError

if TYPE_CHECKING:
    from fusion.chemistry.system import System
    from fusion.runs.results import Result
    from fusion.tasks.geometry.normal_modes import NormalModes

_MDYNE_ANGSTROM = units.EV_ANGSTROM2_PER_HARTREE_BOHR2 * 0.160217662  # one hartree/bohr^2; 1 eV is 0.16 mdyn Angstrom


@dataclass(frozen=True)
class Conditions:
    """Temperature in K, pressure in bar, symmetry number (None: that of the point group), and the wavenumber in cm^-1
    below which an imaginary mode counts as noise."""

    temperature_k: float
    pressure_bar: float
    symmetry_number: int | None
    noise_cm1: float

    def check(self) -> None:
        """Raise InputError for a temperature, pressure, symmetry number or noise without meaning."""
        for setting, value in (("temperature_k", self.temperature_k), ("pressure_bar", self.pressure_bar)):
            if not (is_number(value) and value > 0):
                raise InputError(f"task.{setting} must be positive, not {value}")
        if self.symmetry_number is not None:
            check_whole("task.symmetry_number", self.symmetry_number)
        check_number("task.noise_cm1", self.noise_cm1)


def describe(result: Result, modes: NormalModes, conditions: Conditions) -> dict[str, Any]:
    """Details of the vibrations of `result`'s system for `result.json`. Imaginary frequencies are negative numbers."""
    from fusion.tasks.geometry.normal_modes import largest_movers

    system = result.system
    imaginary = int((modes.frequencies < -conditions.noise_cm1).sum())
    doubtful = int((modes.frequencies < 0).sum()) - imaginary
    details: dict[str, Any] = {
        "frequencies_cm1": modes.frequencies.tolist(),
        "zero_point_energy_hartree": modes.zero_point_energy,
        "vibrations": {
            "imaginary": "imaginary frequencies are given as negative numbers",
            "n_imaginary": imaginary,
            "n_below_noise": doubtful,
            "noise_cm1": conditions.noise_cm1,
            "nature": nature(imaginary, doubtful, conditions.noise_cm1),
            "removed_translations_and_rotations": modes.removed,
            "residual_of_removed_cm1": modes.residual.tolist(),
            "free_coordinates": None if system.fixed is None else int((~system.fixed).sum()),
            "masses_dalton": system.nuclear_masses.tolist(),
            "reduced_masses_dalton": modes.reduced_masses.tolist(),
            "force_constants_mdyne_per_angstrom": (modes.force_constants * _MDYNE_ANGSTROM).tolist(),
            "movers": [largest_movers(mode, system.symbols) for mode in modes.displacements],
        },
        "modes": modes.displacements.tolist(),
    }
    details["vibrations"] = {key: value for key, value in details["vibrations"].items() if value is not None}
    if result.energy is not None and (system.fixed is not None or not any(system.pbc)):
        details["thermochemistry"] = _thermochemistry(result, modes, conditions)
    return details


def free_motions(system: System) -> list[str]:
    """Warn if the held atoms leave rigid motions of the whole system free: these have no restoring force."""
    from fusion.tasks.geometry.normal_modes import free_rigid_motions

    assert system.fixed is not None
    number = free_rigid_motions(system.positions, system.nuclear_masses, any(system.pbc), system.fixed)
    if not number:
        return []
    motions = "1 translation or rotation" if number == 1 else f"{number} translations or rotations"
    return [
        f"the held atoms leave {motions} of the whole system free, counted as vibrations near 0 cm-1: "
        "entropy and free energy are not meaningful; hold at least three atoms off one line, or none",
    ]


def nature(imaginary: int, doubtful: int = 0, noise_cm1: float = 0.0) -> str:
    """Kind of a stationary point with this number of imaginary modes, and of further ones below the noise, in words."""
    if doubtful:
        modes = f"{doubtful} imaginary mode{'' if doubtful == 1 else 's'}"
        return f"{nature(imaginary)}, if {modes} below {noise_cm1:g} cm⁻¹ {'is' if doubtful == 1 else 'are'} noise"
    if imaginary == 0:
        return "no imaginary modes: a minimum"
    if imaginary == 1:
        return "1 imaginary mode: a transition state, not a minimum"
    return f"{imaginary} imaginary modes: a saddle point of higher order, neither minimum nor transition state"


def _thermochemistry(result: Result, modes: NormalModes, conditions: Conditions) -> dict[str, Any]:
    from fusion.tasks.vibrations.symmetry import TOLERANCE_BOHR, point_group
    from fusion.tasks.vibrations.thermochemistry import Shape, held_thermochemistry, thermochemistry

    assert result.energy is not None
    system, real = result.system, modes.frequencies[modes.frequencies > 0]
    if system.fixed is not None:
        return held_thermochemistry(result.energy, real, system.spin, conditions.temperature_k, conditions.pressure_bar)
    group = point_group(system.positions, list(zip(system.symbols, system.nuclear_masses.tolist(), strict=True)))
    shapes: dict[int, Shape] = {3: "monatomic", 5: "linear", 6: "nonlinear"}
    number = conditions.symmetry_number
    thermo = thermochemistry(
        system.to_atoms(),
        result.energy,
        real,
        shapes[modes.removed],
        group.symmetry_number if number is None else number,
        system.spin,
        conditions.temperature_k,
        conditions.pressure_bar,
    )
    thermo["point_group"] = group.name
    thermo["point_group_tolerance_angstrom"] = TOLERANCE_BOHR * units.ANGSTROM_PER_BOHR
    thermo["symmetry_number_from"] = "the point group" if number is None else "task.symmetry_number"
    return thermo
