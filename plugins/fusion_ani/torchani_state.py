"""ANI as a torchani model: a state dict, and the numbers from which torchani assembles the model for it."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from fusion.zoo.card import Card
from fusion_ani.network import ANI


def write(model: ANI, path: Path, card: Card) -> None:
    """Write a file of `torch.save` with plain containers: `label`, `recipe` (see `assembled`) and `state_dict`."""
    recipe = _recipe(model)
    state = assembled(recipe).state_dict()
    prefix = "potentials.nnp.neural_networks"
    state["energy_shifter.self_energies"] = model.self_energies.values.detach()
    for part in ("radial", "angular"):  # torchani itself rounds them to float32
        for key in ("eta", "zeta", "shifts", "sections"):
            if key in recipe[part]:
                value = torch.tensor(recipe[part][key], dtype=torch.float64).reshape(-1)
                state[f"potentials.nnp.aev_computer.{part}.{key}"] = value
    for index, element in enumerate(model.elements):
        tensors = [tensor.detach().double() for tensor in model.tensors(index)]
        layers = len(tensors) // 2
        for layer, (weights, biases) in enumerate(zip(tensors[:layers], tensors[layers:], strict=True)):
            name = "final_layer" if layer == layers - 1 else f"layers.{layer}"
            for member in range(model.members):
                place = f"{prefix}.members.{member}" if model.members > 1 else prefix
                state[f"{place}.atomics.{element}.{name}.weight"] = weights[member]
                state[f"{place}.atomics.{element}.{name}.bias"] = biases[member]
    torch.save({"label": card.label, "recipe": recipe, "state_dict": state}, path)


def read(path: Path) -> nn.Module:
    """Return the torchani model, float64, in a file that `write` wrote."""
    content = torch.load(path, weights_only=True)
    model = assembled(content["recipe"])
    model.load_state_dict(content["state_dict"])
    return model.eval().requires_grad_(False)


def assembled(recipe: Mapping[str, Any]) -> Any:
    """Assemble the torchani model of a recipe, float64, with random weights; docs/elsewhere.md has the same lines."""
    with warnings.catch_warnings(action="ignore"):  # of CUDA extensions that are not built
        from torchani.aev import ANIAngular, ANIRadial
        from torchani.arch import Assembler
        from torchani.nn import ANINetworks

    assembler = Assembler(symbols=recipe["symbols"])
    assembler.set_global_cutoff_fn("cosine")
    assembler.set_aev_computer(
        radial=ANIRadial(**recipe["radial"]), angular=ANIAngular(**recipe["angular"]), strategy="pyaev"
    )
    networks = {
        "dims": {element: tuple(sizes) for element, sizes in recipe["hidden"].items()},
        "activation": nn.CELU(recipe["celu_alpha"]),
        "bias": True,
    }
    assembler.set_atomic_networks(cls=ANINetworks, ctor="build", kwargs=networks)
    assembler.set_zeros_as_self_energies()
    return assembler.assemble(recipe["members"]).double()


def _recipe(model: ANI) -> dict[str, Any]:
    """Arguments of torchani's parts by the names of its classes."""
    environment, arguments = model.environment, model.arguments
    return {
        "symbols": list(model.elements),
        "members": model.members,
        "hidden": arguments["hidden"],
        "celu_alpha": model.celu_alpha,
        "radial": {
            "eta": environment.radial_eta,
            "shifts": list(environment.radial_shifts),
            "cutoff": environment.radial_cutoff,
        },
        "angular": {
            "eta": environment.angular_eta,
            "zeta": environment.zeta,
            "shifts": list(environment.angular_shifts),
            "sections": list(environment.angle_shifts),
            "cutoff": environment.angular_cutoff,
        },
    }


def evaluation(path: Path) -> Callable[[Tensor, Tensor, Tensor | None], tuple[Tensor, Tensor]]:
    """Return a function of atomic numbers, positions (N, 3) and a cell in Angstrom.

    It returns the energy () in hartree and the forces (N, 3) in hartree/Angstrom of the model in the file.
    """
    model = read(path)

    def evaluated(numbers: Tensor, positions: Tensor, cell: Tensor | None) -> tuple[Tensor, Tensor]:
        positions = positions.clone().requires_grad_(True)
        pbc = None if cell is None else torch.ones(3, dtype=torch.bool)
        energy = model((numbers[None], positions[None]), cell=cell, pbc=pbc).energies.sum()
        return energy.detach(), -torch.autograd.grad(energy, positions)[0]

    return evaluated
