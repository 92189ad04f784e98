"""Any calculator of ASE as a method: eV and Angstrom inside the calculator, hartree and bohr outside."""

from __future__ import annotations

import difflib
import importlib
import math
import shlex
import shutil
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any, Final

import numpy as np
from ase.calculators import calculator as ase
from ase.stress import voigt_6_to_full_3x3_stress

from fusion import units, zeros
from fusion.errors import InputError
from fusion.results import Result
from fusion.system import System, lowest_spin

_PER_ATOMIC_UNIT: Final = {
    "stress": units.EV_ANGSTROM3_PER_HARTREE_BOHR3,
    "forces": units.EV_ANGSTROM_PER_HARTREE_BOHR,
    "energy": units.EV_PER_HARTREE,
    "dipole": units.ANGSTROM_PER_BOHR,
    "charges": 1.0,
}
_OF_ALL_ELECTRONS: Final = frozenset({"nwchem", "orca", "gaussian", "psi4", "turbomole", "qchem", "gamess_us"})
"""ASE's names of programs whose energies are relative to separate electrons and nuclei."""
_KEPT_BYTES: Final = 2_000_000
"""Larger files of a program that failed are not kept."""


class ASECalculator:
    """`Method` around an ASE calculator, built once with `options` as keywords.

    `calculator` is ASE's name of it (emt, nwchem) or the path of a class (ase.calculators.lj.LennardJones,
    tblite.ase.TBLite). Programs run in a temporary directory unless `options` has a `directory`; what they wrote is
    kept when they fail. `energy_zero`, total or own, is what its energies are relative to (None: total of programs that
    count all electrons). Raises InputError for a calculator that cannot be had.
    """

    kind = "conventional"

    def __init__(
        self,
        name: str,
        title: str,
        calculator: str | None = None,
        options: Mapping[str, Any] | None = None,
        energy_zero: str | None = None,
        **_: Any,
    ) -> None:
        self.name, self.title = name, title
        if not isinstance(calculator, str) or not calculator:
            raise InputError(
                "method.calculator names a calculator of ASE: method.calculator=nwchem, or the path of a class, "
                "method.calculator=tblite.ase.TBLite"
            )
        if options is not None and not isinstance(options, Mapping):
            raise InputError(f"method.options must be settings, {{theory: dft, basis: 6-31g*}}, not {options!r}")
        self.calculator, self.options = calculator, _plain(options or {})
        self._class = _class(calculator)
        if energy_zero not in (None, zeros.TOTAL, zeros.OWN):
            raise InputError(f"method.energy_zero is total or own, not {energy_zero!r}")
        module = self._class.__module__.rpartition("ase.calculators.")[2].partition(".")[0]
        self.energy_zero = energy_zero or (zeros.TOTAL if module in _OF_ALL_ELECTRONS else zeros.OWN)

    @property
    def label(self) -> str:
        """What a run is called after."""
        return f"{self._class.__name__} (ASE)"

    @cached_property
    def _calculator(self) -> Any:
        options = dict(self.options)
        try:
            built = self._class(**options)
        except Exception as error:  # a calculator may do anything
            raise InputError(f"method.options of {self.calculator}: {_one_line(error)}") from error
        if isinstance(built, ase.FileIOCalculator) and "directory" not in options:
            self._scratch = tempfile.TemporaryDirectory(prefix="fusion-")
            built.directory = self._scratch.name
        return built

    @cached_property
    def provides(self) -> frozenset[str]:
        """What the calculator implements, of what has a place here."""
        return frozenset({"energy"}) | frozenset(self._calculator.implemented_properties) & set(_PER_ATOMIC_UNIT)

    def check(self, systems: Sequence[System], properties: Iterable[str] = ()) -> None:
        """Raise InputError for a program that is not installed and for a charge the calculator is not told of."""
        program = _program(self._calculator)
        if program is not None and shutil.which(program) is None:
            raise InputError(f"{self.calculator} runs the program {program!r}, which is not installed")
        told = {key: value for key, value in self.options.items() if "charge" in key.lower()}
        for system in systems:
            if told and all(isinstance(value, (int, float)) and value != system.charge for value in told.values()):
                raise InputError(f"method.options has {told}, and system.charge is {system.charge}")
            if system.charge and not told:
                raise InputError(
                    f"ASE has no common way to tell a calculator the charge {system.charge}: name it in method.options "
                    f"as {self.calculator} calls it, {{charge: {system.charge}}}"
                )

    def calculate(self, systems: Sequence[System], properties: Iterable[str]) -> list[Result]:
        """One result per system, in atomic units; `failed`, with the program's files, where it raises."""
        # The most expensive first: its calculation brings the others along.
        wanted = [name for name in _PER_ATOMIC_UNIT if name in {"energy", *properties} & self.provides]
        self.check(systems)
        return [self._calculate(system, wanted) for system in systems]

    def _calculate(self, system: System, wanted: Sequence[str]) -> Result:
        atoms = system.to_atoms()
        if system.spin != lowest_spin(system.symbols, system.charge):
            atoms.set_initial_magnetic_moments([system.spin / len(atoms)] * len(atoms))
        result = Result(replace(system, reference=None))  # its energies need not be total energies
        try:
            values = {name: self._calculator.get_property(name, atoms) for name in wanted}
        except ase.SCFError as error:
            return self._broken(result, "not_converged", error)
        except Exception as error:  # a program that fails, a file that cannot be read, an element without parameters
            return self._broken(result, "failed", error)
        if values["energy"] is None or not math.isfinite(values["energy"]):
            return self._broken(result, "failed", ValueError(f"the energy is {values['energy']}"))
        result.energy = float(values.pop("energy")) / units.EV_PER_HARTREE
        for name, value in values.items():
            array = voigt_6_to_full_3x3_stress(value) if name == "stress" else np.array(value, dtype=float)
            result.properties[name] = array / _PER_ATOMIC_UNIT[name]
        result.details["ase"] = {"calculator": self._class.__name__, "options": self.options}
        return result

    def _broken(self, result: Result, status: str, error: Exception) -> Result:
        result.status, result.message = status, f"{self._class.__name__}: {_one_line(error)}"
        scratch = getattr(self, "_scratch", None)
        if scratch is not None:
            files = (path for path in sorted(Path(scratch.name).rglob("*")) if path.is_file())
            result.files = {path.name: path.read_bytes() for path in files if path.stat().st_size <= _KEPT_BYTES}
            result.message = result.message.replace(scratch.name, "the run's directory")
        self._calculator.reset()
        return result


def _class(name: str) -> Any:
    """The class of a calculator by ASE's name or by its path. Raises InputError."""
    if "." not in name:
        if name.lower() not in ase.names:
            close = difflib.get_close_matches(name.lower(), ase.names, n=1)
            hint = f" Did you mean {close[0]!r}?" if close else ""
            raise InputError(
                f"method.calculator: ASE has no calculator {name!r}.{hint}  emt, nwchem, orca are some; others "
                "are named by the path of their class, tblite.ase.TBLite"
            )
        return ase.get_calculator_class(name.lower())
    module, _, attribute = name.rpartition(".")
    try:
        found = getattr(importlib.import_module(module), attribute)
    except ModuleNotFoundError as error:
        missing = str(error.name)
        raise InputError(
            f"method.calculator={name}: there is no Python package {missing!r}; is it installed?"
        ) from error
    except (ImportError, AttributeError) as error:
        raise InputError(f"method.calculator={name}: {module} has no {attribute} ({_one_line(error)})") from error
    if not hasattr(found, "implemented_properties"):
        raise InputError(f"method.calculator={name} is no calculator of ASE")
    return found


def _program(calculator: Any) -> str | None:
    """The program that a calculator runs, None where it runs none or is not known to."""
    command = getattr(getattr(calculator, "profile", None), "command", None) or getattr(calculator, "command", None)
    if not isinstance(calculator, ase.FileIOCalculator) or not isinstance(command, str):
        return None
    words = [word for word in shlex.split(command) if "=" not in word]
    return words[0] if words else None


def _plain(value: Any) -> Any:
    """A setting without the configuration's own containers."""
    from omegaconf import OmegaConf

    if OmegaConf.is_config(value):
        return OmegaConf.to_container(value, resolve=True)
    return dict(value)


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split()) or type(error).__name__
