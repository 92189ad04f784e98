"""Result of a calculation, and `result.json`, its form on disk (schema 1)."""

from __future__ import annotations

import json
import math
import platform
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fusion.chemistry import energy_zeros
from fusion.errors import InputError
from fusion.files import bounds
from fusion.files.atomic import write_atomically
from fusion.runs.layout import RESULT

if TYPE_CHECKING:
    import numpy as np

    from fusion.chemistry.system import System
    from fusion.runs.run import Run

SCHEMA = 1
_LONGEST = 1 << 26  # largest size of result.json in bytes
_LONGEST_ROW = 1 << 20  # largest length of a table's line in bytes
_PACKAGES = {
    "fusion": "aiqm-fusion",
    "torch": "torch",
    "pytorch_lightning": "pytorch-lightning",
    "pyscf": "pyscf",
    "ase": "ase",
}


STRUCTURES = "structures"
"""Key in the details of a result of many structures; its `system` is only the first of them."""


@dataclass
class Result:
    """Result of one method for one system.

    `energy` is in hartree. `energy_stderr` is the statistical error of a stochastic method; `energy_std` is the spread
    of an ensemble (ddof=1, times `calibration_factor` of the `domain` if calibrated). `properties` holds arrays or
    numbers in atomic units (`forces`: (A, 3), hartree/bohr). `details` can be written as JSON, has one object per task
    with units in the key names, and is merged into the top level of `result.json`. `status` is
    `ok | not_converged | failed`; `message` gives the reason if it is not `ok`.
    """

    system: System
    status: str = "ok"
    energy: float | None = None
    energy_stderr: float | None = None
    energy_std: float | None = None
    properties: dict[str, np.ndarray | float] = field(default_factory=dict)
    details: dict[str, Any] = field(default_factory=dict)
    message: str | None = None
    warnings: list[str] = field(default_factory=list)
    """Reasons to doubt an `ok` result, one sentence each: an unstable determinant, amplitudes out of range."""
    files: dict[str, bytes] = field(default_factory=dict)
    """Files to write beside `result.json`, by name, for example the orbitals of a failed SCF."""


PROPERTY_KEYS = {  # the unit belongs in the key name of every property written to disk
    "energy_members": "energy_members_hartree",
    "forces": "forces_hartree_per_bohr",
    "forces_std": "forces_std_hartree_per_bohr",
    "stress": "stress_hartree_per_bohr3",
    "hessian": "hessian_hartree_per_bohr2",
    "forces_stderr": "forces_stderr_hartree_per_bohr",
    "dipole": "dipole_e_bohr",
    "dipole_stderr": "dipole_stderr_e_bohr",
    "charges": "charges_e",
    "spin_populations": "spin_populations",
}


@dataclass(frozen=True)
class Origin:
    """Method of a result as `result.json` names it: name, kind, zero of its energies, and its model of the zoo."""

    name: str
    kind: str
    energy_zero: str
    weights: Mapping[str, Any] | None = None


def write_result(run: Run, origin: Origin | None, task: str, result: Result, wall_s: float) -> Path:
    """Write the result's files and then `result.json` atomically to the run's directory; return its path.

    `origin` is None for a task with several methods.
    """
    path = run.directory / RESULT
    for name, content in result.files.items():
        write_atomically(run.directory / name, content)
    document = _strict(_document(run, origin, task, result, wall_s))
    write_atomically(path, json.dumps(document, indent=2, allow_nan=False) + "\n")
    return path


def read_result(directory: Path) -> dict[str, Any] | None:
    """Read the document of a finished run; None if there is none. Raises InputError for a damaged file."""
    path = directory / RESULT
    if not path.is_file():
        return None
    try:
        document = bounds.parsed_json(bounds.text(path, _LONGEST))
        _check(document, _FORM, "")
        if "status" not in document:
            raise ValueError("it has no status")
    except ValueError as error:
        raise InputError(
            f"{path} cannot be read: {bounds.reason(error)}; remove the file, and fusion resume writes it again"
        ) from None
    assert isinstance(document, dict)
    return document


def check_table(path: Path) -> None:
    """Raise InputError if an existing table of numbers is not text. A kill can leave half a last line."""
    if not path.is_file():
        return
    with path.open("rb") as file:
        for number, row in enumerate(iter(lambda: file.readline(_LONGEST_ROW), b""), start=1):
            try:
                row.decode()
                broken = b"\0" in row
            except UnicodeDecodeError:
                broken = True
            if broken:
                raise InputError(f"{path} is damaged: line {number} is not text; remove the lines from there on")


_NUMBER, _TEXT = (int, float, type(None)), (str, type(None))
_FORM: dict[str, Any] = {
    "": dict,
    "status": str,
    "method": _TEXT,
    "kind": _TEXT,
    "task": _TEXT,
    "message": _TEXT,
    "weights": (dict, type(None)),
    "settings": dict,
    "system": {"": dict, "symbols": list, "formula": _TEXT, "name": _TEXT, "charge": int, "spin": int},
    "energy": {"": (dict, type(None)), "value": _NUMBER, "stderr": _NUMBER},
    "energy_std_hartree": _NUMBER,
    "reference": {"": (dict, type(None)), "value": _NUMBER, "source": _TEXT, "difference_mhartree": _NUMBER},
    "timing": {"": dict, "wall_s": _NUMBER},
    "warnings": (list, type(None)),
}
"""Types of the values of every result by key; nested objects have their own object, with their own type under ""."""


def _check(value: Any, form: Any, place: str) -> None:
    """Raise ValueError if an existing value of a document has another type than in `form`."""
    types = form[""] if isinstance(form, dict) else form
    if not isinstance(value, types) or isinstance(value, bool):  # the form has no booleans
        raise ValueError(f"{place or 'it'} cannot be {json.dumps(value)[:40]}")
    if isinstance(form, dict) and isinstance(value, dict):
        for key, inner in form.items():
            if key and key in value:
                _check(value[key], inner, f"{place}.{key}" if place else key)


def versions() -> dict[str, str]:
    """Return the installed versions of the packages that results depend on."""
    installed = {"python": platform.python_version()}
    for name, distribution in _PACKAGES.items():
        try:
            installed[name] = metadata.version(distribution)
        except metadata.PackageNotFoundError:
            continue
    return installed


def _document(run: Run, origin: Origin | None, task: str, result: Result, wall_s: float) -> dict[str, Any]:
    import numpy as np
    from omegaconf import OmegaConf

    system = result.system
    document: dict[str, Any] = {
        "schema": SCHEMA,
        "versions": versions(),
        "method": None if origin is None else origin.name,
        "kind": None if origin is None else origin.kind,
        "weights": None if origin is None else origin.weights,
        "settings": OmegaConf.to_container(run.config, resolve=True),
        "task": task,
        "system": None if STRUCTURES in result.details else _describe(system),
        "status": result.status,
        "message": result.message,
        "warnings": list(dict.fromkeys(result.warnings)) or None,
        "energy": None,
        "energy_zero": None if origin is None else origin.energy_zero,
        "energy_std_hartree": result.energy_std,
        "reference": None,
        "timing": {"wall_s": round(wall_s, 3)},
        "threads": _threads(),
        "seed": run.seed,
    }
    if result.energy is not None:
        document["energy"] = {"value": result.energy, "stderr": result.energy_stderr}
    # A potential's total energy has the level of theory of its training data, and is not comparable to a reference.
    if result.energy is not None and system.reference is not None and document["energy_zero"] == energy_zeros.TOTAL:
        difference = 1000.0 * (result.energy - system.reference.value)
        document["reference"] = {
            "value": system.reference.value,
            "source": system.reference.source,
            "difference_mhartree": difference,
        }
    for name, value in result.properties.items():
        if np.all(np.isfinite(np.asarray(value, dtype=float))):
            document[PROPERTY_KEYS.get(name, name)] = value
    document.update(result.details)
    # Missing weights, energy and reference are null; all other keys that do not apply are absent.
    nullable = {"weights", "energy", "reference"}
    return {key: value for key, value in document.items() if value is not None or key in nullable}


def _describe(system: System) -> dict[str, Any]:
    import numpy as np

    from fusion.chemistry import constraints, units

    optional: dict[str, Any] = {}
    if system.cell is not None:
        optional |= {"pbc": list(system.pbc), "cell": (system.cell * units.ANGSTROM_PER_BOHR).tolist()}
    if system.fixed is not None:
        optional |= {"held": constraints.names(system), "fixed": system.fixed.tolist()}
    if system.masses is not None:
        optional["masses_dalton"] = system.masses.tolist()
    if system.cores:
        optional["ecp"] = {c.symbol: {"name": c.name, "core_electrons": c.electrons} for c in system.cores}
    return optional | {
        "name": system.name,
        "formula": system.formula,
        "charge": system.charge,
        "spin": system.spin,
        "symbols": list(system.symbols),
        "positions": (np.asarray(system.positions) * units.ANGSTROM_PER_BOHR).tolist(),
        **({"notes": list(system.notes)} if system.notes else {}),
    }


def _threads() -> int | None:
    import sys

    torch = sys.modules.get("torch")
    return torch.get_num_threads() if torch is not None else None


def _strict(value: Any) -> Any:
    """Convert a value to JSON types: numpy and torch values to lists and numbers, non-finite numbers to null."""
    if isinstance(value, dict):
        return {str(key): _strict(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_strict(item) for item in value]
    if hasattr(value, "tolist"):
        return _strict(value.tolist())
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return str(value) if isinstance(value, Path) else value
