"""Verdict on a run: drift, agreement and energies that are not finite."""

from __future__ import annotations

import json
from functools import cache
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from exact import Slater1s, molecule, trap
from fusion.chemistry.system import Reference, System
from fusion.errors import CalculationError
from fusion.runs.results import Result
from fusion.wavefunctions import outcome as module
from fusion.wavefunctions.estimators import Dipole, Spin, Virial
from fusion.wavefunctions.hamiltonians import Hamiltonian, molecular
from fusion.wavefunctions.outcome import outcome

ENERGY, SIGMA = -2.9, 0.01
HELIUM = System("he", ("He",), np.zeros((1, 3)), reference=Reference(-2.903724, "exact"))
FIELDS = cache(module.hartree_fock_limit)


@pytest.fixture(autouse=True)
def one_mean_field(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "hartree_fock_limit", FIELDS)


def noise(n: int, seed: int, value: float = ENERGY) -> list[float]:
    return list(value + SIGMA * np.random.default_rng(seed).normal(size=n))


def judged(
    optimising: list[float],
    evaluating: list[float],
    system: System = HELIUM,
    spins: int = 20,
    lost: int = 0,
    acceptance: float = 0.5,
    until: float | None = None,
    stderr: float | None = None,
    started: bool = False,
    hamiltonian: Hamiltonian | None = None,
) -> Result:
    """Result of a module with these energies."""
    finished: Any = SimpleNamespace(
        system=system,
        ansatz=Slater1s(1.7),
        energies={"optimising": optimising, "evaluating": evaluating},
        variances=[0.02] * len(optimising),
        series={
            "kinetic": [-energy for energy in evaluating],
            "potential": [2 * energy for energy in evaluating],
            "variance": [0.02] * len(evaluating),
            "acceptance": [acceptance] * len(evaluating),
            "spin_squared": [0.0] * spins,
        },
        estimators=(Spin(system), Virial(system), Dipole(system)),
        lost=lost,
        started=started,
        done={"pretraining": 0, "optimising": len(optimising), "evaluating": len(evaluating)},
        schedule=SimpleNamespace(walkers=64, until=until, evaluation_stderr=stderr),
        optimisation=SimpleNamespace(rejected=3),
        hamiltonian=molecular(system) if hamiltonian is None else hamiltonian,
        sampler=SimpleNamespace(electrons=torch.zeros(1)),
    )
    result = outcome(finished)
    json.dumps(result.details, allow_nan=False)
    return result


def test_agreement_is_ok() -> None:
    evaluating = noise(400, 1)
    result = judged(noise(400, 0), evaluating)
    assert result.status == "ok" and result.message is None
    assert result.energy == pytest.approx(np.mean(evaluating))
    assert result.energy_stderr == pytest.approx(SIGMA / 20, rel=0.3)
    details = result.details["vmc"]
    assert details["optimisation"]["iterations"] == 400 and details["optimisation"]["rejected_steps"] == 3
    assert details["optimisation"]["last_quarter"]["energy_hartree"] == pytest.approx(ENERGY, abs=4e-3)
    assert details["evaluation"]["walkers"] == 64
    assert details["spin_squared"] == {"value": 0.0, "stderr": 0.0}
    assert details["kinetic_hartree"] == {"value": pytest.approx(-result.energy), "stderr": result.energy_stderr}
    assert details["potential_hartree"] == {
        "value": pytest.approx(2 * result.energy),
        "stderr": pytest.approx(2 * result.energy_stderr),
    }
    assert details["virial_ratio"] == {"value": pytest.approx(2.0), "stderr": pytest.approx(0.0, abs=1e-12)}


def test_only_the_last_quarter_of_optimisation_counts() -> None:
    assert judged(noise(100, 0, value=5.0) + noise(300, 2), noise(400, 1)).status == "ok"
    late = judged(noise(300, 0) + noise(100, 2, ENERGY - 0.02), noise(400, 1))
    assert late.status == "not_converged"
    assert "last quarter" in late.message and "more method.optimisation.steps" in late.message


def test_the_remaining_error_is_stated_and_limits_the_verdict() -> None:
    falling = list(np.array(noise(400, 0)) + 0.02 * 40 / np.arange(1, 401))
    fine, strict = (judged(falling, noise(400, 1, ENERGY + 0.002), until=until) for until in (0.02, 0.001))
    assert fine.status == "ok" and "remaining error at most about" in fine.details["vmc"]["verdict"]
    assert strict.status == "not_converged" and "more than 1" in strict.message
    assert 0.002 < fine.details["vmc"]["remaining"]["error_hartree"] < 0.01


def test_an_evaluation_above_hartree_fock_is_not_ok() -> None:
    """An evaluation of another run's wavefunction has no optimisation whose remaining error tells."""
    above = judged([], noise(400, 1, -2.8), started=True)
    assert above.status == "not_converged" and "mHa above Hartree–Fock" in str(above.message)
    assert judged([], noise(400, 1, -2.856), started=True).status == "ok"
    assert judged([], noise(400, 1, 3.0), started=True, hamiltonian=trap(1.0, False)).status == "ok"


def test_an_error_bar_above_the_wanted_one_is_not_ok() -> None:
    assert "the error bar is above 0.1 mHa" in judged(noise(400, 0), noise(400, 1), stderr=1e-4).message
    assert judged(noise(400, 0), noise(400, 1), stderr=1e-3).status == "ok"


def test_walkers_that_hardly_move_are_a_warning() -> None:
    assert judged(noise(400, 0), noise(400, 1), acceptance=0.1).warnings[0].startswith("10% of the moves")
    assert not judged(noise(400, 0), noise(400, 1)).warnings


def test_a_wavefunction_that_was_never_optimised_is_not_converged() -> None:
    """One of the zoo or of another geometry has been, in another run."""
    untrained = judged([], noise(400, 1))
    assert untrained.status == "not_converged" and "has not been optimised" in untrained.message
    assert judged([], noise(400, 1), started=True).status == "ok"


def test_drift_of_the_evaluation_is_not_ok() -> None:
    drifting = list(np.array(noise(400, 1)) + np.linspace(-0.01, 0.01, 400))
    result = judged(noise(400, 0), drifting)
    assert result.status == "not_converged" and "drifts" in result.message
    assert result.details["vmc"]["evaluation"]["drift_hartree"] == pytest.approx(0.01, abs=4e-3)


def test_correlation_energy() -> None:
    """(E - HF) / (exact - HF) with the Hartree-Fock limit -2.86168."""
    result = judged([], noise(400, 1))
    share = result.details["vmc"]["correlation_percent"]
    assert share["value"] == pytest.approx(100 * (result.energy + 2.86168) / (-2.903724 + 2.86168), abs=0.5)
    assert share["stderr"] == pytest.approx(100 * result.energy_stderr / 0.042, rel=0.01)
    assert "correlation_percent" not in judged([], noise(400, 1), molecule("He")).details["vmc"]
    hydrogen = System("h", ("H",), np.zeros((1, 3)), spin=1, reference=Reference(-0.5, "exact"))
    assert "correlation_percent" not in judged([], noise(400, 1, -0.5), hydrogen).details["vmc"]


def test_energies_that_are_not_finite_are_a_failure() -> None:
    with pytest.raises(CalculationError, match="not finite"):
        judged(noise(400, 0), [*noise(399, 1), np.nan])


@pytest.mark.parametrize(("optimising", "evaluating"), [(0, 400), (7, 400), (8, 4), (100, 2), (100, 3)])
def test_short_runs_have_a_result(optimising: int, evaluating: int) -> None:
    result = judged(noise(optimising, 0), noise(evaluating, 1), spins=1)
    assert np.isfinite(result.energy)
    assert ("last_quarter" in result.details["vmc"]["optimisation"]) == (optimising >= 8)
    assert result.details["vmc"]["spin_squared"]["stderr"] is None


def test_an_exact_wavefunction_is_converged() -> None:
    """Without any spread, rounding must not count as a disagreement."""
    rounding = 1e-15 * np.random.default_rng(0).normal(size=200)
    result = judged(list(-2.9 + rounding), list(-2.9 + 1e-14 + rounding[::-1]))
    assert result.status == "ok"


@pytest.mark.parametrize(("lost", "status"), [(20, "ok"), (40, "not_converged")])
def test_few_local_energies_may_be_not_finite(lost: int, status: str) -> None:
    result = judged(noise(400, 0), noise(400, 1), lost=lost)  # of 400 x 64
    assert result.status == status
    assert result.details["vmc"]["evaluation"]["non_finite_local_energies"] == lost


def test_a_failed_mean_field_does_not_lose_the_result(monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(system: System) -> None:
        raise CalculationError("Hartree-Fock does not converge")

    monkeypatch.setattr(module, "hartree_fock_limit", fails)
    result = judged(noise(400, 0), noise(400, 1))
    assert result.status == "ok"
    assert result.details["vmc"]["hartree_fock_error"] == "Hartree-Fock does not converge"
    assert "correlation_percent" not in result.details["vmc"]
