"""Steps that are not finite or raise the energy are undone."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from itertools import pairwise
from typing import Any

import pytest
import torch
from torch import Tensor

from exact import Slater1s, molecule
from fusion.errors import CalculationError
from fusion.wavefunctions.hamiltonians import LocalEnergy, molecular
from fusion.wavefunctions.optimisation import Optimisation
from fusion.wavefunctions.optimisers import Constant
from fusion.wavefunctions.optimisers.adam import Adam
from fusion.wavefunctions.optimisers.kfac import Kfac
from fusion.wavefunctions.optimisers.spring import Spring
from fusion.wavefunctions.sampler import Metropolis
from fusion.wavefunctions.scores import Step

pytestmark = pytest.mark.usefixtures("double_precision")


class Scripted:
    """Optimiser with steps chosen by the test; every other step is zero."""

    def __init__(self, steps: dict[int, float]) -> None:
        self.steps, self.caution, self.resets = steps, 1.0, 0
        self.cautions: list[float] = []

    def rate(self, iteration: int, deviation: Tensor) -> float:
        return 1.0

    def step(self, electrons: Tensor, deviation: Tensor, iteration: int) -> Step:
        self.cautions.append(self.caution)
        return {"a": torch.tensor(self.steps.get(iteration, 0.0))}

    def reset(self) -> None:
        self.resets += 1


def optimisation(optimiser: Any, symbol: str = "H", exponent: float = 1.1, walkers: int = 200) -> Optimisation:
    system, ansatz = molecule(symbol), Slater1s(exponent)
    ansatz.b.requires_grad_(False)
    generator = torch.Generator().manual_seed(0)
    sampler = Metropolis(torch.randn(walkers, system.n_electrons, 3, generator=generator), generator, 0.7)
    built = optimiser(ansatz) if callable(optimiser) else optimiser
    run = Optimisation(ansatz, molecular(system), sampler, built, moves=5, clip_width=5.0, chunk=walkers)
    sampler.burn_in(run.log_density, 100)
    return run


def exponent(run: Optimisation) -> float:
    return float(run.parameters["a"].detach())


def record_restored_walkers(run: Optimisation, monkeypatch: pytest.MonkeyPatch) -> list[Tensor]:
    """Record the walkers at the beginning of every iteration."""
    starts: list[Tensor] = []
    move = run.sampler.run

    def spy(log_density: Callable[[Tensor], Tensor], steps: int) -> float:
        starts.append(run.sampler.electrons.clone())
        return move(log_density, steps)

    monkeypatch.setattr(run.sampler, "run", spy)
    return starts


def test_good_steps_are_not_changed() -> None:
    run = optimisation(Scripted(dict.fromkeys(range(10), -0.01)))
    rejected = [run.step(i).rejected for i in range(10)]
    assert not any(rejected)
    assert exponent(run) == pytest.approx(1.0)
    assert run.rejected == 0


@pytest.mark.parametrize("change", [float("nan"), float("inf")])
def test_a_step_that_is_not_finite_is_undone_at_once(change: Any) -> None:
    optimiser = Scripted({3: change})
    run = optimisation(optimiser)
    for i in range(3):
        run.step(i)
    anchor = run.anchor
    assert run.step(3).rejected
    assert run.rejected == 1 and optimiser.resets == 1
    assert exponent(run) == float(anchor["parameters"]["a"])
    assert torch.equal(run.sampler.electrons, anchor["electrons"])
    assert run.sampler.state_dict() == anchor["sampler"]
    assert not run.step(4).rejected


@pytest.mark.parametrize("change", [2.5, -0.9])
def test_a_harmful_step_is_undone_when_its_energy_is_seen(change: float, monkeypatch: pytest.MonkeyPatch) -> None:
    """a = 3.6: energy +2.9 instead of -0.5. a = 0.2: -0.18."""
    optimiser = Scripted({4: change})
    run = optimisation(optimiser)
    run.moves = 60  # let the walkers follow: those of the old psi would make the new one's energy look low
    starts = record_restored_walkers(run, monkeypatch)
    measured = [run.step(i) for i in range(5)]
    assert not any(m.rejected for m in measured)
    assert exponent(run) == pytest.approx(1.1 + change)
    rejected = run.step(5)
    assert rejected.rejected and run.rejected == 1 and optimiser.resets == 1
    assert optimiser.caution == pytest.approx(Optimisation.CAUTION)
    assert exponent(run) == float(run.anchor["parameters"]["a"]) == 1.1
    assert torch.equal(run.sampler.electrons, run.anchor["electrons"])
    assert not run.step(6).rejected
    assert torch.equal(starts[-1], run.anchor["electrons"])
    assert run.rejected == 1


@pytest.mark.parametrize("change", [0.5, pytest.param(1.0, marks=pytest.mark.slow), 2.5, 5.0])
@pytest.mark.parametrize("moves", [2, pytest.param(5, marks=pytest.mark.slow), 10])
def test_walkers_of_the_previous_psi_do_not_hide_a_bad_step(change: float, moves: int) -> None:
    """Right after the step the energy seems to fall, to as low as -12 hartree, far below the exact -0.5."""
    run = optimisation(Scripted({4: change}))
    run.moves = moves
    late = [run.step(i) for i in range(150)][100:]
    assert not any(measured.rejected for measured in late)
    a = exponent(run)
    assert run.anchor["energy"] == pytest.approx(a * a / 2 - a, abs=0.15)
    assert change < 1.0 or a == pytest.approx(1.1)


def test_a_slow_rise_is_undone_too() -> None:
    """Each step changes the energy by less than its noise."""
    optimiser = Scripted(dict.fromkeys(range(300), 0.004))
    run = optimisation(optimiser)
    for i in range(300):
        if run.step(i).rejected:
            break
    assert 20 < i < 200
    assert exponent(run) == float(run.anchor["parameters"]["a"]) < 1.4


def test_caution_rises_with_every_rejection_and_relaxes_afterwards() -> None:
    optimiser = Scripted({2: torch.nan, 3: torch.nan})
    run = optimisation(optimiser)
    relaxed = 5 + math.ceil(2 * math.log(Optimisation.CAUTION) / -math.log(Optimisation.RELAXATION))
    for i in range(relaxed):
        run.step(i)
    assert run.rejected == 2 and optimiser.resets == 2
    assert optimiser.cautions[:3] == [1.0, 1.0, 1.0]
    assert optimiser.cautions[3] == pytest.approx(Optimisation.CAUTION)
    assert optimiser.cautions[4] == pytest.approx(Optimisation.CAUTION**2)
    later = optimiser.cautions[4:]
    assert all(second <= first for first, second in pairwise(later))
    assert optimiser.caution == 1.0


def test_walkers_with_energies_that_are_not_finite_reject_a_step(monkeypatch: pytest.MonkeyPatch) -> None:
    run = optimisation(Scripted({}))
    run.step(0)
    evaluate = run.hamiltonian.evaluate

    def spoiled(*arguments: Any) -> LocalEnergy:
        measured = evaluate(*arguments)
        measured.total[:20] = torch.nan  # a tenth of them
        return measured

    monkeypatch.setattr(run.hamiltonian, "evaluate", spoiled)
    assert run.step(1).rejected
    monkeypatch.undo()
    assert not run.step(2).rejected


def test_failed_optimisation_says_what_to_do() -> None:
    run = optimisation(Scripted(dict.fromkeys(range(1, 1000), torch.nan)))
    run.step(0)
    with pytest.raises(CalculationError, match=r"learning_rate"):
        for i in range(1, 1000):
            run.step(i)
    assert run.rejected == Optimisation.LIMIT + 1


def test_a_start_without_finite_energies_is_an_error_at_once() -> None:
    run = optimisation(Scripted({}))
    run.parameters["a"].data.fill_(torch.nan)
    with pytest.raises(CalculationError):
        run.step(0)


def test_restored_state_continues_identically() -> None:
    run = optimisation(Scripted({2: torch.nan}))
    for i in range(4):
        run.step(i)
    other = optimisation(Scripted({}))
    other.load_state_dict(run.state_dict())
    assert other.state_dict().keys() == run.state_dict().keys()
    assert other.rejected == 1
    assert other.anchor["energy"] == run.anchor["energy"]


SETTINGS = {
    "spring": partial(Spring, chunk=100, learning_rate=Constant(0.3), damping=0.1, momentum=0.5, max_norm=1e-2),
    "kfac": partial(Kfac, chunk=100, learning_rate=Constant(0.5), damping=1e-3, decay=0.9, max_norm=1e-2),
    "adam": partial(Adam, chunk=100, learning_rate=Constant(0.03), betas=(0.9, 0.99)),
}


@pytest.mark.parametrize("name", list(SETTINGS))
def test_helium_reaches_its_best_exponent(name: Any) -> None:
    """E(a) = a^2 - 27 a / 8 is lowest at a = 27/16, -2.84766 hartree."""
    run = optimisation(SETTINGS[name], "He", exponent=1.2, walkers=400)
    energies, exponents = [], []
    for i in range(120):
        energies.append(run.step(i).energy)
        exponents.append(exponent(run))
    assert run.rejected == 0
    last = torch.tensor(exponents[60:])
    assert float(last.mean()) == pytest.approx(27 / 16, abs=0.03)
    assert float(torch.tensor(energies[60:]).mean()) == pytest.approx(-2.84766, abs=0.03)
    assert energies[0] > -2.75


def test_the_evaluation_gets_the_mean_of_the_last_parameters() -> None:
    """Steps of +-0.1 from 1.1 to 1.2 and back, as noise makes them, cancel in the mean."""
    run = optimisation(Scripted({i: 0.1 * (-1) ** i for i in range(60)}))
    for i in range(60):
        run.step(i)
    assert exponent(run) == pytest.approx(1.1)
    run.take_average()
    assert exponent(run) == pytest.approx(1.15, abs=0.02)


def test_the_mean_of_a_late_start_is_that_of_its_own_last_steps() -> None:
    """A start at another wavefunction counts earlier iterations as done, which give its first steps no weight."""
    run = optimisation(Scripted(dict.fromkeys(range(1000, 1010), -0.05)), exponent=1.5)
    for i in range(1000, 1060):
        run.step(i)
    assert exponent(run) == pytest.approx(1.0, abs=1e-5)
    run.take_average()
    assert exponent(run) == pytest.approx(1.0, abs=0.01)


def test_undone_steps_leave_the_mean() -> None:
    run = optimisation(Scripted({14: 2.5}))
    run.moves = 60
    for i in range(16):
        run.step(i)
    assert run.rejected == 1 and float(run.average["a"]) == pytest.approx(1.1)
