"""Effective core potentials: their semi-local part acts on psi by its average over a sphere around the nucleus.

With v(r) = sum_t c_t r^(n_t - 2) exp(-a_t r^2),

    V psi / psi = sum_iA [v_local(r_iA) + sum_l v_l(r_iA) (2l + 1) / (4 pi) int P_l(cos theta) psi(r_i') / psi d Omega],

where r_i' runs over the sphere of radius r_iA around nucleus A, and theta is the angle between r_i' and r_i. The
integral is a sum over the vertices of a polyhedron (Mitas, Shirley, Ceperley 1991, J. Chem. Phys. 95, 3467) that is
rotated uniformly at random for every electron and iteration: the sum is unbiased whatever the degree of the rule, and
so are energy and gradient, which are linear in it.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import cast

import torch
from torch import Tensor, nn

from fusion.chemistry.core_potentials import LOCAL, CorePotential, Term
from fusion.chemistry.system import System
from fusion.config.checks import check_number
from fusion.errors import InputError
from fusion.wavefunctions.hamiltonians.point import FORWARDS, Point

DEGREES = {6: 3, 12: 5}
"""Points of the octahedron and the icosahedron, and the degrees of spherical harmonics that they integrate exactly."""


class EffectiveCore(nn.Module):
    """Effective core potentials of all nuclei that have one, except for -Z_eff/r, which `Coulomb` contains.

    Args:
        system: nuclei with `cores`.
        points: points of the rule, 6 or 12.
        threshold: electrons whose v_l are all smaller (hartree) have no semi-local part.
    """

    name = "effective_core"
    nuclei: Tensor
    rule: Tensor

    def __init__(self, system: System, points: int = 12, threshold: float = 1e-6) -> None:
        super().__init__()
        if points not in DEGREES:
            raise InputError(f"method.hamiltonian.terms.effective_core.points must be 6 or 12, not {points!r}")
        check_number("method.hamiltonian.terms.effective_core.threshold", threshold)
        self.threshold = float(threshold)
        atoms = [a for core in system.cores for a, symbol in enumerate(system.symbols) if symbol == core.symbol]
        _constant(self, "nuclei", torch.tensor(system.positions, dtype=torch.float64)[atoms])
        _constant(self, "rule", polyhedron(points))
        self.counts = [system.symbols.count(core.symbol) for core in system.cores]
        self.radial = nn.ModuleList(_Channels(core) for core in system.cores)
        self.momenta = 1 + max(max(core.channels, default=LOCAL) for core in system.cores)

    def forward(self, point: Point) -> Tensor:
        """Local and semi-local potential (B,), float64."""
        r = point.electrons.double()
        vectors = r.unsqueeze(2) - self.nuclei  # (B, N, A, 3)
        distances = torch.linalg.vector_norm(vectors, dim=-1)
        elements = cast(Iterable[_Channels], self.radial)
        by_element = list(zip(elements, distances.split(self.counts, dim=-1), strict=True))
        local = torch.cat([channels.local(d) for channels, d in by_element], dim=-1).sum((1, 2))
        if self.momenta == 0:
            return local
        strength = torch.cat([channels(d, self.momenta) for channels, d in by_element], dim=-2)
        return local + self._semi_local(point, vectors, distances, strength)

    def _semi_local(self, point: Point, vectors: Tensor, distances: Tensor, strength: Tensor) -> Tensor:
        """Sum over electrons and nuclei of v_l times the projections, (B,); ``strength`` is (B, N, A, l)."""
        rotations = random_rotations(distances.shape[:2], point.stream, distances.device)
        walkers, electrons, nuclei = torch.nonzero(strength.abs().amax(-1) > self.threshold, as_tuple=True)
        projections = torch.zeros_like(distances)
        if not len(walkers):
            return projections.sum((1, 2))
        at_a_time = max(1, FORWARDS * point.chunk // len(self.rule))
        for b, i, a in zip(*(index.split(at_a_time) for index in (walkers, electrons, nuclei)), strict=True):
            points = self.rule @ rotations[b, i].mT  # (k, Q, 3)
            radius, own = distances[b, i, a], vectors[b, i, a]
            cosines = (points @ own.unsqueeze(-1)).squeeze(-1) / radius.unsqueeze(-1)
            moved = point.electrons[b].unsqueeze(1).repeat(1, len(self.rule), 1, 1)
            places = self.nuclei[a].unsqueeze(1) + radius[:, None, None] * points
            moved[torch.arange(len(b), device=b.device), :, i] = places.to(moved.dtype)
            ratios = point.ratios(b.repeat_interleave(len(self.rule)), moved.flatten(0, 1)).view_as(cosines)
            weights = torch.einsum("kl,lkq->kq", strength[b, i, a], projectors(cosines, self.momenta))
            projections[b, i, a] = (weights * ratios).mean(-1)
        return projections.sum((1, 2))


def effective_core(system: System, points: int = 12, threshold: float = 1e-6) -> EffectiveCore | None:
    """Build the term of a system with effective core potentials; None without."""
    return EffectiveCore(system, points, threshold) if system.cores else None


class _Channels(nn.Module):
    """Radial functions of one element."""

    local: _Radial

    def __init__(self, core: CorePotential) -> None:
        super().__init__()
        self.local = _Radial(core.channels.get(LOCAL, ()))
        highest = max(core.channels, default=LOCAL)
        self.semi_local = nn.ModuleList(_Radial(core.channels.get(momentum, ())) for momentum in range(highest + 1))

    def forward(self, distance: Tensor, momenta: int) -> Tensor:
        """v_l at distances (..., l), l < ``momenta``, zero where the element has no channel."""
        values = [radial(distance) for radial in self.semi_local]
        values += [torch.zeros_like(distance)] * (momenta - len(values))
        return torch.stack(values, dim=-1)


class _Radial(nn.Module):
    """sum_t c_t r^(n_t - 2) exp(-a_t r^2)."""

    powers: Tensor
    exponents: Tensor
    coefficients: Tensor

    def __init__(self, terms: Sequence[Term]) -> None:
        super().__init__()
        table = torch.tensor([list(term) for term in terms], dtype=torch.float64).view(-1, 3)
        for name, column in zip(("powers", "exponents", "coefficients"), table.T, strict=True):
            _constant(self, name, column.clone())

    def forward(self, distance: Tensor) -> Tensor:
        r = distance.unsqueeze(-1)
        return (self.coefficients * r ** (self.powers - 2) * torch.exp(-self.exponents * r.square())).sum(-1)


def projectors(cosines: Tensor, momenta: int) -> Tensor:
    """(2l + 1) P_l(cos), l < ``momenta``, in front."""
    legendre = [torch.ones_like(cosines), cosines]
    for n in range(1, momenta):
        legendre.append(((2 * n + 1) * cosines * legendre[n] - n * legendre[n - 1]) / (n + 1))
    return torch.stack([(2 * n + 1) * legendre[n] for n in range(momenta)])


def polyhedron(points: int) -> Tensor:
    """Vertices (points, 3), float64, of the octahedron (6) or icosahedron (12) on the unit sphere."""
    if points == 6:
        return torch.cat((torch.eye(3), -torch.eye(3))).double()
    golden = (1 + 5**0.5) / 2
    signs = torch.tensor([[s, t * golden] for s in (1, -1) for t in (1, -1)], dtype=torch.float64)
    zeros = torch.zeros(4, 1, dtype=torch.float64)
    plane = torch.cat((zeros, signs), dim=1)
    return torch.cat([plane.roll(shift, dims=1) for shift in range(3)]) / (1 + golden**2) ** 0.5


def random_rotations(shape: Sequence[int], stream: torch.Generator, device: torch.device) -> Tensor:
    """Uniformly distributed rotations (*shape, 3, 3), float64, from random unit quaternions."""
    quaternions = torch.randn(*shape, 4, generator=stream, dtype=torch.float64, device=device)
    w, x, y, z = nn.functional.normalize(quaternions, dim=-1).unbind(-1)
    rows = (
        (1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)),
        (2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)),
        (2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)),
    )
    return torch.stack([torch.stack(row, dim=-1) for row in rows], dim=-2)


def _constant(module: nn.Module, name: str, value: Tensor) -> None:
    module.register_buffer(name, value, persistent=False)
