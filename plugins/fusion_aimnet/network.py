"""The network of AIMNet2 for one member of its ensemble: partial charges and energies of atoms. Angstrom, eV.

Anstine, Zubatyuk, Isayev, Chem. Sci. 16, 10228 (2025). Atoms have features and charges, which start from the element
and are refined in passes: sums over neighbours, of features and charges times Gaussians and directions, go through a
network that changes both. After each pass the charges are shifted so that they add up to the charge of the molecule.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import Final

import torch
from torch import Tensor, nn

from fusion.potentials import SelfEnergies

CUTOFF: Final = 5.0
"""Angstrom, distance up to which atoms see each other in the network."""
FEATURES, SHIFTS, COMBINATIONS = 16, 16, 12
"""Features of an atom for each Gaussian, Gaussians, and combinations of Gaussians for the directions."""
_SMALLEST: Final = 1e-6  # keeps the softness of a molecule above zero; the published value
_INNER: Final = ((512, 380), (512, 380), (512, 380, 380))
_DESCRIPTION: Final = 256
_READOUT: Final = (128, 128)


@dataclass(frozen=True)
class Surroundings:
    """Neighbours of N atoms in K places, some of them empty: indices `other` (N, K) and `vectors` (N, K, 3), Angstrom.

    `filled` (N, K) is False for an empty place, whose vector has the length 1.
    """

    other: Tensor
    vectors: Tensor
    filled: Tensor

    @classmethod
    def of_pairs(cls, centre: Tensor, other: Tensor, vectors: Tensor, atoms: int) -> Surroundings:
        """Sort P pairs, ordered by `centre`, into places."""
        counts = torch.bincount(centre, minlength=atoms)
        places = max(1, int(counts.max()))
        place = torch.arange(len(centre), device=centre.device) - (counts.cumsum(0) - counts)[centre]
        at = (centre, place)
        empty = torch.zeros(atoms, places, dtype=torch.long, device=centre.device)
        unit = vectors.new_tensor([1.0, 0.0, 0.0]).expand(atoms, places, 3)
        return cls(
            empty.index_put(at, other),
            unit.index_put(at, vectors),
            empty.bool().index_put(at, torch.ones_like(centre, dtype=torch.bool)),
        )


class Network(nn.Module):
    """One member for a number of `elements`, with one charge per atom, or two: of spin up and spin down."""

    def __init__(self, elements: int, channels: int) -> None:
        super().__init__()
        width, sums = FEATURES * SHIFTS, SHIFTS + COMBINATIONS
        self.channels = channels
        self.embedding = nn.Parameter(torch.randn(elements, width))
        self.mix_features = nn.Parameter(torch.randn(FEATURES, SHIFTS, COMBINATIONS) / SHIFTS)
        self.mix_charges = nn.Parameter(torch.randn(channels, SHIFTS, COMBINATIONS) / SHIFTS)
        changes, first = width + 2 * channels, width + FEATURES * sums
        later = first + channels + channels * sums
        self.passes = nn.ModuleList(
            [
                _layers(first, _INNER[0], changes, linear_end=True),
                _layers(later, _INNER[1], changes),
                _layers(later, _INNER[2], _DESCRIPTION),
            ]
        )
        self.readout = _layers(_DESCRIPTION, _READOUT, 1, linear_end=True)
        self.atoms = SelfEnergies(elements)
        start = 0.8
        self.register_buffer("cutoff", torch.tensor(CUTOFF))
        self.register_buffer("exponent", torch.tensor((SHIFTS / (CUTOFF - start)) ** 2))
        self.register_buffer("shifts", torch.linspace(start, CUTOFF, SHIFTS + 1)[:-1].clone())
        self.register_buffer("screening", torch.tensor(4.6))

    cutoff: Tensor
    exponent: Tensor
    shifts: Tensor
    screening: Tensor
    """Angstrom, distance below which the network describes the Coulomb interaction of two atoms."""

    def forward(self, species: Tensor, system: Tensor, totals: Tensor, near: Surroundings) -> tuple[Tensor, Tensor]:
        """Charges (N, channels), e, and energies (N,), eV, of atoms of the elements `species` in `system` (N,).

        `totals` (B, channels) are the charges of the systems.
        """
        basis = self._basis(near)
        features, charges = self.embedding[species].unflatten(1, (FEATURES, SHIFTS)), None
        for layers in self.passes[:-1]:
            own, softness, change = layers(self._inputs(features, charges, basis, near)).split(
                [self.channels, self.channels, FEATURES * SHIFTS], dim=1
            )
            charges = _conserved(own if charges is None else charges + own, softness.square(), system, totals)
            features = features + change.unflatten(1, (FEATURES, SHIFTS))
        assert charges is not None
        return charges, self.readout(self.passes[-1](self._inputs(features, charges, basis, near))).squeeze(1)

    def _basis(self, near: Surroundings) -> Tensor:
        """Gaussians of the distances, alone and times the direction (N, K, SHIFTS, 4); zeros in empty places."""
        distances = near.vectors.norm(dim=-1, keepdim=True)
        envelope = 0.5 + 0.5 * torch.cos(distances.clamp(max=self.cutoff) * (torch.pi / self.cutoff))
        gaussians = torch.exp(-self.exponent * (distances - self.shifts).square()) * envelope * near.filled[..., None]
        directions = near.vectors / distances
        return torch.cat((gaussians[..., None], gaussians[..., None] * directions[..., None, :]), dim=-1)

    def _inputs(self, features: Tensor, charges: Tensor | None, basis: Tensor, near: Surroundings) -> Tensor:
        parts = [features.flatten(1), _sums(features, basis, near.other, self.mix_features)]
        if charges is not None:
            spread = charges[:, :, None].expand(-1, -1, SHIFTS)
            parts += [charges, _sums(spread, basis, near.other, self.mix_charges)]
        return torch.cat(parts, dim=1)


def _sums(values: Tensor, basis: Tensor, other: Tensor, mix: Tensor) -> Tensor:
    """Sums over neighbours of `values` (N, A, SHIFTS) times the basis: scalars, squared lengths of mixed vectors."""
    sums = torch.einsum("nkag,nkgd->nagd", values[other], basis)
    lengths = torch.einsum("agh,nagd->nahd", mix, sums[..., 1:]).square().sum(dim=-1)
    return torch.cat((sums[..., 0].flatten(1), lengths.flatten(1)), dim=1)


def _conserved(charges: Tensor, softness: Tensor, system: Tensor, totals: Tensor) -> Tensor:
    """Shift the `charges` (N, channels), in proportion to the `softness` of atoms, so that they add up to `totals`."""
    excess = totals - torch.zeros_like(totals).index_add(0, system, charges)
    whole = torch.zeros_like(totals).index_add(0, system, softness) + _SMALLEST
    return charges + softness / whole[system] * excess[system]


def _layers(inputs: int, inner: tuple[int, ...], outputs: int, linear_end: bool = False) -> nn.Sequential:
    """Dense layers with GELU between them, and behind the last one unless `linear_end`."""
    sizes, layers = (inputs, *inner, outputs), list[nn.Module]()
    for before, after in pairwise(sizes):
        layers += [nn.Linear(before, after), nn.GELU()]
    return nn.Sequential(*(layers[:-1] if linear_end else layers))
