"""AIMNet2 files in the published format with random weights, and the package's own results for them.

In an environment that has the package `aimnet`, `python aimnet_files.py export FOLDER` lets the package write NAME.pt,
and `python aimnet_files.py float64 FOLDER` writes float64.json, the results of its calculator in that precision.
"""

from __future__ import annotations

import json
import sys
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch

ELEMENTS = {"H": 1, "B": 5, "C": 6, "N": 7, "O": 8, "F": 9, "Si": 14, "P": 15, "S": 16, "Cl": 17, "As": 33, "Se": 34,
            "Br": 35, "I": 53}  # fmt: skip
DAMPING = {"s6": 1.0, "s8": 0.3908, "a1": 0.566, "a2": 3.128}
CHANNELS, SEED = {"closed": 1, "open": 2}, 7
LAYERS = {
    "mlps.0": (704, 512, 380, 256),
    "mlps.1": (705, 512, 380, 256),
    "mlps.2": (705, 512, 380, 380, 256),
    "outputs.energy_mlp.mlp": (256, 128, 128, 1),
}
STRUCTURES: dict[str, dict[str, Any]] = {
    "water": {"symbols": ["O", "H", "H"], "positions": [[0.0, 0.0, 0.12], [0.0, 0.76, -0.48], [0.0, -0.76, -0.48]]},
    "hydroxide": {"symbols": ["O", "H"], "positions": [[0.0, 0.0, 0.0], [0.1, 0.0, 0.96]], "charge": -1},
    "methyl": {
        "symbols": ["C", "H", "H", "H"],
        "positions": [[0.0, 0.0, 0.05], [1.08, 0.0, 0.0], [-0.54, 0.93, 0.0], [-0.54, -0.93, 0.0]],
        "spin": 1,
    },
    "mixed": {
        "symbols": ["Si", "P", "S", "Cl", "As", "Se", "Br", "I", "B", "F", "N", "C", "H"],
        "positions": [
            [0.0, 0.0, 0.0], [2.2, 0.1, 0.0], [-0.3, 2.1, 0.2], [-1.9, -0.6, 0.3], [4.2, 1.3, 0.2], [3.1, -1.9, 0.5],
            [6.1, 2.5, -0.8], [1.2, 3.6, -1.1], [0.6, -0.4, 1.9], [1.5, 0.4, 2.5], [-0.4, -1.2, 2.7], [9.5, 5.0, 9.0],
            [10.2, 5.3, 9.8],
        ],
        "charge": 1,
    },
    "apart": {
        "symbols": ["F", "O", "H", "H", "N", "H", "H", "H"],
        "positions": [
            [0.0, 0.0, 0.0], [13.3, 0.2, 0.1], [13.9, 0.9, 0.1], [13.8, -0.7, 0.2], [4.0, 19.0, 3.0], [5.0, 19.1, 3.1],
            [3.6, 19.9, 3.2], [3.6, 18.4, 3.7],
        ],
        "charge": -1,
    },
    "crystal": {
        "symbols": ["O", "H", "H", "S", "H", "H"],
        "positions": [
            [0.1, 0.2, 0.3], [0.9, 0.6, 0.3], [-0.6, 0.8, 0.4], [2.1, 2.2, 3.0], [3.2, 2.7, 3.0], [1.2, 3.1, 3.2],
        ],
        "cell": [[5.0, 0.0, 0.0], [0.4, 5.5, 0.0], [0.0, 0.3, 6.0]],
    },
}  # fmt: skip
"""Structures with positions and cells in Angstrom (as float32: the package rounds them), charge and N_up - N_down."""


def state(channels: int, seed: int) -> dict[str, torch.Tensor]:
    """Random tensors under the published names; `channels` is 2 for the network of radicals.

    Tensor by tensor, in the order below, from numpy.random.default_rng(seed).random(shape): minus 0.5, times 2 / sqrt
    of the number of inputs (times 4 for features and self energies, which have none), as float32.
    """
    random = np.random.default_rng(seed)

    def tensor(*shape: int, inputs: int) -> torch.Tensor:
        scale = 2.0 / np.sqrt(inputs) if inputs else 4.0
        return torch.from_numpy(((random.random(shape) - 0.5) * scale).astype(np.float32))

    tensors = {
        "afv.weight": tensor(64, 256, inputs=0),
        "conv_a.agh": tensor(16, 16, 12, inputs=16),
        "conv_q.agh": tensor(channels, 16, 12, inputs=16),
    }
    for name, sizes in LAYERS.items():
        sizes = list(sizes)
        if name in ("mlps.1", "mlps.2"):
            sizes[0] = 704 + 29 * channels
        if name in ("mlps.0", "mlps.1"):
            sizes[-1] = 256 + 2 * channels
        for layer, (before, after) in enumerate(pairwise(sizes)):
            tensors[f"{name}.{2 * layer}.weight"] = 2.0 * tensor(after, before, inputs=before)
            tensors[f"{name}.{2 * layer}.bias"] = tensor(after, inputs=before)
    tensors["outputs.atomic_shift.shifts.weight"] = tensor(64, 1, inputs=0)
    for name in ("afv.weight", "outputs.atomic_shift.shifts.weight"):
        tensors[name][0] = 0.0  # of padding
    return tensors


def published(channels: int, seed: int) -> dict[str, Any]:
    """Contents of a file in the published format, as far as fusion reads it."""
    tensors = state(channels, seed)
    missing = [number for number in range(1, 64) if number not in ELEMENTS.values()]
    tensors["afv.weight"][missing] = torch.nan
    gaussians = {"rc_s": torch.tensor(5.0), "eta_s": torch.tensor((16 / 4.2) ** 2)}
    gaussians["shifts_s"] = torch.linspace(0.8, 5.0, 17)[:16]
    tensors |= {f"aev.{name}": value for name, value in gaussians.items()}
    tensors["outputs.srcoulomb.rc"] = torch.tensor(4.6)
    tensors["outputs.atomic_shift.shifts.weight"] = tensors["outputs.atomic_shift.shifts.weight"].double()
    return {
        "format_version": 2, "model_yaml": "", "cutoff": 5.0, "needs_coulomb": True, "needs_dispersion": True,
        "coulomb_mode": "sr_embedded", "coulomb_sr_rc": 4.6, "coulomb_sr_envelope": "exp", "d3_params": DAMPING,
        "has_embedded_lr": True, "has_embedded_d3ts": False, "implemented_species": list(ELEMENTS.values()),
        "state_dict": tensors,
    }  # fmt: skip


def export(folder: Path, name: str, channels: int, seed: int) -> Path:
    """Let the package write the weights as its command `aimnet export` does, with its own settings of the network."""
    import aimnet
    import yaml
    from aimnet.train.export_model import export_model

    settings = yaml.safe_load((Path(aimnet.__file__).parent / "models" / "aimnet2_dftd3_wb97m.yaml").read_text())
    settings["kwargs"]["num_charge_channels"] = channels
    paths = {suffix: folder / f"{name}.{suffix}" for suffix in ("raw", "yaml", "sae", "pt")}
    tensors = state(channels, seed)
    gaussians = published(channels, seed)["state_dict"]
    for kind in "sv":
        tensors |= {f"aev.{key}_{kind}": gaussians[f"aev.{key}_s"] for key in ("rc", "eta", "shifts")}
    torch.save(tensors, paths["raw"])
    paths["yaml"].write_text(yaml.safe_dump(settings, sort_keys=False))
    paths["sae"].write_text(yaml.safe_dump(dict.fromkeys(ELEMENTS.values(), 0.0)))
    arguments = [str(paths["raw"]), str(paths["pt"]), "--model", str(paths["yaml"]), "--sae", str(paths["sae"])]
    export_model(arguments, standalone_mode=False)
    return paths["pt"]


def results(path: Path, channels: int) -> dict[str, Any]:
    """Energies (eV), charges (e) and forces (eV/Angstrom) of the package's calculator, `bare` ones without dispersion.

    In torch's default dtype; dispersion, and the Coulomb energy of crystals, are float32 in the package.
    """
    from aimnet.calculators import AIMNet2Calculator

    calculators = [AIMNet2Calculator(str(path), device="cpu", needs_dispersion=needed) for needed in (True, False)]
    values = {}
    for name, structure in STRUCTURES.items():
        if channels == 1 and structure.get("spin"):
            continue
        given = {
            "coord": torch.tensor(structure["positions"]),
            "numbers": torch.tensor([ELEMENTS[symbol] for symbol in structure["symbols"]]),
            "charge": float(structure.get("charge", 0)),
            "mult": structure.get("spin", 0) + 1.0,
        }
        given |= {"cell": torch.tensor(structure["cell"])} if "cell" in structure else {}
        output, bare = (
            {key: value.double().squeeze(0).tolist() for key, value in calculator(dict(given), forces=True).items()}
            for calculator in calculators
        )
        values[name] = {key: output[key] for key in ("energy", "charges", "forces")}
        values[name] |= {"bare_energy": bare["energy"], "bare_forces": bare["forces"]}
    return values


if __name__ == "__main__":
    action, folder = sys.argv[1], Path(sys.argv[2])
    if action == "export":
        for name, channels in CHANNELS.items():
            export(folder, name, channels, SEED)
    else:
        torch.set_default_dtype(getattr(torch, action))  # before the package is imported, which takes its dtype from it
        values = {name: results(folder / f"{name}.pt", channels) for name, channels in CHANNELS.items()}
        (folder / f"{action}.json").write_text(json.dumps(values, indent=1))
