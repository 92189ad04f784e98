"""Expansions in configurations, psi_k = sum_st C_kst det U_s det V_t, on a logarithmic scale, with forward Laplacian.

U_s and V_t are the columns of the spin-up and spin-down orbitals (n_s, O) that the strings s and t name. Determinants
of excited strings follow from the first string's matrix A and T = A^-1 Phi, as minors of T (Clark et al. 2011,
J. Chem. Phys. 135, 244105):

    det(A with columns p_1 p_2 ... replaced by orbitals q_1 q_2 ...) = det A det [T_{p_i q_j}].

With M_d = A^-1 dA/dr_d, a jet of T follows from jets of the orbitals:

    T_d = A^-1 Phi_d - M_d T,      lap T = A^-1 lap Phi - A^-1 lap A T - 2 sum_d M_d T_d,
    d log det A = tr M_d,          lap log det A = tr (A^-1 lap A) - sum_d tr M_d^2.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple, cast

import numpy as np
import torch
from torch import Tensor, nn

from fusion.wavefunctions.jets import Jet, LogPsi
from fusion.wavefunctions.jets.rules import product
from fusion.wavefunctions.states import StateJets, States

LEAST_OCCUPATION = 0.01
"""Orbitals with fewer electrons of a spin stay as the reference has them; the cost grows with the number of others."""


class Coefficients(nn.Module):
    """sum_st C_kst u_s v_t (B, K) of u (B, S) and v (B, T), with C = start * (1 + change) and `change` a parameter.

    `start` is (K, S, T), or (S, T) for one state. Configurations that matter little at the start move little: with C
    itself as parameters, the noise of walkers close to the nodes of the first determinant made coefficients of 0.01 as
    large as the leading one.
    """

    start: Tensor

    def __init__(self, start: np.ndarray) -> None:
        super().__init__()
        values = torch.tensor(start, dtype=torch.get_default_dtype())
        self.register_buffer("start", values)
        self.change = nn.Parameter(torch.zeros_like(values))

    @property
    def values(self) -> Tensor:
        """C (K, S, T), float64."""
        return (self.start.double() * (1 + self.change.double())).view(-1, *self.start.shape[-2:])

    def forward(self, u: Tensor, v: Tensor) -> Tensor:
        """Return the sums over both strings."""
        return ((u @ self.values) * v).sum(-1).T

    def jet(self, u: Tensor, v: Tensor) -> Tensor:
        """Jets (B, D + 2, K) of jets (B, D + 2, S) and (B, D + 2, T)."""
        return torch.stack([product(Jet(u @ own), Jet(v)).data.sum(-1) for own in self.values], dim=-1)

    def parameter_scores(self, grad_output: Tensor, u: Tensor, v: Tensor) -> dict[str, Tensor]:
        """Per-walker derivatives (B, ...) of log|psi|, given its derivatives with respect to the output, (B, K)."""
        products = (u.unsqueeze(2) * v.unsqueeze(1)).unsqueeze(1)
        scores = (grad_output[..., None, None] * products).view(-1, *self.start.shape) * self.start
        return {"change": scores.to(self.change.dtype)}


class Configurations(nn.Module):
    """Expansions in products of a spin-up and a spin-down string, one for each of K states.

    Args:
        strings: numbers of the occupied orbitals, (S_s, n_s) for each spin with electrons, the reference first; every
            other string with its columns where those of the reference are that it replaces (`aligned`).
        coefficients: C, (S_up, S_down), (S, 1) for one spin; of several states (K, S_up, S_down).
    """

    def __init__(self, strings: Sequence[np.ndarray], coefficients: np.ndarray) -> None:
        super().__init__()
        self.strings = nn.ModuleList(Strings(own) for own in strings)
        self.coefficients = Coefficients(coefficients)

    def forward(self, orbitals: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
        """Sign and log|psi|, each (B,), of the first state."""
        sign, log, values = self.states(orbitals)
        value, dtype = values[:, 0], orbitals[0].dtype
        return (sign * value.sign()).to(dtype), (log + value.abs().log()).to(dtype)

    def states(self, orbitals: Sequence[Tensor]) -> States:
        """All states, float64, from orbitals (B, n_s, O_s) of every spin."""
        parts = [own(phi) for own, phi in zip(self._spins(), orbitals, strict=True)]
        signs, logs, minors = zip(*parts, strict=True)
        u, v = minors if len(minors) == 2 else (minors[0], torch.ones_like(minors[0][:, :1]))
        # Close to a node of the reference, minors are large.
        scales = [m.detach().abs().amax(1, keepdim=True) for m in (u, v)]
        values = self.coefficients(u / scales[0], v / scales[1])
        log = sum(logs) + sum(scale.log().squeeze(1) for scale in scales)
        return States(torch.stack(signs).prod(0), log, values)

    def laplacian(self, orbitals: Sequence[Jet]) -> LogPsi:
        """log|psi| of the first state with its derivatives, from jets (B, 3N + 2, n_s, O_s) of all orbitals."""
        psi = self.jets(orbitals).of_one()
        return LogPsi(*(part.to(orbitals[0].data.dtype) for part in psi))

    def jets(self, orbitals: Sequence[Jet]) -> StateJets:
        """All states with their derivatives, float64, from jets (B, 3N + 2, n_s, O_s) of the orbitals."""
        parts = [own.jet(phi.data) for own, phi in zip(self._spins(), orbitals, strict=True)]
        u = parts[0].minors
        v = parts[1].minors if len(parts) == 2 else _one(u)
        rows = cast(Tensor, sum(part.log for part in parts))
        sign = torch.stack([part.sign for part in parts]).prod(0)
        return StateJets(LogPsi(sign, rows[:, -1], rows[:, :-2], rows[:, -2]), self.coefficients.jet(u, v))

    def leading(self, mixture: Tensor) -> tuple[list[list[int]], float]:
        """Occupied orbitals of each spin in the leading product of sum_k mixture_k psi_k, and its share of the norm.

        The share is that of normalised orbitals: |C|^2 over the sum of all.
        """
        values = torch.einsum("k,kst->st", mixture.double().cpu(), self.coefficients.values.detach().cpu())
        rows = divmod(int(values.abs().argmax()), values.shape[1])
        occupied = [own.numbers[row].tolist() for own, row in zip(self._spins(), rows, strict=False)]
        return occupied, float(values[rows].square() / values.square().sum())

    def _spins(self) -> Iterable[Strings]:
        return cast(Iterable[Strings], self.strings)


class _StringJets(NamedTuple):
    """Sign (B,) and jet (B, D + 2) of log|det A|, and jets (B, D + 2, S) of the minors."""

    sign: Tensor
    log: Tensor
    minors: Tensor


class Strings(nn.Module):
    """Determinants of one spin, relative to that of the first string. Computed in float64: minors cancel."""

    numbers: Tensor
    order: Tensor

    def __init__(self, strings: np.ndarray) -> None:
        super().__init__()
        self.register_buffer("numbers", torch.tensor(strings))
        self._tabulate()
        self.register_load_state_dict_post_hook(lambda module, _: module._tabulate())

    def _tabulate(self) -> None:
        """For each number of excitations, find the columns that they empty and the orbitals that they fill."""
        strings = self.numbers
        changed = strings != strings[0]
        count = changed.sum(1)
        self.ranks = [rank for rank in range(1, strings.shape[1] + 1) if bool((count == rank).any())]
        rows = [torch.nonzero(count == rank).squeeze(1) for rank in (0, *self.ranks)]
        self.register_buffer("order", torch.argsort(torch.cat(rows)), persistent=False)
        for rank, own in zip(self.ranks, rows[1:], strict=True):
            columns = torch.nonzero(changed[own])[:, 1].view(-1, rank)
            self.register_buffer(f"columns_{rank}", columns, persistent=False)
            self.register_buffer(f"orbitals_{rank}", strings[own].gather(1, columns), persistent=False)

    def forward(self, orbitals: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Sign and log (B,) of the first determinant, and all determinants (B, S) divided by it."""
        phi = orbitals.double()
        matrix = phi[..., self.numbers[0]]
        sign, log = torch.linalg.slogdet(matrix)
        ratios = torch.linalg.solve_ex(matrix, phi)[0]
        return sign, log, self._minors(ratios, torch.mul, torch.ones_like(log).unsqueeze(-1))

    def jet(self, data: Tensor) -> _StringJets:
        """The same with derivatives, from jets (B, D + 2, n, O) of the orbitals."""
        phi = data.double()
        reference = self.numbers[0]
        matrix = phi[:, -1][..., reference]
        sign, log = torch.linalg.slogdet(matrix)
        inverse, _ = torch.linalg.inv_ex(matrix)
        ratios = inverse.unsqueeze(1) @ phi
        m = ratios[:, :-1][..., reference]
        value = ratios[:, -1]
        ratios[:, :-1] -= m @ value.unsqueeze(1)
        ratios[:, -2] -= 2 * torch.einsum("bdij,bdjo->bio", m[:, :-1], ratios[:, :-2])
        rows = m.diagonal(dim1=-2, dim2=-1).sum(-1)
        squares = torch.linalg.vecdot(m[:, :-1].flatten(1), m[:, :-1].mT.flatten(1))
        rows = torch.cat((rows[:, :-1], (rows[:, -1] - squares).unsqueeze(1), log.unsqueeze(1)), dim=1)
        return _StringJets(sign, rows, self._minors(ratios, _product, _one(rows.unsqueeze(-1))))

    def _minors(self, ratios: Tensor, multiply: Callable[[Tensor, Tensor], Tensor], one: Tensor) -> Tensor:
        """Minors (..., S) of T (..., n, O)."""
        parts = [one]
        for rank in self.ranks:
            columns, orbitals = getattr(self, f"columns_{rank}"), getattr(self, f"orbitals_{rank}")
            parts.append(_determinant(ratios[..., columns.unsqueeze(2), orbitals.unsqueeze(1)], multiply))
        return torch.cat(parts, dim=-1).index_select(-1, self.order)


def _determinant(elements: Tensor, multiply: Callable[[Tensor, Tensor], Tensor]) -> Tensor:
    """Determinants (...) of matrices (..., k, k) by expansion along the first row, with any product."""
    size = elements.shape[-1]
    if size == 1:
        return elements[..., 0, 0]
    total = torch.zeros_like(elements[..., 0, 0])
    for column in range(size):
        others = [c for c in range(size) if c != column]
        term = multiply(elements[..., 0, column], _determinant(elements[..., 1:, others], multiply))
        total = total + term if column % 2 == 0 else total - term
    return total


def _product(f: Tensor, g: Tensor) -> Tensor:
    return product(Jet(f), Jet(g)).data


def _one(rows: Tensor) -> Tensor:
    """Jet (B, D + 2, 1) of the constant 1."""
    one = torch.zeros_like(rows[..., :1])
    one[:, -1] = 1
    return one


def well_occupied(strings: Sequence[np.ndarray], coefficients: np.ndarray) -> list[np.ndarray]:
    """Numbers of the orbitals of each spin that any state occupies by more than `LEAST_OCCUPATION` electrons."""
    weights = coefficients.reshape(-1, *coefficients.shape[-2:]) ** 2
    weights = weights / weights.sum((1, 2), keepdims=True)
    numbers = []
    for axis, own in enumerate(strings):
        occupation = np.zeros((own.max() + 1, len(weights)))
        np.add.at(occupation, own, weights.sum(2 - axis).T[:, None])
        numbers.append(np.flatnonzero(occupation.max(1) > LEAST_OCCUPATION))
    return numbers


def aligned(strings: np.ndarray, coefficients: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Sort the columns of strings (S, n) so that orbitals of the first string keep its columns.

    The coefficients (S, ...) take the sign of the permutation.
    """
    reference = strings[0].tolist()
    rows, signs = [], []
    for string in strings.tolist():
        new = iter(sorted(set(string) - set(reference)))
        row = [orbital if orbital in string else next(new) for orbital in reference]
        rows.append(row)
        signs.append(_parity([string.index(orbital) for orbital in row]))
    return np.array(rows), coefficients * np.array(signs).reshape(-1, *[1] * (coefficients.ndim - 1))


def _parity(permutation: list[int]) -> int:
    inversions = sum(a > b for i, a in enumerate(permutation) for b in permutation[i + 1 :])
    return -1 if inversions % 2 else 1
