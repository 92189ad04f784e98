"""Functionals on another device: derivatives and training of DM21 by torch operations equal those on the CPU."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from omegaconf import OmegaConf
from torch import Tensor, nn

from fusion.contracts.foreign_device import DEVICE, ForeignDevice, on_cpu
from fusion.functionals import DensityFeatures
from fusion.functionals.grid.differentiation import differentiate
from fusion.functionals.training.dataset import Difference
from fusion.functionals.training.regression import Regression
from fusion.functionals.training.samples import Sample
from fusion.functionals.training.settings import Settings
from fusion_dm21.descriptors import OMEGAS
from fusion_dm21.network import DM21

POINTS, ORBITALS = 20, 3
SETTINGS: dict[str, Any] = OmegaConf.to_container(  # type: ignore[assignment]
    OmegaConf.load(Path(__file__).parents[2] / "conf" / "training" / "functional.yaml")
)


def dm21(symmetrize: bool = False) -> DM21:
    torch.manual_seed(0)
    return DM21(width=8, depth=2, symmetrize=symmetrize).double()


def content(seed: int) -> dict[str, np.ndarray]:
    """Random arrays of the form of a label's: densities, orbitals and energies."""
    random = np.random.default_rng(seed)
    spins = (2, ORBITALS, ORBITALS)
    return {
        "rho": random.uniform(0.1, 1.0, (2, POINTS)),
        "grad": random.normal(size=(2, 3, POINTS)),
        "tau": random.uniform(0.1, 1.0, (2, POINTS)),
        **{f"hfx:{omega:g}": -random.uniform(0.1, 1.0, (2, POINTS)) for omega in OMEGAS},
        "coords": random.normal(size=(3, POINTS)),
        "weights": random.uniform(0.0, 0.1, POINTS),
        "basis": random.normal(size=(4, ORBITALS, POINTS)),
        "exchange": random.normal(size=(len(OMEGAS), 2, ORBITALS, POINTS)),
        "core": random.normal(size=(ORBITALS, ORBITALS)),
        "coefficients": random.normal(size=spins),
        "orbital_energies": random.normal(size=spins[:2]),
        "occupations": np.tile([1.0, 0.5, 0.0], (2, 1)),
        "reference": np.array(-1.0),
        "source": np.array("test"),
        "classical": np.array(-0.5),
        "conventional": np.array(-0.9),
    }


class WithoutKernels(nn.Module):
    """Functional that has only its energy density: torch differentiates it."""

    def __init__(self, functional: DM21) -> None:
        super().__init__()
        self.functional = functional

    def energy_density(self, features: DensityFeatures) -> Tensor:
        return self.functional.energy_density(features)


def samples() -> dict[str, Sample]:
    return {name: Sample(name, content(seed), torch.float64) for seed, name in enumerate("ab")}


def on_device(features: DensityFeatures) -> DensityFeatures:
    return features.map(lambda tensor: tensor.to(DEVICE))


@pytest.mark.parametrize("symmetrize", [False, True])
def test_derivatives(symmetrize: bool) -> None:
    features = samples()["a"].features
    features.rho[:, 3] = 0.0  # an empty point
    energy, derivatives = differentiate(WithoutKernels(dm21(symmetrize)), features, "dm21")
    with ForeignDevice():
        computed, elsewhere = differentiate(dm21(symmetrize).to(DEVICE), on_device(features), "dm21")
        pairs: list[tuple[Tensor, Tensor]] = [
            (computed, energy),
            *zip(elsewhere.variables(), derivatives.variables(), strict=True),
        ]
        for other, own in pairs:
            assert other.device == DEVICE
            torch.testing.assert_close(other.cpu(), own, rtol=1e-12, atol=1e-12)


@pytest.mark.filterwarnings("ignore:.*copying from a non-meta parameter.*")
def test_training_and_resuming() -> None:
    """Lightning reads a checkpoint before it moves the functional."""

    def trained(device: torch.device) -> list[Any]:
        module = regression(dm21()).to(device)
        rows = steps(module)
        checkpoint: dict[str, Any] = {"state_dict": module.state_dict()}
        module.on_save_checkpoint(checkpoint)
        checkpoint = on_cpu(checkpoint)
        module = regression(dm21())
        module.on_load_checkpoint(checkpoint)
        module.load_state_dict(checkpoint["state_dict"])
        rows += steps(module.to(device))
        return [*rows, module.errors()]

    expected = trained(torch.device("cpu"))
    with ForeignDevice():
        assert trained(DEVICE) == expected


def regression(functional: nn.Module) -> Regression:
    settings = Settings.read({**SETTINGS, "batch": 1, "steps": 10}, Path())
    kind = next(kind for kind in settings.weights if kind != "total")
    difference = Difference("a - b", kind, {"a": 1.0, "b": -1.0}, False)
    return Regression(functional, samples(), [difference], settings, 0, {})


def steps(module: Regression) -> list[Any]:
    module.on_train_start()
    rows = []
    for _ in range(2):
        rows.append(module._step(*module._drawn()))
        module.done += 1
    return rows
