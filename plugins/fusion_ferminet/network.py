"""FermiNet: a sum of determinants whose orbitals depend on all electrons."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import cast

import torch
from torch import Tensor, nn

from fusion.chemistry.system import System
from fusion.wavefunctions.determinants import laplacian_of_determinants, sum_of_determinants
from fusion.wavefunctions.envelopes import Envelope, IsotropicEnvelope
from fusion.wavefunctions.features import ElectronFeatures
from fusion.wavefunctions.jastrow import CuspJastrow
from fusion.wavefunctions.laplacian import Jet, LogPsi, linear, tanh_residual_
from fusion_ferminet.layers import EquivariantLinear, pair_means, published_init_


class FermiNet(nn.Module):
    """FermiNet (Pfau et al. 2020, arXiv 1909.02487; Spencer et al. 2020, arXiv 2011.07125).

    Args:
        system: nuclei and electrons.
        one_electron: width of the one-electron stream.
        two_electron: width of the two-electron stream.
        layers: number of equivariant layers; the last does not update the two-electron stream.
        determinants: number of determinants.
        full_determinant: one N x N matrix per determinant; otherwise one block per spin.
        envelope: builds an envelope from (nuclei, orbitals).
        jastrow: multiply by the cusp Jastrow factor.
        rescale_inputs: log-scaled input features.
    """

    def __init__(
        self,
        system: System,
        one_electron: int = 256,
        two_electron: int = 32,
        layers: int = 4,
        determinants: int = 16,
        full_determinant: bool = True,
        envelope: Callable[[int, int], Envelope] = IsotropicEnvelope,
        jastrow: bool = False,
        rescale_inputs: bool = False,
    ) -> None:
        super().__init__()
        nuclei = torch.tensor(system.positions, dtype=torch.get_default_dtype())
        self.determinants = determinants
        self.full_determinant = full_determinant
        self.spins = tuple(n for n in (system.n_up, system.n_down) if n > 0)
        self.features = ElectronFeatures(nuclei, rescale_inputs)
        self.equivariant = nn.ModuleList()
        self.pair = nn.ModuleList()
        inputs, pair_inputs = 4 * len(nuclei), 4
        for layer in range(layers):
            self.equivariant.append(EquivariantLinear(inputs, pair_inputs, self.spins, one_electron))
            inputs = one_electron
            if layer < layers - 1:
                self.pair.append(nn.Linear(pair_inputs, two_electron))
                pair_inputs = two_electron
        widths = [determinants * (sum(self.spins) if full_determinant else n) for n in self.spins]
        self.orbital = nn.ModuleList(nn.Linear(inputs, width, bias=False) for width in widths)
        self.envelope = nn.ModuleList(envelope(len(nuclei), width) for width in widths)
        self.jastrow = CuspJastrow(system.n_up, system.n_down) if jastrow else None
        for linear_layer in (*self.equivariant, *self.pair, *self.orbital):
            published_init_(linear_layer)

    def forward(self, electrons: Tensor) -> tuple[Tensor, Tensor]:
        """Sign and log|psi|, each (B,), of electrons (B, N, 3) in bohr."""
        sign, log = sum_of_determinants(self.orbitals(electrons))
        return sign, log if self.jastrow is None else log + self.jastrow(electrons)

    def orbitals(self, electrons: Tensor) -> list[Tensor]:
        """Orbital matrices (B, K, n, n), rows electrons: one full matrix, or one per spin."""
        vector, distance = self.features.to_nuclei(electrons)
        h = self.features.one_electron(vector, distance)
        g = self.features.two_electron(electrons)
        for layer, equivariant in enumerate(self.equivariant):
            pre = equivariant(h, pair_means(g, self.spins))
            h = _residual(h, torch.tanh(pre))
            if layer < len(self.pair):
                g = _residual(g, torch.tanh(self.pair[layer](g)))
        blocks = []
        by_spin = (x.split(self.spins, dim=1) for x in (h, vector, distance))
        for parts in zip(*by_spin, self.orbital, self.envelope, strict=True):
            h_spin, vector_spin, distance_spin, orbital, envelope = parts
            phi = orbital(h_spin) * envelope(vector_spin, distance_spin)
            blocks.append(phi.unflatten(-1, (self.determinants, -1)).transpose(1, 2))
        return [torch.cat(blocks, dim=2)] if self.full_determinant else blocks

    @torch.no_grad()
    def laplacian(self, electrons: Tensor) -> LogPsi:
        """log|psi| with gradient and Laplacian by forward propagation through the same layers."""
        result = laplacian_of_determinants(self._orbital_jets(electrons))
        if self.jastrow is None:
            return result
        value, gradient, laplacian = self.jastrow.jet(electrons)
        return LogPsi(result.sign, result.log + value, result.gradient + gradient, result.laplacian + laplacian)

    def _orbital_jets(self, electrons: Tensor) -> list[Jet]:
        """Orbital jets (B, 3N + 2, n, K, orbitals), one full or one per spin."""
        vector, distance = self.features.to_nuclei(electrons)
        h = self.features.one_electron_jet(vector, distance)
        g = self.features.two_electron_jet(electrons)
        for layer, equivariant in enumerate(cast(Iterable[EquivariantLinear], self.equivariant)):
            pre = equivariant.jet(h, g)
            h = tanh_residual_(pre, h if pre.data.shape == h.data.shape else None)
            if layer < len(self.pair):
                g = _pair_jet(g, cast(nn.Linear, self.pair[layer]))
        blocks, start = [], 0
        orbitals, envelopes = cast(Iterable[nn.Linear], self.orbital), cast(Iterable[Envelope], self.envelope)
        for spin, orbital, envelope in zip(self.spins, orbitals, envelopes, strict=True):
            own = slice(start, start + spin)
            phi = linear(Jet(h.data[:, :, own]), orbital.weight)
            _multiply_local_(phi, envelope.jet(vector[:, own], distance[:, own]), start)
            blocks.append(phi.data.unflatten(-1, (self.determinants, -1)))
            start += spin
        return [Jet(torch.cat(blocks, dim=2))] if self.full_determinant else [Jet(block) for block in blocks]


def _residual(previous: Tensor, new: Tensor) -> Tensor:
    return (previous + new).mul_(2**-0.5) if previous.shape == new.shape else new


def _pair_jet(pairs: Tensor, layer: nn.Linear) -> Tensor:
    """tanh layer with residual on the pairs' local jets, (B, N, 5, N, F)."""
    batch, n = pairs.shape[:2]
    previous = Jet(pairs.reshape(batch * n, 5, n, -1))
    pre = linear(previous, layer.weight, layer.bias)
    return tanh_residual_(pre, previous if pre.data.shape == previous.data.shape else None).data.view(
        batch, n, 5, n, -1
    )


def _multiply_local_(phi: Jet, local: Tensor, start: int) -> None:
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
