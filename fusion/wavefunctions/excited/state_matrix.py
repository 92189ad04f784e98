"""The matrix of all states at all electron sets, and wavefunctions of all sets that are functions of it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple, cast

import torch
from torch import Tensor, nn

from fusion.wavefunctions.ansatz import (
    Ansatz,
    HasLevels,
    HasOrbitals,
    HasStates,
    laplacian,
    start_of,
    takes_pretraining,
)
from fusion.wavefunctions.jets import LogPsi
from fusion.wavefunctions.states import StateJets, States


class SeparateStates(nn.Module):
    """One ansatz of its own for every state, for ansaetze without `TakesStates`.

    Args:
        ansaetze: wavefunctions of the same system, with different parameters.
    """

    def __init__(self, ansaetze: Sequence[nn.Module]) -> None:
        super().__init__()
        self.own = nn.ModuleList(ansaetze)

    @property
    def start(self) -> str | None:
        """The conventional wavefunction that the states start at; None for random orbitals."""
        return start_of(self.own[0])

    @property
    def levels(self) -> Sequence[float]:
        """Energies (hartree) of the conventional states at the start, and of a few more; empty without any."""
        first = self.own[0]
        return first.levels if isinstance(first, HasLevels) else ()

    def states(self, electrons: Tensor) -> States:
        """All states at electrons (B, N, 3)."""
        signs, logs = zip(*(ansatz(electrons) for ansatz in cast(Iterable[Ansatz], self.own)), strict=True)
        log = torch.stack(logs, dim=-1).double()
        largest = _finite(log.detach().amax(1))
        values = torch.stack(signs, dim=-1) * torch.exp(log - largest.unsqueeze(1))
        return States(torch.ones_like(largest), largest, values)

    def state_jets(self, electrons: Tensor) -> StateJets:
        """All states with their derivatives: forward Laplacians where the ansatz has them, otherwise autograd."""
        parts = [laplacian(ansatz, electrons, len(electrons)) for ansatz in self.own]
        logs = torch.stack([part.log for part in parts], dim=-1).double()
        largest = _finite(logs.amax(1))
        rows = []
        for part, log in zip(parts, logs.unbind(1), strict=True):
            value, slope = part.sign * torch.exp(log - largest), part.gradient.double()
            second = part.laplacian.double() + slope.square().sum(-1)
            rows.append(value.unsqueeze(1) * torch.cat((slope, second.unsqueeze(1), torch.ones_like(slope[:, :1])), 1))
        zero = torch.zeros_like(largest)
        factor = LogPsi(zero + 1, largest, torch.zeros_like(parts[0].gradient, dtype=torch.float64), zero)
        return StateJets(factor, torch.stack(rows, dim=-1))


class SeparateOrbitals(SeparateStates):
    """`SeparateStates` of ansaetze with orbitals, and as many determinants each."""

    def orbitals(self, electrons: Tensor) -> list[Tensor]:
        """Orbital matrices (B, S K, n, n) of all states."""
        parts = [ansatz.orbitals(electrons) for ansatz in cast(Iterable[HasOrbitals], self.own)]
        return [torch.cat(blocks, dim=1) for blocks in zip(*parts, strict=True)]


def separate(ansaetze: Sequence[nn.Module]) -> SeparateStates:
    """Join one ansatz of its own for every state."""
    kind = SeparateOrbitals if all(takes_pretraining(ansatz) for ansatz in ansaetze) else SeparateStates
    return kind(ansaetze)


class Rows(NamedTuple):
    """Rows of M at electron sets: sign and log (B,) of a factor of each row, and the rows (B, S) divided by it.

    The largest element of every row is 1 or -1. float64.
    """

    sign: Tensor
    log: Tensor
    values: Tensor


class StateSets(nn.Module):
    """A wavefunction Psi(x^1 ... x^S) of S electron sets, (B, S N, 3), spin-up electrons first in each.

    It is a function of the matrix M_jk = psi_k(x^j), which a subclass defines.

    Args:
        shared: the states, with `HasStates`.
        number: S.

    Attributes:
        shared: the states.
        number: S.
        gauge: logarithms (S,) that divide the states: any numbers, as long as they stay the same, since the mean of a
            local matrix in another gauge is C^-1 A C.
    """

    gauge: Tensor

    def __init__(self, shared: nn.Module, number: int) -> None:
        super().__init__()
        self.shared, self.number = shared, number
        self.register_buffer("gauge", torch.zeros(number))

    @property
    def sets_per_walker(self) -> int:
        """S, one set for every state."""
        return self.number

    @property
    def of_one_set(self) -> nn.Module:
        """The states."""
        return self.shared

    def amplitude(self, values: Tensor, logs: Tensor) -> tuple[Tensor, Tensor]:
        """Sign and log|Psi|, each (B,), of M (B, S, S) whose rows are divided by exp(logs), (B, S)."""
        raise NotImplementedError

    @property
    def start(self) -> str | None:
        """The conventional wavefunction that the states start at; None for random orbitals."""
        return start_of(self.shared)

    @property
    def levels(self) -> Sequence[float]:
        """Energies (hartree) of the conventional states at the start, and of a few more; empty without any."""
        return self.shared.levels if isinstance(self.shared, HasLevels) else ()

    def rows(self, electrons: Tensor) -> Rows:
        """Rows of M at electrons (B, N, 3) in the present gauge, each divided by its largest element."""
        states = cast(HasStates, self.shared).states(electrons)
        values = states.values.double() * torch.exp(-self.gauge.double())
        largest = values.detach().abs().amax(1)
        usable = torch.isfinite(largest) & (largest > 0)
        scale = torch.where(usable, largest, 1.0)
        log = torch.where(usable, states.log.double() + scale.log(), -torch.inf)
        return Rows(states.sign.double(), log, values / scale.unsqueeze(1))

    def forward(self, electrons: Tensor) -> tuple[Tensor, Tensor]:
        """Sign and log|Psi|, each (B,)."""
        rows, by_set = self.rows(self.sets(electrons)), (-1, self.number)
        sign, log = self.amplitude(rows.values.unflatten(0, by_set), rows.log.view(by_set))
        return (sign * rows.sign.view(by_set).prod(1)).to(electrons.dtype), log.to(electrons.dtype)

    def sets(self, electrons: Tensor) -> Tensor:
        """Electron sets (B S, N, 3) of electrons (B, S N, 3)."""
        return electrons.unflatten(1, (self.number, -1)).flatten(0, 1)


class StateMatrix(StateSets):
    """Psi = det M: antisymmetric under exchange of two sets."""

    def amplitude(self, values: Tensor, logs: Tensor) -> tuple[Tensor, Tensor]:
        """Sign and logarithm of the determinant."""
        sign, log = torch.linalg.slogdet(values)
        return sign, log + logs.sum(1)


class StateProduct(StateSets):
    """Psi = prod_k psi_k(x^k): every set is drawn from the density of a state of its own."""

    def amplitude(self, values: Tensor, logs: Tensor) -> tuple[Tensor, Tensor]:
        """Sign and logarithm of the product of the diagonal."""
        own = values.diagonal(dim1=1, dim2=2)
        return own.sign().prod(1), own.abs().log().sum(1) + logs.sum(1)


def _finite(largest: Tensor) -> Tensor:
    return torch.where(torch.isfinite(largest), largest, 0.0)
