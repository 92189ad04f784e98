"""Files of model cards, in TOML. Reading is strict; each error names the file and the key."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from fusion.errors import InputError
from fusion.files import bounds
from fusion.zoo.card import Card, Metric, Model, Nuclei, Origin, Training, Weights
from fusion.zoo.files import File
from fusion.zoo.table import Table

SCHEMA = 1
LONGEST = 1 << 20
"""Largest size of a card in bytes."""
KINDS = ("potential", "functional", "ansatz")
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


def write(card: Card, path: Path) -> None:
    """Write `card` to the file `path` atomically."""
    from fusion.files.atomic import write_atomically

    write_atomically(path, to_toml(card))
