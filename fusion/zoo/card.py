"""Model cards: descriptions of published models in TOML. Reading is strict; each error names the file and the key."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fusion.errors import InputError
from fusion.files import bounds
from fusion.zoo.files import File
from fusion.zoo.table import Table

if TYPE_CHECKING:
    from fusion.chemistry.system import System

SCHEMA = 1
LONGEST = 1 << 20
"""Largest size of a card in bytes."""
KINDS = ("potential", "functional", "ansatz")
WALKERS = "walkers"
"""Name of the tensor (W, N, 3) of walkers, bohr, beside the parameters of a wavefunction."""
ZEROS = ("total", "atomization", "difference")
_NAME = re.compile(r"[a-z0-9][a-z0-9_-]*")
_DIGEST = re.compile(r"[0-9a-f]{64}")
_CALLABLE = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*[.:][A-Za-z_]\w*")
_ELEMENT = re.compile(r"[A-Z][a-z]?")
_POTENTIAL = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]*")
_SYSTEM = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_+-]*")  # it is part of the names of run directories
_URL = re.compile(r"[a-z][a-z0-9+.-]*://.+/")
_PACKAGE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*(==[A-Za-z0-9][A-Za-z0-9.+!]*)?")  # part of a printed command
_MIRROR = re.compile(r"([A-Za-z0-9_-][A-Za-z0-9._-]*/)*")


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


def read(path: Path) -> Card:
    """Read the card in the file `path`. Raises InputError."""
    try:
        text = bounds.content(path, LONGEST)
    except OSError as error:
        raise InputError(f"{path}: {error.strerror}") from error
    except ValueError as error:
        raise InputError(f"{path} is not a card: {error}") from error
    return parse(text, str(path))


def parse(text: bytes, source: str) -> Card:
    """Parse the `text` of a card; errors name `source`, its path or URL. Raises InputError."""
    try:
        content = bounds.parsed_toml(text.decode())
    except ValueError as error:
        raise InputError(f"{source} is not TOML: {bounds.reason(error)}") from error
    top = Table(source, content)
    schema = top.whole("schema", least=1)
    if schema != SCHEMA:
        raise InputError(f"{source}: schema {schema} is newer than this fusion, which reads {SCHEMA}: update fusion")
    training, domain, model = top.table("training"), top.table("domain"), top.table("model")
    weights, origin = top.table("weights", required=False), top.table("origin", required=False)
    network = Model(model.text("target", _CALLABLE, '"package.module.Class"'), model.free("arguments"))
    converter = origin.text("converter", _CALLABLE, '"package.module:function"', default="") or None
    files = _files(top.table("files"), exact=converter is None)
    card = Card(
        name=top.text("name", _NAME, "lower-case letters, digits, - and _"),
        version=top.whole("version", least=1),
        kind=top.choice("kind", KINDS),
        method=top.text("method"),
        summary=top.text("summary"),
        licence=top.text("licence"),
        citation=top.text("citation"),
        doi=top.text("doi", default=""),
        energy_zero=top.choice("energy_zero", ZEROS),
        training=Training(training.text("data"), training.text("level_of_theory")),
        elements=domain.texts("elements", _ELEMENT, "symbols of elements"),
        charges=domain.wholes("charges", (0,)),
        spins=domain.wholes("spins", (0,)),
        spread=domain.number("spread", None),
        spread_factor=domain.number("spread_factor", None, positive=True),
        forces_factor=domain.number("forces_factor", None, positive=True),
        model=network,
        weights=_weights(weights, "weights" in content, network, converter, files),
        origin=Origin(
            origin.texts("urls", _URL, "URLs ending in a slash", default=()),
            origin.text("mirror", _MIRROR, "a relative directory ending in a slash", default=""),
            converter,
            origin.text("package", _PACKAGE, "NAME or NAME==VERSION of a Python package", default=""),
            origin.flag("alone", default=False),
        ),
        metrics=tuple(_metric(table) for table in top.tables("metrics")),
        files=files,
        system=_nuclei(top.table("system")) if "system" in content else None,
        source=source,
    )
    for table in (top, training, domain, model, weights, origin):
        table.end()
    if card.origin.package and (card.origin.urls or card.origin.mirror):
        raise InputError(f"{source}: origin.package excludes origin.urls and origin.mirror: the files have one source")
    if card.origin.converter is None and (len(card.files) != 1 or not card.files[0].path.endswith(".safetensors")):
        raise InputError(f"{source}: without origin.converter, files must be one .safetensors file")
    return card


def _metric(table: Table) -> Metric:
    value = table.number("value")
    assert value is not None
    metric = Metric(table.text("name"), value, table.text("unit"), table.text("command"))
    table.end()
    return metric


def _weights(table: Table, stated: bool, model: Model, converter: str | None, files: tuple[File, ...]) -> Weights:
    """Read the digest of the tensors; a card without it, whose files are converted, has that of its files."""
    if not stated and converter is not None:
        return Weights.of_source(model, converter, files)
    return Weights(table.text("sha256", _DIGEST, "64 hexadecimal digits"), table.whole("size", least=1))


def _files(table: Table, exact: bool) -> tuple[File, ...]:
    """Read the files; without `exact` an entry may have `largest_size` instead of `size`."""
    files = []
    for path in table:
        entry = table.table(path)
        bound = 0 if exact else entry.whole("largest_size", least=0, default=0)
        size = bound or entry.whole("size", least=0)
        try:
            files.append(File(path, size, entry.text("sha256"), (), exact=not bound))
        except InputError as error:
            message = str(error)
            raise InputError(
                message if message.startswith(table.source) else f"{table.source}: files: {message}"
            ) from None
        entry.end()
    if not files:
        raise InputError(f"{table.source}: files names no file")
    return tuple(files)


def _nuclei(table: Table) -> Nuclei:
    symbols, positions = table.texts("symbols", _ELEMENT, "symbols of elements"), table.vectors("positions_bohr")
    if len(symbols) != len(positions):
        raise InputError(f"{table.source}: system has {len(symbols)} symbols and {len(positions)} positions_bohr")
    potentials = table.table("ecp", required=False)
    ecp = {symbol: potentials.text(symbol, _POTENTIAL, "the name of a core potential") for symbol in potentials}
    charge, spin = table.whole("charge", default=0), table.whole("spin", default=0)
    name = table.text("name", _SYSTEM, "letters, digits, _, + and -", default="")
    table.end()
    return Nuclei(symbols, positions, charge, spin, name, ecp)


def to_toml(card: Card) -> str:
    """Return the text of `card`, the inverse of `parse`."""
    import tomli_w

    content: dict[str, Any] = {"schema": SCHEMA, "name": card.name, "version": card.version, "kind": card.kind}
    content |= {"method": card.method, "summary": card.summary, "licence": card.licence, "citation": card.citation}
    content |= ({"doi": card.doi} if card.doi else {}) | {"energy_zero": card.energy_zero}
    content["training"] = {"data": card.training.data, "level_of_theory": card.training.level_of_theory}
    content["domain"] = {"elements": card.elements, "charges": card.charges, "spins": card.spins}
    limits = {name: getattr(card, name) for name in ("spread", "spread_factor", "forces_factor")}
    content["domain"] |= {key: value for key, value in limits.items() if value is not None}
    if card.system is not None:
        system = card.system
        content["system"] = {"symbols": system.symbols, "positions_bohr": system.positions}
        content["system"] |= {"charge": system.charge, "spin": system.spin}
        content["system"] |= {key: value for key in ("name", "ecp") if (value := getattr(system, key))}
    content["model"] = {"target": card.model.target, "arguments": dict(card.model.arguments)}
    if not card.weights.converted:
        content["weights"] = {"sha256": card.weights.sha256, "size": card.weights.size}
    content["origin"] = {key: value for key, value in vars(card.origin).items() if value}
    content["metrics"] = [vars(metric) for metric in card.metrics]
    content["files"] = {
        file.path: {"size" if file.exact else "largest_size": file.size, "sha256": file.sha256} for file in card.files
    }
    return tomli_w.dumps({key: value for key, value in content.items() if value not in ({}, [])})


def without_null(value: Any) -> Any:
    """Drop settings that are null, which TOML cannot represent; they are the defaults of a model's arguments."""
    if isinstance(value, Mapping):
        return {key: without_null(item) for key, item in value.items() if item is not None}
    return [without_null(item) for item in value] if isinstance(value, list | tuple) else value


def write(card: Card, path: Path) -> None:
    """Write `card` to the file `path` atomically."""
    from fusion.files.atomic import write_atomically

    write_atomically(path, to_toml(card))
