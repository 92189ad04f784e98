"""D3 dispersion with the damping of Becke and Johnson as a differentiable function. Atomic units.

Grimme, Antony, Ehrlich, Krieg, J. Chem. Phys. 132, 154104 (2010); Grimme, Ehrlich, Goerigk, J. Comput. Chem. 32, 1456
(2011). Two-body terms. `d3.json` holds the parameters published there for the elements of AIMNet2: covalent radii in
Angstrom, `root` = sqrt(sqrt(Z) <r^4>/<r^2> / 2) in bohr, the coordination numbers of an element in its reference
molecules, and C6 coefficients between all these references in hartree bohr^6, as the lower triangle of a matrix.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from importlib import resources
from typing import Final

import torch
from torch import Tensor, nn

from fusion.chemistry.units import BOHR_PER_ANGSTROM
from fusion.errors import InputError
from fusion.potentials import Neighbours

CUTOFF_ANGSTROM: Final = 15.0
SWITCH_ANGSTROM: Final = 12.0
"""A pair's energy is switched off between these distances, as in the published calculator."""
_STEEPNESS, _SCALE, _WIDTH = 16.0, 4.0 / 3.0, 4.0  # k1, k2 and k3 of D3
_NONE: Final = 100.0  # coordination number of references of other elements: their share is zero


class Dispersion(nn.Module):
    """D3(BJ) of `elements`; the buffer `damping` holds s6, s8, a1 and a2 (bohr), zeros until weights are loaded.

    Raises InputError for an element without parameters.
    """

    damping: Tensor
    radii: Tensor
    roots: Tensor
    coordination: Tensor
    c6: Tensor

    def __init__(self, elements: Sequence[str]) -> None:
        super().__init__()
        table = json.loads((resources.files("fusion_aimnet") / "d3.json").read_text())
        known = table["elements"]
        missing = [symbol for symbol in elements if symbol not in known]
        if missing:
            raise InputError(
                f"AIMNet2 has no dispersion parameters for {' '.join(missing)}; it covers {' '.join(known)}"
            )
        references = [(symbol, number) for symbol, entry in known.items() for number in entry["coordination"]]
        own = [[number if owner == symbol else _NONE for owner, number in references] for symbol in elements]
        triangle = torch.zeros(len(references), len(references), dtype=torch.float64)
        for row, values in enumerate(table["c6"]):
            triangle[row, : row + 1] = torch.tensor(values, dtype=torch.float64)
        constants = {
            "radii": torch.tensor([_SCALE * BOHR_PER_ANGSTROM * known[symbol]["radius"] for symbol in elements]),
            "roots": torch.tensor([known[symbol]["root"] for symbol in elements], dtype=torch.float64),
            "coordination": torch.tensor(own, dtype=torch.float64),  # (elements, references)
            "c6": triangle + triangle.tril(-1).T,  # (references, references)
        }
        for name, tensor in constants.items():
            self.register_buffer(name, tensor.double(), persistent=False)
        self.register_buffer("damping", torch.zeros(4, dtype=torch.float64))

    def forward(self, species: Tensor, pairs: Neighbours, systems: int) -> Tensor:
        """Energies (B,) in hartree, float64, of atoms of the elements `species` (N,), of `pairs` up to the cutoff."""
        i, j, r = pairs.centre, pairs.other, pairs.distances
        near = (r.detach() < CUTOFF_ANGSTROM * BOHR_PER_ANGSTROM).nonzero()[:, 0]
        i, j, r = i[near], j[near], r[near]
        contacts = torch.sigmoid(_STEEPNESS * ((self.radii[species[i]] + self.radii[species[j]]) / r - 1.0))
        numbers = r.new_zeros(len(species)).index_add(0, i, contacts)
        distances = numbers[:, None] - self.coordination[species]
        shares = torch.softmax(-_WIDTH * distances.square(), dim=1)  # of each atom in the references
        c6 = ((shares @ self.c6)[i] * shares[j]).sum(dim=1)
        s6, s8, a1, a2 = self.damping
        ratio = 3.0 * self.roots[species[i]] * self.roots[species[j]]  # C8 / C6
        radius = a1 * ratio.sqrt() + a2
        terms = -c6 * (s6 / (r**6 + radius**6) + s8 * ratio / (r**8 + radius**8)) * _switch(r)
        return 0.5 * torch.zeros(systems, dtype=torch.float64, device=r.device).index_add(
            0, pairs.system[i], terms.double()
        )


def _switch(distances: Tensor) -> Tensor:
    """Factor from 1 at `SWITCH_ANGSTROM` to 0 at `CUTOFF_ANGSTROM`, twice continuously differentiable; bohr."""
    start, end = SWITCH_ANGSTROM * BOHR_PER_ANGSTROM, CUTOFF_ANGSTROM * BOHR_PER_ANGSTROM
    x = ((distances - start) / (end - start)).clamp(0.0, 1.0)
    return 1.0 - x**3 * (10.0 - 15.0 * x + 6.0 * x**2)
