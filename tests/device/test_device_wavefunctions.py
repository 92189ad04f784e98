"""Wavefunctions on another device: all phases of Monte Carlo run there, with the CPU's numbers.

Every test runs the LightningModule's own iterations on the CPU and on `foreign_device.DEVICE`, which refuses operations
that mix devices, and compares all numbers exactly.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cache, partial
from pathlib import Path
from typing import Any, cast

import pytest
import torch
from torch import nn

from fusion.chemistry import core_potentials
from fusion.chemistry.electron_gas import electron_gas
from fusion.chemistry.system import System
from fusion.contracts.foreign_device import DEVICE, ForeignDevice, on_cpu
from fusion.wavefunctions import state_interaction
from fusion.wavefunctions.diffusion import module as diffusion
from fusion.wavefunctions.diffusion.module import DiffusionMonteCarlo, DiffusionSchedule
from fusion.wavefunctions.envelopes import DiagonalEnvelope, FullEnvelope
from fusion.wavefunctions.estimators import DensityMatrix, PairDensity, Quadrupole, build, standard
from fusion.wavefunctions.excited.several import Several
from fusion.wavefunctions.hamiltonians import molecular
from fusion.wavefunctions.hartree_fock import hartree_fock
from fusion.wavefunctions.optimisers import Constant, Optimiser
from fusion.wavefunctions.optimisers.adam import Adam
from fusion.wavefunctions.optimisers.kfac import Kfac
from fusion.wavefunctions.optimisers.spring import Spring
from fusion.wavefunctions.proposals import AllElectrons, OneElectron, ScaledElectrons
from fusion.wavefunctions.references import ConfigurationInteraction, HartreeFockOrbitals, by_size
from fusion.wavefunctions.schedule import Schedule
from fusion.wavefunctions.vmc import VariationalMonteCarlo
from fusion_ferminet.network import FermiNet
from fusion_psiformer.network import Psiformer

ANSATZES: dict[str, partial[nn.Module]] = {
    "ferminet": partial(FermiNet, one_electron=6, two_electron=4, layers=2, determinants=2),
    "psiformer": partial(Psiformer, heads=2, head_width=4, mlp=(8,), layers=1, determinants=2),
}


def spring_in_groups(*args: Any, **settings: Any) -> Spring:
    optimiser = Spring(*args, **settings)
    optimiser.scores.groups = 3
    return optimiser


OPTIMISERS: dict[str, Callable[..., Optimiser]] = {
    "spring": partial(Spring, damping=0.1, momentum=0.9, max_norm=1e-2),
    "spring in groups": partial(spring_in_groups, damping=0.1, momentum=0.9, max_norm=1e-2),
    "kfac": partial(Kfac, damping=1e-3, decay=0.9, max_norm=1e-2, full_block=20),
    "adam": partial(Adam, betas=(0.9, 0.99)),
}
SCHEDULE = Schedule(
    walkers=4,
    chunk=3,
    pretraining_steps=1,
    pretraining_rate=1e-3,
    burn_in=0,
    moves=3,
    optimisation_steps=2,
    clip=5.0,
    evaluation_steps=1,
    evaluation_moves=1,
)
VARIATIONAL = ("pretraining", "optimising", "evaluating")


@cache
def system(core: str | None) -> System:
    """Lithium hydride, or its two valence electrons outside effective cores."""
    bare = System("LiH", ("Li", "H"), [[0.0, 0.0, 0.0], [0.0, 0.0, 3.0]])
    return bare if core is None else bare.with_cores(core_potentials.read(core, bare.symbols, Path()))


def monte_carlo(make: Callable[..., nn.Module], optimiser: str, core: str | None = None) -> DiffusionMonteCarlo:
    torch.manual_seed(0)
    molecule = system(core)
    matrix = partial(DensityMatrix, basis="ccecp-cc-pVDZ" if core else "def2-SVP", points=2)
    arguments = (
        molecule,
        make(molecule),
        molecular(molecule),
        SCHEDULE,
        partial(OPTIMISERS[optimiser], learning_rate=Constant(1e-2)),
        partial(hartree_fock, molecule),
        [AllElectrons(), OneElectron(), ScaledElectrons(molecule)],
        0,
        {},
        build(molecule, {**standard(spin_every=1), "quadrupole": Quadrupole, "density_matrix": matrix}),
    )
    return DiffusionMonteCarlo(*arguments, diffusion=DiffusionSchedule((0.01,), 20, 0))


def gas_monte_carlo(make: Callable[..., nn.Module]) -> DiffusionMonteCarlo:
    torch.manual_seed(0)
    gas = electron_gas(1.0, 2, 0)
    arguments = (
        gas,
        make(gas),
        molecular(gas),
        SCHEDULE,
        partial(OPTIMISERS["spring"], learning_rate=Constant(1e-2)),
        partial(hartree_fock, gas),
        [AllElectrons(), ScaledElectrons(gas)],
        0,
        {},
        build(gas, {**standard(spin_every=1), "pair_density": PairDensity}),
    )
    return DiffusionMonteCarlo(*arguments, diffusion=DiffusionSchedule((0.01,), 20, 0))


def several_states(name: str, penalty: float | None) -> VariationalMonteCarlo:
    torch.manual_seed(0)
    molecule, several = system(None), Several(2, penalty, spin_penalty=0.5)
    build = partial(ANSATZES[name], reference=ConfigurationInteraction)
    ansatz = several.ansatz(ANSATZES[name].func, build, molecule)
    make = partial(OPTIMISERS["spring"], learning_rate=Constant(1e-2))
    arguments = (
        molecule,
        ansatz,
        several.hamiltonian(molecular(molecule), molecule),
        SCHEDULE,
        partial(several.optimiser, make),
        partial(hartree_fock, molecule),
        [AllElectrons(), ScaledElectrons(molecule)],
        0,
        {},
        [],
    )
    return several.module(arguments, spin_every=1)


@torch.no_grad()
def iterations(module: VariationalMonteCarlo, phases: tuple[str, ...]) -> list[dict[str, Any]]:
    """Rows of metrics.csv of one iteration of every phase, two of the optimisation, which has a momentum."""
    module.on_train_start()
    rows = []
    for phase in phases:
        if not module.done[phase]:
            module.begin(phase)
        for _ in range(1 + (phase == "optimising")):
            rows.append(module.iterate(phase))
            module.done[phase] += 1
    states = [cast(nn.Module, estimator).state_dict().values() for estimator in module.estimators[-1:]]
    sums = [value.cpu().tolist() for state in states for value in state if isinstance(value, torch.Tensor)]
    return [*rows, {"series": module.series, "sums": sums}]


def equals_the_cpu(make: Callable[[], VariationalMonteCarlo], phases: tuple[str, ...]) -> bool:
    """True if the phases run on the foreign device, stay there, and give the CPU's numbers."""
    expected = iterations(make(), phases)
    with ForeignDevice():
        module = make().to(DEVICE)
        same = iterations(module, phases) == expected
        return same and all(parameter.device == DEVICE for parameter in module.ansatz.parameters())


@pytest.mark.parametrize("core", [None, "ccecp"])
@pytest.mark.parametrize("reference", [None, HartreeFockOrbitals])
@pytest.mark.parametrize("name", ANSATZES)
def test_variational_monte_carlo(name: str, reference: type[nn.Module] | None, core: str | None) -> None:
    make = partial(ANSATZES[name], reference=reference)
    assert equals_the_cpu(
        partial(monte_carlo, make, "spring", core), VARIATIONAL if reference is None else VARIATIONAL[1:]
    )


@pytest.mark.parametrize("name", ANSATZES)
def test_diffusion_monte_carlo(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(diffusion, "BLOCK", 2)
    assert equals_the_cpu(partial(monte_carlo, ANSATZES[name], "spring"), ("diffusing 0.01",))


@pytest.mark.parametrize("reference", [None, by_size])
@pytest.mark.parametrize("name", ANSATZES)
def test_electron_gas(name: str, reference: Callable[..., nn.Module] | None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(diffusion, "BLOCK", 2)
    phases = (*(VARIATIONAL if reference is None else VARIATIONAL[1:]), "diffusing 0.01")
    assert equals_the_cpu(partial(gas_monte_carlo, partial(ANSATZES[name], reference=reference)), phases)


@pytest.mark.parametrize(
    ("name", "penalty"),
    [
        ("psiformer", None),
        pytest.param("ferminet", None, marks=pytest.mark.slow),
        pytest.param("ferminet", 2.0, marks=pytest.mark.slow),
        pytest.param("psiformer", 2.0, marks=pytest.mark.slow),
    ],
)
def test_excited_states(name: str, penalty: float | None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(state_interaction, "FIRST_SPACE", 400)  # the start is calculated on the CPU, by PySCF
    assert equals_the_cpu(partial(several_states, name, penalty), VARIATIONAL[1:])


@pytest.mark.parametrize("optimiser", OPTIMISERS)
@pytest.mark.parametrize("name", ANSATZES)
def test_optimisers(name: str, optimiser: str) -> None:
    assert equals_the_cpu(partial(monte_carlo, ANSATZES[name], optimiser), ("optimising",))


@pytest.mark.parametrize(
    "changes",
    [
        {"envelope": FullEnvelope, "jastrow": True, "rescale_inputs": True},
        {"envelope": DiagonalEnvelope, "full_determinant": False},
    ],
)
def test_variants_of_the_ansatz(changes: Mapping[str, Any]) -> None:
    assert equals_the_cpu(partial(monte_carlo, partial(ANSATZES["ferminet"], **changes), "kfac", "ccecp"), VARIATIONAL)


@pytest.mark.filterwarnings("ignore:.*copying from a non-meta parameter.*")
@pytest.mark.parametrize("optimiser", OPTIMISERS)
def test_resuming_from_a_checkpoint(optimiser: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Checkpoints are read to the CPU, as Lightning reads them, and go back to the device."""
    monkeypatch.setattr(diffusion, "BLOCK", 2)
    make = partial(monte_carlo, ANSATZES["ferminet"], optimiser)
    phases = ("optimising", "evaluating", "diffusing 0.01")

    def resumed(device: torch.device | str) -> list[dict[str, Any]]:
        first = make().to(device)
        iterations(first, phases)
        checkpoint: dict[str, Any] = {"state_dict": first.state_dict()}
        first.on_save_checkpoint(checkpoint)
        second = make().to(device)
        checkpoint = on_cpu(checkpoint)
        second.on_load_checkpoint(checkpoint)
        second.load_state_dict(checkpoint["state_dict"])
        return iterations(second, phases)

    expected = resumed("cpu")
    with ForeignDevice():
        assert resumed(DEVICE) == expected
