"""Sums of determinants of orbitals that depend on all electrons: the part that FermiNet, Psiformer and others share.

A trunk turns electrons into features h_i, equivariant under exchange of electrons of one spin. With them

    phi_ko(i) = (W h_i)_ko e_ko(r_i),                      psi = exp(J) sum_k det phi_k,    or
    phi_o(i) = chi_o(r_i) + sum_p (W h_i)_op chi_p(r_i),   psi = exp(J) sum_st C_st det phi_s det phi_t.

The first are orbitals of the trunk alone, with envelopes e (Pfau et al. 2020, arXiv 1909.02487, eqs. 6-9); the second
are mixtures of reference orbitals chi, in an expansion in configurations. In the second case psi starts as the
reference times exp(J), the trunk is a smooth function of the electrons, and J = J_cusp + J_3 + sum_i u h_i with a
smooth J_3 (`three_body`): chi and J_cusp have the exact cusps at nuclei and between electrons, and no step of the
optimisation can lose them (Hermann, Schätzle and Noé 2020, arXiv 1909.08423, keep the cusps of such a wavefunction in
the same way). All chi_p have nearly the same local energy close to a nucleus, where kinetic and potential energy are
largest, and so has every mixture of them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import accumulate
from typing import ClassVar, Protocol, cast

import torch
from torch import Tensor, nn

from fusion.chemistry.system import System
from fusion.config.checks import check_whole
from fusion.wavefunctions.ansatz import HasLevels
from fusion.wavefunctions.configurations import Configurations, well_occupied
from fusion.wavefunctions.determinants import (
    laplacian_of_determinants,
    state_jets_of_determinants,
    states_of_determinants,
    sum_of_determinants,
)
from fusion.wavefunctions.envelopes import Envelope, IsotropicEnvelope
from fusion.wavefunctions.features import ElectronFeatures, core_lengths, nuclear_vectors, sites
from fusion.wavefunctions.jastrow import CuspJastrow
from fusion.wavefunctions.jets import Jet, LogPsi, linear
from fusion.wavefunctions.jets.radial import Logarithmic, Plain, Soft
from fusion.wavefunctions.local_factors import add_local_, mixture, mixture_jet, multiply_local_
from fusion.wavefunctions.periodic import PeriodicJastrow, PlaneWaveEnvelope, cell_of, periodic_features
from fusion.wavefunctions.reference_orbitals import OrbitalReference
from fusion.wavefunctions.states import StateJets, States
from fusion.wavefunctions.three_body import ThreeBodyJastrow

START = 0.003
"""Size of the initial factors of reference orbitals: small enough to keep the quality of the reference."""

SHORT_CUSP = 0.3
"""Initial lengths (bohr) of the Jastrow factor of reference orbitals: longer ones push the density off the nuclei."""


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
        determinants: number of determinants of the trunk alone, for each state.
        full_determinant: one N x N matrix per determinant; otherwise one block per spin.
        envelope: builds an envelope from (nuclei, orbitals).
        jastrow: multiply by the cusp Jastrow factor.
        reference: configurations whose orbitals a smooth trunk mixes (`smooth_features`), with a Jastrow factor and
            whatever the four arguments before say; None for orbitals of the trunk alone.
        states: number of states; those of a reference are as many.

    Raises:
        InputError: there is no determinant.
    """

    takes_cells: ClassVar[bool] = True
    takes_states: ClassVar[bool] = True
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
        states: int = 1,
    ) -> None:
        super().__init__()
        check_whole("method.model.determinants", determinants)
        nuclei, cell = sites(system), cell_of(system)
        if cell is not None:
            functions = max(system.n_up, system.n_down)
            envelope, jastrow = (lambda _, width: PlaneWaveEnvelope(cell, functions, width)), True
        self.register_buffer("nuclei", nuclei, persistent=False)
        self.number, self.determinants, self.full_determinant = states, states * determinants, full_determinant
        self.spins = tuple(n for n in (system.n_up, system.n_down) if n > 0)
        self.trunk = trunk
        widths = [self.determinants * (sum(self.spins) if full_determinant else n) for n in self.spins]
        if reference is not None:
            widths = []
            for spin, own in enumerate(well_occupied(reference.strings, reference.weights)):
                self.register_buffer(f"varied_{spin}", torch.tensor(own))
                mixed = reference.mixed[spin]
                widths.append(len(own) * (mixed.stop - mixed.start))
        self.orbital = nn.ModuleList(nn.Linear(trunk.width, width, bias=False) for width in widths)
        self.envelope = nn.ModuleList(envelope(len(nuclei), width) for width in widths if reference is None)
        if cell is None:
            for part in cast(Iterable[Envelope], self.envelope):
                part.soften(core_lengths(system))
        self.jastrow = _jastrow(system) if jastrow or reference is not None else None
        for layer in (*trunk.linear_layers(), *cast(Iterable[nn.Linear], self.orbital)):
            published_init_(layer)
        self.reference = reference
        self.correlation = None if reference is None else nn.Linear(trunk.width, 1, bias=False)
        self.three_body = None if reference is None or cell is not None else ThreeBodyJastrow(system)
        self.configurations = None if reference is None else Configurations(reference.strings, reference.weights)
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

    @property
    def levels(self) -> Sequence[float]:
        """Energies (hartree) of the states of the reference and of a few more; empty without several states."""
        return self.reference.levels if isinstance(self.reference, HasLevels) else ()

    def leading(self, mixture: Tensor) -> tuple[list[list[int]], float] | None:
        """Occupied orbitals of each spin, by their numbers in the reference from 0, in the leading configuration of
        sum_k mixture_k psi_k, and its share; None without a reference."""
        return None if self.configurations is None else self.configurations.leading(mixture)

    @property
    def of_geometry(self) -> frozenset[str]:
        """Parameters that multiply the orbitals of this geometry in an order and with signs of their own."""
        return frozenset() if self.configurations is None else frozenset({"configurations.coefficients.change"})

    def forward(self, electrons: Tensor) -> tuple[Tensor, Tensor]:
        """Sign and log|psi|, each (B,), of electrons (B, N, 3) in bohr; of several states, those of the first."""
        if self.number > 1:
            states = self.states(electrons)
            value, dtype = states.values[:, 0], electrons.dtype
            return (states.sign * value.sign()).to(dtype), (states.log + value.abs().log()).to(dtype)
        vector, distance = nuclear_vectors(electrons, self.nuclei)
        h = self.trunk(electrons, vector, distance)
        phi = self._orbitals(h, vector, distance)
        sign, log = sum_of_determinants(phi) if self.configurations is None else self.configurations(phi)
        for part in self._factors(h, electrons, distance):
            log = log + part
        return sign, log

    def states(self, electrons: Tensor) -> States:
        """All states at electrons (B, N, 3)."""
        vector, distance = nuclear_vectors(electrons, self.nuclei)
        h = self.trunk(electrons, vector, distance)
        phi, expansion = self._orbitals(h, vector, distance), self.configurations
        states = states_of_determinants(phi, self.number) if expansion is None else expansion.states(phi)
        for part in self._factors(h, electrons, distance):
            states = states.times(part)
        return states

    def _factors(self, h: Tensor, electrons: Tensor, distance: Tensor) -> Iterator[Tensor]:
        """Logarithms (B,) of the symmetric factors."""
        if self.correlation is not None:
            yield self.correlation(h).sum((1, 2))
        if self.three_body is not None:
            yield self.three_body(electrons, distance)
        if self.jastrow is not None:
            yield self.jastrow(electrons)

    def at_nuclei(self, electrons: Tensor, nuclei: Tensor) -> tuple[Tensor, Tensor]:
        """``forward`` with nuclei (B, M, 3) of its own for every walker."""
        own = {"nuclei": nuclei.unsqueeze(1)}
        return cast(tuple[Tensor, Tensor], torch.func.functional_call(self, own, (electrons,)))

    def orbitals(self, electrons: Tensor) -> list[Tensor]:
        """Orbital matrices (B, S K, n, n), rows electrons: one full matrix, or one per spin, for the determinants of
        the first state, of the second, and so on. With reference orbitals, the orbitals (B, n_s, O_s) of every spin."""
        vector, distance = nuclear_vectors(electrons, self.nuclei)
        return self._orbitals(self.trunk(electrons, vector, distance), vector, distance)

    def _orbitals(self, h: Tensor, vector: Tensor, distance: Tensor) -> list[Tensor]:
        if self.reference is not None:
            chi = self.reference(vector, distance)
            own = [(orbital(h[:, rows]), chi[:, rows, self.reference.mixed[s]]) for s, rows, orbital in self._layers()]
            mixed = [mixture(factors, local) for factors, local in own]
            numbers = (self.get_buffer(f"varied_{spin}") for spin in range(len(own)))
            return [local.index_add(-1, n, m) for (_, local), n, m in zip(own, numbers, mixed, strict=True)]
        blocks = []
        for spin, rows, orbital in self._layers():
            phi = orbital(h[:, rows]) * self.envelope[spin](vector[:, rows], distance[:, rows])
            blocks.append(self._split(phi).transpose(1, 2))
        return [torch.cat(blocks, dim=2)] if self.full_determinant else blocks

    @torch.no_grad()
    def laplacian(self, electrons: Tensor) -> LogPsi:
        """log|psi| with gradient and Laplacian by forward propagation through the same layers."""
        if self.number > 1:
            return LogPsi(*(part.to(electrons.dtype) for part in self.state_jets(electrons).of_one()))
        vector, distance = nuclear_vectors(electrons, self.nuclei)
        h = self.trunk.jet(electrons, vector, distance)
        phi = self._orbital_jets(h, vector, distance)
        psi = laplacian_of_determinants(phi) if self.configurations is None else self.configurations.laplacian(phi)
        for part in self._factor_jets(h, electrons, vector, distance):
            psi = _times(psi, *part)
        return psi

    @torch.no_grad()
    def state_jets(self, electrons: Tensor) -> StateJets:
        """All states with their derivatives, in the same way."""
        vector, distance = nuclear_vectors(electrons, self.nuclei)
        h = self.trunk.jet(electrons, vector, distance)
        phi = self._orbital_jets(h, vector, distance)
        expansion = self.configurations
        factor, data = state_jets_of_determinants(phi, self.number) if expansion is None else expansion.jets(phi)
        for part in self._factor_jets(h, electrons, vector, distance):
            factor = _times(factor, *part)
        return StateJets(factor, data)

    def _factor_jets(
        self, h: Jet, electrons: Tensor, vector: Tensor, distance: Tensor
    ) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
        """Logarithms (B,) of the symmetric factors, with gradients (B, 3N) and Laplacians (B,)."""
        if self.correlation is not None:
            rows = linear(Jet(h.data.sum(2)), self.correlation.weight).data[..., 0]
            yield rows[:, -1], rows[:, :-2], rows[:, -2]
        if self.three_body is not None:
            yield self.three_body.jet(electrons, vector, distance)
        if self.jastrow is not None:
            yield self.jastrow.jet(electrons)

    def _orbital_jets(self, h: Jet, vector: Tensor, distance: Tensor) -> list[Jet]:
        """Jets (B, 3N + 2, n, K, n) of the orbitals, one full or one per spin; (B, 3N + 2, n_s, O_s) of mixtures."""
        chi = None if self.reference is None else self.reference.jet(vector, distance)
        blocks = []
        for spin, own, orbital in self._layers():
            phi = linear(Jet(h.data[:, :, own]), orbital.weight)
            if chi is None:
                envelope = cast(Envelope, self.envelope[spin])
                multiply_local_(phi, envelope.jet(vector[:, own], distance[:, own]), own.start)
                blocks.append(self._split(phi.data))
            else:
                local = chi[:, :, own, cast(OrbitalReference, self.reference).mixed[spin]]
                data = phi.data.new_zeros(*phi.data.shape[:-1], local.shape[-1])
                data.index_copy_(-1, self.get_buffer(f"varied_{spin}"), mixture_jet(phi, local, own.start).data)
                add_local_(data, local, own.start)
                blocks.append(data)
        joined = self.full_determinant and chi is None
        return [Jet(torch.cat(blocks, dim=2))] if joined else [Jet(block) for block in blocks]

    def _layers(self) -> Iterator[tuple[int, slice, nn.Linear]]:
        """Number, electrons and last layer of every spin."""
        ends = list(accumulate(self.spins, initial=0))
        for spin, orbital in enumerate(cast(Iterable[nn.Linear], self.orbital)):
            yield spin, slice(ends[spin], ends[spin + 1]), orbital

    def _split(self, columns: Tensor) -> Tensor:
        """Columns (..., K n) of all determinants as (..., K, n)."""
        return columns.unflatten(-1, (self.determinants, -1))


def built_reference(
    reference: Callable[..., OrbitalReference | None] | None, system: System, states: int
) -> OrbitalReference | None:
    """Build the reference of an ansatz, if any, from the system and, if there are several, the number of states."""
    if reference is None:
        return None
    return reference(system) if states == 1 else reference(system, states)


def cusp_features(system: System, radial: type[Plain] | type[Logarithmic]) -> ElectronFeatures:
    """Features with cusps, for the orbitals of a trunk alone: of the kind `radial`, or periodic ones in a cell."""
    cell = cell_of(system)
    return ElectronFeatures(radial(core_lengths(system)), radial()) if cell is None else periodic_features(cell)


def smooth_features(system: System) -> ElectronFeatures:
    """Features without cusps, for a trunk that mixes reference orbitals; periodic ones in a cell.

    Distances are smoothed within 1 / Z bohr of a nucleus, those between electrons within 1 / Z of the heaviest nucleus:
    the network must tell electrons in the same inner shell apart.
    """
    cell = cell_of(system)
    if cell is not None:
        return periodic_features(cell, smooth=True)
    lengths = soft_lengths(system)
    return ElectronFeatures(Soft(lengths), Soft(float(lengths.min())))


def _jastrow(system: System) -> CuspJastrow:
    cell = cell_of(system)
    return (
        CuspJastrow(system.n_up, system.n_down) if cell is None else PeriodicJastrow(system.n_up, system.n_down, cell)
    )


def soft_lengths(system: System) -> Tensor:
    """Lengths (M,) within which distances to nuclei are smoothed, 1 / Z bohr; float64."""
    return 1 / torch.tensor(system.charges, dtype=torch.float64).clamp(min=1)


def published_init_(layer: nn.Linear) -> None:
    """W ~ N(0, 1/fan_in), b ~ N(0, 1), as in the published networks."""
    nn.init.normal_(layer.weight, std=layer.in_features**-0.5)
    if layer.bias is not None:
        nn.init.normal_(layer.bias)


def _times(psi: LogPsi, log: Tensor, gradient: Tensor, laplacian: Tensor) -> LogPsi:
    """Multiply psi by a positive factor, given by its logarithm and the derivatives of that."""
    return LogPsi(psi.sign, psi.log + log, psi.gradient + gradient, psi.laplacian + laplacian)
