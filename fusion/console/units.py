"""Units of printed numbers, by the setting `units`; files stay in atomic units.

Tasks write their sentences and rows in atomic units, or in kcal/mol. `converted` rewrites the numbers with a unit where
a line is printed, so that no task has to know the setting. Rows of numbers that need all their digits, or whose unit
stands in the heading of a table, use the factors of `current`.
"""

from __future__ import annotations

import functools
import math
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final

from fusion.console.numbers import plus_minus, with_error
from fusion.errors import InputError

HARTREE: Final = "hartree"
NAMES: Final = (HARTREE, "eV", "kcal/mol", "kJ/mol")
_FEW = 3
"""Numbers of at most this many figures keep their number of figures, and have at least two."""


@dataclass(frozen=True)
class Unit:
    """Factor from atomic units, symbol, and decimals to show for a value of 1e-6 (energies) or 1e-5 atomic units."""

    factor: float
    symbol: str
    decimals: int

    def number(self, value: float, sign: str = "") -> str:
        """Format a value in atomic units without its symbol; `sign` "+" also shows a positive sign."""
        return f"{value * self.factor:{sign}z.{self.decimals}f}"

    def text(self, value: float, sign: str = "") -> str:
        """Format a value in atomic units with its symbol."""
        return f"{self.number(value, sign)} {self.symbol}"


@dataclass(frozen=True)
class Units:
    """Units of total energies, small differences, relative energies and forces, by one of `NAMES`.

    In atomic units relative energies are in kcal/mol.
    """

    name: str

    @property
    def key(self) -> str:
        """Unit of energies in names of columns: ev, kcal_mol."""
        return self.name.lower().replace("/", "_")

    @property
    def is_atomic(self) -> bool:
        """True for the default: hartree, and hartree/bohr for forces."""
        return self.name == HARTREE

    @property
    def energy(self) -> Unit:
        """Unit of total energies and their parts."""
        if self.is_atomic:
            return Unit(1.0, "Ha", 6)
        return Unit(_per_hartree(self.name), self.name, 5 if self.name == "eV" else 3)

    @property
    def small(self) -> Unit:
        """Unit of small differences, such as those to a reference."""
        if self.is_atomic:
            return Unit(1e3, "mHa", 2)
        return Unit(1e3 * _per_hartree("eV"), "meV", 1) if self.name == "eV" else self.relative

    @property
    def relative(self) -> Unit:
        """Unit of differences of energies: barriers, conformers, scans."""
        name = "kcal/mol" if self.is_atomic else self.name
        return Unit(_per_hartree(name), name, 4 if name == "eV" else 2)

    @property
    def force(self) -> Unit:
        """Unit of forces: hartree/bohr, or an energy per Angstrom."""
        if self.is_atomic:
            return Unit(1.0, "Ha/bohr", 5)
        return Unit(self.energy.factor / _angstrom_per_bohr(), f"{self.name}/Å", 4 if self.name == "eV" else 2)


def _per_hartree(name: str) -> float:
    from ase import units as ase  # only for other units: reports and tables in atomic units load no large packages

    return float(ase.Hartree / {"eV": 1.0, "kcal/mol": ase.kcal / ase.mol, "kJ/mol": ase.kJ / ase.mol}[name])


def _angstrom_per_bohr() -> float:
    from ase import units as ase

    return float(ase.Bohr)


_current = HARTREE


def checked(name: Any, setting: str = "units") -> str:
    """Return one of `NAMES`, in its spelling. Raises InputError for another unit."""
    spelt = {known.lower(): known for known in NAMES}
    if not isinstance(name, str) or name.lower() not in spelt:
        raise InputError(f"{setting} must be {', '.join(NAMES[:-1])} or {NAMES[-1]}, not {name!r}")
    return spelt[name.lower()]


@contextmanager
def using(name: Any) -> Iterator[None]:
    """Print in these units while the block runs; progress of other threads as well."""
    global _current
    before, _current = _current, checked(name)
    try:
        yield
    finally:
        _current = before


def current() -> Units:
    """Return the units of the present run or report."""
    return Units(_current)


def energy(value: float, error: float | None = None, decimals: int = 6) -> str:
    """Format a total energy, or part of one, in hartree: `-76.420012 Ha`, `-8.07005 ± 0.00024 Ha`.

    Without an error show `decimals`, or in other units as many as give the same resolution.
    """
    unit = current().energy
    scaled = None if error is None else error * unit.factor
    shown = max(0, unit.decimals + decimals - Units(HARTREE).energy.decimals)
    return f"{plus_minus(value * unit.factor, scaled, decimals=shown)} {unit.symbol}"


def of_relative() -> tuple[Unit, ...]:
    """Return the units that show a difference of energies: kcal/mol and kJ/mol by default."""
    chosen = current()
    return (chosen.relative, Units("kJ/mol").relative) if chosen.is_atomic else (chosen.relative,)


def relative(value: float, sign: str = "") -> str:
    """Format a difference of energies in hartree: `3.62 kcal/mol (15.15 kJ/mol)`."""
    first, *others = (unit.text(value, sign) for unit in of_relative())
    return first + "".join(f" ({text})" for text in others)


_NUMBER = r"[-+]?\d[\d,]*(?:\.\d+)?(?:[eE][-+]?\d+)?"
_QUANTITY = re.compile(
    rf"(?<![\w.])(?P<value>{_NUMBER})(?:\((?P<last>\d+(?:\.\d+)?)\)| ± (?P<error>{_NUMBER}))?"
    r"(?P<space> ?)(?P<unit>m?Ha/bohr|m?Ha|kcal/mol/Å|kcal/mol|kJ/mol)(?![\w/²³])"
)


def converted(text: str) -> str:
    """Return a printed text with all numbers that have a unit of energy or force in the units of `current`.

    A number is shown with as many decimals as its own resolution allows.
    """
    units = current()
    return text if units.is_atomic else _QUANTITY.sub(functools.partial(_rewritten, units), text)


def _rewritten(units: Units, match: re.Match[str]) -> str:
    written = match["unit"]
    atomic = {"Ha": 1.0, "mHa": 1e-3, "Ha/bohr": 1.0, "mHa/bohr": 1e-3}.get(written)
    if atomic is None:
        source = Units(written.removesuffix("/Å"))
        atomic = 1 / (source.force if written.endswith("/Å") else source.energy).factor
    target = units.force if written.endswith(("bohr", "Å")) else units.small if written == "mHa" else units.energy
    if written == target.symbol:
        return match[0]
    factor = atomic * target.factor
    value = float(match["value"].replace(",", "")) * factor
    if match["last"] is not None:
        error = float(match["last"]) * (1.0 if "." in match["last"] else 10.0 ** -_decimals(match["value"]))
        shown = with_error(value, error * factor)
    elif match["error"] is not None:
        error = float(match["error"]) * factor
        places = _places(match["error"], factor, error)
        shown = f"{value:z.{places}f} ± {error:.{places}f}"
    elif "e" in match["value"].lower():
        shown = f"{value:.{max(1, _figures(match['value']) - 1)}e}" if abs(value) < 1e-3 else f"{value:.2g}"
    else:
        shown = f"{value:z.{_places(match['value'], factor, value)}f}"
    sign = "+" if match["value"].startswith("+") and not shown.startswith("-") else ""
    return f"{sign}{shown} {target.symbol}"


def _decimals(text: str) -> int:
    return len(text.lower().partition("e")[0].partition(".")[2])


def _figures(text: str) -> int:
    return len(re.sub(r"\D", "", text.lower().partition("e")[0]).lstrip("0")) or 1


def _places(text: str, factor: float, value: float) -> int:
    """Decimals for a converted number: those its resolution allows, but two figures of a number that has few."""
    allowed = _decimals(text) - math.ceil(math.log10(factor))
    if _figures(text) <= _FEW and value:
        allowed = max(allowed, max(2, _figures(text)) - 1 - math.floor(math.log10(abs(value))))
    return min(max(allowed, 0), 8)


_COLUMN = re.compile(r"(?P<stem>\w*?)_?(?P<unit>mhartree|hartree_per_bohr|hartree)")


def column(name: str, units: Units) -> tuple[str, float]:
    """Return the name of a table's column in `units`, and the factor of its numbers: energy_hartree is energy_ev."""
    match = _COLUMN.fullmatch(name)
    if match is None or units.is_atomic:
        return name, 1.0
    unit, stem = match["unit"], f"{match['stem']}_" if match["stem"] else ""
    if unit == "hartree_per_bohr":
        return f"{stem}{units.key}_per_angstrom", units.force.factor
    return f"{stem}{units.key}", units.energy.factor / (1e3 if unit == "mhartree" else 1.0)
