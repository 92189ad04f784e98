"""Contracts by kind of method."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final

from fusion.contracts.findings import Check, findings
from fusion.errors import InputError

NAMES: Final = ("potential", "functional", "ansatz")


def subject(name: str, kind: str, package: Path | None = None) -> tuple[Any, Sequence[Check]]:
    """Build the method `name` in float64 on the CPU; return what the checks of its `kind` take, and the checks.

    `package` is the directory of its code.

    Raises the exceptions of its settings and its model.
    """
    from omegaconf import OmegaConf

    from fusion.chemistry import system_input
    from fusion.methods import by_name, protocol

    options = {"dtype": "float64"} if kind == "functional" else {"dtype": "float64", "device": "cpu"}
    config = by_name.composed(name, options)
    config = OmegaConf.create(OmegaConf.to_container(config, resolve=True))  # type: ignore[assignment]
    method, system = protocol.build(config.method), system_input.read(config.system, Path.cwd())
    if kind == "potential":
        from fusion.contracts import potentials
        from fusion.potentials import PotentialMethod

        _require(method, PotentialMethod)
        of_potential = potentials.Subject(method, system, package)
        _ = of_potential.model
        return of_potential, potentials.CHECKS
    if kind == "functional":
        from fusion.contracts import functionals
        from fusion.functionals import FunctionalMethod

        _require(method, FunctionalMethod)
        of_functional = functionals.Subject(method, system, package)
        _ = of_functional.functional
        return of_functional, functionals.CHECKS
    from fusion.contracts import wavefunctions
    from fusion.wavefunctions import AnsatzMethod

    _require(method, AnsatzMethod)
    of_ansatz = wavefunctions.Subject(method, system, package)
    _ = of_ansatz.ansatz
    return of_ansatz, wavefunctions.CHECKS


def print_devices(name: str, kind: str, package: str | None) -> None:
    """Run the check on a simulated device in this process and print its finding as a line of JSON."""
    from fusion.contracts import functionals, potentials, wavefunctions

    modules = {"potential": potentials, "functional": functionals, "ansatz": wavefunctions}
    check: Callable[[Any], str] = modules[kind].on_another_device
    directory = None if package is None else Path(package)
    built, _ = subject(name, kind, directory)
    (finding,) = findings([Check("devices", check)], built, directory)
    print(json.dumps(asdict(finding)))


def _require(method: Any, expected: type) -> None:
    """Raise InputError for a class of methods that is not the core's."""
    if not isinstance(method, expected):
        raise InputError(f"{type(method).__name__} is not {expected.__name__}: its contract is its own")
