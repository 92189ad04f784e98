"""AIMNet2 as a potential of the core: an ensemble of networks, Coulomb interaction and dispersion. Atomic units.

Anstine, Zubatyuk, Isayev, Chem. Sci. 16, 10228 (2025). The energy is that of a network, plus the Coulomb interaction of
its partial charges without the part at short distances, which the network describes itself, plus D3(BJ).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from ase.data import atomic_numbers
from torch import Tensor, nn

from fusion.chemistry.units import ANGSTROM_PER_BOHR, BOHR_PER_ANGSTROM, EV_PER_HARTREE
from fusion.config.checks import check_whole
from fusion.potentials import Batch, Neighbours, Prediction, neighbours
from fusion.potentials.charges import dipoles
from fusion_aimnet.coulomb import LONGEST, coulomb
from fusion_aimnet.dispersion import Dispersion
from fusion_aimnet.network import CUTOFF, Network, Surroundings


class AIMNet2(nn.Module):
    """Energies, charges and dipoles of molecules and crystals of `elements` with any charge, a `Potential`.

    All are means of `members` networks. With `spins` a network has charges of both spins, and its energy depends on the
    number of unpaired electrons. Raises InputError for an element without dispersion parameters.
    """

    def __init__(self, elements: Sequence[str], members: int = 4, spins: bool = False) -> None:
        super().__init__()
        check_whole("method.model.members", members)
        self.elements, self.spins = tuple(elements), bool(spins)
        self.networks = nn.ModuleList(Network(len(self.elements), 2 if spins else 1) for _ in range(members))
        self.dispersion = Dispersion(self.elements)
        index = torch.full((max(atomic_numbers[symbol] for symbol in self.elements) + 1,), -1)
        index[[atomic_numbers[symbol] for symbol in self.elements]] = torch.arange(len(self.elements))
        self.register_buffer("index", index, persistent=False)

    index: Tensor

    @property
    def members(self) -> int:
        """Number of networks."""
        return len(self.networks)

    @property
    def provides(self) -> frozenset[str]:
        """Charges and a dipole, and the spread of several members."""
        return frozenset({"charges", "dipole"} | ({"energy_std"} if self.members > 1 else set()))

    @property
    def arguments(self) -> dict[str, Any]:
        """Arguments that build an equal, untrained model."""
        return {"elements": list(self.elements), "members": self.members, "spins": self.spins}

    def forward(self, batch: Batch) -> Prediction:
        """Energies (B,), charges (B, A) and dipoles (B, 3), differentiable in positions and cell."""
        pairs = neighbours(batch, _reach(batch))
        species, system, size = self.index[pairs.numbers], pairs.system, len(batch)
        near, totals, periodic = _near(pairs), _totals(batch, self.spins), batch.pbc.any(dim=1)
        dispersion = self.dispersion(species, pairs, size)
        energies, charges = [], []
        for network in self.networks:
            assert isinstance(network, Network)
            by_channel, atomic = network(species, system, totals, near)
            own = by_channel.sum(dim=1)
            energy = dispersion + network.atoms(species, system, size)
            energy = energy + coulomb(own, pairs, network.screening * BOHR_PER_ANGSTROM, periodic)
            energies.append(energy.index_add(0, system, atomic.double() / EV_PER_HARTREE))
            charges.append(own)
        members, by_member = torch.stack(energies), torch.stack(charges)
        moments = dipoles(by_member, batch.positions[batch.mask], system, size)
        return Prediction(
            members.mean(dim=0),
            members=members if len(members) > 1 else None,
            charges=torch.zeros_like(batch.positions[..., 0]).masked_scatter(batch.mask, by_member.mean(dim=0)),
            dipole=moments.mean(dim=0),
            dipole_members=moments if len(members) > 1 else None,
        )


def _reach(batch: Batch) -> float:
    """Distance in bohr up to which pairs are needed: all of a molecule, those below a cutoff in a crystal."""
    molecules = ~batch.pbc.any(dim=1)
    positions, padding = batch.positions.detach()[molecules], ~batch.mask[molecules][..., None]
    if not len(positions):
        return LONGEST
    low = positions.masked_fill(padding, torch.inf).amin(dim=1)
    high = positions.masked_fill(padding, -torch.inf).amax(dim=1)
    diameter = float((high - low).norm(dim=1).max()) + 1.0
    return diameter if len(positions) == len(batch) else max(diameter, LONGEST)


def _near(pairs: Neighbours) -> Surroundings:
    """The pairs that the network sees, in Angstrom."""
    chosen = (pairs.distances.detach() < CUTOFF * BOHR_PER_ANGSTROM).nonzero()[:, 0]
    vectors = pairs.vectors[chosen] * ANGSTROM_PER_BOHR
    return Surroundings.of_pairs(pairs.centre[chosen], pairs.other[chosen], vectors, len(pairs.numbers))


def _totals(batch: Batch, spins: bool) -> Tensor:
    """Charges of the systems (B, 1), or those of the two spins (B, 2), which differ by the unpaired electrons."""
    charge, spin = batch.charge.to(batch.positions.dtype), batch.spin.to(batch.positions.dtype)
    return 0.5 * torch.stack((charge + spin, charge - spin), dim=1) if spins else charge[:, None]
