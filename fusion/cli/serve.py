"""`fusion serve +method=NAME [system=S] socket=NAME`: energies and forces for i-PI and programs with its protocol."""

from __future__ import annotations

import time
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from fusion.errors import InputError

_NOT_SERVED = ("task", "data", "ckpt", "methods")
"""Settings of runs that have no meaning for a driver."""


def serve(words: Sequence[str]) -> None:
    """Connect the method and the system of `words` to the server at `socket=`, and answer until it ends.

    Raises InputError before connecting for wrong settings, and CalculationError for a failed calculation.
    """
    from fusion import app, plugins
    from fusion.chemistry import system_input
    from fusion.config import compose as trees
    from fusion.config import overrides
    from fusion.config.options import sources
    from fusion.console.format import count, duration, header, line
    from fusion.methods import abilities, protocol
    from fusion.methods.card_words import with_card
    from fusion.methods.socket_driver import Address, Driver
    from fusion.parallel import devices
    from fusion.runs.report import title_of

    settings, place = _split(words)
    address = Address.read(place)
    plugins.refuse_conflicts(sources())
    config = app.resolved(trees.compose(with_card(overrides.prepare(settings, multirun=False)))[0], Path.cwd())
    system = system_input.read(config.system, Path.cwd())
    method = protocol.build(config.method)
    devices.check(str(config.trainer.get("accelerator", "auto")), method.kind, method.name, trains=False)
    driver = Driver(method, system, address)
    licence = abilities.licence(method)
    terms = () if licence is None else (f"licence of {method.label}: {licence}",)
    virial = "energies, forces and virials" if driver.has_stress else "energies and forces; the virial is zero"
    header(method.label, title_of(system), "driver", notes=(*system.notes, *terms, f"{address}: {virial}"))
    began = time.perf_counter()
    try:
        with _remarks_as_lines():
            driver.run()
    finally:
        seconds = time.perf_counter() - began
        line("served", count(driver.served, "structure"), note=f"   {duration(seconds)}")


@contextmanager
def _remarks_as_lines() -> Iterator[None]:
    """Print the remarks of the method, such as a structure unlike its training data, as lines of the program."""
    from fusion.console.format import line

    def show(message: Warning | str, *place: Any, **more: Any) -> None:
        line("warning", str(message), style="yellow")

    with warnings.catch_warnings():
        warnings.showwarning = show
        yield


def _split(words: Sequence[str]) -> tuple[list[str], str]:
    """Return the settings of the method and the system, and the value of `socket=`. Raises InputError."""
    places = [word.removeprefix("socket=") for word in words if word.startswith("socket=")]
    settings = [word for word in words if not word.startswith("socket=")]
    if len(places) != 1:
        raise InputError("fusion serve needs one socket=NAME or socket=host:port, the address of the server")
    for word in settings:
        key, equals, _ = word.partition("=")
        group = key.lstrip("+~").partition(".")[0]
        if not equals or key.startswith("-"):
            raise InputError(f"fusion serve +method=NAME [system=S] socket=NAME takes settings, not {word!r}")
        if group in _NOT_SERVED:
            raise InputError(f"{word}: fusion serve runs no task; it takes the settings of a method and of a system")
    return settings, places[0]
