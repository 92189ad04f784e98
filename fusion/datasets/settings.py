"""Settings of one set of labelled structures, with checks; conf/data/file.yaml describes each of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fusion.config.checks import check_switch
from fusion.datasets import quantities
from fusion.errors import InputError

CONVENTIONS = {"ase": "eV", "ani": "hartree", "npz": None}
"""Default energy unit by format: ASE's own, that of ANI's files; an npz file has no default."""


@dataclass(frozen=True)
class Column:
    """One kind of label: its name in the file (None: the usual names) and its unit (None: from the other units)."""

    key: str | None = None
    unit: str | None = None
    sign: int = 1


@dataclass(frozen=True)
class Settings:
    """Names, units and conventions of the labels in a data set."""

    name: str
    paths: tuple[Path, ...]
    energy: str | None
    energy_unit: str | None
    energy_zero: str | None
    length_unit: str
    forces: Column
    stress: Column
    dipole: Column
    subtract: str | None
    fold: str | None
    high_energies: bool
    check: bool

    @classmethod
    def read(cls, config: Mapping[str, Any], paths: tuple[Path, ...]) -> Settings:
        """Read the settings of a `data` node. Raises InputError for a wrong value."""
        name = config.get("name") or (paths[0].stem if len(paths) == 1 else "data")
        settings = cls(
            name=str(name),
            paths=paths,
            energy=_text(config, "energy"),
            energy_unit=_text(config, "energy_unit"),
            energy_zero=_text(config, "energy_zero"),
            length_unit=str(config.get("length_unit", "angstrom")),
            forces=_column(config, "forces"),
            stress=_column(config, "stress"),
            dipole=_column(config, "dipole"),
            subtract=_text(config, "subtract"),
            fold=_text(config, "fold"),
            high_energies=_boolean(config, "high_energies", False),
            check=_boolean(config, "check", True),
        )
        settings.units("eV")  # refuse unknown units before any file is read
        if settings.energy_zero not in (None, "total", "atomization"):
            raise InputError(f"data.energy_zero must be total or atomization, not {settings.energy_zero!r}")
        return settings

    def units(self, convention: str | None) -> Units:
        """Return the factors to atomic units; `convention` is the format's energy unit. Raises InputError."""
        unit = self.energy_unit or convention
        if unit is None:
            raise InputError(
                f"'{self.name}' does not state its energy unit: set data.energy_unit={'|'.join(quantities.ENERGIES)}"
            )
        energy = quantities.energy(unit, "data.energy_unit")
        length = quantities.length(self.length_unit, "data.length_unit")
        force, stress = energy / length, energy / length**3
        if self.forces.unit is not None:
            force = quantities.force(self.forces.unit, "data.forces.unit")
        if self.stress.unit is not None:
            stress = quantities.stress(self.stress.unit, "data.stress.unit")
        if convention is None and self.dipole.key is not None and self.dipole.unit is None:
            raise InputError(
                f"'{self.name}' does not state its dipole unit: set data.dipole.unit={'|'.join(quantities.DIPOLES)}"
            )
        dipole = quantities.dipole(self.dipole.unit or "e*angstrom", "data.dipole.unit")
        return Units(unit, energy, length, force * self.forces.sign, stress * self.stress.sign, dipole)


@dataclass(frozen=True)
class Units:
    """Factors from the file's units to atomic units, with the sign of forces and stress; `name` is the energy unit."""

    name: str
    energy: float
    length: float
    force: float
    stress: float
    dipole: float


def _text(config: Mapping[str, Any], key: str) -> str | None:
    value = config.get(key)
    return None if value is None else str(value)


def _boolean(config: Mapping[str, Any], key: str, default: bool) -> bool:
    value = config.get(key, default)
    check_switch(f"data.{key}", value)
    return value


def _column(config: Mapping[str, Any], name: str) -> Column:
    node = config.get(name)
    if node is None:
        return Column()
    if not isinstance(node, Mapping):
        raise InputError(f"data.{name} is a group: data.{name}.key=NAME, data.{name}.unit=UNIT, data.{name}.sign=-1")
    sign = node.get("sign", 1)
    if sign not in (1, -1):
        raise InputError(
            f"data.{name}.sign must be 1, or -1 where the file has derivatives of the energy, not {sign!r}"
        )
    key, unit = node.get("key"), node.get("unit")
    return Column(None if key is None else str(key), None if unit is None else str(unit), int(sign))
