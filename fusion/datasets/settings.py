"""The settings of one set of labelled structures, checked: conf/data/file.yaml says what each is."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fusion.datasets import quantities
from fusion.errors import InputError

CONVENTIONS = {"ase": "eV", "ani": "hartree", "npz": None}
"""Unit of energy by format, where the data do not say: ASE's own, that of ANI's files; an npz has none."""


@dataclass(frozen=True)
class Column:
    """One kind of label: the name it has in the file (None: the usual ones), its unit (None: follows from others)."""

    key: str | None = None
    unit: str | None = None
    sign: int = 1


@dataclass(frozen=True)
class Settings:
    """How data state what they state."""

    name: str
    paths: tuple[Path, ...]
    energy: str | None
    energy_unit: str | None
    energy_zero: str
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
        """Raises InputError for a value that is none, in one line."""
        name = config.get("name") or (paths[0].stem if len(paths) == 1 else "data")
        found = cls(
            name=str(name),
            paths=paths,
            energy=_text(config, "energy"),
            energy_unit=_text(config, "energy_unit"),
            energy_zero=str(config.get("energy_zero", "total")),
            length_unit=str(config.get("length_unit", "angstrom")),
            forces=_column(config, "forces"),
            stress=_column(config, "stress"),
            dipole=_column(config, "dipole"),
            subtract=_text(config, "subtract"),
            fold=_text(config, "fold"),
            high_energies=_boolean(config, "high_energies", False),
            check=_boolean(config, "check", True),
        )
        found.units("eV")  # refuses units that do not exist before anything is read
        if found.energy_zero not in ("total", "atomization"):
            raise InputError(f"data.energy_zero must be total or atomization, not {found.energy_zero!r}")
        return found

    def units(self, convention: str | None) -> Units:
        """Factors to atomic units; `convention` is the energy unit of the format. Raises InputError."""
        unit = self.energy_unit or convention
        if unit is None:
            raise InputError(
                f"'{self.name}' does not say its unit of energy: data.energy_unit={'|'.join(quantities.ENERGIES)}"
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
                f"'{self.name}' does not say its unit of dipoles: data.dipole.unit={'|'.join(quantities.DIPOLES)}"
            )
        dipole = quantities.dipole(self.dipole.unit or "e*angstrom", "data.dipole.unit")
        return Units(unit, energy, length, force * self.forces.sign, stress * self.stress.sign, dipole)


@dataclass(frozen=True)
class Units:
    """Atomic units in one of the file's; the sign of forces and stress is in theirs. `name`: the unit of energy."""

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
    if not isinstance(value, bool):
        raise InputError(f"data.{key} must be true or false, not {value!r}")
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
