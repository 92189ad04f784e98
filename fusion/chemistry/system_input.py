"""Reading of a `conf/system` node as a `System`.

Keys, all optional except for one source of nuclei:

* the electron gas instead of nuclei: `rs` (bohr) and `electrons`;
* nuclei: `atoms` ("H 0 0 0; H 0 0 1.4", lines or semicolons) with `unit` angstrom (default) or bohr;
  or `symbols` and `positions` with `unit`; or `path` to a file that ASE reads, with `frame` if it holds several;
* `charge` (default: that of the file, else 0), `spin` = N_up - N_down or `multiplicity` (default: that of the file for
  its charge, else that of the first listed state with this charge, else the lowest possible);
* `states`: a list of {charge, spin, energy, source, uncertainty}, states of these nuclei and, where known, their
  energies in hartree. They apply only to the geometry with this `formula` and `nuclear_repulsion` (hartree), so that
  another geometry, charge or spin never gets a wrong reference;
* `ecp`: effective core potentials, a name of PySCF's library, a file, or one of them per element;
* `fundamentals_cm1` and `fundamentals_source`: observed vibrations, each degenerate set once, for plots of spectra.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from omegaconf import OmegaConf

from fusion.chemistry import core_potentials, electron_gas, isotopes, structure_state
from fusion.chemistry.formulas import lowest_spin
from fusion.chemistry.structure_files import read_file
from fusion.chemistry.structures import system_of
from fusion.chemistry.system import Reference, System
from fusion.chemistry.system_checks import checked_nuclei
from fusion.chemistry.units import bohr_per
from fusion.errors import InputError

SAME_GEOMETRY = 1e-6
"""Tolerance (hartree) of the nuclear repulsion for a geometry to count as that of the tabulated energies."""


def read(config: Mapping[str, Any], start_dir: Path | None = None) -> System:
    """Read the system that `config` describes; relative paths start at `start_dir` (default: the current directory).

    Raises InputError.
    """
    start_dir = start_dir or Path.cwd()
    config = _plain(config)
    if not isinstance(config, Mapping):
        raise InputError(f"no system {config!r}; write system=NAME, system=file system.path=FILE or system=inline")
    charge, spin = state_of(config)
    if config.get("rs") is not None:
        return electron_gas.read(config, spin)
    name = str(config.get("name") or "inline")
    if config.get("path") is not None:
        path = str(config["path"])
        name = Path(path).stem if name in ("file", "inline") else name
        system = system_of(read_file(path, config.get("frame"), start_dir), charge, spin, name)
    else:
        written, coordinates = _nuclei(config)
        symbols, positions = checked_nuclei([isotopes.element(symbol) for symbol in written], coordinates, name)
        masses = isotopes.masses(written)
        lowest = lowest_spin(symbols, charge or 0)
        assumed = spin is None
        spin = lowest if spin is None else spin
        system = System(name, symbols, positions, charge or 0, spin, spin_assumed=assumed, masses=masses)
    states = _states(config, system, system.charge)
    if not states:
        system = system.with_spin_note()
    else:
        if system.spin_assumed:
            system = replace(system, spin=int(states[0]["spin"]), spin_assumed=False)
        system = replace(system, reference=_reference(states, system.spin))
    return system.with_cores(core_potentials.read(config.get("ecp"), system.symbols, start_dir))


def state_of(config: Mapping[str, Any]) -> tuple[int | None, int | None]:
    """Charge, and N_up - N_down, that the user's settings state. Raises InputError if they cannot be."""
    return _whole(config, "charge"), _spin(config)


def listed_spin(config: Mapping[str, Any], system: System, charge: int) -> int | None:
    """Spin of the ground state that `config` lists for the nuclei of `system` at another charge; None without one."""
    states = _states(_plain(config), system, charge)
    return int(states[0]["spin"]) if states else None


def with_state(config: Mapping[str, Any], system: System, charge: int, spin: int) -> System:
    """Return `system` with another charge and spin, and the reference that `config` lists for exactly this state.

    Systems with effective core potentials have no reference. Raises InputError for a state that cannot exist.
    """
    states = [] if system.cores else _states(_plain(config), system, charge)
    reference = _reference(states, spin)
    return replace(system, charge=charge, spin=spin, reference=reference, spin_assumed=False, notes=())


def parse_atoms(text: str) -> tuple[list[str], list[list[float]]]:
    """Parse symbols and coordinates of "H 0 0 0; H 0 0 1.4" (semicolons or lines). Raises InputError."""
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


def _plain(config: Mapping[str, Any]) -> Mapping[str, Any]:
    """The node as plain containers."""
    if OmegaConf.is_config(config):
        return OmegaConf.to_container(config, resolve=True)  # type: ignore[return-value]
    return config


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


def _whole(config: Mapping[str, Any], key: str) -> int | None:
    """Return the whole number `system.key`, or None if it is not set. Raises InputError for another value."""
    value = config.get(key)
    if value is None:
        return None
    number = structure_state.whole(value)
    if number is None:
        raise InputError(f"system.{key} must be a whole number, not {value!r}")
    return number


def _spin(config: Mapping[str, Any]) -> int | None:
    """Return N_up - N_down from the user's spin or multiplicity. Raises InputError if they disagree."""
    spin, multiplicity = _whole(config, "spin"), _whole(config, "multiplicity")
    if multiplicity is None:
        return spin
    if spin is not None and spin != multiplicity - 1:
        raise InputError(
            f"system.spin={spin} and system.multiplicity={multiplicity} disagree "
            "(multiplicity = spin + 1); set only one of them"
        )
    return multiplicity - 1


def _states(config: Mapping[str, Any], system: System, charge: int) -> list[Mapping[str, Any]]:
    """Tabulated states of exactly the nuclei of `system` at the `charge`, the ground state first."""
    states = config.get("states") or []
    if not states or system.formula != config["formula"]:
        return []
    if abs(system.nuclear_repulsion - float(config["nuclear_repulsion"])) > SAME_GEOMETRY:
        return []
    return [state for state in states if state["charge"] == charge]


def _reference(states: list[Mapping[str, Any]], spin: int) -> Reference | None:
    for state in states:
        if state["spin"] == spin and state.get("energy") is not None:
            uncertainty = state.get("uncertainty")
            return Reference(
                float(state["energy"]), str(state["source"]), None if uncertainty is None else float(uncertainty)
            )
    return None
