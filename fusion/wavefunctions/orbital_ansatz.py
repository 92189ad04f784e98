"""Sums of determinants of orbitals that depend on all electrons: the part that FermiNet, Psiformer and others share.

A trunk turns electrons into features h_i, equivariant under exchange of electrons of one spin. With them

    phi_ko(i) = (W h_i)_ko e_ko(r_i)                    orbitals of the trunk alone, or
    phi_ko(i) = chi_o(r_i) + (W h_i)_ko e_ko(r_i)       corrections of reference orbitals chi,
    psi = exp(J) sum_k det phi_k,

with envelopes e (Pfau et al. 2020, arXiv 1909.02487, eqs. 6-9). In the second case psi starts as the reference
determinant, the trunk is a smooth function of the electrons, and J = J_cusp + sum_i u h_i: chi, e and J_cusp have the
exact cusps at nuclei and between electrons, and no step of the optimisation can lose them (Hermann, Schätzle and Noé
2020, arXiv 1909.08423, keep the cusps of such a wavefunction in the same way).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import ClassVar, Protocol, cast

import torch
from torch import Tensor, nn

from fusion.chemistry.system import System
from fusion.wavefunctions.determinants import laplacian_of_determinants, sum_of_determinants
from fusion.wavefunctions.envelopes import CuspEnvelope, Envelope, IsotropicEnvelope
from fusion.wavefunctions.features import ElectronFeatures, core_lengths, nuclear_vectors, sites
from fusion.wavefunctions.jastrow import CuspJastrow
from fusion.wavefunctions.jets import Jet, LogPsi, linear
from fusion.wavefunctions.jets.radial import Logarithmic, Plain, Soft
from fusion.wavefunctions.periodic import PeriodicJastrow, PlaneWaveEnvelope, cell_of, periodic_features
from fusion.wavefunctions.reference_orbitals import OrbitalReference

START = 0.003
"""Size of the initial additive correction of reference orbitals: large enough to tell the determinants apart."""

SHORT_CUSP = 0.3
"""Initial lengths (bohr) of the Jastrow factor of reference orbitals: longer ones push the density off the nuclei."""

SOFT_PAIRS = 0.5
"""Length (bohr) within which distances between electrons are smoothed in the trunk of reference orbitals."""


class Trunk(Protocol):
    """Features of every electron that depend on all electrons; an ``nn.Module``.

    `vector` (B, N, M, 3) and `distance` (B, N, M) point from every nucleus to every electron.
    """

    width: int
    """F, the number of features."""

    def __call__(self, electrons: Tensor, vector: Tensor, distance: Tensor) -> Tensor:
        """Features (B, N, F) of electrons (B, N, 3) in bohr."""
        ...

    def jet(self, electrons: Tensor, vector: Tensor, distance: Tensor) -> Jet:
        """Jet (B, 3N + 2, N, F) of the features."""
        ...

    def linear_layers(self) -> Iterable[nn.Linear]:
        """Layers whose initial weights `published_init_` draws, in this order."""
        ...


class OrbitalAnsatz(nn.Module):
    """Sum of determinants of a trunk's orbitals.

    In a periodic cell, the envelopes are sums of plane waves, and the Jastrow factor is one of periodic distances.

    Args:
        system: nuclei and electrons.
        trunk: features of the electrons.
        determinants: number of determinants.
        full_determinant: one N x N matrix per determinant; otherwise one block per spin.
        envelope: builds an envelope from (nuclei, orbitals).
        jastrow: multiply by the cusp Jastrow factor.
        reference: determinants that a smooth trunk corrects (`smooth_features`), with a cusp envelope and Jastrow
            factor whatever `envelope` and `jastrow` say; None for orbitals of the trunk alone.
    """

    takes_cells: ClassVar[bool] = True
    nuclei: Tensor

    def __init__(
        self,
        system: System,
        trunk: Trunk,
        determinants: int = 16,
        full_determinant: bool = True,
        envelope: Callable[[int, int], Envelope | PlaneWaveEnvelope] = IsotropicEnvelope,
        jastrow: bool = False,
        reference: OrbitalReference | None = None,
    ) -> None:
        super().__init__()
        nuclei, cell = sites(system), cell_of(system)
        if cell is not None:
            functions = max(system.n_up, system.n_down)
            envelope, jastrow = (lambda _, width: PlaneWaveEnvelope(cell, functions, width)), True
        elif reference is not None:
            charges, lengths = cusp_charges(system).to(nuclei), soft_lengths(system).to(nuclei)
            envelope, jastrow = (lambda _, width: CuspEnvelope(charges, lengths, width)), True
        self.register_buffer("nuclei", nuclei, persistent=False)
        self.determinants, self.full_determinant = determinants, full_determinant
        self.spins = tuple(n for n in (system.n_up, system.n_down) if n > 0)
        self.trunk = trunk
        widths = [determinants * (sum(self.spins) if full_determinant else n) for n in self.spins]
        self.orbital = nn.ModuleList(nn.Linear(trunk.width, width, bias=False) for width in widths)
        self.envelope = nn.ModuleList(envelope(len(nuclei), width) for width in widths)
        if reference is None and cell is None:
            for part in cast(Iterable[Envelope], self.envelope):
                part.soften(core_lengths(system))
        self.jastrow = _jastrow(system) if jastrow else None
        for layer in (*trunk.linear_layers(), *cast(Iterable[nn.Linear], self.orbital)):
            published_init_(layer)
        self.reference = reference
        self.correlation = None if reference is None else nn.Linear(trunk.width, 1, bias=False)
        if reference is not None:
            self._start_at_reference()

    def _start_at_reference(self) -> None:
        for layer in cast(Iterable[nn.Linear], self.orbital):
            layer.weight.data.mul_(START)
        nn.init.zeros_(cast(nn.Linear, self.correlation).weight)
        if not isinstance(self.jastrow, PeriodicJastrow):
            nn.init.constant_(cast(CuspJastrow, self.jastrow).length, SHORT_CUSP)

    @property
    def start(self) -> str | None:
        """The conventional wavefunction of the reference orbitals; None without."""
        return None if self.reference is None else self.reference.description

    def forward(self, electrons: Tensor) -> tuple[Tensor, Tensor]:
        """Sign and log|psi|, each (B,), of electrons (B, N, 3) in bohr."""
        vector, distance = nuclear_vectors(electrons, self.nuclei)
        h = self.trunk(electrons, vector, distance)
        sign, log = sum_of_determinants(self._orbitals(h, vector, distance))
        if self.correlation is not None:
            log = log + self.correlation(h).sum((1, 2))
        return sign, log if self.jastrow is None else log + self.jastrow(electrons)

    def at_nuclei(self, electrons: Tensor, nuclei: Tensor) -> tuple[Tensor, Tensor]:
        """``forward`` with nuclei (B, M, 3) of its own for every walker."""
        own = {"nuclei": nuclei.unsqueeze(1)}
        return cast(tuple[Tensor, Tensor], torch.func.functional_call(self, own, (electrons,)))

    def orbitals(self, electrons: Tensor) -> list[Tensor]:
        """Orbital matrices (B, K, n, n), rows electrons: one full matrix, or one per spin."""
        vector, distance = nuclear_vectors(electrons, self.nuclei)
        return self._orbitals(self.trunk(electrons, vector, distance), vector, distance)

    def _orbitals(self, h: Tensor, vector: Tensor, distance: Tensor) -> list[Tensor]:
        references = None if self.reference is None else self.reference(vector, distance)
        blocks = []
        by_spin = (x.split(self.spins, dim=1) for x in (h, vector, distance))
        for spin, parts in enumerate(zip(*by_spin, self.orbital, self.envelope, strict=True)):
            h_spin, vector_spin, distance_spin, orbital, envelope = parts
            phi = orbital(h_spin) * envelope(vector_spin, distance_spin)
            phi = phi.unflatten(-1, (self.determinants, -1))
            if references is not None:
                phi = phi + nn.functional.pad(references[spin], self._columns(spin, phi.shape[-1]))
            blocks.append(phi.transpose(1, 2))
        return [torch.cat(blocks, dim=2)] if self.full_determinant else blocks

    @torch.no_grad()
    def laplacian(self, electrons: Tensor) -> LogPsi:
        """log|psi| with gradient and Laplacian by forward propagation through the same layers."""
        vector, distance = nuclear_vectors(electrons, self.nuclei)
        h = self.trunk.jet(electrons, vector, distance)
        psi = laplacian_of_determinants(self._orbital_jets(h, vector, distance))
        if self.correlation is not None:
            rows = linear(Jet(h.data.sum(2)), self.correlation.weight).data[..., 0]
            psi = _times(psi, rows[:, -1], rows[:, :-2], rows[:, -2])
        return psi if self.jastrow is None else _times(psi, *self.jastrow.jet(electrons))

    def _orbital_jets(self, h: Jet, vector: Tensor, distance: Tensor) -> list[Jet]:
        """Orbital jets (B, 3N + 2, n, K, orbitals), one full or one per spin."""
        references = None if self.reference is None else self.reference.jet(vector, distance)
        blocks, start = [], 0
        orbitals, envelopes = cast(Iterable[nn.Linear], self.orbital), cast(Iterable[Envelope], self.envelope)
        for spin, (n, orbital, envelope) in enumerate(zip(self.spins, orbitals, envelopes, strict=True)):
            own = slice(start, start + n)
            features = Jet(h.data[:, :, own])
            phi = linear(features, orbital.weight)
            multiply_local_(phi, envelope.jet(vector[:, own], distance[:, own]), start)
            data = phi.data.unflatten(-1, (self.determinants, -1))
            if references is not None:
                first, _ = self._columns(spin, data.shape[-1])
                _add_local_(data[..., first : first + n], references[spin], start)
            blocks.append(data)
            start += n
        return [Jet(torch.cat(blocks, dim=2))] if self.full_determinant else [Jet(block) for block in blocks]

    def _columns(self, spin: int, columns: int) -> tuple[int, int]:
        """Numbers of columns before and after a spin's own orbitals in its rows of the matrix."""
        before = sum(self.spins[:spin]) if self.full_determinant else 0
        return before, columns - before - self.spins[spin]


def cusp_features(system: System, radial: type[Plain] | type[Logarithmic]) -> ElectronFeatures:
    """Features with cusps, for the orbitals of a trunk alone: of the kind `radial`, or periodic ones in a cell."""
    cell = cell_of(system)
    return ElectronFeatures(radial(core_lengths(system)), radial()) if cell is None else periodic_features(cell)


def smooth_features(system: System) -> ElectronFeatures:
    """Features without cusps, for a trunk that corrects reference orbitals; periodic ones in a cell."""
    cell = cell_of(system)
    if cell is not None:
        return periodic_features(cell, smooth=True)
    return ElectronFeatures(Soft(soft_lengths(system)), Soft(SOFT_PAIRS))


def _jastrow(system: System) -> CuspJastrow:
    cell = cell_of(system)
    return (
        CuspJastrow(system.n_up, system.n_down) if cell is None else PeriodicJastrow(system.n_up, system.n_down, cell)
    )


def cusp_charges(system: System) -> Tensor:
    """Charges (M,) that make cusps: those of the nuclei, 0 behind an effective core potential; float64."""
    with_core = [core.symbol for core in system.cores]
    charges = [0 if symbol in with_core else z for symbol, z in zip(system.symbols, system.numbers, strict=True)]
    return torch.tensor(charges, dtype=torch.float64)


def soft_lengths(system: System) -> Tensor:
    """Lengths (M,) within which distances to nuclei are smoothed, 1 / Z bohr; float64."""
    return 1 / torch.tensor(system.charges, dtype=torch.float64).clamp(min=1)


def published_init_(layer: nn.Linear) -> None:
    """W ~ N(0, 1/fan_in), b ~ N(0, 1), as in the published networks."""
    nn.init.normal_(layer.weight, std=layer.in_features**-0.5)
    if layer.bias is not None:
        nn.init.normal_(layer.bias)


def multiply_local_(phi: Jet, local: Tensor, start: int) -> None:
    """phi *= e, in place, where e_i, (B, 5, n, O), depends on electron ``start + i`` alone.

    lap(phi e) = e lap phi + 2 grad_i phi . grad_i e + phi lap e.
    """
    batch, rows, n, orbitals = phi.data.shape
    value = phi.value.clone()
    by_electron = phi.jacobian.view(batch, (rows - 2) // 3, 3, n, orbitals)[:, start : start + n]
    own = by_electron.diagonal(dim1=1, dim2=3)  # (B, 3, O, n)
    slope = local[:, :3].transpose(-1, -2)
    cross = (own * slope).sum(1).transpose(-1, -2)
    phi.data.mul_(local[:, 4:5])
    own.addcmul_(slope, value.unsqueeze(1).transpose(-1, -2))
    phi.laplacian.add_(cross, alpha=2).addcmul_(value, local[:, 3])


def _add_local_(data: Tensor, local: Tensor, start: int) -> None:
    """Add local jets (B, 5, n, K, O) of electrons ``start``, ``start + 1`` ... to dense ones (B, 3N + 2, n, K, O)."""
    n = data.shape[2]
    data[:, -2:] += local[:, 3:]
    by_electron = data[:, :-2].unflatten(1, (-1, 3))[:, start : start + n]
    by_electron.diagonal(dim1=1, dim2=3).add_(local[:, :3].permute(0, 1, 3, 4, 2))


def _times(psi: LogPsi, log: Tensor, gradient: Tensor, laplacian: Tensor) -> LogPsi:
    """Multiply psi by a positive factor, given by its logarithm and the derivatives of that."""
    return LogPsi(psi.sign, psi.log + log, psi.gradient + gradient, psi.laplacian + laplacian)
