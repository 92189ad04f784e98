"""Protocol of a trial wavefunction, and quantities that the core derives from it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar, Final, Protocol, runtime_checkable

import torch
from torch import Tensor, nn

from fusion.errors import CalculationError
from fusion.wavefunctions.jets import LogPsi, laplacian_by_autograd
from fusion.wavefunctions.states import StateJets, States

CHECKED: Final = 16
"""Number of walkers whose signs and logarithms are checked before the first step."""


class Ansatz(Protocol):
    """Trial wavefunction: an ``nn.Module`` of electrons (B, N, 3) in bohr, spin-up electrons first.

    Walkers are independent: row b of the output depends on row b of the input alone. The core builds the module as
    ``model(system=System, ...)``.
    """

    def __call__(self, electrons: Tensor) -> tuple[Tensor, Tensor]:
        """Sign of psi and log|psi|, each (B,)."""
        ...


@runtime_checkable
class HasLaplacian(Protocol):
    """Ansatz with a forward Laplacian of its own, the fast path."""

    def laplacian(self, electrons: Tensor) -> LogPsi:
        """log|psi| with its gradient (B, 3N) and Laplacian (B,), without autograd."""
        ...


@runtime_checkable
class HasOrbitals(Protocol):
    """Ansatz made of orbitals, which can be pretrained orbital by orbital."""

    def orbitals(self, electrons: Tensor) -> list[Tensor]:
        """Orbital matrices (B, K, n, n): one for full determinants, or one per spin; rows are electrons.

        Several states have K / S determinants each, those of the first state first.
        """
        ...


@runtime_checkable
class HasNuclei(Protocol):
    """Ansatz that can be evaluated with nuclei at other places, at fixed parameters: it has complete forces."""

    def at_nuclei(self, electrons: Tensor, nuclei: Tensor) -> tuple[Tensor, Tensor]:
        """Sign of psi and log|psi|, each (B,), with nuclei (B, M, 3) of its own for every walker."""
        ...


@runtime_checkable
class TakesCells(Protocol):
    """Class of an ansatz that has the periodicity of its system's cell, and a form without nuclei."""

    takes_cells: ClassVar[bool]


@runtime_checkable
class TakesStates(Protocol):
    """Class of an ansatz that several states share: built with ``states=S``, its modules have `HasStates`."""

    takes_states: ClassVar[bool]


@runtime_checkable
class HasStates(Protocol):
    """Ansatz of several states, which share all that costs time."""

    def states(self, electrons: Tensor) -> States:
        """All states at electrons (B, N, 3)."""
        ...

    def state_jets(self, electrons: Tensor) -> StateJets:
        """All states with their derivatives, without autograd."""
        ...


@runtime_checkable
class HasSets(Protocol):
    """Wavefunction whose walkers are several sets of all electrons, (B, S N, 3)."""

    @property
    def sets_per_walker(self) -> int:
        """S, the number of sets."""
        ...

    @property
    def of_one_set(self) -> nn.Module:
        """All states at one set; a property, since from Python 3.12 on `isinstance` does not see a module's modules."""
        ...


@runtime_checkable
class HasLevels(Protocol):
    """Ansatz of several states that start as conventional ones."""

    @property
    def levels(self) -> Sequence[float]:
        """Energies (hartree) of these states and of a few more, lowest first."""
        ...


@runtime_checkable
class HasConfigurations(Protocol):
    """Ansatz of several states that are expansions in configurations of the same orbitals."""

    def leading(self, mixture: Tensor) -> tuple[list[list[int]], float] | None:
        """Occupied orbitals of each spin, numbered from 0, in the leading configuration of sum_k mixture_k psi_k, and
        its share of the norm; None if there is no expansion."""
        ...


@runtime_checkable
class HasStart(Protocol):
    """Ansatz whose orbitals may start as those of a conventional wavefunction, so that pretraining is left out."""

    @property
    def start(self) -> str | None:
        """The wavefunction at the start, such as `CI(3,14)/cc-pVTZ`; None for random orbitals."""
        ...


@runtime_checkable
class HasOwnOrbitals(Protocol):
    """Ansatz with conventional orbitals, which are calculated for its geometry."""

    @property
    def of_geometry(self) -> frozenset[str]:
        """Names of the parameters that refer to these orbitals: a start at another geometry does not set them."""
        ...


def start_of(ansatz: nn.Module) -> str | None:
    """The conventional wavefunction that an ansatz starts at; None for random orbitals."""
    return ansatz.start if isinstance(ansatz, HasStart) else None


def sets_of(ansatz: nn.Module) -> int:
    """Number of electron sets of a walker, one without `HasSets`."""
    return ansatz.sets_per_walker if isinstance(ansatz, HasSets) else 1


def takes_pretraining(ansatz: nn.Module) -> bool:
    """True if an ansatz has orbitals that pretraining brings close to conventional ones."""
    ansatz = ansatz.of_one_set if isinstance(ansatz, HasSets) else ansatz
    return isinstance(ansatz, HasOrbitals) and start_of(ansatz) is None


@torch.no_grad()
def check_forward(ansatz: nn.Module, electrons: Tensor) -> None:
    """Raise CalculationError unless the ansatz returns sign and log|psi|, each (B,), for electrons (B, N, 3).

    At least one log|psi| must be finite.
    """
    output = ansatz(electrons)
    if not isinstance(output, tuple) or len(output) != 2:
        kind = f"a tuple of {len(output)}" if isinstance(output, tuple) else type(output).__name__
        raise CalculationError(f"the ansatz's forward must return a tuple of two, sign and log|psi|, not {kind}")
    for name, value in zip(("sign", "log|psi|"), output, strict=True):
        if not isinstance(value, Tensor) or tuple(value.shape) != electrons.shape[:1]:
            shape = tuple(value.shape) if isinstance(value, Tensor) else type(value).__name__
            raise CalculationError(f"the ansatz's {name} must have the shape (B,) = ({len(electrons)},), not {shape}")
    if not torch.isfinite(output[1]).any():
        raise CalculationError("the ansatz's log|psi| is not a finite number for any of the first walkers")


def laplacian(ansatz: nn.Module, electrons: Tensor, chunk: int) -> LogPsi:
    """log|psi|, gradient and Laplacian for electrons (B, N, 3), ``chunk`` walkers at a time to bound the memory."""
    parts = [
        ansatz.laplacian(part) if isinstance(ansatz, HasLaplacian) else laplacian_by_autograd(ansatz, part)
        for part in electrons.split(chunk)
    ]
    return LogPsi(*(torch.cat(columns) for columns in zip(*parts, strict=True)))
