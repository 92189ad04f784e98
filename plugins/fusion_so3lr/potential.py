"""SO3LR as a potential of the core: its network is that of the package so3krates-torch. Atomic units outside.

Kabylda, Frank, Suárez-Dou, Khabibrakhmanov, Medrano Sandonas, Unke, Chmiela, Müller, Tkatchenko, J. Am. Chem. Soc. 147,
33723 (2025): an equivariant transformer for short distances; partial charges and Hirshfeld ratios that it predicts give
electrostatics and dispersion. The network computes in eV and Angstrom.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import torch
from torch import Tensor, nn

from fusion.chemistry.units import ANGSTROM_PER_BOHR, BOHR_PER_ANGSTROM, EV_PER_HARTREE
from fusion.errors import InputError
from fusion.parallel.default_dtype import default_dtype
from fusion.potentials import Batch, Neighbours, Prediction, neighbours

SIZE: Final[dict[str, Any]] = {
    "r_max": 4.5, "num_radial_basis_fn": 32, "degrees": [1, 2, 3, 4], "num_features": 128, "num_heads": 4,
    "num_layers": 3, "avg_num_neighbors": 13.168995780096482, "final_mlp_layers": 2, "energy_regression_dim": 128,
    "radial_basis_fn": "bernstein", "cutoff_fn": "phys", "layer_normalization_1": True, "layer_normalization_2": True,
    "residual_mlp_1": True, "energy_learn_atomic_type_shifts": True, "energy_learn_atomic_type_scales": True,
    "use_charge_embed": True, "use_spin_embed": True, "electrostatic_energy_scale": 4.0, "dispersion_energy_scale": 1.2,
}  # fmt: skip
"""Settings of the published network; so3krates-torch has the others as defaults."""


class SO3LRPotential(nn.Module):
    """Energies, charges and dipoles of molecules and crystals of `elements` with any charge, a `Potential`.

    Electrostatics and dispersion end at `long_range_cutoff`, and dispersion is damped over the last
    `dispersion_damping` (both in Angstrom). Raises InputError without so3krates-torch.
    """

    provides = frozenset({"charges", "dipole"})

    def __init__(
        self, elements: Sequence[str], long_range_cutoff: float = 12.0, dispersion_damping: float = 2.0
    ) -> None:
        super().__init__()
        self.elements = tuple(elements)
        self.long_range_cutoff, self.dispersion_damping = float(long_range_cutoff), float(dispersion_damping)
        self.network = _network(self.long_range_cutoff, self.dispersion_damping)

    @property
    def arguments(self) -> dict[str, Any]:
        """Arguments that build an equal, untrained model."""
        return {
            "elements": list(self.elements),
            "long_range_cutoff": self.long_range_cutoff,
            "dispersion_damping": self.dispersion_damping,
        }

    def forward(self, batch: Batch) -> Prediction:
        """Energies (B,), charges (B, A) and dipoles (B, 3), differentiable in positions and cell."""
        pairs = neighbours(batch, self.long_range_cutoff * BOHR_PER_ANGSTROM)
        graph = _graph(batch, pairs, SIZE["r_max"])
        try:
            with default_dtype(pairs.vectors.dtype):  # the network creates some of its tensors in the default dtype
                output = self.network(graph, compute_force=False)
        finally:
            self._forget()
        charges = torch.zeros_like(batch.positions[..., 0]).masked_scatter(batch.mask, output["partial_charges"])
        return Prediction(
            output["energy"].double() / EV_PER_HARTREE,
            charges=charges,
            dipole=output["dipole"] * BOHR_PER_ANGSTROM,
        )

    def _forget(self) -> None:
        """Delete the tensors of the last batch, which the network keeps: they hold memory and cannot be copied."""
        kept = vars(self.network)
        for name in [name for name, value in kept.items() if name == "ctx" or isinstance(value, Tensor)]:
            del kept[name]


def _graph(batch: Batch, pairs: Neighbours, short: float) -> dict[str, Tensor]:
    """Atoms and pairs as the network reads them, in Angstrom; it sees pairs up to `short` in its transformer."""
    positions = batch.positions[batch.mask] * ANGSTROM_PER_BOHR
    vectors = pairs.vectors * ANGSTROM_PER_BOHR
    edges = torch.stack((pairs.centre, pairs.other))
    shifts = torch.zeros_like(vectors)
    if bool(batch.pbc.any()):
        shifts = vectors - (positions[pairs.other] - positions[pairs.centre])
    near = vectors.detach().square().sum(dim=1) <= short**2
    atoms = batch.mask.sum(dim=1)
    return {
        "positions": positions,
        "cell": batch.cell.reshape(-1, 3) * ANGSTROM_PER_BOHR,
        "atomic_numbers": pairs.numbers,
        "node_attrs": nn.functional.one_hot(pairs.numbers - 1, 118).to(positions.dtype),
        "batch": pairs.system,
        "ptr": nn.functional.pad(atoms.cumsum(dim=0), (1, 0)),
        "head": torch.zeros_like(atoms),
        "total_charge": batch.charge.to(positions.dtype),
        "total_spin": batch.spin.to(positions.dtype) / 2.0,
        "edge_index": edges[:, near],
        "shifts": shifts[near],
        "edge_index_lr": edges,
        "shifts_lr": shifts,
    }


def _network(long_range_cutoff: float, dispersion_damping: float) -> nn.Module:
    """Untrained network of the published size. Raises InputError without so3krates-torch."""
    try:
        from so3krates_torch.modules.models import SO3LR
    except ModuleNotFoundError as error:
        raise InputError(
            f"+method=so3lr needs the package so3krates-torch (no {error.name}): pip install 'aiqm-fusion[so3lr]', or "
            "use +method=ase/so3lr with method.python of an environment that has it"
        ) from error
    with default_dtype():  # its constructor sets the default
        network: nn.Module = SO3LR(
            r_max_lr=long_range_cutoff,
            dispersion_energy_cutoff_lr_damping=dispersion_damping,
            dtype=torch.get_default_dtype(),
            **SIZE,
        )
    return network
