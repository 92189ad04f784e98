"""Equations of docs/theory about Monte Carlo, written out term by term, agree with the code that the pages name."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from hydra.utils import instantiate
from omegaconf import OmegaConf
from small_molecules import CH, LIH, walkers
from torch import Tensor

from fusion.wavefunctions.clipping import clip
from fusion.wavefunctions.diffusion.population import population_bias
from fusion.wavefunctions.diffusion.walk import Walk, Walkers, place
from fusion.wavefunctions.estimators.forces import Forces
from fusion.wavefunctions.excited.penalty import overlaps
from fusion.wavefunctions.excited.spectrum import oscillator_strength
from fusion.wavefunctions.jastrow import CuspJastrow
from fusion.wavefunctions.jets import LogPsi
from fusion.wavefunctions.optimisers import InverseDecay
from fusion.wavefunctions.optimisers.spring import Spring
from fusion.wavefunctions.proposals import ScaledElectrons
from fusion.wavefunctions.remaining import remaining
from fusion.wavefunctions.statistics import Estimate, blocked

pytestmark = pytest.mark.usefixtures("double_precision")


def test_schedule_of_spring_and_clipping() -> None:
    """natural_gradient.md, sections "SPRING" and "Clipping", with the settings of conf/optimiser/spring.yaml."""
    root = Path(__file__).parents[2]
    settings = OmegaConf.load(root / "conf" / "optimiser" / "spring.yaml")
    optimiser = instantiate(settings, ansatz=CuspJastrow(1, 1), chunk=4)
    assert isinstance(optimiser, Spring) and isinstance(optimiser.learning_rate, InverseDecay)
    for t, variance in ((0, 1e-4), (100, 0.01), (100, 1.0), (2000, 1e-4)):
        deviation = torch.tensor([1.0, -1.0]) * variance**0.5
        expected = max(min(0.1 / (1 + t / 600), 2.5e-4 / variance), 0.01 / (1 + t / 300))
        assert optimiser.rate(t, deviation) == pytest.approx(expected)
    assert (optimiser.damping, optimiser.momentum, optimiser.max_norm) == (1.0, 0.99, 1e-3)

    energies = torch.randn(101, generator=torch.Generator().manual_seed(10)) ** 3
    centre = energies.median()
    reach = 5 * (energies - centre).abs().mean()
    clipped = torch.minimum(torch.maximum(energies, centre - reach), centre + reach)
    assert (clipped != energies).any()
    torch.testing.assert_close(clip(energies, 5.0).deviation, clipped - clipped.mean())


def test_remaining_error_by_steps() -> None:
    """sampling.md, section "Remaining error"."""
    energies = -1.0 + 1.0 / np.arange(1, 801)
    final = Estimate(float(energies[-1]), 1e-5)
    estimate = remaining(energies.tolist(), [], final, 0.1)
    assert estimate.by_steps.value == pytest.approx((energies[300:500].mean() - final.value) / (2**0.7 - 1))
    assert estimate.by_variance is None


def test_overlaps_of_separate_states() -> None:
    """excited.md, section "Separate states with a penalty": overlaps by all walkers, with norms from S_kk = 1."""
    values = torch.randn(500, 3, 3, generator=torch.Generator().manual_seed(11)) * torch.tensor([1.0, 5.0, 0.2])
    norms, found = overlaps(values)
    unit = (values / norms).flatten(0, 1)
    density = unit.square().sum(1)
    expected = 3 * torch.einsum("bi,bj,b->ij", unit, unit, 1 / density) / len(unit)
    torch.testing.assert_close(found, expected)
    torch.testing.assert_close(found.diagonal(), torch.ones(3), rtol=1e-6, atol=1e-6)


def test_scaled_moves() -> None:
    """sampling.md, section "Metropolis moves": the ratio of two normal distributions."""
    x, width = walkers(CH), 0.4
    moved, ratio = ScaledElectrons(CH)(x, width, torch.Generator().manual_seed(4))
    assert ratio is not None

    def scale(r: Tensor) -> Tensor:
        nuclei, charges = torch.tensor(CH.positions), torch.tensor(CH.charges, dtype=torch.float64)
        return sum(((r - place).norm(dim=-1) + 1 / z) ** -2 for place, z in zip(nuclei, charges, strict=True)) ** -0.5

    def log_q(origin: Tensor, target: Tensor) -> Tensor:
        deviation = (width * scale(origin)).unsqueeze(-1).expand_as(origin)
        return torch.distributions.Normal(origin, deviation).log_prob(target).sum((1, 2))

    torch.testing.assert_close(ratio, log_q(moved, x) - log_q(x, moved), rtol=1e-9, atol=1e-9)


def test_block_length() -> None:
    """sampling.md, section "Blocks and error bars"."""
    noise = np.random.default_rng(5).normal(size=1000)
    series = np.zeros(1000)
    for t in range(1, 1000):
        series[t] = 0.9 * series[t - 1] + noise[t]
    errors, length, blocks = {}, 1, series
    while len(blocks) > 1:
        errors[length] = np.std(blocks, ddof=1) / np.sqrt(len(blocks))
        blocks = blocks[: len(blocks) // 2 * 2].reshape(-1, 2).mean(1)
        length *= 2
    chosen = min(b for b, s in errors.items() if b**3 > 2 * 1000 * (s / errors[1]) ** 4)
    assert blocked(series).stderr == pytest.approx(errors[chosen])


def test_drift_and_weight_of_a_diffusion_step() -> None:
    """dmc.md, sections "One step" and "Limits of drift and local energy"."""
    tau, energy, effective = 0.02, -0.5, 0.9
    x = walkers(LIH, 200)

    def measure(electrons: Tensor) -> tuple[LogPsi, Tensor]:
        log = -0.5 * electrons.square().sum((1, 2))
        local = 20.0 * electrons[:, 0, 0]
        return LogPsi(torch.ones_like(log), log, -electrons.flatten(1), local), local

    walk = Walk(LIH, measure, tau, torch.Generator().manual_seed(6))
    v, z = -x, (x.unsqueeze(2) - torch.tensor(LIH.positions)).norm(dim=-1)
    nearest = z.argmin(-1)
    away = x - torch.tensor(LIH.positions)[nearest]
    z, charge = z.amin(-1), torch.tensor([3.0, 1.0])[nearest]
    speed = v.norm(dim=-1)
    a = (1 + (v * away).sum(-1) / (speed * z)) / 2 + (charge * z) ** 2 / (10 * (4 + (charge * z) ** 2))
    factor = (-1 + torch.sqrt(1 + 2 * a * speed**2 * tau)) / (a * speed**2 * tau)
    torch.testing.assert_close(walk.drift(x, -x), factor.unsqueeze(-1) * v, rtol=1e-6, atol=1e-8)

    before = place(x, measure)
    step = walk.step(before, energy, energy, effective)
    reach = 0.2 * math.sqrt(4 / tau)

    def limited(walkers_: Walkers) -> Tensor:
        return energy + (walkers_.energy - energy).clamp(-reach, reach)

    mean = (limited(before) + limited(step.walkers)) / 2
    torch.testing.assert_close(step.weight, torch.exp(-tau * effective * (mean - energy)))


def test_bias_of_a_fixed_population() -> None:
    """dmc.md, section "Bias of the fixed population"."""
    rng = np.random.default_rng(7)
    energies, logs, n = rng.normal(size=400), 1e-3 * rng.normal(size=400), 20
    padded = np.concatenate((np.full(n, logs.mean()), logs))
    products = np.exp([padded[t + 1 : t + n + 1].sum() for t in range(400)])
    expected = energies.mean() - (products * energies).sum() / products.sum()
    assert population_bias(energies, logs, n).value == pytest.approx(expected, rel=1e-9)


def test_forces_of_finite_variance() -> None:
    """observables.md, section "Forces"."""
    x, g = walkers(LIH), walkers(LIH).flip(0)
    result = Forces(LIH).zero_variance(x, g)
    nuclei, charges = torch.tensor(LIH.positions), (3.0, 1.0)
    for a, b in ((0, 1), (1, 0)):
        apart = nuclei[a] - nuclei[b]
        expected = charges[a] * charges[b] * apart / apart.norm() ** 3 + torch.zeros(3, 3)
        for i in range(4):
            r = x[:, i] - nuclei[a]
            d = r.norm(dim=-1, keepdim=True)
            along = (r * g[:, i]).sum(-1, keepdim=True)
            expected = expected + charges[a] * (g[:, i] / d - along * r / d**3)
        torch.testing.assert_close(result[:, a], expected)


def test_oscillator_strengths() -> None:
    """excited.md, section "Energies, gaps, and observables": a symmetric problem in another gauge."""
    rng = np.random.default_rng(8)
    levels = np.array([-1.0, -0.3, -0.3])
    moments = rng.normal(size=(3, 3, 3))
    moments = moments + moments.transpose(0, 2, 1)
    gauge = rng.normal(size=(3, 3)) + 3 * np.eye(3)
    matrix, dipoles = (np.linalg.inv(gauge) @ part @ gauge for part in (np.diag(levels), moments))
    found = oscillator_strength(np.stack([matrix] * 40), np.stack([dipoles] * 40), [[0], [1, 2]], 0, 1)
    expected = 2 / 3 * 0.7 * (moments[:, 0, 1:] ** 2).sum()
    assert found.value == pytest.approx(expected, rel=1e-9)
