"""SPRING steps agree with damped stochastic reconfiguration."""

from __future__ import annotations

from copy import deepcopy

import pytest
import torch
from torch import Tensor

from exact import PairNetwork, explicit_scores, matrix
from fusion.wavefunctions.optimisers import Constant, InverseDecay
from fusion.wavefunctions.optimisers.spring import Spring, solve_damped
from fusion.wavefunctions.scores import Step

pytestmark = pytest.mark.usefixtures("double_precision")

WALKERS, RATE, DAMPING = 12, 0.05, 0.4


def spring(ansatz: PairNetwork, momentum: float = 0.0, max_norm: float = 1e9) -> Spring:
    return Spring(ansatz, 5, Constant(RATE), DAMPING, momentum, max_norm)


def vector(step: Step, ansatz: PairNetwork) -> Tensor:
    return torch.cat([step[name].flatten() for name, _ in ansatz.named_parameters()])


def batch() -> tuple[Tensor, Tensor]:
    deviation = torch.randn(WALKERS)
    return torch.randn(WALKERS, 2, 3), deviation - deviation.mean()


def centred_scores(ansatz: PairNetwork, electrons: Tensor) -> Tensor:
    scores = matrix(explicit_scores(ansatz, electrons))
    return (scores - scores.mean(0)) / len(electrons) ** 0.5


def dense_direction(
    scores: Tensor, deviation: Tensor, previous: Tensor | None, momentum: float, caution: float = 1.0
) -> Tensor:
    """Obar^T (Obar Obar^T + lambda)^-1 (e - mu Obar p) + mu p, lambda relative to mean eigenvalue and rate."""
    gram = scores @ scores.T
    shift = caution * DAMPING * RATE * gram.diagonal().mean() * torch.eye(len(gram))
    carried = torch.zeros(scores.shape[1]) if previous is None else momentum * previous
    e = deviation / len(deviation) ** 0.5
    return scores.T @ torch.linalg.solve(gram + shift, e - scores @ carried) + carried


def test_noise_bounds_the_learning_rate_and_the_momentum() -> None:
    """A rate of noise / V, with all that depends on the rate, and a momentum of at most 1 - rate."""
    ansatz, (electrons, deviation) = PairNetwork(), batch()
    rate = 0.6 * RATE
    bounded = Spring(ansatz, 5, Constant(RATE), DAMPING, 0.99, 1e9, noise=rate * float(deviation.square().mean()))
    given = Spring(ansatz, 5, Constant(rate), DAMPING, 1 - rate, 1e9)
    for number in range(2):
        steps = [vector(optimiser.step(electrons, deviation, number), ansatz) for optimiser in (bounded, given)]
        torch.testing.assert_close(*steps, rtol=1e-9, atol=1e-12)


def test_step_without_momentum_is_damped_stochastic_reconfiguration() -> None:
    """Test also the other form, (S + lambda)^-1 grad with the P x P covariance S of the scores."""
    ansatz, (electrons, deviation) = PairNetwork(), batch()
    step = vector(spring(ansatz).step(electrons, deviation, 0), ansatz)
    scores = centred_scores(ansatz, electrons)
    torch.testing.assert_close(step, -RATE * dense_direction(scores, deviation, None, 0.0), rtol=1e-9, atol=1e-11)
    shift = DAMPING * RATE * (scores @ scores.T).diagonal().mean() * torch.eye(scores.shape[1])
    gradient = scores.T @ deviation / WALKERS**0.5
    natural = torch.linalg.solve(scores.T @ scores + shift, gradient)
    torch.testing.assert_close(step, -RATE * natural, rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("momentum", [0.5, 0.99])
def test_steps_with_momentum(momentum: float) -> None:
    ansatz = PairNetwork()
    optimiser, previous = spring(ansatz, momentum), None
    for iteration in range(3):
        electrons, deviation = batch()
        step = vector(optimiser.step(electrons, deviation, iteration), ansatz)
        previous = dense_direction(centred_scores(ansatz, electrons), deviation, previous, momentum)
        torch.testing.assert_close(step, -RATE * previous, rtol=1e-8, atol=1e-10)
    optimiser.reset()
    step = vector(optimiser.step(electrons, deviation, 3), ansatz)
    first = dense_direction(centred_scores(ansatz, electrons), deviation, None, momentum)
    torch.testing.assert_close(step, -RATE * first, rtol=1e-8, atol=1e-10)


@pytest.mark.parametrize("groups", [2, 3, 6])
def test_groups_of_walkers_take_the_same_steps(groups: int) -> None:
    ansatz = PairNetwork()
    whole, grouped = spring(ansatz, 0.9), spring(ansatz, 0.9)
    grouped.scores.groups = groups
    for iteration in range(3):
        electrons, deviation = batch()
        expected = vector(whole.step(electrons, deviation, iteration), ansatz)
        step = vector(grouped.step(electrons, deviation, iteration), ansatz)
        torch.testing.assert_close(step, expected, rtol=1e-10, atol=1e-10 * float(expected.abs().max()))


def test_caution_multiplies_the_damping() -> None:
    ansatz, (electrons, deviation) = PairNetwork(), batch()
    optimiser = spring(ansatz)
    optimiser.caution = 16.0
    step = vector(optimiser.step(electrons, deviation, 0), ansatz)
    expected = dense_direction(centred_scores(ansatz, electrons), deviation, None, 0.0, caution=16.0)
    torch.testing.assert_close(step, -RATE * expected, rtol=1e-8, atol=1e-10)


@pytest.mark.parametrize("momentum", [0.0, 0.9])
def test_step_is_bounded_in_the_change_of_log_psi(momentum: float) -> None:
    ansatz, bound = PairNetwork(), 1e-6
    optimiser, free = spring(ansatz, momentum, bound), spring(ansatz, momentum)
    for iteration in range(2):
        electrons, deviation = batch()
        step = vector(optimiser.step(electrons, deviation, iteration), ansatz)
        unbounded = vector(free.step(electrons, deviation, iteration), ansatz)
        change = centred_scores(ansatz, electrons) @ step
        assert float(change.square().sum()) == pytest.approx(bound, rel=1e-6)
        torch.testing.assert_close(step / step.norm(), unbounded / unbounded.norm(), rtol=1e-6, atol=1e-9)


def test_a_small_step_lowers_the_weighted_log_psi() -> None:
    """To first order the energy changes by 2 <deviation log|psi|>."""
    ansatz, (electrons, deviation) = PairNetwork(), batch()
    before = (deviation * ansatz(electrons)[1]).mean().detach()
    step = spring(ansatz, max_norm=1e-8).step(electrons, deviation, 0)
    with torch.no_grad():
        for name, p in ansatz.named_parameters():
            p.add_(step[name])
    assert (deviation * ansatz(electrons)[1]).mean() < before


def test_steps_do_not_change_parameters() -> None:
    ansatz = PairNetwork()
    before = [p.clone() for p in ansatz.parameters()]
    spring(ansatz, 0.9).step(*batch(), 0)
    assert all(torch.equal(p, old) for p, old in zip(ansatz.parameters(), before, strict=True))


def test_the_state_can_be_restored() -> None:
    ansatz = PairNetwork()
    one, two = spring(ansatz, 0.9), spring(ansatz, 0.9)
    one.step(*batch(), 0)
    two.load_state_dict(deepcopy(one.state_dict()))
    electrons, deviation = batch()
    first, second = (optimiser.step(electrons, deviation, 1) for optimiser in (one, two))
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_solve_of_an_indefinite_matrix_clamps_its_spectrum() -> None:
    vectors = torch.linalg.qr(torch.randn(6, 6))[0]
    values = torch.tensor([-1e-3, -1e-9, 0.0, 1e-3, 1.0, 10.0])
    rhs = torch.randn(6)
    expected = vectors @ ((vectors.T @ rhs) / (values.clamp(min=0) + 1e-5))
    solution = solve_damped(vectors @ torch.diag(values) @ vectors.T, torch.tensor(1e-5), rhs)
    torch.testing.assert_close(solution, expected, rtol=1e-6, atol=1e-6)


def test_solve_of_a_definite_matrix_and_of_no_matrix() -> None:
    scores = torch.randn(5, 9)
    gram, rhs = scores @ scores.T, torch.randn(5)
    solution = solve_damped(gram, torch.tensor(0.1), rhs)
    torch.testing.assert_close((gram + 0.1 * torch.eye(5)) @ solution, rhs)
    gram[1, 1] = torch.nan
    assert solve_damped(gram, torch.tensor(0.1), rhs).isnan().all()


@pytest.mark.parametrize(
    ("variance", "iteration", "expected"), [(1e-6, 0, 0.03), (0.4, 100, 0.005), (8.0, 100, 0.004), (8.0, 700, 0.001)]
)
def test_the_learning_rate_follows_the_variance(variance: float, iteration: int, expected: float) -> None:
    """Between the schedule, 0.002 / V and the least rate, which falls with the iterations."""
    spring = Spring(
        torch.nn.Linear(1, 1), 5, Constant(0.03), DAMPING, 0.99, 1.0, noise=2e-3, least=InverseDecay(0.008, 100)
    )
    deviation = torch.tensor([1.0, -1.0]).double() * variance**0.5
    assert spring.rate(iteration, deviation) == pytest.approx(expected)
