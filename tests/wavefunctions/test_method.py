"""The variational Monte Carlo method: energies, seeds, precision and settings."""

from __future__ import annotations

import warnings
from typing import Any

import pytest
import torch

from exact import molecule
from fusion.errors import InputError
from fusion.wavefunctions import AnsatzMethod

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
        ("evaluation__steps", 1, "method.evaluation.steps"),
        ("evaluation__spin_every", 0, "method.evaluation.spin_every"),
        ("dtype", "float16", "dtype must be float32 or float64"),
    ],
)
def test_settings_out_of_range_are_named(key: str, value: Any, named: str) -> None:
    with pytest.raises(InputError, match=named):
        method(**{key: value})
