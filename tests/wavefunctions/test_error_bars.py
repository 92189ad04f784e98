"""Quoted errors of Monte Carlo energies must equal the scatter of independent runs."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from exact import Slater1s, molecule
from fusion.wavefunctions.hamiltonians import molecular
from fusion.wavefunctions.sampler import Metropolis
from fusion.wavefunctions.statistics import Estimate, blocked

pytestmark = pytest.mark.usefixtures("double_precision")

RUNS, WALKERS, ITERATIONS = 20, 40, 400


def energies(symbol: str, exponent: float, width: float, moves: int) -> np.ndarray:
    """Mean energies (iterations, runs) of independent groups of walkers."""
    system, ansatz = molecule(symbol), Slater1s(exponent)
    generator = torch.Generator().manual_seed(5)
    start = torch.randn(RUNS * WALKERS, system.n_electrons, 3, generator=generator)
    sampler, hamiltonian = Metropolis(start, generator, width), molecular(system)

    def log_density(electrons: torch.Tensor) -> torch.Tensor:
        return 2 * ansatz(electrons)[1]

    sampler.run(log_density, 200)
    series = []
    for _ in range(ITERATIONS):
        sampler.run(log_density, moves)
        local = hamiltonian.local_energy(ansatz, sampler.electrons, RUNS * WALKERS)
        series.append(local.view(RUNS, WALKERS).mean(1).numpy())
    return np.array(series)


@pytest.mark.parametrize(("width", "moves"), [(1.0, 3), (0.25, 1)])
def test_twenty_evaluations_of_hydrogen(width: float, moves: int) -> None:
    """Test also moves so short that neighbouring iterations are nearly the same."""
    estimates = [blocked(run) for run in energies("H", 1.2, width, moves).T]
    scatter = np.std([e.value for e in estimates], ddof=1)
    quoted = np.mean([e.stderr for e in estimates])
    assert 0.67 < scatter / quoted < 1.5
    everyone = Estimate(float(np.mean([e.value for e in estimates])), float(scatter / RUNS**0.5))
    assert everyone.value == pytest.approx(1.2**2 / 2 - 1.2, abs=4 * everyone.stderr)


def test_energy_of_the_best_product_of_exponentials_for_helium() -> None:
    """Exponent 27/16: E = -(27/16)^2 hartree."""
    whole = blocked(energies("He", 27 / 16, 0.6, 3).mean(1))
    assert whole.stderr < 5e-3
    assert whole.value == pytest.approx(-((27 / 16) ** 2), abs=4 * whole.stderr)
