"""From a `conf/system` node to a `System`.

Keys, all optional but one source of nuclei:

* nuclei: `atoms` ("H 0 0 0; H 0 0 1.4", lines or semicolons) with `unit` angstrom (default) or bohr;
  or `symbols` and `positions` with `unit`; or `path` to a file that ASE reads, with `frame` if it holds several;
* `charge` (default 0), `spin` = N_up - N_down or `multiplicity` (default: that of the first listed state with this
  charge, else the lowest possible);
* `states`: a list of {charge, spin, energy, source, uncertainty}: known states of these nuclei and, where known, their
  energies in hartree. They hold for the geometry with the given `formula` and `nuclear_repulsion` (hartree) only, so an
  overridden geometry, charge or spin never keeps a reference that is not its own;
* `fundamentals_cm1` and `fundamentals_source`: observed vibrations, each degenerate set once, for pictures of spectra.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from numbers import Integral, Real
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from ase.data import atomic_numbers
from omegaconf import OmegaConf

from fusion.errors import InputError
from fusion.system import Reference, System, checked_nuclei, formula, lowest_spin, nuclear_repulsion
from fusion.units import BOHR_PER_ANGSTROM, bohr_per

if TYPE_CHECKING:
    from ase import Atoms

SAME_GEOMETRY = 1e-6
"""Nuclear repulsion (hartree) within which a geometry counts as the one a tabulated energy was computed at."""


def read(config: Mapping[str, Any], start_dir: Path) -> System:
    """The system that `config` describes; relative paths are taken from `start_dir`. Raises InputError."""
    if OmegaConf.is_config(config):
        config = OmegaConf.to_container(config, resolve=True)  # type: ignore[assignment]
    if not isinstance(config, Mapping):
        raise InputError(f"no system {config!r}; give system=NAME, system=file system.path=FILE or system=inline")
    atoms: Atoms | None = None
    if config.get("path") is not None:
        atoms = read_file(str(config["path"]), config.get("frame"), start_dir)
        symbols, positions = atoms.get_chemical_symbols(), atoms.get_positions() * BOHR_PER_ANGSTROM
    else:
        symbols, positions = _nuclei(config)
    header = _header(atoms)
    name = str(config.get("name") or "inline")
    if atoms is not None and name in ("file", "inline"):
        name = Path(str(config["path"])).stem
    cell, pbc = _periodicity(atoms)
    symbols, positions = checked_nuclei(symbols, positions, name, cell, pbc)
    charge = _whole(config, "charge", header.get("charge", 0))
    states = _states(config, symbols, positions, charge)
    given = _spin(config, header, states)
    spin = lowest_spin(symbols, charge) if given is None else given
    return System(name, symbols, positions, charge, spin, cell, pbc, _reference(states, spin), given is None)


def read_file(path: str, frame: Any, start_dir: Path) -> Atoms:
    """One structure from any file that ASE reads. Raises InputError for what is missing, unreadable or ambiguous."""
    from ase.io import read as ase_read

    full = start_dir / Path(path).expanduser()
    if full.is_dir() or (not full.exists() and set("*?") & set(path)):
        what = "a directory" if full.is_dir() else "a pattern"
        pattern = f"{path}/*" if full.is_dir() else path
        raise InputError(f"system.path: '{path}' is {what}; -m 'system=glob({pattern})' calculates each file in it")
    if not full.is_file():
        raise InputError(
            f"system.path: no file '{path}' in {start_dir}"
            if not Path(path).is_absolute()
            else f"system.path: no file '{path}'"
        )
    try:
        frames = ase_read(full, index=":", do_not_split_by_at_sign=True)
    except Exception as error:  # ASE's readers raise whatever their parsing meets
        raise InputError(f"system.path: ASE cannot read '{path}' as a structure ({_first_line(error)})") from error
    if not frames:
        raise InputError(f"system.path: '{path}' holds no structure")
    if frame is None:
        if len(frames) > 1:
            raise InputError(
                f"'{path}' holds {len(frames)} structures; choose one: system.frame=0 ... {len(frames) - 1}"
            )
        return frames[0]
    index = _integer(frame, "system.frame")
    if not -len(frames) <= index < len(frames):
        raise InputError(f"system.frame={index}, but '{path}' holds {len(frames)} structures: 0 ... {len(frames) - 1}")
    return frames[index]


def parse_atoms(text: str) -> tuple[list[str], list[list[float]]]:
    """Symbols and coordinates of "H 0 0 0; H 0 0 1.4" (semicolons or lines). Raises InputError."""
    symbols, positions = [], []
    for line in text.replace(";", "\n").splitlines():
        if not line.strip():
            continue
        words = line.replace(",", " ").split()
        try:
            if len(words) != 4:
                raise ValueError
            positions.append([float(word) for word in words[1:]])
        except ValueError:
            raise InputError(f"system.atoms: expected 'SYMBOL x y z', got '{line.strip()}'") from None
        symbols.append(words[0])
    return symbols, positions


def _nuclei(config: Mapping[str, Any]) -> tuple[Sequence[str], Any]:
    unit = str(config.get("unit") or "angstrom")
    try:
        scale = bohr_per(unit)
    except KeyError:
        raise InputError(f"system.unit must be bohr or angstrom, not {unit!r}") from None
    if config.get("atoms") is not None:
        symbols, positions = parse_atoms(str(config["atoms"]))
    elif config.get("symbols") is not None and config.get("positions") is not None:
        symbols, positions = [str(symbol) for symbol in config["symbols"]], config["positions"]
    elif "path" in config:
        raise InputError("system=file needs system.path=FILE, any file that ASE reads")
    else:
        raise InputError("system=inline needs its atoms: \"system.atoms='H 0 0 0; H 0 0 0.74'\" (Angstrom)")
    try:
        return symbols, np.array(positions, dtype=float) * scale
    except (TypeError, ValueError):
        raise InputError("system.positions must be three numbers per atom") from None


def _periodicity(atoms: Atoms | None) -> tuple[np.ndarray | None, tuple[bool, bool, bool]]:
    if atoms is None or not np.any(atoms.pbc):
        return None, (False, False, False)
    x, y, z = (bool(flag) for flag in atoms.pbc)
    return np.asarray(atoms.cell) * BOHR_PER_ANGSTROM, (x, y, z)


def _integer(value: Any, key: str) -> int:
    """`value` as an integer; raises InputError naming `key` for anything that is not a whole number."""
    if isinstance(value, bool) or not isinstance(value, Real) or not float(value).is_integer():
        raise InputError(f"{key} must be a whole number, not {value!r}")
    return int(float(value))


def _header(atoms: Atoms | None) -> dict[str, int]:
    """Charge and multiplicity that a file states for itself; whatever else its comment line says is not ours."""
    info = {} if atoms is None else atoms.info
    stated = {"charge": info.get("charge"), "multiplicity": info.get("multiplicity", info.get("mult"))}
    return {key: int(value) for key, value in stated.items() if isinstance(value, Integral)}


def _whole(config: Mapping[str, Any], key: str, default: int) -> int:
    value = config.get(key)
    return default if value is None else _integer(value, f"system.{key}")


def _states(
    config: Mapping[str, Any], symbols: Sequence[str], positions: np.ndarray, charge: int
) -> list[Mapping[str, Any]]:
    """The tabulated states of these very nuclei at this charge, the ground state first."""
    states = config.get("states") or []
    if not states or formula(symbols) != config["formula"]:
        return []
    numbers = np.array([atomic_numbers[symbol] for symbol in symbols])
    if abs(nuclear_repulsion(numbers, positions) - float(config["nuclear_repulsion"])) > SAME_GEOMETRY:
        return []
    return [state for state in states if state["charge"] == charge]


def _spin(
    config: Mapping[str, Any],
    header: Mapping[str, int],
    states: list[Mapping[str, Any]],
) -> int | None:
    """Spin from the user's key, else from a file's header, else of the tabulated ground state, else None."""
    spin, multiplicity = config.get("spin"), config.get("multiplicity")
    if spin is None and multiplicity is None and config.get("charge") is None:
        multiplicity = header.get("multiplicity")
    if multiplicity is not None:
        implied = _integer(multiplicity, "system.multiplicity") - 1
        if spin is not None and _integer(spin, "system.spin") != implied:
            raise InputError(
                f"system.spin={spin} and system.multiplicity={multiplicity} disagree "
                "(multiplicity = spin + 1); give one of them"
            )
        return implied
    if spin is not None:
        return _integer(spin, "system.spin")
    return int(states[0]["spin"]) if states else None


def _reference(states: list[Mapping[str, Any]], spin: int) -> Reference | None:
    for state in states:
        if state["spin"] == spin and state.get("energy") is not None:
            uncertainty = state.get("uncertainty")
            return Reference(
                float(state["energy"]), str(state["source"]), None if uncertainty is None else float(uncertainty)
            )
    return None


def _first_line(error: Exception) -> str:
    text = str(error).strip() or type(error).__name__
    return text.splitlines()[0]
