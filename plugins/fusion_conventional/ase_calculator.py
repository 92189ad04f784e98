"""Any calculator of ASE as a method: eV and Angstrom inside the calculator, hartree and bohr outside."""

from __future__ import annotations

import math
import shlex
import shutil
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from functools import cached_property
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from ase.calculators import calculator as ase
from ase.stress import voigt_6_to_full_3x3_stress

from fusion.chemistry import energy_zeros, units
from fusion.chemistry.system import System
from fusion.errors import InputError
from fusion.methods.about import About
from fusion.parallel.default_dtype import default_dtype
from fusion.runs.results import Result
from fusion_conventional.ase_import import MissingPackage, Unusable, made, maker, one_line
from fusion_conventional.ase_remote import RemoteCalculator, located_python
from fusion_conventional.ase_state import ATTRIBUTE, SET, State

if TYPE_CHECKING:
    import torch

    from fusion.potentials.domain import Domain

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
"""Size limit of the files that are kept from a program that failed."""


class ASECalculator:
    """`Method` around an ASE calculator, built once with `options` as keywords.

    `calculator` is its name in ASE (emt, nwchem), the path of a class, function or class method that creates one
    (tblite.ase.TBLite, mace.calculators.mace_off), or the path of a calculator object. Programs run in a
    temporary directory unless `options` has a `directory`; their files are kept if they fail. `state` says how the
    calculator receives charge and spin (`ase_state`), `domain` which elements, charges and spins it covers, as on a
    model card; `licence` is printed. `energy_zero`, total or own, is the zero of its energies (None: total for programs
    that treat all electrons). `python` is the Python of another environment in which the calculator lives
    (`ase_remote`), None for this one. The packages that `about` requires are installed there, and results state their
    versions. Raises InputError for a calculator that cannot be created.
    """

    kind = "conventional"
    # These run classes and programs, so they are never read from another person's file.
    own_words = ("calculator", "options", "python")

    def __init__(
        self,
        name: str,
        calculator: str | None = None,
        options: Mapping[str, Any] | None = None,
        energy_zero: str | None = None,
        state: Mapping[str, Any] | None = None,
        domain: Mapping[str, Any] | None = None,
        licence: str | None = None,
        python: str | None = None,
        about: About | Mapping[str, Any] | None = None,
    ) -> None:
        self.name, self.about = name, About.read(about)
        if not isinstance(calculator, str) or not calculator:
            raise InputError(
                "method.calculator names a calculator of ASE: method.calculator=nwchem, or the path of a class or "
                "function, method.calculator=tblite.ase.TBLite"
            )
        if options is not None and not isinstance(options, Mapping):
            raise InputError(f"method.options must be settings, {{theory: dft, basis: 6-31g*}}, not {options!r}")
        self.calculator, self.options = calculator, _plain(options or {})
        self._python = None if python is None else located_python(str(python))
        # Another environment imports its calculator when it is first asked for something.
        self._maker = self._imported() if self._python is None else None
        place, _, name_there = calculator.rpartition(".")
        named = name_there if self._maker is None else getattr(self._maker, "__name__", type(self._maker).__name__)
        self._name = self.about.title if self.about.title not in (None, "ASE") else f"{named} (ASE)"
        if energy_zero not in (None, energy_zeros.TOTAL, energy_zeros.OWN):
            raise InputError(f"method.energy_zero is total or own, not {energy_zero!r}")
        module = (place or name_there.lower()) if self._maker is None else str(getattr(self._maker, "__module__", ""))
        module = module.rpartition("ase.calculators.")[2].partition(".")[0]
        self.energy_zero = energy_zero or (energy_zeros.TOTAL if module in _OF_ALL_ELECTRONS else energy_zeros.OWN)
        self._state = State.read(_plain(state), module)
        self._domain = _plain(domain)
        self._last_state: tuple[int, int] | None = None
        self._torch_dtype: torch.dtype | None = None
        self._scratch: tempfile.TemporaryDirectory[str] | None = None
        self.licence = licence

    @property
    def label(self) -> str:
        """Label of runs."""
        return self._name

    def _imported(self) -> Any:
        try:
            return maker(self.calculator)
        except Unusable as error:
            raise self._refusal(error) from error

    def _refusal(self, error: Unusable) -> InputError:
        """The error with what to do about a package that is not installed."""
        if not isinstance(error, MissingPackage):
            return InputError(str(error))
        packages = " ".join(self.about.requires)
        if self._python is not None:
            return InputError(f"{error}; install it there: {self._python} -m pip install ase {packages}".rstrip())
        command = f" (pip install {packages})" if packages else ""
        return InputError(
            f"{error}; install it{command}, or set method.python to the python of an environment that has it"
        )

    @cached_property
    def _calculator(self) -> Any:
        options = dict(self.options)
        try:
            if self._python is not None:
                self._scratch = tempfile.TemporaryDirectory(prefix="fusion-")
                place = self._scratch.name
                return RemoteCalculator(self._python, self.calculator, options, place, self.about.requires)
            import torch

            with default_dtype():  # learned potentials set torch's default and depend on it
                built = made(self.calculator, self._maker, options)
                self._torch_dtype = torch.get_default_dtype()
        except Unusable as error:
            raise self._refusal(error) from error
        if isinstance(built, ase.FileIOCalculator) and "directory" not in options:
            self._scratch = tempfile.TemporaryDirectory(prefix="fusion-")
            built.directory = self._scratch.name
        return built

    @cached_property
    def provides(self) -> frozenset[str]:
        """Properties that the calculator implements and fusion knows."""
        return frozenset({"energy"}) | frozenset(self._calculator.implemented_properties) & set(_PER_ATOMIC_UNIT)

    @cached_property
    def domain(self) -> Domain | None:
        """Domain of the calculator as `domain` states it, None if not stated. Raises InputError."""
        if self._domain is None:
            return None
        from fusion.potentials.domain import Domain

        return Domain.stated(self._name, self._domain, "method.domain")

    def check(self, systems: Sequence[System], properties: Iterable[str] = ()) -> None:
        """Raise InputError for a program that is not installed, for systems outside the `domain`, and for a charge or
        an open shell that the calculator would not receive."""
        program = _program(self._calculator)
        if program is not None and shutil.which(program) is None:
            raise InputError(f"{self.calculator} runs the program {program!r}, which is not installed")
        for system in systems:
            if self.domain is not None:
                self.domain.check(system)
            self._state.check(system, self.calculator, self.options)

    def calculate(self, systems: Sequence[System], properties: Iterable[str]) -> list[Result]:
        """One result per system, in atomic units; its status is `failed`, with the program's files, on any error."""
        # The most expensive property first: its calculation gives the others as well.
        wanted = [name for name in _PER_ATOMIC_UNIT if name in {"energy", *properties} & self.provides]
        self.check(systems)
        return [self._calculate(system, wanted) for system in systems]

    def _calculate(self, system: System, wanted: Sequence[str]) -> Result:
        atoms = system.to_atoms()
        if self._last_state not in (None, (system.charge, system.spin)):
            self._calculator.reset()  # ASE caches results by the nuclei and ignores atoms.info
        self._last_state = (system.charge, system.spin)
        if isinstance(self._calculator, RemoteCalculator):
            self._state.mark(system, atoms)
            self._calculator.attributes = self._state.numbers(system, ATTRIBUTE)
            self._calculator.keywords = self._state.numbers(system, SET)
            self._calculator.wanted = tuple(wanted)
        else:
            self._state.hand(system, atoms, self._calculator)
        result = Result(replace(system, reference=None))  # energies need not be total energies
        try:
            with default_dtype(self._torch_dtype):
                values = {name: self._calculator.get_property(name, atoms) for name in wanted}
        except ase.SCFError as error:
            return self._broken(result, "not_converged", error)
        except Exception as error:  # programs fail, files are unreadable, elements lack parameters
            return self._broken(result, "failed", error)
        if values["energy"] is None or not math.isfinite(values["energy"]):
            return self._broken(result, "failed", ValueError(f"the energy is {values['energy']}"))
        result.energy = float(values.pop("energy")) / units.EV_PER_HARTREE
        for name, value in values.items():
            array = voigt_6_to_full_3x3_stress(value) if name == "stress" else np.array(value, dtype=float)
            result.properties[name] = array / _PER_ATOMIC_UNIT[name]
        result.details["ase"] = {"calculator": self.calculator, "options": self.options, "versions": self._versions}
        result.details["ase"] |= {} if self.licence is None else {"licence": self.licence}
        result.details["ase"] |= {} if self._python is None else {"python": self._python}
        return result

    @cached_property
    def _versions(self) -> dict[str, str]:
        """Versions of ASE and of the packages that the calculator requires, where it lives."""
        if isinstance(self._calculator, RemoteCalculator):
            return self._calculator.versions
        installed = {}
        for name in ("ase", *self.about.requires):
            with suppress(PackageNotFoundError):
                installed[name] = version(name)
        return installed

    def _broken(self, result: Result, status: str, error: Exception) -> Result:
        result.status, result.message = status, f"{self._name}: {one_line(error)}"
        scratch = self._scratch
        if scratch is not None:
            files = (path for path in sorted(Path(scratch.name).rglob("*")) if path.is_file())
            result.files = {path.name: path.read_bytes() for path in files if path.stat().st_size <= _KEPT_BYTES}
            result.message = result.message.replace(scratch.name, "the run's directory")
        self._calculator.reset()
        return result


def _program(calculator: Any) -> str | None:
    """Program that a calculator runs; None if it runs none, or if that is unknown."""
    command = getattr(getattr(calculator, "profile", None), "command", None) or getattr(calculator, "command", None)
    if not isinstance(calculator, ase.FileIOCalculator) or not isinstance(command, str):
        return None
    words = [word for word in shlex.split(command) if "=" not in word]
    return words[0] if words else None


def _plain(value: Any) -> Any:
    """Convert a setting from the configuration's containers to plain ones."""
    from omegaconf import OmegaConf

    if OmegaConf.is_config(value):
        return OmegaConf.to_container(value, resolve=True)
    return dict(value) if isinstance(value, Mapping) else value
