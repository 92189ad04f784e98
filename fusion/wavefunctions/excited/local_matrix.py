"""Local energy matrix of several states, M^-1 (H M), and matrices of other observables.

(H M)_jk = (H psi_k)(x^j). It is computed from H psi_k, not from (H psi_k) / psi_k: sets are drawn from the determinant
of all states, so that they visit the nodes of single ones. The trace is the local energy of Psi = det M. Multiplying a
row of M by any number changes no matrix.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import NamedTuple, cast

import torch
from torch import Tensor, nn

from fusion.chemistry.system import System
from fusion.errors import InputError
from fusion.wavefunctions.ansatz import HasStates
from fusion.wavefunctions.excited.state_matrix import Rows, StateSets
from fusion.wavefunctions.hamiltonians import EffectiveCore, Hamiltonian, Kinetic, Point, Term
from fusion.wavefunctions.jets import LogPsi

SINGULAR = 1e-12
"""Determinant of M, with rows whose largest element is 1, below which a walker counts as lost."""


class StateEnergy(NamedTuple):
    """Local energies (B,) of all states together, hartree: total and by term; the local matrix of H, and M.

    ``matrix`` and ``values`` are (B, S, S), float64; the first is not finite for a singular M.
    """

    total: Tensor
    terms: dict[str, Tensor]
    matrix: Tensor
    values: Tensor


class StateHamiltonian(nn.Module):
    """Hamiltonian of several states at once, with the interface of ``Hamiltonian`` for the optimisation.

    The terms beside the kinetic energy must be functions of the electrons' positions: a term that asks for the
    wavefunction raises InputError when it is used, and an effective core potential at once.

    Args:
        hamiltonian: that of one state.
        spins: electrons (up, down) for a penalty of states with a higher spin.
        spin_penalty: w (hartree) of the term w S-S+, which is w [S (S + 1) - s (s + 1)] for states of spin S and
            vanishes for S = s = (up - down) / 2.
    """

    def __init__(
        self, hamiltonian: Hamiltonian, spins: tuple[int, int] = (0, 0), spin_penalty: float | None = None
    ) -> None:
        super().__init__()
        self.spins, self.spin_penalty = spins, spin_penalty
        terms = list(cast(Iterable[Term], hamiltonian.terms))
        if any(isinstance(term, EffectiveCore) for term in terms):
            raise InputError("excited states are calculated with all electrons: remove system.ecp")
        self.potentials = nn.ModuleList(cast(nn.Module, term) for term in terms if not isinstance(term, Kinetic))

    @torch.no_grad()
    def evaluate(
        self,
        ansatz: StateSets,
        electrons: Tensor,
        chunk: int,
        stream: torch.Generator | None = None,
        penalised: bool = True,
    ) -> StateEnergy:
        """Local energies of electrons (B, S N, 3), ``chunk`` walkers at a time; `penalised`: with the term of the
        spin."""
        values, by_term = self.elements(ansatz, electrons, chunk, stream)
        if penalised and self.spin_penalty is not None:
            by_term["spin"] = self.spin_penalty * lowering_elements(ansatz, electrons, self.spins, chunk, stream)
        matrices = {name: self.local(values, operated) for name, operated in by_term.items()}
        traces = {name: matrix.diagonal(dim1=1, dim2=2).sum(-1) for name, matrix in matrices.items()}
        total, matrix = (cast(Tensor, sum(parts.values())) for parts in (traces, matrices))
        return StateEnergy(total, traces, matrix, values)

    def elements(
        self, ansatz: StateSets, electrons: Tensor, chunk: int, stream: torch.Generator | None
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """M (B, S, S), and O M of all terms O of the Hamiltonian, with rows divided by the same numbers."""
        sets, states = ansatz.sets(electrons), ansatz.number
        parts = sets.split(chunk * states)
        rows = [_elements(ansatz, part) for part in parts]
        values, kinetic = (torch.cat(columns).unflatten(0, (-1, states)) for columns in zip(*rows, strict=True))
        by_term = {Kinetic.name: kinetic}
        for term in cast(Iterable[Term], self.potentials):
            potential = torch.cat([term(_Positions(ansatz, part, chunk, stream)) for part in parts])
            by_term[term.name] = potential.view(-1, states, 1) * values
        return values, by_term

    def local(self, values: Tensor, operated: Tensor) -> Tensor:
        """Local matrices (B, S, S) of an operator from M and O M: M^-1 (O M)."""
        return local_matrix(values, operated)

    def local_energy(
        self, ansatz: StateSets, electrons: Tensor, chunk: int, stream: torch.Generator | None = None
    ) -> Tensor:
        """Total of ``evaluate``, (B,)."""
        return self.evaluate(ansatz, electrons, chunk, stream).total


def local_matrix(values: Tensor, operated: Tensor) -> Tensor:
    """M^-1 (O M) (B, S, S) of M and O M with rows divided by the same numbers; nan for a singular M."""
    determinant = torch.linalg.det(values)
    solved = torch.linalg.solve_ex(values, operated)[0]
    return torch.where((determinant.abs() > SINGULAR)[:, None, None], solved, torch.nan)


def dipole_elements(values: Tensor, electrons: Tensor) -> Tensor:
    """O M (B, 3, S, S) of the electrons' dipole operator -sum_i r_i, e bohr, of electrons (B, S N, 3)."""
    moments = -electrons.double().unflatten(1, (values.shape[1], -1)).sum(2)  # (B, S, 3)
    return moments.mT.unsqueeze(-1) * values.unsqueeze(1)


@torch.no_grad()
def spin_elements(ansatz: StateSets, electrons: Tensor, system: System, chunk: int) -> tuple[Tensor, Tensor]:
    """M and S^2 M (B, S, S), in units of hbar^2, of electrons (B, S N, 3).

    S^2 psi = [s (s + 1) + n_down] psi - sum_ab psi(r_a <-> r_b) with s = (n_up - n_down) / 2 >= 0 and the sum over
    pairs of a spin-up and a spin-down electron: n_up n_down values of all states (arXiv 2308.16848, supplement).
    """
    sets, n_up, n_down = ansatz.sets(electrons), system.n_up, system.n_down
    chunk *= ansatz.number
    here = _rows(ansatz, sets, chunk)
    s, low = abs(n_up - n_down) / 2, min(n_up, n_down)
    total = (s * (s + 1) + low) * here.values
    for order in _exchanges(n_up, n_up + n_down):
        there = _rows(ansatz, sets[:, order], chunk)
        total -= (here.sign * there.sign * torch.exp(there.log - here.log)).unsqueeze(1) * there.values
    by_walker = (-1, ansatz.number)
    return here.values.unflatten(0, by_walker), total.unflatten(0, by_walker)


@torch.no_grad()
def lowering_elements(
    ansatz: StateSets, electrons: Tensor, spins: tuple[int, int], chunk: int, stream: torch.Generator | None
) -> Tensor:
    """S-S+ M (B, S, S), with rows divided by the same numbers as those of `StateHamiltonian.elements`.

    S-S+ psi = n_down < psi - sum_a psi(r_a <-> r_b) >_b with the mean over spin-down electrons b, of which one is drawn
    for every set, and the sum over spin-up electrons: n_up values of all states (Li et al. 2024, arXiv 2406.01222).
    """
    sets, (n_up, n_down) = ansatz.sets(electrons), spins
    chunk *= ansatz.number
    here = _rows(ansatz, sets, chunk)
    total = here.values.clone()
    partner = torch.randint(n_down, (len(sets), 1), generator=stream, device=sets.device) + n_up
    order = torch.arange(n_up + n_down, device=sets.device).repeat(len(sets), 1)
    for a in range(n_up):
        exchanged = order.scatter(1, partner, a)
        exchanged[:, a] = partner[:, 0]
        there = _rows(ansatz, sets.gather(1, exchanged.unsqueeze(-1).expand_as(sets)), chunk)
        total -= (here.sign * there.sign * torch.exp(there.log - here.log)).unsqueeze(1) * there.values
    return n_down * total.unflatten(0, (-1, ansatz.number))


def _rows(ansatz: StateSets, sets: Tensor, chunk: int) -> Rows:
    parts = [ansatz.rows(part) for part in sets.split(chunk)]
    return Rows(*(torch.cat(columns) for columns in zip(*parts, strict=True)))


def _exchanges(n_up: int, n: int) -> Iterator[list[int]]:
    for a in range(n_up):
        for b in range(n_up, n):
            order = list(range(n))
            order[a], order[b] = b, a
            yield order


def _elements(ansatz: StateSets, sets: Tensor) -> tuple[Tensor, Tensor]:
    """Rows of M and of -1/2 lap M, divided by the same numbers, in the gauge of `ansatz`."""
    jets = cast(HasStates, ansatz.shared).state_jets(sets)
    values, laplacians = jets.data[:, -1].double(), jets.laplacians()
    columns = torch.exp(-ansatz.gauge.double())
    scale = (values * columns).abs().amax(1, keepdim=True)
    return values * columns / scale, -0.5 * laplacians * columns / scale


class _Positions(Point):
    """Electron sets, which have no wavefunction of their own: using one raises InputError."""

    def forward(self, electrons: Tensor) -> tuple[Tensor, Tensor]:
        """Refuse: a set has the values of all states."""
        raise InputError("excited states take terms of the Hamiltonian that are functions of the electrons' positions")

    @property
    def psi(self) -> LogPsi:
        """Refuse as `forward` does."""
        sign, log = self.forward(self.electrons)
        return LogPsi(sign, log, sign, log)
