"""Adam on the energy gradient, and schedules of the learning rate."""

from __future__ import annotations

from copy import deepcopy

import pytest
import torch

from exact import PairNetwork, explicit_scores
from fusion.wavefunctions.optimisers import Constant, InverseDecay
from fusion.wavefunctions.optimisers.adam import Adam

pytestmark = pytest.mark.usefixtures("double_precision")


def batch() -> tuple[torch.Tensor, torch.Tensor]:
    deviation = torch.randn(10)
    return torch.randn(10, 2, 3), deviation - deviation.mean()


def adam(ansatz: PairNetwork, chunk: int = 4) -> Adam:
    return Adam(ansatz, chunk, InverseDecay(0.1, 2.0), (0.8, 0.9))


def test_schedules() -> None:
    decay = InverseDecay(0.1, 200.0)
    assert [decay(t) for t in (0, 200, 600)] == pytest.approx([0.1, 0.05, 0.025])
    assert Constant(0.3)(10**6) == 0.3


def test_steps_equal_adam_on_the_energy_gradient() -> None:
    """Compare with explicit moments m and v; the gradient is 2 <deviation O> from the scores of every walker."""
    ansatz = PairNetwork()
    optimiser = adam(ansatz)
    first = {name: torch.zeros_like(p) for name, p in ansatz.named_parameters()}
    second = {name: torch.zeros_like(p) for name, p in ansatz.named_parameters()}
    for t in range(3):
        electrons, deviation = batch()
        before = {name: p.detach().clone() for name, p in ansatz.named_parameters()}
        step = optimiser.step(electrons, deviation, t)
        assert all(torch.equal(p, before[name]) and p.grad is None for name, p in ansatz.named_parameters())
        for name, rows in explicit_scores(ansatz, electrons).items():
            grad = 2 * torch.einsum("b,b...->...", deviation, rows) / len(deviation)
            first[name] = 0.8 * first[name] + 0.2 * grad
            second[name] = 0.9 * second[name] + 0.1 * grad**2
            m, v = first[name] / (1 - 0.8 ** (t + 1)), second[name] / (1 - 0.9 ** (t + 1))
            torch.testing.assert_close(step[name], -0.1 / (1 + t / 2) * m / (v.sqrt() + 1e-8), rtol=1e-7, atol=1e-9)


def test_caution_divides_the_rate_and_reset_clears_moments() -> None:
    ansatz, (electrons, deviation) = PairNetwork(), batch()
    optimiser = adam(ansatz)
    plain = optimiser.step(electrons, deviation, 0)
    optimiser.step(*batch(), 1)
    optimiser.reset()
    optimiser.caution = 4.0
    careful = optimiser.step(electrons, deviation, 0)
    for name in plain:
        torch.testing.assert_close(careful[name], plain[name] / 4)


def test_state_can_be_restored() -> None:
    ansatz = PairNetwork()
    one, two = adam(ansatz), adam(ansatz)
    one.step(*batch(), 0)
    two.load_state_dict(deepcopy(one.state_dict()))
    electrons, deviation = batch()
    first, second = (optimiser.step(electrons, deviation, 1) for optimiser in (one, two))
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_chunks_make_no_difference() -> None:
    ansatz, (electrons, deviation) = PairNetwork(), batch()
    one, two = (adam(ansatz, chunk).step(electrons, deviation, 0) for chunk in (3, 100))
    for name in one:
        torch.testing.assert_close(one[name], two[name])
