"""`fusion zoo export`: a potential as a file that other programs run without fusion."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from fusion.chemistry import energy_zeros
from fusion.errors import InputError

if TYPE_CHECKING:
    from fusion.zoo.card import Card

_NAME = "exported"
"""Name of a trained model while it is read; its file states the name of the run's directory."""


def command(
    model: Annotated[str, typer.Argument(metavar="NAME[@VERSION]|RUN_DIR", show_default=False)],
    to: Annotated[str, typer.Option("--to", help="Format: torchani, metatomic.", show_default=False)],
    output: Annotated[Path, typer.Option(help="File to write.", show_default=False)],
) -> None:
    """Write a potential for other programs, and compare the file with fusion's own numbers."""
    from fusion.config.options import suggestion
    from fusion.files.atomic import write_atomically
    from fusion.potentials.abilities import Exportable

    network, card = _read(model)
    if not isinstance(network, Exportable) or not network.export_formats:
        raise InputError(f"{model}: models of +method={card.method} have no format of another program")
    formats = tuple(network.export_formats)
    if to not in formats:
        raise InputError(f"--to {to}: {model} can be written as {' or '.join(formats)}.{suggestion(to, formats)}")
    with tempfile.TemporaryDirectory() as place:
        written = Path(place) / (output.name or _NAME)
        differences = network.export(to, written, card)
        content = written.read_bytes()
    try:
        write_atomically(output, content)
    except OSError as error:
        raise InputError(f"{output} cannot be written: {error.strerror}") from error
    print(f"{card.label}   {output}   {to}")
    print(f"compared with fusion   {differences}")
    if card.energy_zero == energy_zeros.DIFFERENCE:
        print("energies               differences to a baseline method, to be added to its energies")


def _read(model: str) -> tuple[Any, Card]:
    """Return the network and the card of a model of the zoo, or of a finished training. Raises InputError."""
    from dataclasses import replace

    from fusion.methods.trained_model import Facts, trained
    from fusion.zoo import registry, store

    path = Path(model)
    if not path.exists():
        card = registry.find(model)
        return store.load(card.label), card
    read_model = trained(path, Facts(_NAME), registry.user())
    network = store.build(read_model.card, dict(read_model.tensors))
    name = path.absolute().name if path.is_dir() else path.stem
    return network, replace(read_model.card, name=name)
