"""The energy of one system, with forces and dipole where the method has them."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from fusion import methods, phases, report, units
from fusion.composition import sum_report
from fusion.tasks import conventional
from fusion.tasks.interruption.stopping import between_steps

if TYPE_CHECKING:
    from fusion.methods import Method
    from fusion.results import Result
    from fusion.runs import Run
    from fusion.system import System


class Energy:
    """One call of `method.calculate`: energy, and forces, their spread and dipole where they are provided.

    The cycles of a method that can be `watched` are shown; files of its result come into the run's directory.
    """

    needs = frozenset({"energy"})

    def __init__(self, name: str = "energy") -> None:
        self.name = name

    def check(self, method: Method, system: System, run: Run) -> None:
        methods.require(method, self.needs, f"task {self.name}")
        if hasattr(method, "check"):  # what the method knows of its own limits: elements, charges, memory
            method.check([system], self._wanted(method, system))

    def run(self, method: Method, system: System, run: Run) -> Result:
        watched = getattr(method, "watched", None)
        if watched is None:
            return methods.calculate(method, [system], self._wanted(method, system))[0]
        # Nothing of an SCF is kept, so that a signal stops it at once.
        with phases.phase("SCF") as update, watched(update), between_steps(patience=0.0):
            result = methods.calculate(method, [system], self._wanted(method, system))[0]
        report.console().print()
        if result.files:
            result.message = f"{result.message}; the last density is kept in {', '.join(result.files)}"
        return result

    @staticmethod
    def rows(result: dict[str, Any]) -> Iterator[list[str]]:
        """The terms of a sum, the dipole, and how a self-consistent energy came about, of a `result.json`."""
        yield from sum_report.rows(result)
        dipole = result.get("dipole_e_bohr")
        if dipole and None not in dipole and not result["system"]["charge"]:  # of an ion it depends on the origin
            debye = [component * units.DEBYE_PER_ATOMIC_DIPOLE for component in dipole]
            along = ", ".join(f"{component:.3f}" for component in debye)
            yield ["dipole", f"{math.hypot(*debye):.4f} D", f"({along})"]
        yield from conventional.rows(result)
        scf = result.get("kohn_sham")
        if not scf:
            return
        names = [attempt["name"] for attempt in scf["attempts"]]
        where = f"{scf['reference']}, {scf['basis']}, grid level {scf['grid_level']} ({scf['grid_points']:,} points)"
        yield ["SCF", report.count(scf["cycles"], "cycle"), ", then ".join(names), where]
        if scf.get("occupations"):
            up, down = (", ".join(f"{number:g}" for number in numbers) or "none" for numbers in scf["occupations"])
            yield ["occupations", f"{up} up", f"{down} down"]
        if scf.get("spin_squared") is not None:
            yield ["⟨S²⟩", f"{scf['spin_squared']:.4f}", f"{scf['spin_squared_of_pure_state']:.4f} in a pure state"]

    def _wanted(self, method: Method, system: System) -> frozenset[str]:
        left_out: frozenset[str] = getattr(method, "costly", frozenset())  # what takes much longer than the energy
        if any(system.pbc):
            left_out |= {"dipole"}  # a crystal has none
        return self.needs | (method.provides & {"forces", "forces_std", "dipole"} - left_out)
