"""FermiNet: a sum of determinants whose orbitals depend on all electrons."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import cast

import torch
from torch import Tensor, nn

from fusion.chemistry.system import System
from fusion.config.checks import check_whole
from fusion.wavefunctions.envelopes import Envelope, IsotropicEnvelope
from fusion.wavefunctions.features import ElectronFeatures
from fusion.wavefunctions.jets import Jet, linear, tanh_residual_
from fusion.wavefunctions.jets.radial import Logarithmic, Plain
from fusion.wavefunctions.orbital_ansatz import OrbitalAnsatz, built_reference, cusp_features, smooth_features
from fusion.wavefunctions.reference_orbitals import OrbitalReference
from fusion_ferminet.layers import EquivariantLinear, pair_means


class FermiNetTrunk(nn.Module):
    """One- and two-electron streams of FermiNet (Pfau et al. 2020, arXiv 1909.02487, eqs. 3-5).

    Args:
        system: nuclei and electrons.
        one_electron: width of the one-electron stream.
        two_electron: width of the two-electron stream.
        layers: number of equivariant layers; the last does not update the two-electron stream.
        features: inputs of both streams.

    Raises:
        InputError: a size is not a positive whole number.
    """

    def __init__(
        self, system: System, one_electron: int, two_electron: int, layers: int, features: ElectronFeatures
    ) -> None:
        super().__init__()
        for name, size in (("one_electron", one_electron), ("two_electron", two_electron), ("layers", layers)):
            check_whole(f"method.model.{name}", size)
        self.spins = tuple(n for n in (system.n_up, system.n_down) if n > 0)
        self.features = features
        self.equivariant = nn.ModuleList()
        self.pair = nn.ModuleList()
        self.width, pair_inputs = features.widths(system)
        for layer in range(layers):
            self.equivariant.append(EquivariantLinear(self.width, pair_inputs, self.spins, one_electron))
            self.width = one_electron
            if layer < layers - 1:
                self.pair.append(nn.Linear(pair_inputs, two_electron))
                pair_inputs = two_electron

    def linear_layers(self) -> Iterator[nn.Linear]:
        """Layers of the one-electron stream, then those of the two-electron stream."""
        yield from cast(Iterable[nn.Linear], self.equivariant)
        yield from cast(Iterable[nn.Linear], self.pair)

    def forward(self, electrons: Tensor, vector: Tensor, distance: Tensor) -> Tensor:
        """One-electron stream (B, N, F) after the last layer."""
        h = self.features.one_electron(vector, distance)
        g = self.features.two_electron(electrons)
        for layer, equivariant in enumerate(self.equivariant):
            pre = equivariant(h, pair_means(g, self.spins))
            h = _residual(h, torch.tanh(pre))
            if layer < len(self.pair):
                g = _residual(g, torch.tanh(self.pair[layer](g)))
        return h

    def jet(self, electrons: Tensor, vector: Tensor, distance: Tensor) -> Jet:
        """Jet (B, 3N + 2, N, F) of the one-electron stream after the last layer."""
        h = self.features.one_electron_jet(vector, distance)
        g = self.features.two_electron_jet(electrons)
        for layer, equivariant in enumerate(cast(Iterable[EquivariantLinear], self.equivariant)):
            pre = equivariant.jet(h, g)
            h = tanh_residual_(pre, h if pre.data.shape == h.data.shape else None)
            if layer < len(self.pair):
                g = _pair_jet(g, cast(nn.Linear, self.pair[layer]))
        return h


class FermiNet(OrbitalAnsatz):
    """FermiNet (Pfau et al. 2020, arXiv 1909.02487; Spencer et al. 2020, arXiv 2011.07125).

    Args:
        system: nuclei and electrons.
        one_electron: width of the one-electron stream.
        two_electron: width of the two-electron stream.
        layers: number of equivariant layers.
        determinants: number of determinants.
        full_determinant: one N x N matrix per determinant; otherwise one block per spin.
        envelope: builds an envelope from (nuclei, orbitals).
        jastrow: multiply by the cusp Jastrow factor.
        rescale_inputs: log-scaled input features, unless there is a reference.
        reference: builds determinants that the network corrects, from the system; if it is or returns
            None, the orbitals are those of the network alone.
        states: number of states, with `determinants` each; a reference is built from (system, states) and has its own.
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
        reference: Callable[..., OrbitalReference | None] | None = None,
        states: int = 1,
    ) -> None:
        orbitals = built_reference(reference, system, states)
        own = cusp_features(system, Logarithmic if rescale_inputs else Plain)
        features = own if orbitals is None else smooth_features(system)
        trunk = FermiNetTrunk(system, one_electron, two_electron, layers, features)
        super().__init__(system, trunk, determinants, full_determinant, envelope, jastrow, orbitals, states)


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
