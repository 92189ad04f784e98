# ruff: noqa: UP006, UP035, UP045
"""ANI as a metatomic model, for LAMMPS, GROMACS, i-PI, PLUMED, torch-sim and ASE: one file that needs no fusion.

Energies in eV and distances in Angstrom, float64. Metatomic compares the annotations of `forward` with its own, hence
the capitalised names of types.
"""

from pathlib import Path
from typing import Dict, List, Optional

import torch
from ase.data import atomic_numbers
from metatensor.torch import Labels, TensorBlock, TensorMap
from metatomic.torch import (
    AtomisticModel,
    ModelCapabilities,
    ModelMetadata,
    ModelOutput,
    NeighborListOptions,
    System,
)
from torch import Tensor, nn

from fusion.chemistry.units import EV_PER_HARTREE
from fusion.zoo.card import Card
from fusion_ani.network import ANI
from fusion_ani.scriptable import ScriptableANI

_ENERGY, _ENSEMBLE, _UNCERTAINTY = "energy", "energy_ensemble", "energy_uncertainty"


class MetatomicANI(nn.Module):
    """Energies of systems or atoms; for an ensemble also those of the members, and their standard deviation.

    The members' deviations from their mean are multiplied by `factor`, the calibration of the model's spread.
    """

    def __init__(self, model: ANI, factor: float) -> None:
        super().__init__()
        self.ani = ScriptableANI(model, torch.float64)
        self.members, self.factor, self.scale = model.members, factor, EV_PER_HARTREE
        self.neighbours = NeighborListOptions(cutoff=model.environment.radial_cutoff, full_list=True, strict=True)

    def requested_neighbor_lists(self) -> List[NeighborListOptions]:
        """Return the list of neighbours that an engine must provide."""
        return [self.neighbours]

    def forward(
        self,
        systems: List[System],
        outputs: Dict[str, ModelOutput],
        selected_atoms: Optional[Labels] = None,
    ) -> Dict[str, TensorMap]:
        """Return the `outputs` for all atoms, or for those that are selected."""
        energies: List[Tensor] = []
        atoms: List[Tensor] = []
        for index, system in enumerate(systems):
            chosen = torch.arange(len(system), device=system.positions.device)
            if selected_atoms is not None:
                mask = selected_atoms.column("system") == index
                chosen = selected_atoms.column("atom")[mask].to(torch.long)
            energies.append(self.atomic_energies(system)[:, chosen])
            atoms.append(torch.stack([torch.full_like(chosen, index), chosen], dim=1))
        results: Dict[str, TensorMap] = {}
        for name, output in outputs.items():
            per_atom = output.sample_kind == "atom"
            parts = [part if per_atom else part.sum(dim=1, keepdim=True) for part in energies]
            values = torch.cat(parts, dim=1).transpose(0, 1)
            values = self.selected(values, name)
            if per_atom:
                samples = Labels(["system", "atom"], torch.cat(atoms).to(torch.int32))
            else:
                number = torch.arange(len(systems), dtype=torch.int32, device=values.device)
                samples = Labels(["system"], number[:, None])
            results[name] = self.tensor_map(values, samples)
        return results

    def atomic_energies(self, system: System) -> Tensor:
        """Energies (M, N) in eV of the atoms of a system."""
        block = system.get_neighbor_list(self.neighbours)
        centre = block.samples.column("first_atom").to(torch.long)
        other = block.samples.column("second_atom").to(torch.long)
        return self.scale * self.ani(system.types.to(torch.long), centre, other, block.values[:, :, 0])

    def selected(self, members: Tensor, name: str) -> Tensor:
        """Values (S, properties) of an output from the members' energies (S, M)."""
        mean = members.mean(dim=1, keepdim=True)
        if name == "energy":
            return mean
        scaled = mean + self.factor * (members - mean)
        return scaled if name == "energy_ensemble" else scaled.std(dim=1, keepdim=True)

    def tensor_map(self, values: Tensor, samples: Labels) -> TensorMap:
        """Wrap values (S, properties) as metatomic's container."""
        properties = torch.arange(values.shape[1], dtype=torch.int32, device=values.device)
        block = TensorBlock(
            values=values,
            samples=samples,
            components=torch.jit.annotate(List[Labels], []),
            properties=Labels(["energy"], properties[:, None]),
        )
        keys = Labels(["_"], torch.zeros(1, 1, dtype=torch.int32, device=values.device))
        return TensorMap(keys=keys, blocks=[block])


def write(model: ANI, path: Path, card: Card) -> None:
    """Write the TorchScript file of a model."""
    names = (_ENERGY, _ENSEMBLE, _UNCERTAINTY) if model.members > 1 else (_ENERGY,)
    capabilities = ModelCapabilities(
        outputs={name: ModelOutput(unit="eV", sample_kind="atom") for name in names},
        atomic_types=[atomic_numbers[name] for name in model.elements],
        interaction_range=model.environment.radial_cutoff,
        length_unit="Angstrom",
        supported_devices=["cpu", "cuda"],
        dtype="float64",
    )
    exported = AtomisticModel(MetatomicANI(model, card.spread_factor or 1.0).eval(), _metadata(card), capabilities)
    exported.save(path)


def _metadata(card: Card) -> ModelMetadata:
    doi = f", doi:{card.doi}" if card.doi else ""
    return ModelMetadata(
        name=card.label,
        description=f"{card.summary}; {card.training.level_of_theory}; licence {card.licence}",
        references={"model": [f"{card.citation}{doi}"], "architecture": ["doi:10.1039/c6sc05720a"]},
        extra={"energy_zero": card.energy_zero, "digest": card.weights.sha256},
    )
