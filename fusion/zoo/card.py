"""Model cards: descriptions of published models. `card_file` reads and writes them."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fusion.zoo.files import File

if TYPE_CHECKING:
    from fusion.chemistry.system import System

WALKERS = "walkers"
"""Name of the tensor (W, N, 3) of walkers, bohr, beside the parameters of a wavefunction."""


@dataclass(frozen=True)
class Training:
    """Training data of the model and their level of theory."""

    data: str
    level_of_theory: str


@dataclass(frozen=True)
class Metric:
    """Number measured for the model, with its unit and the command that measured it."""

    name: str
    value: float
    unit: str
    command: str

    @property
    def text(self) -> str:
        """Value and unit; large total energies to a microhartree."""
        number = f"{self.value:.6f}" if self.unit == "hartree" and abs(self.value) >= 0.1 else f"{self.value:g}"
        return f"{number} {self.unit}"


@dataclass(frozen=True)
class Model:
    """Class of the model, "package.module.Class", and the arguments it is built with.

    An argument that is a table with `_target_` is built too. With `_partial_ = true` it becomes a function of the
    remaining arguments.
    """

    target: str
    arguments: Mapping[str, Any] = field(default_factory=dict)

    @property
    def settings(self) -> dict[str, Any]:
        """Class and arguments as a `model` node of the configuration."""
        return {"_target_": self.target, **self.arguments}


@dataclass(frozen=True)
class Weights:
    """Digest of the tensors (sha256, `fusion.zoo.digest`) and the size in bytes of their safetensors file.

    Without a digest on the card (`converted`), it is made of the digests of the source files and of how they are
    converted, the size is that of the source files, and the file in the cache records the digest of its tensors.
    """

    sha256: str
    size: int
    converted: bool = False

    @classmethod
    def of_source(cls, model: Model, converter: str, files: tuple[File, ...]) -> Weights:
        """The weights that `converter` makes for `model` of `files`."""
        described = [converter, model.settings, sorted([file.path, file.sha256] for file in files)]
        text = json.dumps(described, sort_keys=True, default=str)
        return cls(hashlib.sha256(text.encode()).hexdigest(), sum(file.size for file in files), converted=True)


@dataclass(frozen=True)
class Origin:
    """Source of the files: base URLs and the directory of a mirror, or a package; the converter of a foreign format.

    The URLs end in a slash. `package` is the Python package, NAME or NAME==VERSION as for pip, that brings the files;
    their paths are relative to the directory where packages are installed. Without URLs and package the files are
    beside the card. `converter` is "package.module:function". With `alone`, fusion needs the package's files but none
    of the packages that it requires.
    """

    urls: tuple[str, ...] = ()
    mirror: str = ""
    converter: str | None = None
    package: str = ""
    alone: bool = False


@dataclass(frozen=True)
class Nuclei:
    """System of a wavefunction: positions in bohr, spin = N_up - N_down.

    `name` is that of the system in the configuration, and `ecp` names the core potential of every element that has one.
    """

    symbols: tuple[str, ...]
    positions: tuple[tuple[float, float, float], ...]
    charge: int = 0
    spin: int = 0
    name: str = ""
    ecp: Mapping[str, str] = field(default_factory=dict)

    def system(self, name: str) -> System:
        """Return it as a System with that name. Raises InputError for an impossible system."""
        import numpy as np

        from fusion.chemistry import core_potentials
        from fusion.chemistry.system import System

        cores = core_potentials.read(dict(self.ecp) or None, self.symbols, Path.cwd())
        return System(name, self.symbols, np.array(self.positions), self.charge, self.spin, cores=cores)


@dataclass(frozen=True)
class Card:
    """One version of a model.

    `spread_factor` times the standard deviation of an ensemble's members is the uncertainty of the energy,
    `forces_factor` does the same for a component of a force; None means not calibrated. `spread` is the uncertainty,
    in hartree per sqrt(atom), above which a system is outside the ensemble's domain. `files` are the files that it
    is made of, without URLs. `source` is the place where the card was read; comparisons ignore it.
    """

    name: str
    version: int
    kind: str
    method: str
    summary: str
    licence: str
    citation: str
    energy_zero: str
    training: Training
    elements: tuple[str, ...]
    model: Model
    weights: Weights
    files: tuple[File, ...]
    doi: str = ""
    charges: tuple[int, ...] = (0,)
    spins: tuple[int, ...] = (0,)
    spread: float | None = None
    spread_factor: float | None = None
    forces_factor: float | None = None
    metrics: tuple[Metric, ...] = ()
    origin: Origin = Origin()
    system: Nuclei | None = None
    source: str = field(default="", compare=False)

    @property
    def label(self) -> str:
        """Name and version, NAME@VERSION."""
        return f"{self.name}@{self.version}"

    @property
    def identity(self) -> dict[str, Any]:
        """Name, version and digest, which results record for their weights."""
        return {"name": self.name, "version": self.version, "sha256": self.weights.sha256}


def without_null(value: Any) -> Any:
    """Drop settings that are null, which TOML cannot represent; they are the defaults of a model's arguments."""
    if isinstance(value, Mapping):
        return {key: without_null(item) for key, item in value.items() if item is not None}
    return [without_null(item) for item in value] if isinstance(value, list | tuple) else value
