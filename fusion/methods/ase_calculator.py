"""ASE calculators from any method; they convert between hartree and bohr and ASE's eV and Angstrom."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from ase import Atoms
from ase.calculators.calculator import Calculator, SCFError, all_changes
from ase.stress import full_3x3_to_voigt_6_stress
from scipy.spatial.distance import pdist

from fusion.chemistry import spin_states, structure_state, structures, units
from fusion.chemistry.neighbours import near_pairs
from fusion.chemistry.system import System
from fusion.chemistry.system_checks import CLOSEST_NUCLEI
from fusion.errors import CalculationError, InputError
from fusion.methods import by_name, protocol
from fusion.runs.results import Result

# ASE property name -> ASE unit per atomic unit.
_SCALES: dict[str, float] = {
    "energy": units.EV_PER_HARTREE,
    "free_energy": units.EV_PER_HARTREE,
    "energy_std": units.EV_PER_HARTREE,
    "energy_stderr": units.EV_PER_HARTREE,
    "forces": units.EV_ANGSTROM_PER_HARTREE_BOHR,
    "forces_stderr": units.EV_ANGSTROM_PER_HARTREE_BOHR,
    "forces_std": units.EV_ANGSTROM_PER_HARTREE_BOHR,
    "stress": units.EV_ANGSTROM3_PER_HARTREE_BOHR3,
    "hessian": units.EV_ANGSTROM2_PER_HARTREE_BOHR2,
    "dipole": units.ANGSTROM_PER_BOHR,
    "charges": 1.0,
}
_ALWAYS = frozenset({"energy", "free_energy", "energy_std", "energy_stderr"})
"""Properties that are filled whenever the method has them; a request for one of them is a request for the energy."""

_MOVES = frozenset({"positions", "cell"})
"""ASE's `system_changes` entries that keep the same species, charge, spin and periodicity."""

_FEW = 200
"""Number of atoms up to which computing all distances is faster than a neighbour search."""

_NOT_SETTINGS = frozenset({"_target_", "name", "about"})


class NotConverged(CalculationError, SCFError):
    """A calculation inside ASE failed or did not converge: an error of both fusion and ASE."""


class FusionCalculator(Calculator):
    """ASE calculator of one method; `results` in eV, Angstrom and e.

    `charge` and `spin` (N_up - N_down) apply to all structures. Without them the atoms may state them in `info` or by
    initial charges and magnetic moments (see `fusion.chemistry.structure_state`); otherwise they are zero and the
    lowest possible. Raises InputError for what the method cannot do and `NotConverged` for a failed calculation. The
    method's remarks on a result (a structure unlike its training data, an unstable determinant) become a Python
    warning, once per calculator.
    """

    warns = True
    """False for the calculators of tasks, which print the remarks themselves."""

    settings: frozenset[str] = frozenset()
    """Names of the method's settings, which cannot be changed."""

    def __init__(self, method: protocol.Method, charge: int | None = None, spin: int | None = None, **ase: Any) -> None:
        self.method, self.charge, self.spin = method, charge, spin
        super().__init__(**ase)
        self._known: tuple[System, int | None, int | None] | None = None
        provided = protocol.available(method)
        self.implemented_properties = [name for name in _SCALES if name in provided or name == "free_energy"]

    @property
    def name(self) -> str:
        """The method's name; ASE writes it into its files."""
        return self.method.name

    def calculate(
        self,
        atoms: Atoms | None = None,
        properties: Sequence[str] | None = None,
        system_changes: Iterable[str] = all_changes,
    ) -> None:
        """Fill `results` with at least `properties`, as ASE asks for them."""
        super().calculate(atoms, properties, system_changes)
        wanted = set(properties or ()) - _ALWAYS | {"energy"}
        previous, self._known = self._known if _MOVES.issuperset(system_changes) else None, None
        system = None
        if previous is not None and previous[1:] == (self.charge, self.spin):  # species and state are already checked
            system = moved(previous[0], self.atoms)
        if system is None or _overlap(system):  # the complete check raises the error for nuclei on one spot
            system = self.system(self.atoms)
        self._known = (system, self.charge, self.spin)
        result = self.evaluated(system, wanted)
        self._warn(result)
        self.results = in_ase_units(result)

    def evaluated(self, system: System, wanted: Iterable[str]) -> Result:
        """Return the method's result with the `wanted` properties. Raises NotConverged for an unusable result."""
        (result,) = protocol.calculate(self.method, [system], wanted)
        if result.status != "ok" or result.energy is None:
            raise NotConverged(f"{self.method.name}: {result.message or result.status}")
        return result

    def _warn(self, result: Result) -> None:
        remarks = [remark for remark in (result.message, *result.warnings) if remark]
        if remarks and self.warns:
            self.warns = False
            warnings.warn(f"{result.system.name}: {'; '.join(remarks)}", UserWarning, stacklevel=4)

    def system(self, atoms: Atoms) -> System:
        """Return the system of `atoms` with this calculator's charge and spin."""
        system = structures.system_of(atoms, self.charge, self.spin, remedy="charge= and spin=", constraints=False)
        doubt = spin_states.note(system)
        if doubt is not None:
            warnings.warn(doubt, UserWarning, stacklevel=2)
        return system

    @property
    def charge(self) -> int | None:
        """Total charge of all structures; None: the charge that each states. A new value discards the results."""
        return self._charge

    @charge.setter
    def charge(self, value: Any) -> None:
        self._charge = self._whole("charge", value)

    @property
    def spin(self) -> int | None:
        """N_up - N_down of all structures; None: the spin that each states. A new value discards the results."""
        return self._spin

    @spin.setter
    def spin(self, value: Any) -> None:
        self._spin = self._whole("spin", value)

    def _whole(self, key: str, value: Any) -> int | None:
        number = None if value is None else structure_state.whole(value)
        if value is not None and number is None:
            raise InputError(f"{key} of a calculator must be a whole number, not {value!r}")
        self.reset()
        return number

    def check_state(self, atoms: Atoms, tol: float = 1e-15) -> list[str]:
        """Return the changes since the last calculation, also of charge and spin in `atoms.info`, which ASE ignores."""
        changes: list[str] = super().check_state(atoms, tol)
        same = self.atoms is None or _stated(atoms) == _stated(self.atoms)
        return changes if same else [*changes, "info"]

    def set(self, **settings: Any) -> dict[str, Any]:
        """Set `charge` or `spin`, as ASE sets parameters. Raises InputError for any other setting."""
        for key in settings:
            if key not in ("charge", "spin"):
                raise _unchangeable(key)
            setattr(self, key, settings[key])
        return settings

    def __setattr__(self, key: str, value: Any) -> None:
        """Set an attribute. Raises InputError for a setting of the method, which cannot change after its creation."""
        if key in self.settings and not hasattr(self, key):
            raise _unchangeable(key)
        super().__setattr__(key, value)


def calculator(name: str, charge: int | None = None, spin: int | None = None, **options: Any) -> FusionCalculator:
    """Return an ASE calculator of a method or model: `fusion.calculator("ani-2x")`, `("ferminet", charge=1)`.

    Options are the method's settings (`basis`, `grid_level`, ... as in `method.KEY`; nested ones as
    `**{"model.determinants": 8}`), `dtype` and `seed`. Raises InputError for an unknown method or setting.
    """
    node = by_name.node(name, options)
    result = FusionCalculator(protocol.build(node), charge, spin)
    result.settings = frozenset(map(str, node)) - _NOT_SETTINGS | set(by_name.BESIDE)
    return result


def _unchangeable(key: str) -> InputError:
    return InputError(f"{key} of a calculator cannot be changed; create another, fusion.calculator(NAME, {key}=...)")


def moved(system: System, atoms: Atoms) -> System:
    """Return `system` with the positions and the cell of `atoms`, which are the same nuclei. Raises InputError."""
    cell = np.asarray(atoms.cell) * units.BOHR_PER_ANGSTROM if system.cell is not None else None
    return system.moved(atoms.positions * units.BOHR_PER_ANGSTROM, cell)


def in_ase_units(result: Result) -> dict[str, Any]:
    """Convert a result in atomic units to ASE's `results`; the stress becomes six numbers in ASE's order."""
    values: dict[str, Any] = {"energy": result.energy, "free_energy": result.energy, **result.properties}
    values |= {"energy_std": result.energy_std, "energy_stderr": result.energy_stderr}
    if "stress" in values:
        values["stress"] = full_3x3_to_voigt_6_stress(np.asarray(values["stress"]))
    return {name: value * _SCALES[name] for name, value in values.items() if name in _SCALES and value is not None}


def _stated(atoms: Atoms) -> dict[str, str]:
    """Entries of `info` that state a charge or spin, as text for comparisons."""
    return {key: repr(value) for key, value in atoms.info.items() if structure_state.is_state_key(key)}


def _overlap(system: System) -> bool:
    if system.cell is None and len(system.symbols) <= _FEW:
        distances = pdist(system.positions)
    else:
        _, _, distances = near_pairs(system.positions, system.cell, system.pbc)
    return len(distances) > 0 and float(distances.min()) < CLOSEST_NUCLEI
