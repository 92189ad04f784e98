"""ANI in plain torch operations that TorchScript compiles: the model that other programs run without fusion.

The environment vectors are those of `fusion_ani.aev`, over all elements of the model in the published order of columns.
Distances are in Angstrom, energies in hartree. There are no postponed annotations: TorchScript reads types.
"""

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from fusion_ani.aev import COSINE_FACTOR, RADIAL_FACTOR
from fusion_ani.network import ANI


class ElementNetworks(nn.Module):
    """All members' networks of one element, from `ANI.tensors`."""

    def __init__(self, tensors: Sequence[Tensor], alpha: float, dtype: torch.dtype) -> None:
        super().__init__()
        self.alpha, self.members = alpha, tensors[0].shape[0]
        layers = len(tensors) // 2
        pairs = list(zip(tensors[:layers], tensors[layers:], strict=True))
        self.layers = nn.ModuleList(_Layer(weight, bias, dtype) for weight, bias in pairs[:-1])
        self.last = _Layer(*pairs[-1], dtype)

    def forward(self, x: Tensor) -> Tensor:
        """Outputs (M, n) for environment vectors (n, F)."""
        x = x.expand(self.members, -1, -1)
        for layer in self.layers:
            x = layer(x)
            x = x.clamp(min=0.0) + self.alpha * torch.expm1(x.clamp(max=0.0) / self.alpha)
        return self.last(x)[:, :, 0]


class _Layer(nn.Module):
    """Linear layers of all members: weights (M, in, out), biases (M, 1, out)."""

    weight: Tensor
    bias: Tensor

    def __init__(self, weight: Tensor, bias: Tensor, dtype: torch.dtype) -> None:
        super().__init__()
        self.register_buffer("weight", weight.detach().to(dtype).transpose(1, 2).contiguous())
        self.register_buffer("bias", bias.detach().to(dtype)[:, None])

    def forward(self, x: Tensor) -> Tensor:
        return torch.baddbmm(self.bias, x, self.weight)


class ScriptableANI(nn.Module):
    """Atomic energies of an `ANI` model with CELU; its charge networks are left out.

    All numbers have the type `dtype`.
    """

    radial_shifts: Tensor
    angular_shifts: Tensor
    cosines: Tensor
    sines: Tensor
    species: Tensor
    self_energies: Tensor
    pair: Tensor

    def __init__(self, model: ANI, dtype: torch.dtype) -> None:
        super().__init__()
        environment, elements = model.environment, len(model.elements)
        self.elements, self.radial, self.angular = elements, environment.radial, environment.angular
        self.radial_cutoff, self.angular_cutoff = environment.radial_cutoff, environment.angular_cutoff
        self.radial_eta, self.angular_eta, self.zeta = environment.radial_eta, environment.angular_eta, environment.zeta
        self.radial_factor, self.cosine_factor = RADIAL_FACTOR, COSINE_FACTOR
        shifts = torch.tensor(environment.angle_shifts, dtype=torch.float64)
        self.register_buffer("radial_shifts", torch.tensor(environment.radial_shifts, dtype=dtype))
        self.register_buffer("angular_shifts", torch.tensor(environment.angular_shifts, dtype=dtype))
        self.register_buffer("cosines", shifts.cos().to(dtype))
        self.register_buffer("sines", shifts.sin().to(dtype))
        self.register_buffer("species", model._species.clone())
        self.register_buffer("self_energies", model.self_energies.values.detach().to(dtype))
        self.register_buffer("pair", _pairs(elements))
        self.members = model.members
        self.networks = nn.ModuleList(
            ElementNetworks(model.tensors(index), model.celu_alpha, dtype) for index in range(elements)
        )

    def forward(self, numbers: Tensor, centre: Tensor, other: Tensor, displacements: Tensor) -> Tensor:
        """Energies (M, N) of the atoms with atomic numbers (N,), in hartree, self energies included.

        `centre` and `other` (P,) are the atoms of each pair, listed in both directions, and `displacements` (P, 3) the
        vectors from the first to the second, in Angstrom. Pairs beyond the cutoff contribute nothing.
        """
        species = self.species[numbers]
        if bool((species < 0).any()):
            raise ValueError("the model does not have all elements of the system")
        vectors = self.vectors(species, centre, other, displacements)
        energies = self.self_energies[species].expand(self.members, -1)
        for element, networks in enumerate(self.networks):
            rows = torch.nonzero(species == element)[:, 0]
            if rows.shape[0] > 0:
                energies = energies.index_add(1, rows, networks(vectors[rows]))
        return energies

    def vectors(self, species: Tensor, centre: Tensor, other: Tensor, displacements: Tensor) -> Tensor:
        """Environment vectors (N, F) of atoms with element indices (N,)."""
        order = torch.argsort(centre, stable=True)
        centre, element, displacements = centre[order], species[other[order]], displacements[order]
        distances = torch.linalg.vector_norm(displacements, dim=1)
        atoms, blocks = species.shape[0], self.elements * (self.elements + 1) // 2
        terms = torch.exp(-self.radial_eta * (distances[:, None] - self.radial_shifts) ** 2)
        terms = terms * (self.radial_factor * self.switch(distances, self.radial_cutoff))[:, None]
        radial = torch.zeros([atoms * self.elements, self.radial], dtype=terms.dtype, device=terms.device)
        radial = radial.index_add(0, centre * self.elements + element, terms)
        near = torch.nonzero(distances <= self.angular_cutoff)[:, 0]
        centre, element = centre[near], element[near]
        j, k = self.triples(centre, atoms)
        terms = self.angular_terms(displacements[near], distances[near], j, k)
        place = centre[j] * blocks + self.pair[element[j], element[k]]
        angular = torch.zeros([atoms * blocks, self.angular], dtype=terms.dtype, device=terms.device)
        angular = angular.index_add(0, place, terms)
        return torch.cat([radial.view(atoms, -1), angular.view(atoms, -1)], dim=1)

    def switch(self, distances: Tensor, cutoff: float) -> Tensor:
        """Cosine cutoff function."""
        inside = 0.5 * torch.cos(distances * (math.pi / cutoff)) + 0.5
        return torch.where(distances <= cutoff, inside, torch.zeros_like(inside))

    def angular_terms(self, displacements: Tensor, distances: Tensor, j: Tensor, k: Tensor) -> Tensor:
        """Terms (T, angular) of triples, given by indices `j` and `k` of the pairs of the centre."""
        switch = self.switch(distances, self.angular_cutoff)
        directions = displacements / distances[:, None]
        cosine = self.cosine_factor * (directions[j] * directions[k]).sum(dim=1)
        sine = torch.sqrt(1.0 - cosine**2)
        turned = cosine[:, None] * self.cosines + sine[:, None] * self.sines
        angles = (0.5 + 0.5 * turned).clamp(min=0.0) ** self.zeta
        mean = 0.5 * (distances[j] + distances[k])
        lengths = torch.exp(-self.angular_eta * (mean[:, None] - self.angular_shifts) ** 2)
        lengths = lengths * (2.0 * switch[j] * switch[k])[:, None]
        return (lengths[:, :, None] * angles[:, None, :]).flatten(1)

    def triples(self, centre: Tensor, atoms: int) -> tuple[Tensor, Tensor]:
        """Indices j < k into the pairs, for every two neighbours of the same centre; `centre` ascends."""
        last = torch.bincount(centre, minlength=atoms).cumsum(0)[centre]
        index = torch.arange(centre.shape[0], device=centre.device)
        partners = last - 1 - index
        j = torch.repeat_interleave(index, partners)
        start = partners.cumsum(0) - partners
        k = j + 1 + torch.arange(j.shape[0], device=centre.device) - start[j]
        return j, k


def _pairs(elements: int) -> Tensor:
    """Block (E, E) of the angular part for two elements: by rows of the upper triangle, as published."""
    blocks = torch.zeros(elements, elements, dtype=torch.long)
    row, column = torch.triu_indices(elements, elements)
    blocks[row, column] = blocks[column, row] = torch.arange(len(row))
    return blocks
