"""ASE calculators from any method: eV and Angstrom outside, hartree and bohr inside."""

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
from fusion.chemistry.system import CLOSEST_NUCLEI, System, near_pairs
from fusion.errors import CalculationError, InputError
from fusion.methods import by_name, protocol
from fusion.runs.results import Result

# What ASE calls a property, its unit in ASE per atomic unit.
_SCALES: dict[str, float] = {
    "energy": units.EV_PER_HARTREE,
    "free_energy": units.EV_PER_HARTREE,
    "energy_std": units.EV_PER_HARTREE,
    "energy_stderr": units.EV_PER_HARTREE,
    "forces": units.EV_ANGSTROM_PER_HARTREE_BOHR,
    "forces_std": units.EV_ANGSTROM_PER_HARTREE_BOHR,
    "stress": units.EV_ANGSTROM3_PER_HARTREE_BOHR3,
    "hessian": units.EV_ANGSTROM2_PER_HARTREE_BOHR2,
    "dipole": units.ANGSTROM_PER_BOHR,
    "charges": 1.0,
}
_ALWAYS = frozenset({"energy", "free_energy", "energy_std", "energy_stderr"})
"""Filled whenever the method has them; asking for one of them asks for the energy."""

_MOVES = frozenset({"positions", "cell"})
"""What ASE says has changed where species, charge, spin and periodicity have not."""

_FEW = 200
"""Atoms up to which all distances are found faster than near ones."""

_NOT_SETTINGS = frozenset({"_target_", "name", "summary", "cost", "requires"})


class NotConverged(CalculationError, SCFError):
    """A calculation inside ASE failed or did not converge: both an error of fusion and one of ASE."""


class FusionCalculator(Calculator):
    """ASE calculator of one method; `results` in eV, Angstrom and e.

    `charge` and `spin` (N_up - N_down) hold for all structures; without them they are what the atoms state in `info`
    or by their initial charges and magnetic moments (see `fusion.chemistry.structure_state`), else zero and the lowest
    possible. Raises InputError for what the method cannot do and `NotConverged` for a calculation that failed. What the
    method remarks on a result (a structure unlike its training data, an unstable determinant) is issued as a Python
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
        given = protocol.available(method)
        self.implemented_properties = [name for name in _SCALES if name in given or name == "free_energy"]

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
        known, self._known = self._known if _MOVES.issuperset(system_changes) else None, None
        system = None
        if known is not None and known[1:] == (self.charge, self.spin):  # species and state have been checked
            system = moved(known[0], self.atoms)
        if system is None or _meet(system):  # the whole check has the words for nuclei on one spot
            system = self.system(self.atoms)
        self._known = (system, self.charge, self.spin)
        result = self.evaluated(system, wanted)
        self._warn(result)
        self.results = in_ase_units(result)

    def evaluated(self, system: System, wanted: Iterable[str]) -> Result:
        """The method's result with what is `wanted`. Raises NotConverged for one that is not to be used."""
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
        """The system that `atoms` stand for, with this calculator's charge and spin."""
        system = structures.system_of(atoms, self.charge, self.spin, remedy="charge= and spin=", constraints=False)
        doubt = spin_states.note(system)
        if doubt is not None:
            warnings.warn(doubt, UserWarning, stacklevel=2)
        return system

    @property
    def charge(self) -> int | None:
        """Total charge of all structures, None for what each of them states; another value discards the results."""
        return self._charge

    @charge.setter
    def charge(self, value: Any) -> None:
        self._charge = self._whole("charge", value)

    @property
    def spin(self) -> int | None:
        """N_up - N_down of all structures, None for what each of them states; another value discards the results."""
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
        """Changes since the last calculation; ASE does not look at the charge and spin in `atoms.info`."""
        changes: list[str] = super().check_state(atoms, tol)
        same = self.atoms is None or _stated(atoms) == _stated(self.atoms)
        return changes if same else [*changes, "info"]

    def set(self, **settings: Any) -> dict[str, Any]:
        """Set `charge` or `spin`, as ASE sets parameters. Raises InputError for what a calculator cannot change."""
        for key in settings:
            if key not in ("charge", "spin"):
                raise _unchangeable(key)
            setattr(self, key, settings[key])
        return settings

    def __setattr__(self, key: str, value: Any) -> None:
        """Set an attribute. Raises InputError for a setting of the method, which is fixed when the method is made."""
        if key in self.settings and not hasattr(self, key):
            raise _unchangeable(key)
        super().__setattr__(key, value)


def calculator(name: str, charge: int | None = None, spin: int | None = None, **options: Any) -> FusionCalculator:
    """An ASE calculator of a method or a model of the zoo: `fusion.calculator("ani-2x")`, `("ferminet", charge=1)`.

    Options are the method's settings (`basis`, `grid_level`, ... as in `method.KEY`; nested ones as
    `**{"model.determinants": 8}`) and `dtype` or `seed`. Raises InputError for a method or setting that does not exist.
    """
    node = by_name.node(name, options)
    made = FusionCalculator(protocol.build(node), charge, spin)
    made.settings = frozenset(map(str, node)) - _NOT_SETTINGS | set(by_name.BESIDE)
    return made


def _unchangeable(key: str) -> InputError:
    return InputError(f"{key} of a calculator cannot be changed; make another, fusion.calculator(NAME, {key}=...)")


def moved(system: System, atoms: Atoms) -> System:
    """`system` at the positions and in the cell of `atoms`, which are the same nuclei. Raises InputError."""
    cell = np.asarray(atoms.cell) * units.BOHR_PER_ANGSTROM if system.cell is not None else None
    return system.moved(atoms.positions * units.BOHR_PER_ANGSTROM, cell)


def in_ase_units(result: Result) -> dict[str, Any]:
    """The contents of ASE's `results` for a result in atomic units; stress as six numbers, in ASE's order."""
    values: dict[str, Any] = {"energy": result.energy, "free_energy": result.energy, **result.properties}
    values |= {"energy_std": result.energy_std, "energy_stderr": result.energy_stderr}
    if "stress" in values:
        values["stress"] = full_3x3_to_voigt_6_stress(np.asarray(values["stress"]))
    return {name: value * _SCALES[name] for name, value in values.items() if name in _SCALES and value is not None}


def _stated(atoms: Atoms) -> dict[str, str]:
    """Entries of `info` that state a charge or spin, as text that can be compared."""
    return {key: repr(value) for key, value in atoms.info.items() if structure_state.is_state_key(key)}


def _meet(system: System) -> bool:
    if system.cell is None and len(system.symbols) <= _FEW:
        distances = pdist(system.positions)
    else:
        _, _, distances = near_pairs(system.positions, system.cell, system.pbc)
    return len(distances) > 0 and float(distances.min()) < CLOSEST_NUCLEI
