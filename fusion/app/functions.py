"""Functions for scripts and notebooks, `fusion.relax(atoms, "ani-2x")`: each is one run of `fusion.run`.

The words of the command line are built from the arguments, so that settings, checks, directories and results are the
same. Common arguments:

* `structure`: ASE Atoms with cell, charge, multiplicity, masses and constraints; a system by name, `"ethanol"`; a file;
  for tasks with many structures also a list of Atoms, a folder or a pattern. The coordinates of Atoms are written with
  all digits to `runs/structures/`, where `fusion resume` finds them.
* `method`: a method or a model of the zoo by name, or a dict with its settings, `{"method": "dft", "xc": "pbe"}`.
* `charge`, and `spin` = N_up - N_down: override those of the structure.
* `settings`: all other settings by their dotted names, `{"trainer.threads": 2, "system.ecp": "ccecp"}`.
* `directory`: that of the run; by default a new one in `runs/`, as on the command line.
* `progress`: print the lines of the command line. By default nothing is printed: a notebook shows the `Result`.
* further keywords are settings of the task by their names (`fmax=1e-5`), or `units`, `seed`, `dtype` and `ckpt`.

An unconverged result is returned, see its `status`. InputError is raised for wrong input before anything is written,
CalculationError for a failed calculation.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

from fusion.app.execution import run
from fusion.app.structure_files import Stored
from fusion.chemistry import structure_state
from fusion.config.written_values import written
from fusion.console.format import console
from fusion.errors import CalculationError, InputError
from fusion.methods import by_name
from fusion.parallel import processes

if TYPE_CHECKING:
    from ase import Atoms

    from fusion.app.run_result import RunResult

    Structure: TypeAlias = Atoms | str | Path | Sequence[Atoms]
    Method: TypeAlias = str | Mapping[str, Any]

_ROOT = frozenset({"units", "seed", "dtype", "ckpt"})
"""Keywords that are settings of the run, not of its task."""
_ARGUMENTS = {"system": "structure", "systems": "structure", "task": "the function", "hydra.run.dir": "directory"}
"""Settings that an argument states."""


def energy(
    structure: Structure,
    method: Method,
    *,
    charge: int | None = None,
    spin: int | None = None,
    settings: Mapping[str, Any] | None = None,
    directory: str | Path | None = None,
    progress: bool = False,
    **keywords: Any,
) -> RunResult:
    """Calculate the energy and what the method gives with it; a neural wavefunction is optimised for it.

    Arguments are those of this module, `help(fusion.app.functions)`.
    """
    return _call(None, structure, [method], charge, spin, settings, directory, progress, keywords)


def relax(
    structure: Structure,
    method: Method,
    *,
    charge: int | None = None,
    spin: int | None = None,
    settings: Mapping[str, Any] | None = None,
    directory: str | Path | None = None,
    progress: bool = False,
    **keywords: Any,
) -> RunResult:
    """Relax a geometry, and its cell with `cell=True`; `fmax` in hartree/bohr. `Result.atoms` is the minimum.

    Keywords are the settings of task=relax; common arguments are those of `help(fusion.app.functions)`.
    """
    return _call("relax", structure, [method], charge, spin, settings, directory, progress, keywords)


def vibrations(
    structure: Structure,
    method: Method,
    *,
    charge: int | None = None,
    spin: int | None = None,
    settings: Mapping[str, Any] | None = None,
    directory: str | Path | None = None,
    progress: bool = False,
    **keywords: Any,
) -> RunResult:
    """Relax, then calculate frequencies, thermochemistry, and intensities where there are dipoles (`dipoles="dft"`).

    Keywords are the settings of task=vibrations; common arguments are those of `help(fusion.app.functions)`.
    """
    return _call("vibrations", structure, [method], charge, spin, settings, directory, progress, keywords)


def scan(
    structure: Structure,
    method: Method,
    *,
    charge: int | None = None,
    spin: int | None = None,
    settings: Mapping[str, Any] | None = None,
    directory: str | Path | None = None,
    progress: bool = False,
    **keywords: Any,
) -> RunResult:
    """Scan a bond, an angle or a dihedral, given by its `atoms` counted from 1.

    Keywords are the settings of task=scan; common arguments are those of `help(fusion.app.functions)`.
    """
    return _call("scan", structure, [method], charge, spin, settings, directory, progress, keywords)


def ts(
    structure: Structure,
    method: Method,
    *,
    charge: int | None = None,
    spin: int | None = None,
    settings: Mapping[str, Any] | None = None,
    directory: str | Path | None = None,
    progress: bool = False,
    **keywords: Any,
) -> RunResult:
    """Search for a transition state between `structure` and `product` (Atoms or a file), or from a guess of it.

    Keywords are the settings of task=ts; common arguments are those of `help(fusion.app.functions)`.
    """
    return _call("ts", structure, [method], charge, spin, settings, directory, progress, keywords)


def md(
    structure: Structure,
    method: Method,
    *,
    ensemble: str | None = None,
    charge: int | None = None,
    spin: int | None = None,
    settings: Mapping[str, Any] | None = None,
    directory: str | Path | None = None,
    progress: bool = False,
    **keywords: Any,
) -> RunResult:
    """Run molecular dynamics in the `ensemble` langevin (default), nve or npt.

    Keywords are the settings of task=md; common arguments are those of `help(fusion.app.functions)`.
    """
    more = {} if ensemble is None else {"ensemble": ensemble}
    return _call("md", structure, [method], charge, spin, {**more, **(settings or {})}, directory, progress, keywords)


def conformers(
    structure: Structure,
    method: Method,
    *,
    charge: int | None = None,
    spin: int | None = None,
    settings: Mapping[str, Any] | None = None,
    directory: str | Path | None = None,
    progress: bool = False,
    **keywords: Any,
) -> RunResult:
    """Find conformers with their energies and Boltzmann weights; `Result.trajectory` has their geometries.

    Keywords are the settings of task=conformers; common arguments are those of `help(fusion.app.functions)`.
    """
    return _call("conformers", structure, [method], charge, spin, settings, directory, progress, keywords)


def compare(
    structure: Structure | None,
    methods: Sequence[Method],
    *,
    charge: int | None = None,
    spin: int | None = None,
    settings: Mapping[str, Any] | None = None,
    directory: str | Path | None = None,
    progress: bool = False,
    **keywords: Any,
) -> RunResult:
    """Compare methods for a structure, or for a `reaction` with `structure=None`; each has a process of its own.

    Keywords are the settings of task=compare; common arguments are those of `help(fusion.app.functions)`.
    """
    if isinstance(methods, str | Mapping) or not isinstance(methods, Sequence):
        raise InputError(f'methods must be a list, such as ["hf", "ani-2x"], not {methods!r}')
    return _call("compare", structure, list(methods), charge, spin, settings, directory, progress, keywords)


def _call(
    task: str | None,
    structure: Any,
    methods: Sequence[Method],
    charge: int | None,
    spin: int | None,
    settings: Mapping[str, Any] | None,
    directory: str | Path | None,
    progress: bool,
    keywords: Mapping[str, Any],
) -> RunResult:
    """Run the calculation that the arguments of a function describe."""
    charge, spin = _whole("charge", charge), _whole("spin", spin)
    state = {"system.charge": charge, "system.spin": spin}
    with Stored(Path("runs") if directory is None else Path(directory).parent, charge, spin) as stored:
        words = [] if task is None else [f"task={task}"]
        words += _methods(methods) if task == "compare" else _method(methods[0])
        if task != "compare" or structure is not None:
            words += stored.words(structure)
        words += [f"{key}={written(value, key)}" for key, value in state.items() if value is not None]
        words += [_keyword(key, stored.path_of(value)) for key, value in keywords.items()]
        words += [_setting(key, value) for key, value in (settings or {}).items()]
        words += [] if directory is None else [f"hydra.run.dir={directory}"]
        console()  # its kind, a terminal or not, is that of the true output
        try:
            with processes.silent(not progress):
                return run(words)
        except (InputError, CalculationError) as error:  # a notebook shows the sentence, not how it came about
            if os.environ.get("HYDRA_FULL_ERROR", "0") not in ("", "0"):
                raise
            raise error.with_traceback(None) from None


def _whole(argument: str, value: Any) -> int | None:
    number = structure_state.whole(value)
    if value is not None and number is None:
        raise InputError(f"{argument} must be a whole number, not {value!r}")
    return number


def _method(method: Method) -> list[str]:
    """Words for a method or model of the zoo with its settings."""
    name, options = by_name.parts(method)
    words = [f"weights={name}" if word.startswith("weights=") else word for word in by_name.words(name)]
    return words + [
        f"{key if key in by_name.BESIDE else f'method.{key}'}={written(value, key)}" for key, value in options.items()
    ]


def _methods(methods: Sequence[Method]) -> list[str]:
    """Words for the methods of a comparison, whose entries have the form of `_method`."""
    for method in methods:
        by_name.parts(method)
    return [f"methods={written(list(methods), 'methods')}"]


def _keyword(key: str, value: Any) -> str:
    """Word for a keyword: a setting of the task, or one of `_ROOT`."""
    name = key if key in _ROOT else f"task.{key}"
    return f"{name}={written(value, name)}"


def _setting(key: str, value: Any) -> str:
    """Word for an entry of `settings`. Raises InputError for one that an argument states."""
    argument = _ARGUMENTS.get(key) or ("method" if key in ("method", "methods") else None)
    if argument is not None:
        raise InputError(f"settings: {key} is stated by {argument}; remove it from settings")
    return f"{key}={written(value, key)}"
