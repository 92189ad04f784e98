"""Smooth Jastrow factor of two electrons and a nucleus, linear in its parameters."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor, nn

from fusion.chemistry.system import System
from fusion.wavefunctions.jets.radial import Soft

ELECTRONIC, NUCLEAR = 5, 5
"""Numbers of functions of a distance, the constant included."""

SMALLEST, LARGEST = 0.4, 0.75
"""Smallest exponent of these functions, 1/bohr, and the largest one in units of the nuclear charge, at least 1/bohr."""


class ThreeBodyJastrow(nn.Module):
    """J = sum_A sum_{i<j} sum_abc c_abc^{A sigma} g_a(r_iA) g_b(r_jA) h_c(r_ij), log psi += J.

    The form of Drummond, Towler & Needs (2004), Phys. Rev. B 70, 235119, eqs. 3-8, in one term: g_0 = h_0 = 1, so that
    it contains functions of one electron and of two. sigma tells parallel from antiparallel spins; c is symmetric in a
    and b. The other functions are exp(-zeta f(r)) with even-tempered zeta and softened distances
    f(r) = r^2 / (r + 1 / zeta_max), so that J has no cusps: other factors have them.

    Functions that decay fast have excitation energies w of about zeta^2, and steps of a learning rate eta > 2 / w do
    not converge: with zeta up to Z and eta = 0.1, the variance of nitrogen rose to 9 Ha^2.
    """

    pair_i: Tensor
    pair_j: Tensor
    decay_nuclear: Tensor
    decay_electronic: Tensor

    def __init__(self, system: System) -> None:
        super().__init__()
        n = system.n_up + system.n_down
        i, j = torch.triu_indices(n, n, 1)
        antiparallel = (i < system.n_up) & (j >= system.n_up)
        order = torch.argsort(antiparallel.long(), stable=True)
        charges = torch.tensor(system.charges).clamp(min=1).to(torch.get_default_dtype())
        buffers = {
            "pair_i": i[order],
            "pair_j": j[order],
            "decay_nuclear": torch.stack([_exponents(float(z), NUCLEAR) for z in charges]),
            "decay_electronic": _exponents(float(charges.max()), ELECTRONIC),
        }
        for name, value in buffers.items():
            self.register_buffer(name, value, persistent=False)
        self.number = int((~antiparallel).sum()), int(antiparallel.sum())
        self.coefficients = nn.Parameter(torch.zeros(len(charges), 2, ELECTRONIC, NUCLEAR, NUCLEAR))

    def forward(self, electrons: Tensor, distance: Tensor) -> Tensor:
        """J (B,) of electrons (B, N, 3) at ``distance`` (B, N, M) from the nuclei."""
        _, r = self._pairs(electrons)
        g = _values(distance.unsqueeze(-1), self.decay_nuclear)
        h = _values(r.unsqueeze(-1), self.decay_electronic)
        total = electrons.new_zeros(len(electrons))
        for spin, rows, i, j in self._spins():
            for nucleus, c in enumerate(self._symmetric(spin)):
                total = total + _contract(g[:, i, nucleus], _kernel(h[:, rows], c), g[:, j, nucleus])
        return total

    def jet(self, electrons: Tensor, vector: Tensor, distance: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """J (B,), its gradient (B, 3N) and Laplacian (B,); ``vector`` (B, N, M, 3) points from the nuclei."""
        between, r = self._pairs(electrons)
        unit = between / r.unsqueeze(-1)
        h = _radial(r.unsqueeze(-1), self.decay_electronic)
        g = _radial(distance.unsqueeze(-1), self.decay_nuclear)
        outward = vector / distance.unsqueeze(-1)
        value, laplacian = electrons.new_zeros(len(electrons)), electrons.new_zeros(len(electrons))
        gradient = torch.zeros_like(electrons)
        for spin, rows, i, j in self._spins():
            u = unit[:, rows]
            for m, c in enumerate(self._symmetric(spin)):
                k, k1, k2 = (_kernel(part[:, rows], c) for part in h)
                left, right = (_Radial(*(part[:, own, m] for part in g)) for own in (i, j))
                ui, uj = outward[:, i, m], outward[:, j, m]
                to_right = (k @ right.value.unsqueeze(-1)).squeeze(-1)  # sum_b K_ab g_b
                to_left = (k.mT @ left.value.unsqueeze(-1)).squeeze(-1)
                slope_right = (k1 @ right.value.unsqueeze(-1)).squeeze(-1)
                slope_left = (k1.mT @ left.value.unsqueeze(-1)).squeeze(-1)
                value = value + (left.value * to_right).sum((1, 2))
                along = (left.value * slope_right).sum(-1, keepdim=True) * u
                of_i = (left.slope * to_right).sum(-1, keepdim=True) * ui - along
                of_j = (right.slope * to_left).sum(-1, keepdim=True) * uj + along
                gradient.index_add_(1, i, of_i).index_add_(1, j, of_j)
                cross = (right.slope * slope_left).sum(-1) * (uj * u).sum(-1)
                cross = cross - (left.slope * slope_right).sum(-1) * (ui * u).sum(-1)
                own = (left.laplacian * to_right).sum(-1) + (right.laplacian * to_left).sum(-1)
                both = (left.value * (k2 @ right.value.unsqueeze(-1)).squeeze(-1)).sum(-1)
                laplacian = laplacian + (own + 2 * (both + cross)).sum(1)
        return value, gradient.flatten(1), laplacian

    def parameter_scores(self, grad_output: Tensor, electrons: Tensor, distance: Tensor) -> dict[str, Tensor]:
        """Per-walker derivatives of log|psi| with respect to the coefficients."""
        _, r = self._pairs(electrons)
        g = _values(distance.unsqueeze(-1), self.decay_nuclear)
        h = _values(r.unsqueeze(-1), self.decay_electronic)
        scores = grad_output.new_zeros(len(grad_output), *self.coefficients.shape)
        for spin, rows, i, j in self._spins():
            for m in range(len(self.coefficients)):
                products = (g[:, i, m].unsqueeze(3) * g[:, j, m].unsqueeze(2)).flatten(2)
                own = (h[:, rows].mT @ products).unflatten(2, (NUCLEAR, NUCLEAR))
                scores[:, m, spin] = (own + own.mT) / 2
        return {"coefficients": scores * grad_output.view(-1, 1, 1, 1, 1, 1)}

    def _pairs(self, electrons: Tensor) -> tuple[Tensor, Tensor]:
        vector = electrons[:, self.pair_j] - electrons[:, self.pair_i]
        return vector, torch.linalg.vector_norm(vector, dim=-1)

    def _spins(self) -> Iterator[tuple[int, slice, Tensor, Tensor]]:
        """Number, pairs, and electrons i and j of parallel and of antiparallel spins, if there are any."""
        ends = (0, self.number[0], sum(self.number))
        for spin in range(2):
            rows = slice(ends[spin], ends[spin + 1])
            if rows.stop > rows.start:
                yield spin, rows, self.pair_i[rows], self.pair_j[rows]

    def _symmetric(self, spin: int) -> Tensor:
        c = self.coefficients[:, spin]
        return (c + c.mT) / 2


class _Radial(NamedTuple):
    """Functions (..., F) of a distance, their slopes, and their Laplacians with respect to the vector."""

    value: Tensor
    slope: Tensor
    laplacian: Tensor


def _exponents(charge: float, functions: int) -> Tensor:
    steps = torch.linspace(0, 1, functions - 1)
    return SMALLEST * (max(LARGEST * charge, 1.0) / SMALLEST) ** steps


def _values(r: Tensor, decay: Tensor) -> Tensor:
    """1 and exp(-zeta f(r)), (..., F)."""
    f = Soft(1 / decay[..., -1:]).distance(r)
    values = torch.exp(-decay * f)
    return torch.cat((torch.ones_like(values[..., :1]), values), dim=-1)


def _radial(r: Tensor, decay: Tensor) -> _Radial:
    """The same with slopes and Laplacians."""
    f, slope_by_r, curvature = Soft(1 / decay[..., -1:]).derivatives(r)
    values = torch.exp(-decay * f)
    zero = torch.zeros_like(values[..., :1])
    slope = slope_by_r * r
    first = -decay * values * slope
    laplacian = values * (decay**2 * slope**2 - decay * (curvature + 2 * slope_by_r))
    parts = (zero + 1, values), (zero, first), (zero, laplacian)
    return _Radial(*(torch.cat(part, dim=-1) for part in parts))


def _kernel(h: Tensor, c: Tensor) -> Tensor:
    """sum_c c_abc h_c, (B, P, A, A)."""
    return (h @ c.flatten(1)).unflatten(-1, c.shape[1:])


def _contract(left: Tensor, kernel: Tensor, right: Tensor) -> Tensor:
    """sum_p sum_ab g_a K_ab g_b, (B,)."""
    return (left * (kernel @ right.unsqueeze(-1)).squeeze(-1)).sum((1, 2))
