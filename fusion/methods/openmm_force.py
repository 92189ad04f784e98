"""Methods and models of the zoo as potentials of OpenMM: `MLPotential("fusion", weights="ani-2x")` of OpenMM-ML.

OpenMM-ML finds the factory by its entry point `openmmml.potentials`. It needs `openmm` 8.4 or later and `openmmml`.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import openmm
from ase import Atoms
from openmm import unit
from openmmml.mlpotential import MLPotentialImpl, MLPotentialImplFactory

from fusion.chemistry import structures, units
from fusion.chemistry.system import System
from fusion.errors import CalculationError, InputError
from fusion.methods import by_name, protocol
from fusion.methods.protocol import Method

if TYPE_CHECKING:
    from openmm.app import Topology

_NEEDS: Final = frozenset({"energy", "forces"})
_BOHR_PER_NM: Final = 10.0 * units.BOHR_PER_ANGSTROM
_FORCE: Final = units.KJ_MOL_PER_HARTREE * _BOHR_PER_NM
"""Forces: hartree/bohr to kJ/mol/nm."""
_SPACING: Final = 2.0
"""Distance (Angstrom) of the atoms of a structure that is only checked, never calculated."""


class Factory(MLPotentialImplFactory):
    """Factory of the name `fusion`: `weights` is a model of the zoo or a method, further keywords are its settings."""

    def createImpl(self, name: str, weights: str | None = None, **settings: Any) -> MLPotentialImpl:
        """Return the potential. Raises InputError for an unknown model or setting."""
        if weights is None:
            raise InputError(f"MLPotential({name!r}) needs weights=NAME, a model of the zoo (fusion zoo list)")
        return Potential({"method": weights, **settings})


class Potential(MLPotentialImpl):
    """Potential of OpenMM-ML from the method that `entry` names (`fusion.methods.by_name`)."""

    def __init__(self, entry: Mapping[str, Any]) -> None:
        self.entry, self.method = dict(entry), by_name.method(entry)

    def addForces(
        self,
        topology: Topology,
        system: openmm.System,
        atoms: Iterable[int] | None,
        forceGroup: int,
        charge: int = 0,
        spin: int | None = None,
        **embedding: Any,
    ) -> None:
        """Add a PythonForce for the `atoms` of the topology (None: all) to an OpenMM system.

        `charge` and `spin` (N_up - N_down, by default the lowest possible) are those of these atoms. Raises InputError
        for what the method cannot calculate.
        """
        chosen = list(topology.atoms())
        indices = None if atoms is None else [int(index) for index in atoms]
        if indices is not None:
            chosen = [chosen[index] for index in indices]
        calculated = _system([atom.element for atom in chosen], topology.getPeriodicBoxVectors(), charge, spin)
        protocol.require(self.method, _NEEDS, "OpenMM", [calculated])
        force = openmm.PythonForce(_Evaluation(self.entry, calculated, self.method))
        force.setForceGroup(forceGroup)
        force.setUsesPeriodicBoundaryConditions(calculated.cell is not None)
        if indices is not None:
            force.setParticles(indices)
        system.addForce(force)

    def getMLLongRange(self) -> bool | None:
        """Return False for learned potentials, whose interactions end at a cutoff; None if it is not known."""
        return False if self.method.kind == "potential" else None


class _Evaluation:
    """Function of an OpenMM state: energy (kJ/mol) and forces (A, 3) in kJ/mol/nm.

    It can be pickled, as OpenMM's serialisation requires: a copy builds its own method from `entry`.
    """

    def __init__(self, entry: Mapping[str, Any], system: System, method: Method | None = None) -> None:
        self._entry, self._system, self._warned = entry, system, False
        self._method: Method = by_name.method(entry) if method is None else method

    def __call__(self, state: openmm.State) -> tuple[float, np.ndarray]:
        positions = state.getPositions(asNumpy=True).value_in_unit(unit.nanometer) * _BOHR_PER_NM
        cell = None
        if self._system.cell is not None:
            cell = state.getPeriodicBoxVectors(asNumpy=True).value_in_unit(unit.nanometer) * _BOHR_PER_NM
        (result,) = protocol.calculate(self._method, [self._system.moved(positions, cell)], _NEEDS)
        if result.status != "ok" or result.energy is None:
            raise CalculationError(f"{self._method.name}: {result.message or result.status}")
        remarks = [remark for remark in (result.message, *result.warnings) if remark]
        if remarks and not self._warned:
            self._warned = True
            warnings.warn("; ".join(remarks), UserWarning, stacklevel=2)
        return result.energy * units.KJ_MOL_PER_HARTREE, np.asarray(result.properties["forces"]) * _FORCE

    def __reduce__(self) -> tuple[Any, ...]:
        return _Evaluation, (self._entry, self._system)


def _system(elements: Sequence[Any], box: Any, charge: int, spin: int | None) -> System:
    """Return a system of these elements, periodic in a `box`, on a regular grid: its positions are not calculated."""
    if any(element is None for element in elements):
        raise InputError("an atom of the topology has no element: fusion needs the element of every atom")
    side = math.ceil(len(elements) ** (1 / 3))
    grid = (np.array(list(np.ndindex(side, side, side)))[: len(elements)] + 0.5) / side
    cell = np.eye(3) * _SPACING * side if box is None else np.asarray(box.value_in_unit(unit.angstrom))
    symbols = [element.symbol for element in elements]
    atoms = Atoms(symbols, scaled_positions=grid, cell=cell, pbc=box is not None)
    return structures.from_atoms(atoms, charge, spin, "the topology")
