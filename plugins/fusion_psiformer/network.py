"""Psiformer: a sum of determinants whose orbitals come from self-attention between the electrons."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import cast

import torch
from torch import Tensor, nn

from fusion.chemistry.system import System
from fusion.config.checks import check_whole
from fusion.errors import InputError
from fusion.wavefunctions.envelopes import Envelope, IsotropicEnvelope
from fusion.wavefunctions.features import ElectronFeatures
from fusion.wavefunctions.jets import Jet, dense
from fusion.wavefunctions.jets.modules import Layer, LayerNorm, Linear, Residual, SelfAttention, Sequential, Tanh
from fusion.wavefunctions.jets.radial import Logarithmic
from fusion.wavefunctions.orbital_ansatz import OrbitalAnsatz, built_reference, cusp_features, smooth_features
from fusion.wavefunctions.reference_orbitals import OrbitalReference

NORMS = ("post", "pre", "none")


class PsiformerTrunk(nn.Module):
    """Transformer over electrons (von Glehn, Spencer and Pfau 2023, arXiv 2211.13672, eqs. 5-9).

    x_i = W [features of electron i to all nuclei, spin], then in every layer x <- norm(x + attention(x)) and
    x <- norm(x + mlp(x)), the MLP with tanh after each of its linear maps.

    Args:
        system: nuclei and electrons.
        features: one-electron inputs; nothing about pairs of electrons enters.
        heads: attention heads.
        head_width: features per head; the width of the network is heads * head_width.
        mlp: widths of the hidden layers of the MLP.
        layers: number of layers.
        norm: layer normalisation after each sum (post, as published), of each summand's input (pre), or none.
    """

    spin: Tensor

    def __init__(
        self,
        system: System,
        features: ElectronFeatures,
        heads: int,
        head_width: int,
        mlp: Iterable[int],
        layers: int,
        norm: str = "post",
    ) -> None:
        super().__init__()
        if norm not in NORMS:
            raise InputError(f"method.model.norm must be one of {', '.join(NORMS)}, not {norm!r}")
        for name, size in (("heads", heads), ("head_width", head_width), ("layers", layers)):
            check_whole(f"method.model.{name}", size)
        for size in mlp:
            check_whole("method.model.mlp: each width", size)
        self.width = heads * head_width
        self.features = features
        spin = torch.ones(system.n_electrons, 1)
        spin[system.n_up :] = -1
        self.register_buffer("spin", spin, persistent=False)
        self.embedding = nn.Linear(features.widths(system)[0] + 1, self.width, bias=False)
        parts: list[nn.Module] = []
        for _ in range(layers):
            for inner in (SelfAttention(self.width, heads), _perceptron(self.width, mlp)):
                parts += _normalised(inner, self.width, norm)
        self.layers = Sequential(*parts)

    def linear_layers(self) -> Iterator[nn.Linear]:
        """Embedding, then the linear maps of every layer."""
        yield self.embedding
        yield from (module for module in self.layers.modules() if isinstance(module, nn.Linear))

    def forward(self, electrons: Tensor, vector: Tensor, distance: Tensor) -> Tensor:
        """Features (B, N, F) after the last layer."""
        h = self.features.one_electron(vector, distance)
        inputs = torch.cat((h, self.spin.expand(len(h), -1, -1)), dim=-1)
        return cast(Tensor, self.layers(self.embedding(inputs)))

    def jet(self, electrons: Tensor, vector: Tensor, distance: Tensor) -> Jet:
        """Jet (B, 3N + 2, N, F) of the features."""
        local = self.features.one_electron_local(vector, distance)
        spin = local.new_zeros(len(local), 5, local.shape[2], 1)
        spin[:, -1] = self.spin
        # The embedding depends on the own electron alone: it is multiplied before it becomes dense.
        x = dense(torch.cat((local, spin), dim=-1) @ self.embedding.weight.T)
        return cast(Layer, self.layers).jet(x)


class Psiformer(OrbitalAnsatz):
    """Psiformer (von Glehn, Spencer and Pfau 2023, arXiv 2211.13672).

    The published network has full determinants, the isotropic envelope and the cusp Jastrow factor, layer
    normalisation after each residual sum, no biases in the attention, and tanh after both maps of the MLP. The Jastrow
    factor is no part of the orbitals here: pretraining fits the orbitals without it, the published code with it.

    Args:
        system: nuclei and electrons.
        heads: attention heads.
        head_width: features per head.
        mlp: widths of the hidden layers of the MLP.
        layers: number of layers.
        determinants: number of determinants.
        norm: post, pre or none, see `PsiformerTrunk`.
        envelope: builds an envelope from (nuclei, orbitals).
        jastrow: multiply by the cusp Jastrow factor.
        reference: builds determinants that the network corrects, from the system; if it is or returns
            None, the orbitals are those of the network alone.
        states: number of states, with `determinants` each; a reference is built from (system, states) and has its own.
    """

    def __init__(
        self,
        system: System,
        heads: int = 4,
        head_width: int = 64,
        mlp: Iterable[int] = (256,),
        layers: int = 4,
        determinants: int = 16,
        norm: str = "post",
        envelope: Callable[[int, int], Envelope] = IsotropicEnvelope,
        jastrow: bool = True,
        reference: Callable[..., OrbitalReference | None] | None = None,
        states: int = 1,
    ) -> None:
        orbitals = built_reference(reference, system, states)
        features = cusp_features(system, Logarithmic) if orbitals is None else smooth_features(system)
        trunk = PsiformerTrunk(system, features, heads, head_width, mlp, layers, norm)
        super().__init__(system, trunk, determinants, True, envelope, jastrow, orbitals, states)


def _perceptron(width: int, hidden: Iterable[int]) -> Sequential:
    """Linear maps to the hidden widths and back, each followed by tanh."""
    layers: list[nn.Module] = []
    inputs = width
    for outputs in (*hidden, width):
        layers += [Linear(inputs, outputs), Tanh()]
        inputs = outputs
    return Sequential(*layers)


def _normalised(inner: nn.Module, width: int, norm: str) -> list[nn.Module]:
    """Residual sum of ``inner`` with the layer normalisation in its place."""
    if norm == "pre":
        return [Residual(Sequential(LayerNorm(width), inner))]
    return [Residual(inner)] + ([LayerNorm(width)] if norm == "post" else [])
