"""Transfer of a molecule's charge and spin to ASE calculators, for which ASE has no common convention.

MACE, UMA, AIMNet2 and Orb read `atoms.info`, programs read keywords or initial magnetic moments; the same key `spin` is
2S + 1 for some and the number of unpaired electrons for others. Nothing is guessed: a calculator that is not in the
tables below gets a charge or an open shell only as `method.state` says.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from fusion.chemistry.system import System
from fusion.errors import InputError

MULTIPLICITY: Final = "multiplicity"
UNPAIRED: Final = "unpaired"
INITIAL: Final = "initial"
ATTRIBUTE: Final = "attribute"
SET: Final = "set"
_THROUGH: Final = ("info", ATTRIBUTE, SET, INITIAL)
_EXAMPLE: Final = "method.state={charge: charge, spin: {key: spin, as: multiplicity}}"
_MULTIPLICITIES: Final = frozenset({"mult", "multiplicity", "spin_multiplicity"})
"""Keywords that mean 2S + 1 for every calculator."""
_BY_MOMENTS: Final = frozenset({
    "abinit", "aims", "castep", "elk", "espresso", "gamess_us", "gaussian", "gpaw", "mopac", "nwchem", "onetep",
    "openmx", "qchem", "siesta", "tblite", "vasp",
})  # fmt: skip
"""Modules of calculators that take the multiplicity from the sum of the initial magnetic moments. (Psi4's takes 1.)"""
_BY_CHARGES: Final = frozenset({"gaussian", "mopac", "tblite"})
"""Modules of calculators that take the charge from the sum of the initial charges."""
_WITHOUT_SPIN: Final = frozenset({
    "acn", "amber", "combine_mm", "counterions", "eam", "emt", "ff", "gromacs", "gulp", "harmonic", "kim", "lammpslib",
    "lammpsrun", "lj", "morse", "test", "tip3p", "tip4p",
})  # fmt: skip
"""Modules of calculators whose energies do not depend on the electrons."""
_GRAIN: Final = 2.0**-20
"""Initial values are multiples of this number, so that their sum over the atoms is exact."""


@dataclass(frozen=True)
class Way:
    """Place where a calculator reads a number: `key` of atoms.info, an attribute, a keyword of `set`, or the sum of
    the atoms' initial values. `meaning` says how a spin is counted."""

    key: str
    through: str = "info"
    meaning: str = UNPAIRED


@dataclass(frozen=True)
class State:
    """Ways of charge and spin: None if not stated, False if the energy does not depend on it."""

    charge: Way | bool | None = None
    spin: Way | bool | None = None

    @classmethod
    def read(cls, stated: Any, module: str) -> State:
        """Read `method.state` of a calculator defined in `module`; the tables supply what it does not state.

        Raises InputError.
        """
        if stated is not None and not isinstance(stated, Mapping):
            raise InputError(f"method.state must be a mapping, {_EXAMPLE}, not {stated!r}")
        unread = dict(stated or {})
        charge, spin = _way("charge", unread.pop("charge", None)), _way("spin", unread.pop("spin", None))
        if unread:
            raise InputError(f"method.state has charge and spin, not {', '.join(map(str, unread))}: {_EXAMPLE}")
        if charge is None and module in _BY_CHARGES:
            charge = Way("", INITIAL)
        if spin is None and module in _BY_MOMENTS:
            spin = Way("", INITIAL)
        return cls(charge, False if spin is None and module in _WITHOUT_SPIN else spin)

    def check(self, system: System, name: str, options: Mapping[str, Any]) -> None:
        """Raise InputError for a charge or an open shell that the calculator `name`, made with the keywords `options`,
        would not receive, and for keywords that contradict the system."""
        charges = {key: value for key, value in options.items() if "charge" in key.lower()}
        if charges and all(_number(value) and value != system.charge for value in charges.values()):
            raise InputError(f"method.options has {charges}, and system.charge is {system.charge}")
        if system.charge and not charges and self.charge is None:
            raise InputError(
                f"ASE has no common way to tell a calculator the charge {system.charge}: name it in method.options as "
                f"{name} calls it, {{charge: {system.charge}}}, or the key of atoms.info that it reads: {_EXAMPLE}"
            )
        spins = {key: value for key, value in options.items() if key.lower() in _MULTIPLICITIES}
        if any(_number(value) and value != system.multiplicity for value in spins.values()):
            raise InputError(f"method.options has {spins}, and the multiplicity is {system.multiplicity}")
        crystal = system.spin_assumed and any(system.pbc)
        if system.spin and not spins and self.spin is None and not crystal:
            raise InputError(
                f"{system.name} is an open shell (spin {system.spin}), and {name} would not receive the spin: state "
                f"the key of atoms.info that it reads, {_EXAMPLE} (or as: unpaired), through: initial for initial "
                "magnetic moments, or spin: false if its energy does not depend on the spin"
            )

    def hand(self, system: System, atoms: Any, calculator: Any) -> None:
        """Put the charge and the spin of `system` where the calculator reads them, closed shells included."""
        self.mark(system, atoms)
        for key, number in self.numbers(system, ATTRIBUTE).items():
            setattr(calculator, key, number)
        keywords = self.numbers(system, SET)
        if keywords:
            calculator.set(**keywords)

    def mark(self, system: System, atoms: Any) -> None:
        """Put the charge and the spin of `system` into the atoms, for calculators that read them there."""
        atoms.info.update(self.numbers(system, "info"))
        for way, number, initial in self._values(system):
            if way.through == INITIAL and number:
                values = np.full(len(atoms), round(number / len(atoms) / _GRAIN) * _GRAIN)
                values[0] += number - values.sum()
                getattr(atoms, initial)(values)

    def numbers(self, system: System, through: str) -> dict[str, int]:
        """Charge and spin of `system` by key, as far as the calculator receives them that way."""
        return {way.key: number for way, number, _ in self._values(system) if way.through == through}

    def _values(self, system: System) -> Iterator[tuple[Way, int, str]]:
        """Yield way, number and the setter of the atoms' initial values of what the calculator receives."""
        if isinstance(self.charge, Way):
            yield self.charge, system.charge, "set_initial_charges"
        if isinstance(self.spin, Way):
            number = system.multiplicity if self.spin.meaning == MULTIPLICITY else system.spin
            yield self.spin, number, "set_initial_magnetic_moments"


def _way(name: str, stated: Any) -> Way | bool | None:
    """Way of `charge` or `spin` as stated: a key of atoms.info, a mapping, or False. Raises InputError."""
    if stated is None or stated is False:
        return stated
    unread: dict[str, Any] = dict(stated) if isinstance(stated, Mapping) else {"key": stated}
    key, through = unread.pop("key", ""), unread.pop("through", "info")
    usual = UNPAIRED if through == INITIAL else MULTIPLICITY if str(key).lower() in _MULTIPLICITIES else None
    meaning = unread.pop("as", usual) if name == "spin" else UNPAIRED
    if unread or through not in _THROUGH or not isinstance(key, str) or bool(key) is (through == INITIAL):
        raise InputError(
            f"method.state.{name} is a key of atoms.info, or {{key: ..., through: info | attribute | set}}, or "
            f"{{through: initial}}, or false, not {stated!r}"
        )
    if meaning not in (MULTIPLICITY, UNPAIRED) or (through == INITIAL and meaning == MULTIPLICITY):
        raise InputError(
            f"method.state.spin: say as: multiplicity (2S + 1) or as: unpaired (N_up - N_down), {_EXAMPLE}; "
            "initial magnetic moments are unpaired electrons"
        )
    return Way(key, through, meaning)


def _number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)
