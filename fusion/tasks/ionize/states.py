"""States of an ionisation: the system, its cation and its anion at the same geometry, and the choice of their spins."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from fusion.chemistry import spin_states, system_input
from fusion.chemistry.system import Reference, System
from fusion.errors import InputError

SYSTEM, CATION, ANION = "system", "cation", "anion"

_DIGITS = str.maketrans("0123456789", "⁰¹²³⁴⁵⁶⁷⁸⁹")


@dataclass(frozen=True)
class State:
    """State to calculate: its `name` is that of its folder, its `label` the formula with the charge.

    `origin` says in words where the multiplicity comes from. Without electrons `system` is None, and `repulsion` of the
    nuclei (hartree) is the energy.
    """

    name: str
    label: str
    charge: int
    system: System | None
    origin: str
    repulsion: float | None = None

    @property
    def reference(self) -> Reference | None:
        """Listed energy of this state; None if there is none."""
        if self.system is not None:
            return self.system.reference
        return None if self.repulsion is None else Reference(self.repulsion, "exact")

    @property
    def described(self) -> str:
        """Label, multiplicity and the origin of the multiplicity."""
        if self.system is None:
            return f"{self.label}: {self.origin}"
        return f"{self.label}: {spin_states.name(self.system.multiplicity)} ({self.origin})"


def initial(system: System) -> State:
    """State of the system itself."""
    return State(SYSTEM, label(system, system.charge), system.charge, system, "the system")


def ion(config: Mapping[str, Any], system: System, name: str, multiplicity: int | None) -> State:
    """Cation or anion of `system`, one electron less or more; `config` is the system's node, with its listed states.

    The multiplicity is that of the setting, else of the first listed state with the charge, else of the ground state by
    Hund's rules (atoms and molecules of `spin_states.ground_multiplicity`), else the one of S - 1/2 and S + 1/2 with
    the lower Hartree-Fock energy. Raises InputError for a state that cannot exist, CalculationError if Hartree-Fock
    does not converge.
    """
    charge = system.charge + (1 if name == CATION else -1)
    text = label(system, charge)
    if int(system.charges.sum()) == charge:
        if multiplicity is not None:
            raise InputError(f"task.{name}_multiplicity={multiplicity}: {text} has no electrons; leave it out")
        return State(name, text, charge, None, "bare nuclei", system.nuclear_repulsion)
    spin, origin = _stated(config, system, name, charge, multiplicity)
    setting = f"task.{name}_multiplicity={multiplicity}" if multiplicity is not None else f"task=ionize, {name}"
    try:
        if spin is None:
            spin, origin = _lowest(config, system, charge)
        return State(name, text, charge, system_input.with_state(config, system, charge, spin), origin)
    except InputError as error:
        raise InputError(f"{setting}: {error}") from None


def label(system: System, charge: int) -> str:
    """Formula with the charge as a superscript: He, He⁺, Be²⁺."""
    if charge == 0:
        return system.formula
    number = "" if abs(charge) == 1 else str(abs(charge)).translate(_DIGITS)
    return f"{system.formula}{number}{'⁺' if charge > 0 else '⁻'}"


def _stated(
    config: Mapping[str, Any], system: System, name: str, charge: int, multiplicity: int | None
) -> tuple[int | None, str]:
    """Spin by the setting, the listed states or Hund's rules, with its origin; None if none of them has it."""
    if multiplicity is not None:
        return multiplicity - 1, f"task.{name}_multiplicity"
    listed = system_input.listed_spin(config, system, charge)
    if listed is not None:
        return listed, f"listed in system={system.name}"
    ground = spin_states.ground_multiplicity(system.symbols, charge)
    return (None, "") if ground is None else (ground - 1, "Hund's rules")


def _lowest(config: Mapping[str, Any], system: System, charge: int) -> tuple[int, str]:
    """Spin with the lower Hartree-Fock energy of those that one electron more or less can give."""
    electrons = int(system.charges.sum()) - charge
    spins = [spin for spin in (system.spin - 1, system.spin + 1) if 0 <= spin <= electrons]
    if len(spins) == 1:
        return spins[0], "the only multiplicity next to that of the system"
    from fusion.wavefunctions.hartree_fock import hartree_fock

    energies = {spin: hartree_fock(system_input.with_state(config, system, charge, spin)).energy for spin in spins}
    lowest = min(spins, key=energies.__getitem__)
    return lowest, "the lower Hartree–Fock energy"
