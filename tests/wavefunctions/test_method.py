"""The variational Monte Carlo method: energies, seeds, precision and settings."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from exact import molecule
from fusion.chemistry.core_potentials import read
from fusion.errors import InputError
from fusion.runs.results import Result
from fusion.wavefunctions import AnsatzMethod, outcome
from fusion.wavefunctions.optimisers import Constant, InverseDecay
from fusion.wavefunctions.optimisers.kfac import Kfac
from fusion.wavefunctions.optimisers.spring import Spring
from fusion.wavefunctions.transfer import Start, as_memory, from_memory
from fusion.wavefunctions.vmc import VariationalMonteCarlo
from fusion_ferminet.network import FermiNet
from fusion_psiformer.network import Psiformer

OPTIMISERS = "fusion.wavefunctions.optimisers"


def method(**changes: Any) -> AnsatzMethod:
    """A small FermiNet with short phases; `changes` by dotted key, e.g. optimisation__steps=3."""
    settings: dict[str, Any] = {
        "name": "ferminet",
        "model": {
            "_target_": "fusion_ferminet.network.FermiNet",
            "one_electron": 16,
            "two_electron": 4,
            "layers": 2,
            "determinants": 2,
        },
        "walkers": 128,
        "chunk": None,
        "pretraining": {"steps": 60, "learning_rate": 1e-2, "basis": None},
        "sampling": {"burn_in": 100, "moves": 6},
        "optimisation": {"steps": 60, "clip": 5.0},
        "optimiser": {
            "_target_": f"{OPTIMISERS}.spring.Spring",
            "learning_rate": {"_target_": f"{OPTIMISERS}.InverseDecay", "rate": 0.1, "delay": 100},
            "damping": 0.1,
            "momentum": 0.9,
            "max_norm": 1e-3,
        },
        "evaluation": {"steps": 100, "moves": 6, "spin_every": 20},
    }
    for key, value in changes.items():
        group, _, entry = key.partition("__")
        if entry:
            settings[group] = {**settings[group], entry: value}
        else:
            settings[group] = value
    return AnsatzMethod(**settings)


@pytest.fixture(autouse=True)
def quiet() -> None:
    warnings.filterwarnings("ignore", module="pytorch_lightning")


@pytest.mark.parametrize(
    ("symbol", "charge", "exact", "spin"),
    [
        pytest.param("H", 0, -0.5, 0.75, marks=pytest.mark.slow),
        ("He", 0, -2.903724, 0.0),
        pytest.param("H", -1, -0.527751, 0.0, marks=pytest.mark.slow),
    ],
)
def test_two_seconds_of_optimisation_come_close(symbol: str, charge: int, exact: float, spin: float) -> None:
    """The energy is close to the exact one, and not below it: it is variational."""
    (result,) = method().calculate([molecule(symbol, charge=charge)], ["energy"])
    assert result.status in ("ok", "not_converged")
    assert exact - 4 * result.energy_stderr < result.energy < exact + 0.03
    assert 0 < result.energy_stderr < 5e-3
    assert result.details["vmc"]["spin_squared"]["value"] == pytest.approx(spin, abs=0.05)
    assert result.details["vmc"]["optimisation"]["rejected_steps"] == 0


def test_one_seed_gives_one_result() -> None:
    short = {"optimisation__steps": 4, "evaluation__steps": 4, "pretraining__steps": 3, "sampling__burn_in": 10}
    system = molecule("H")
    one, two, other = (method(seed=seed, **short).calculate([system], ["energy"])[0].energy for seed in (1, 1, 2))
    assert one == two != other


@pytest.mark.parametrize(("name", "dtype"), [("float32", torch.float32), ("float64", torch.float64)])
def test_everything_is_in_the_requested_dtype(name: str, dtype: torch.dtype) -> None:
    before = torch.get_default_dtype()
    ansatz = method(dtype=name).ansatz(molecule("Li"))
    assert torch.get_default_dtype() is before
    assert {p.dtype for p in ansatz.parameters()} | {ansatz.nuclei.dtype} == {dtype}
    assert ansatz(torch.randn(2, 3, 3, dtype=dtype))[1].dtype == dtype


@pytest.mark.parametrize(
    ("key", "value", "named"),
    [
        ("walkers", 1, "method.walkers"),
        ("chunk", 0, "method.chunk"),
        ("pretraining__steps", -1, "method.pretraining.steps"),
        ("sampling__moves", 0, "method.sampling.moves"),
        ("optimisation__steps", 2.5, "method.optimisation.steps"),
        ("optimisation__clip", 0.0, "method.optimisation.clip"),
        ("optimisation__clip", "wide", "method.optimisation.clip must be a positive number, not 'wide'"),
        ("pretraining__learning_rate", -1e-3, "method.pretraining.learning_rate"),
        ("sampling__proposals", [], "method.sampling.proposals is empty"),
        ("evaluation__steps", 1, "method.evaluation.steps"),
        ("evaluation__spin_every", 0, "method.evaluation.spin_every"),
        ("dtype", "float16", "dtype must be float32 or float64"),
    ],
)
def test_settings_out_of_range_are_named(key: str, value: Any, named: str) -> None:
    with pytest.raises(InputError, match=named):
        method(**{key: value})


@pytest.mark.parametrize(
    ("build", "named"),
    [
        (lambda: InverseDecay(-0.1, 100.0), "the rate of a learning rate must be a number of at least 0, not -0.1"),
        (lambda: InverseDecay(0.1, 0.0), "the delay of a learning rate must be a positive number"),
        (lambda: Spring(nn.Linear(1, 1), 5, Constant(0.1), -1.0, 0.9, 1e-3), "method.optimiser.damping"),
        (lambda: Spring(nn.Linear(1, 1), 5, Constant(0.1), 1.0, 1.0, 1e-3), "momentum must be below 1, not 1.0"),
        (lambda: Spring(nn.Linear(1, 1), 5, Constant(0.1), 1.0, 0.9, -1.0), "method.optimiser.max_norm"),
        (lambda: Kfac(nn.Linear(1, 1), 5, Constant(0.1), 1e-3, 2.0, 1e-3), "decay must be below 1, not 2.0"),
        (lambda: FermiNet(molecule("H"), 4, 2, 1, determinants=0), "method.model.determinants"),
        (lambda: FermiNet(molecule("H"), 0, 2, 1), "method.model.one_electron"),
        (lambda: FermiNet(molecule("H"), 4, 2, -1), "method.model.layers"),
        (lambda: Psiformer(molecule("H"), heads=0), "method.model.heads"),
    ],
)
def test_optimisers_and_networks_out_of_range_are_named(build: Callable[[], Any], named: str) -> None:
    with pytest.raises(InputError, match=named):
        build()


def test_a_molecule_with_other_cores_is_another_molecule_for_the_memory() -> None:
    """Its walkers have another number of electrons, and its network other shapes."""
    bare = molecule("Li H", 3.0)
    cored = bare.with_cores(read("ccecp", bare.symbols, Path()))
    for system, other in ((bare, cored), (cored, bare)):
        memory = as_memory(Start({}, torch.zeros(2, system.n_electrons, 3), system.positions), system)
        assert from_memory(memory, system) is not None and from_memory(memory, other) is None


def test_every_geometry_has_random_numbers_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    """The noise of neighbouring geometries is independent, as error bars of averages over them assume."""
    streams: list[int] = []

    def recorded(module: VariationalMonteCarlo) -> Result:
        streams.append(module.sampler.generator.initial_seed())
        return Result(module.system)

    monkeypatch.setattr(outcome, "outcome", recorded)
    systems = [molecule("H H", distance) for distance in (1.40, 1.42, 1.44, 1.42)]
    for _ in range(2):
        short = {"pretraining__steps": 2, "optimisation__steps": 8, "evaluation__steps": 2}
        method(walkers=16, sampling={"burn_in": 2, "moves": 1}, **short).calculate(systems, {"energy"})
    assert len({*streams}) == len(systems) and streams[:4] == streams[4:]
