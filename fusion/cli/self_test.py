"""Calculations of a second for every kind of method, against known numbers, for `fusion doctor --test`."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from fusion.errors import CalculationError, InputError

if TYPE_CHECKING:
    from fusion.chemistry.system import System


@dataclass(frozen=True)
class Check:
    """A calculation, what it returns (hartree), and the known number that this must agree with."""

    name: str
    calculation: Callable[[], float]
    expected: float
    tolerance: float


@dataclass(frozen=True)
class Outcome:
    """Result of a check: one line, and whether it agrees with the known number."""

    name: str
    text: str
    passed: bool
    seconds: float


def run() -> Iterator[Outcome]:
    """Yield the outcome of every check. A check that raises has failed; the others run."""
    for check in _CHECKS:
        began = time.perf_counter()
        try:
            value = check.calculation()
        except Exception as error:  # whatever is broken in the installation
            text = " ".join(f"{type(error).__name__}: {error}".split())
            yield Outcome(check.name, text, False, time.perf_counter() - began)
            continue
        passed = abs(value - check.expected) <= check.tolerance
        text = f"{value:.5f} Ha" + ("" if passed else f", {check.expected:.5f} expected")
        yield Outcome(check.name, text, passed, time.perf_counter() - began)


def devices() -> list[str]:
    """Describe the devices that torch can use."""
    import torch

    names = [f"cuda:{i} {torch.cuda.get_device_name(i)}" for i in range(torch.cuda.device_count())]
    return [f"CPU with {torch.get_num_threads()} of its threads", *names]


def _energy(entry: dict[str, Any], system: str) -> float:
    from fusion.methods import by_name

    result = by_name.method(entry).calculate([_system(system)], frozenset({"energy"}))[0]
    if result.energy is None or result.status != "ok":
        raise CalculationError(result.message or "no energy")
    return float(result.energy)


def _system(name: str) -> System:
    from fusion.chemistry import system_input
    from fusion.config import compose

    return system_input.read(compose.compose([f"system={name}"])[0].system)


def _wavefunction() -> float:
    """Mean local energy of the walkers that a published wavefunction brings."""
    import torch

    from fusion import zoo
    from fusion.wavefunctions.hamiltonians import Hamiltonian, Kinetic, coulomb
    from fusion.zoo.card import WALKERS

    card = zoo.find("ferminet-h2")
    if card.system is None:
        raise InputError(f"{card.label}: its card names no system")
    system, psi = card.system.system(card.name), zoo.load(card.name)
    walkers = zoo.state(card)[WALKERS].to(next(psi.parameters()).dtype)
    hamiltonian = Hamiltonian([Kinetic(system=system), coulomb(system=system)])
    return float(hamiltonian.local_energy(psi, walkers, len(walkers), torch.Generator().manual_seed(0)).mean())


_CHECKS = (
    Check("conventional", lambda: _energy({"method": "hf", "basis": "sto-3g"}, "h2"), -1.116686, 1e-5),
    Check("potential", lambda: _energy({"method": "coulomb-qm7"}, "h2o"), -0.357683, 1e-5),
    Check(
        "functional",
        lambda: _energy({"method": "dm21", "weights": "mlxc-small", "basis": "sto-3g", "grid_level": 0}, "h2"),
        *(-1.112851, 1e-4),
    ),
    Check("ansatz", _wavefunction, -1.17226, 1e-4),
)
