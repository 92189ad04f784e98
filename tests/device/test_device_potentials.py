"""Potentials on another device: energies, derivatives and training there equal those of torch's path on the CPU."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from omegaconf import OmegaConf
from torch import nn

from fusion.chemistry.system import System
from fusion.chemistry.units import ANGSTROM_PER_BOHR
from fusion.contracts.foreign_device import DEVICE, ForeignDevice, on_cpu
from fusion.datasets import Labelled
from fusion.potentials import PotentialMethod, collate
from fusion.potentials.derivatives import evaluate
from fusion.potentials.training.fitting import Fitting
from fusion.potentials.training.passes import passes
from fusion.potentials.training.references import referenced
from fusion.potentials.training.settings import Settings
from fusion.potentials.training.task import calibrate
from fusion_aimnet.potential import AIMNet2
from fusion_ani.network import ANI
from fusion_ani.scriptable import ScriptableANI
from fusion_coulomb.matrix import Eigenspectrum, RandomlySortedMatrix, SortedMatrix
from fusion_coulomb.network import CoulombNetwork
from fusion_so3lr.potential import SO3LRPotential

SETTINGS: dict[str, Any] = OmegaConf.to_container(  # type: ignore[assignment]
    OmegaConf.load(Path(__file__).parents[2] / "conf" / "training" / "potential.yaml")
)
WATER = np.array([[0.0, 0.0, 0.0], [0.0, 1.4, 1.1], [0.0, -1.4, 1.1]])
METHANE = 1.2 * np.array([[0.0, 0.0, 0.0], [1.0, 1.0, 1.0], [1.0, -1.0, -1.0], [-1.0, 1.0, -1.0], [-1.0, -1.0, 1.0]])
MOLECULES = [
    System("water", ("O", "H", "H"), WATER),
    System("methane", ("C", "H", "H", "H", "H"), METHANE),
    System("hydroxide", ("O", "H"), WATER[:2], charge=-1),
]
CRYSTAL = [System("ice", ("O", "H", "H"), WATER, cell=6.0 * np.eye(3), pbc=(True, True, True))]


def ani(charges: bool = True) -> ANI:
    torch.manual_seed(1)
    shifts = {  # as many as in ANI-1x: the same kernels
        "radial_shifts": [0.8 + 0.15 * shift for shift in range(16)],
        "angular_shifts": [0.8, 1.2, 1.6, 2.0],
        "angle_shifts": [0.4 * shift for shift in range(1, 9)],
    }
    cutoffs: dict[str, Any] = {"radial_cutoff": 3.1, "radial_eta": 4.0, "angular_cutoff": 2.6, "angular_eta": 3.0}
    hidden = {name: [6, 4] for name in "HCO"}
    return ANI(["H", "C", "O"], 2, hidden, **cutoffs, **shifts, zeta=8.0, charges=charges).double()


def labelled() -> Labelled:
    """Distorted molecules with energies, forces and dipoles."""
    random = np.random.default_rng(0)
    chosen = [MOLECULES[index % 2] for index in range(8)]
    sizes = [len(system.symbols) for system in chosen]
    zeros = np.zeros(len(chosen), dtype=np.int16)
    return Labelled(
        numbers=np.concatenate([system.numbers for system in chosen]).astype(np.uint8),
        positions=np.concatenate([s.positions + 0.1 * random.normal(size=(len(s.symbols), 3)) for s in chosen]),
        offsets=np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64),
        energy=random.normal(size=len(chosen)),
        forces=random.normal(size=(sum(sizes), 3)),
        stress=None,
        dipole=random.normal(size=(len(chosen), 3)),
        cell=None,
        pbc=None,
        charge=zeros,
        spin=zeros,
        group=zeros.astype(np.int32),
        groups=("molecules",),
        source=zeros,
        sources=("test",),
        ids=np.arange(len(chosen), dtype=np.uint64),
        place=np.arange(1, len(chosen) + 1),
    )


def so3lr() -> nn.Module:
    pytest.importorskip("so3krates_torch")
    torch.manual_seed(1)
    return SO3LRPotential(["H", "C", "O"]).double()


def aimnet2(spins: bool) -> nn.Module:
    torch.manual_seed(1)
    model = AIMNet2(["H", "C", "O"], members=2, spins=spins).double()
    model.dispersion.damping.copy_(torch.tensor([1.0, 0.4, 0.6, 3.1]))
    return model


def coulomb(descriptor: nn.Module) -> CoulombNetwork:
    torch.manual_seed(1)
    model = CoulombNetwork(("H", "C", "O"), descriptor, hidden=(4, 3)).double()
    calibrate(model, labelled(), np.arange(8), "float64")
    return model.eval()


@pytest.fixture
def device() -> Iterator[None]:
    with ForeignDevice():
        yield


@pytest.mark.parametrize(
    ("systems", "properties"),
    [
        (MOLECULES, {"energy", "forces", "forces_std", "energy_members", "charges", "dipole"}),
        (MOLECULES[:1], {"hessian", "hessian_members", "dipole_derivatives"}),
        (CRYSTAL, {"forces", "stress"}),
    ],
)
def test_ani(systems: list[System], properties: set[str]) -> None:
    check(ani, systems, properties)


@pytest.mark.parametrize(
    ("systems", "properties"),
    [
        (MOLECULES, {"energy", "forces", "charges", "dipole"}),
        (MOLECULES[:1], {"dipole_derivatives"}),
        (CRYSTAL, {"forces", "stress"}),
    ],
)
def test_so3lr(systems: list[System], properties: set[str]) -> None:
    check(so3lr, systems, properties)


@pytest.mark.parametrize(
    ("systems", "properties"),
    [
        (MOLECULES, {"energy", "forces", "forces_std", "energy_members", "charges", "dipole"}),
        (MOLECULES[:1], {"hessian", "dipole_derivatives"}),
        (CRYSTAL, {"forces", "stress"}),
    ],
)
@pytest.mark.parametrize("spins", [False, True])
def test_aimnet2(systems: list[System], properties: set[str], spins: bool) -> None:
    check(lambda: aimnet2(spins), systems, properties)


def check(make: Callable[[], nn.Module], systems: list[System], properties: set[str]) -> None:
    """Check that the results on both devices are equal."""
    expected = PotentialMethod("model", make()).calculate(systems, properties)
    with ForeignDevice():
        method = PotentialMethod("model", make())
        method._device = DEVICE
        results = method.calculate(systems, properties)
    for result, other in zip(results, expected, strict=True):
        assert result.energy == pytest.approx(other.energy, abs=1e-12)
        for name, value in other.properties.items():
            np.testing.assert_allclose(result.properties[name], value, rtol=0, atol=1e-10, err_msg=name)


def test_ani_adds_elements_and_charges_on_the_device(device: None) -> None:
    model = ani(charges=False).to(DEVICE).extended(["N"]).with_charges()
    prediction = model(collate(MOLECULES).to(DEVICE))
    torch.testing.assert_close(prediction.energy.cpu(), ani()(collate(MOLECULES)).energy)


def test_the_exported_ani_computes_on_the_device() -> None:
    (system,) = MOLECULES[1:2]
    first, second = (torch.tensor(indices) for indices in np.nonzero(~np.eye(5, dtype=bool)))
    numbers, positions = torch.tensor(system.numbers), torch.tensor(system.positions)
    vectors = (positions[second] - positions[first]) * ANGSTROM_PER_BOHR
    expected = ScriptableANI(ani(), torch.float64)(numbers, first, second, vectors)
    with ForeignDevice():
        twin = ScriptableANI(ani(), torch.float64).to(DEVICE)
        energies = twin(numbers.to(DEVICE), first.to(DEVICE), second.to(DEVICE), vectors.to(DEVICE))
        torch.testing.assert_close(energies.detach().cpu(), expected.detach(), rtol=0, atol=1e-12)


@pytest.mark.parametrize("descriptor", [SortedMatrix(6), RandomlySortedMatrix(6), Eigenspectrum(6)])
def test_coulomb(descriptor: nn.Module) -> None:
    batch = collate(MOLECULES[:2])
    expected, by_position = evaluate(coulomb(descriptor), batch, {"forces"})
    with ForeignDevice():
        prediction, derivatives = evaluate(coulomb(descriptor).to(DEVICE), batch.to(DEVICE), {"forces"})
        torch.testing.assert_close(prediction.energy.detach().cpu(), expected.energy.detach(), rtol=0, atol=1e-12)
        torch.testing.assert_close(derivatives["forces"].cpu(), by_position["forces"], rtol=0, atol=1e-12)


@pytest.mark.filterwarnings("ignore:.*copying from a non-meta parameter.*")
@pytest.mark.parametrize("moved", ["before", "after"])
@pytest.mark.parametrize(
    "make",
    [ani, lambda: ani(charges=False), lambda: coulomb(RandomlySortedMatrix(6))],
    ids=["charges", "ani", "coulomb"],
)
def test_training_and_resuming(make: Callable[[], nn.Module], moved: str) -> None:
    """trainer=gpu builds the model on the device; otherwise Lightning moves it, after it has read the checkpoint."""

    def trained(device: torch.device, first: torch.device) -> list[float]:
        module = fitting(make().to(first))
        losses = steps(module.to(device), 3)
        checkpoint: dict[str, Any] = {"state_dict": module.state_dict()}
        module.on_save_checkpoint(checkpoint)
        checkpoint = on_cpu(checkpoint)
        module = fitting(make().to(first))
        module.on_load_checkpoint(checkpoint)
        module.load_state_dict(checkpoint["state_dict"])
        losses += steps(module.to(device), 3)
        assert module.descent.done == 6
        return [*losses, module.end_epoch()["validation_loss"]]

    cpu = torch.device("cpu")
    expected = trained(cpu, cpu)
    with ForeignDevice():
        assert trained(DEVICE, DEVICE if moved == "before" else cpu) == pytest.approx(expected, rel=1e-9)


def fitting(model: nn.Module) -> Fitting:
    loss = {"energy": 1.0, "forces": 1.0, "dipole": 1.0}
    settings = Settings.read({**SETTINGS, "epochs": 5, "batch": 2, "clip": 10.0, "loss": loss}, 6)
    data, training, validation = labelled(), np.arange(6), np.arange(6, 8)
    labels = referenced(model, data, training, settings, None)
    members = model.members if isinstance(model, ANI) else 1
    return Fitting(model, passes(model, data, 1.0), labels, training, validation, members, settings, 0, {})


@torch.no_grad()
def steps(module: Fitting, number: int) -> list[float]:
    module.on_train_start()
    for _ in range(number):
        module.losses.append(module._step(*module._drawn()))
    return list(module.losses)
