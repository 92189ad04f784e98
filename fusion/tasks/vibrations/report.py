"""Terminal report of a vibrational analysis: the table of frequencies and the lines below it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from fusion.console import units
from fusion.console.format import plus_minus

_COLUMNS = 3  # modes side by side
_MOST = 60  # modes shown: one screen
_MOST_OBSERVED = 8  # experimental lines shown in full
_LOW_CM1 = 100.0
_EXTRAS = (  # title, key, decimals
    ("± model", "frequencies_std_cm1", 1),
    ("± stderr", "frequencies_stderr_cm1", 1),
    ("km/mol", "ir_intensities_km_per_mol", 1),
    ("Å⁴/amu", "raman_activities_angstrom4_per_dalton", 1),
    ("depol.", "depolarization_ratios", 3),
)
_UNITS = {"dipole": "e", "polarizability": "bohr²"}


def rows(document: dict[str, Any]) -> Iterator[list[str]]:
    """Yield lines of the summary from the content of `result.json`; none for a run that failed before its Hessian."""
    vibrations = document.get("vibrations")
    if not vibrations:
        return
    yield from _table(document)
    yield from _remarks(document, vibrations)
    yield from _intensities(document)
    energy, stderr = document["zero_point_energy_hartree"], document.get("zero_point_energy_stderr_hartree")
    relative = [unit.text(energy) for unit in units.of_relative()] if units.current().is_atomic and not stderr else []
    yield ["zero-point", _energy(energy, stderr), *relative]
    if document.get("thermochemistry"):
        yield from _thermochemistry(document["thermochemistry"])


def _table(document: dict[str, Any]) -> Iterator[list[str]]:
    """Number, wavenumber, spread, infrared intensity, Raman activity and depolarisation of the modes, in columns that
    are read downwards."""
    frequencies = document["frequencies_cm1"]
    first = document["vibrations"]["removed_translations_and_rotations"] + 1
    extras = [(title, decimals, values) for title, key, decimals in _EXTRAS if (values := document.get(key))]
    if not frequencies:
        yield ["modes", "none: an atom does not vibrate"]
        return
    entries = [
        f"{first + index:>5} {wavenumber(value):>10}"
        + "".join(f" {_number(values[index], decimals):>8}" for _, decimals, values in extras)
        for index, value in enumerate(frequencies)
    ]
    left_out = len(entries) - _MOST
    if left_out > 0:
        entries = entries[: _MOST - 3] + entries[-3:]
    header = f"{'mode':>5} {'cm⁻¹':>10}" + "".join(f" {title:>8}" for title, _, _ in extras)
    columns = min(_COLUMNS if len(extras) < 3 else _COLUMNS - 1, len(entries))
    height = -(-len(entries) // columns)
    columns = -(-len(entries) // height)
    yield ["    ".join([header] * columns), ""]
    for row in range(height):
        yield ["    ".join(entries[row::height]), ""]
    if left_out > 0:
        yield ["", f"{left_out} modes before the last three are not shown: result.json has all"]


def _remarks(document: dict[str, Any], vibrations: dict[str, Any]) -> Iterator[list[str]]:
    """Imaginary modes with the atoms that move and the advice to follow them downhill; modes below the noise."""
    frequencies = document["frequencies_cm1"]
    noise = vibrations["noise_cm1"]
    imaginary = [index for index, value in enumerate(frequencies) if value < -noise]
    for index in imaginary[:3]:
        yield ["imaginary", f"{wavenumber(frequencies[index])} cm⁻¹", f"moves {movers(vibrations['movers'][index])}"]
    if imaginary:
        number = vibrations["removed_translations_and_rotations"] + 1 + imaginary[0]
        yield [
            "downhill",
            f"system=RUN/modes/{number:02d}.xyz system.frame=5 task=relax relaxes from its largest displacement",
        ]
    doubtful = [value for value in frequencies if -noise <= value < 0]
    if doubtful:
        values = ", ".join(wavenumber(value) for value in doubtful[:4])
        yield [
            "near zero",
            f"{values} cm⁻¹",
            f"imaginary below {noise:g}: noise or a flat direction; not in the thermochemistry",
        ]


def _intensities(document: dict[str, Any]) -> Iterator[list[str]]:
    """Method of the dipoles, quality of their derivatives, and the observed fundamentals."""
    intensities = document.get("intensities") or {}
    for name, plural in (("dipole", "dipoles"), ("polarizability", "polarizabilities")):
        details = intensities.get(name)
        if details:
            yield [plural, str(intensities.get("label") or document.get("method")), _quality(details, _UNITS[name])]
    observed = document.get("experiment")
    if observed:
        values = observed["fundamentals_cm1"]
        shown_in_full = len(values) <= _MOST_OBSERVED
        shown = "  ".join(f"{value:g}" for value in values) if shown_in_full else f"{values[0]:g} … {values[-1]:g}"
        count = "" if shown_in_full else f"{len(values)} "
        yield ["experiment", f"{shown} cm⁻¹", f"{count}observed fundamentals, {observed['source']}"]


def _quality(details: dict[str, Any], unit: str) -> str:
    if "modes" not in details:
        return (
            f"derivatives by {details['by']}; their sum over all atoms is off by {details['sum_over_atoms']:.1e} {unit}"
        )
    text = f"differences along {details['modes']} mode{'' if details['modes'] == 1 else 's'}"
    change = details.get("strongest_changes_by_at_twice_the_step")
    return text if change is None else f"{text}; twice the step changes the strongest line by {100 * change:.2g} %"


def _thermochemistry(thermo: dict[str, Any]) -> Iterator[list[str]]:
    at = f"{thermo['temperature_k']:g} K, {thermo['pressure_bar']:g} bar"
    gas = "point_group" in thermo
    symmetry = f"{thermo['point_group']}, symmetry number {thermo['symmetry_number']}" if gas else ""
    if gas and thermo["symmetry_number_from"] != "the point group":
        symmetry += " (as given)"
    yield ["H", _energy(thermo["enthalpy_hartree"], thermo.get("enthalpy_stderr_hartree")), at]
    yield ["S", f"{thermo['entropy_j_per_mol_k']:.2f} J/mol/K", symmetry]
    model = "ideal gas, rigid rotor, harmonic" if gas else "harmonic modes of the free coordinates alone"
    yield ["G", _energy(thermo["gibbs_hartree"], thermo.get("gibbs_stderr_hartree")), model]
    low = thermo.get("quasi_rrho")
    if low:
        count = low["low_modes"]
        below = f"{count} mode{'' if count == 1 else 's'} below {_LOW_CM1:g} cm⁻¹"
        remark = f"{below}: their harmonic entropy is doubtful (Grimme 2012)"
        yield ["G, quasi-RRHO", units.energy(low["gibbs_hartree"]), remark]


def _energy(value: float, stderr: float | None) -> str:
    """Format an energy, with its standard error if it has one."""
    return f"{plus_minus(value, stderr)} Ha" if stderr else units.energy(value)


def _number(value: float | None, decimals: int) -> str:
    return "–" if value is None else f"{value:.{decimals}f}"


def wavenumber(value: float) -> str:
    """Format a wavenumber as `1523.4`, or as `432.1i` if it is imaginary, which is a negative number in files."""
    return f"{-value:.1f}i" if value < 0 else f"{value:.1f}"


def movers(shares: Sequence[Sequence[Any]]) -> str:
    """Format the atoms that move most: `H4 (62 %), C1 (20 %)`."""
    return ", ".join(f"{symbol}{number} ({100 * share:.0f} %)" for symbol, number, share in shares)
