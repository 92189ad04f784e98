"""Diffusion Monte Carlo: exact energies from wrong guides, fixed nodes, and branching with a fixed population."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from exact import Oscillator, Slater1s, molecule, trap
from fusion.wavefunctions.diffusion import phase_of
from fusion.wavefunctions.diffusion.module import DiffusionSchedule
from fusion.wavefunctions.diffusion.outcome import Projected, extrapolated, reasons
from fusion.wavefunctions.diffusion.population import comb, population_bias
from fusion.wavefunctions.diffusion.walk import Measure, Walk, place
from fusion.wavefunctions.hamiltonians import Hamiltonian, molecular
from fusion.wavefunctions.jets import LogPsi
from fusion.wavefunctions.statistics import Estimate, blocked

pytestmark = pytest.mark.usefixtures("double_precision")


def measure(ansatz: nn.Module, hamiltonian: Hamiltonian) -> Measure:
    def measured(electrons: Tensor) -> tuple[LogPsi, Tensor]:
        local = hamiltonian.evaluate(ansatz, electrons, len(electrons))
        return local.psi, local.total

    return measured


def diffuse(ansatz: nn.Module, hamiltonian: Hamiltonian, electrons: Tensor, tau: float, steps: int) -> np.ndarray:
    """Energies of all steps, with the reconfiguration of the walkers by a comb."""
    generator = torch.Generator().manual_seed(3)
    walk = Walk(molecule("H"), measure(ansatz, hamiltonian), tau, generator)
    walkers = place(electrons, walk.measure)
    energy, energies = float(walkers.energy.median()), []
    for _ in range(steps):
        sign = walkers.sign
        step = walk.step(walkers, energy, energy, 1.0)
        assert torch.equal(step.walkers.sign, sign), "no walker crosses a node"
        energies.append(float((step.weight * step.walkers.energy).sum() / step.weight.sum()))
        energy += tau * (energies[-1] - energy)
        walkers = step.walkers.take(comb(step.weight, float(torch.rand((), generator=generator))))
    return np.array(energies)


def test_an_exact_guide_has_the_exact_energy_at_every_step() -> None:
    energies = diffuse(Slater1s(1.0), molecular(molecule("H")), torch.randn(50, 1, 3), 0.1, 30)
    np.testing.assert_allclose(energies, -0.5, atol=1e-9)


def test_hydrogen_with_a_wrong_guide() -> None:
    """The guide's own energy is 20 mHa too high."""
    energies = diffuse(Slater1s(0.8), molecular(molecule("H")), torch.randn(200, 1, 3), 0.05, 300)[80:]
    estimate = blocked(energies)
    assert estimate.value == pytest.approx(-0.5, abs=4 * estimate.stderr) and estimate.stderr < 8e-3


def test_an_oscillator_of_another_frequency() -> None:
    """Two parallel electrons at w = 1, guided by w = 1.2 with the right node: E = 3/2 + 5/2, the guide's is 4.067."""
    energies = diffuse(Oscillator(1.2), trap(1.0, False), torch.randn(200, 2, 3), 0.05, 200)[60:]
    estimate = blocked(energies)
    assert estimate.value == pytest.approx(4.0, abs=4 * estimate.stderr) and estimate.stderr < 0.03


def test_the_comb_keeps_equal_weights_and_repeats_heavy_ones() -> None:
    assert comb(torch.ones(7), 0.3).tolist() == list(range(7))
    counts = torch.bincount(comb(torch.tensor([2.0, 0.0, 1.0, 1.0]), 0.6), minlength=4)
    assert counts.tolist() == [2, 0, 1, 1]


def test_the_comb_is_unbiased() -> None:
    weights = torch.rand(20)
    offsets = (torch.arange(4000) + 0.5) / 4000
    counts = torch.stack([torch.bincount(comb(weights, float(u)), minlength=20) for u in offsets]).double().mean(0)
    torch.testing.assert_close(counts, 20 * weights / weights.sum(), rtol=0, atol=2e-3)


def test_a_population_that_follows_the_energy_is_biased() -> None:
    """High energies come with low weights: a free population would have a lower mean; equal weights change nothing."""
    energies = np.random.default_rng(0).normal(size=4000)
    assert population_bias(energies, np.zeros(4000), 2).value == 0
    bias = population_bias(energies, -0.1 * energies, 1)
    assert bias.value == pytest.approx(0.1, abs=4 * bias.stderr) and bias.stderr < 0.01


def test_extrapolation_of_a_straight_line() -> None:
    steps = [
        Projected(tau, Estimate(-1 - 2 * tau, 0.1), Estimate(0.0, 0.0), Estimate(0.0, 0.1)) for tau in (0.01, 0.02)
    ]
    limit = extrapolated(steps)
    assert limit is not None and limit.value == pytest.approx(-1.0) and limit.stderr == pytest.approx(0.1 * 5**0.5)
    assert extrapolated(steps[:1]) is None


def against(*energies: float, steps: int = 4000, equilibration: int = 500, moving: float = 0.99) -> str:
    """Reasons against energies with errors of 1 mHa of time steps 0.02, 0.01 and so on."""
    taus = [0.02 / 2**k for k in range(len(energies))]
    steady = Estimate(0.0, 1e-3)
    found = [Projected(tau, Estimate(e, 1e-3), steady, steady) for tau, e in zip(taus, energies, strict=True)]
    module: Any = SimpleNamespace(
        diffusion=DiffusionSchedule(tuple(taus), steps, equilibration),
        effective={phase_of(tau): moving for tau in taus},
    )
    return "; ".join(reasons(module, found))


def test_a_long_diffusion_of_small_time_steps_is_converged() -> None:
    assert against(-1.0, -1.0005) == "" and against(-1.0) == ""


def test_a_large_bias_of_the_time_step_is_no_convergence() -> None:
    """-1 and -1.01 extrapolate to -1.02: the energy of the smaller time step is 10 mHa too high."""
    assert "time step 0.01 changes the energy by +10.00 mHa, by extrapolation" in against(-1.0, -1.01)


def test_walkers_with_the_density_of_the_guide_are_no_convergence() -> None:
    """Halves of less than the time that walkers need to forget it agree at any energy in between."""
    assert against(-1.0, steps=200, equilibration=20).split(": ")[0] == (
        "at time step 0.02 the measurement begins after 0.4 /Ha of projection, less than 1"
    )
    assert "the measurement takes 1.9 /Ha of projection, less than 2" in against(-1.0, steps=145, equilibration=50)


def test_walkers_that_hardly_move_are_no_convergence() -> None:
    assert "at time step 0.02 only 10% of the diffusion is accepted" in against(-1.0, moving=0.1)
