"""K-FAC steps agree with the Kronecker formula."""

from __future__ import annotations

from copy import deepcopy

import pytest
import torch
from torch import Tensor, nn

from exact import PairNetwork, explicit_scores, matrix
from fusion.wavefunctions.optimisers import Constant
from fusion.wavefunctions.optimisers.kfac import Kfac

pytestmark = pytest.mark.usefixtures("double_precision")

RATE, DAMPING, DECAY = 0.05, 1e-2, 0.8


class OneLayer(nn.Module):
    """log|psi| = sum of a (non)linear function of one layer, applied to each electron."""

    def __init__(self, out: int, bias: bool, curved: bool) -> None:
        super().__init__()
        self.layer, self.curved = nn.Linear(3, out, bias=bias), curved

    def forward(self, electrons: Tensor) -> tuple[Tensor, Tensor]:
        h = self.layer(electrons)
        log = (torch.tanh(h) if self.curved else h).sum((1, 2))
        return torch.ones_like(log), log


def kfac(ansatz: nn.Module, damping: float = DAMPING, max_norm: float = 1e9, full_block: int = 512) -> Kfac:
    return Kfac(ansatz, 7, Constant(RATE), damping, DECAY, max_norm, full_block)


def batch(walkers: int, electrons: int) -> tuple[Tensor, Tensor]:
    deviation = torch.randn(walkers)
    return torch.randn(walkers, electrons, 3), deviation - deviation.mean()


def factors(ansatz: OneLayer, electrons: Tensor) -> tuple[Tensor, Tensor]:
    """Return <a a^T> and 2 R <g g^T> over walkers and electrons."""
    a = electrons.flatten(0, 1)
    g = 1 - torch.tanh(ansatz.layer(a)).detach().square()
    if ansatz.layer.bias is not None:
        a = torch.cat((a, torch.ones(len(a), 1)), dim=1)
    return a.T @ a / len(a), 2 * electrons.shape[1] * g.T @ g / len(g)


def gradient(ansatz: nn.Module, electrons: Tensor, deviation: Tensor) -> dict[str, Tensor]:
    scores = explicit_scores(ansatz, electrons)
    return {name: torch.einsum("b,b...->...", deviation, rows) / len(deviation) for name, rows in scores.items()}


def kronecker_step(left: Tensor, right: Tensor, grad: Tensor, damping: float) -> Tensor:
    """Return -rate (right x left with factored Tikhonov damping)^-1 grad for a weight (out, in), by the full matrix."""
    pi = (left.trace() / len(left) / (right.trace() / len(right))).sqrt()
    left = left + pi * damping**0.5 * torch.eye(len(left))
    right = right + damping**0.5 / pi * torch.eye(len(right))
    return -RATE * torch.linalg.solve(torch.kron(right, left), grad.flatten()).view_as(grad)


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("caution", [1.0, 64.0])
def test_steps_of_one_layer_follow_the_kronecker_formula(bias: bool, caution: float) -> None:
    ansatz = OneLayer(4, bias, curved=True)
    optimiser = kfac(ansatz)
    optimiser.caution = caution
    left = right = torch.tensor(0.0)
    weight = 0.0
    for iteration in range(3):
        electrons, deviation = batch(20, 2)
        step = optimiser.step(electrons, deviation, iteration)
        new_left, new_right = factors(ansatz, electrons)
        left, right, weight = DECAY * left + new_left, DECAY * right + new_right, DECAY * weight + 1
        grads = gradient(ansatz, electrons, deviation)
        grad = grads["layer.weight"]
        if bias:
            grad = torch.cat((grad, grads["layer.bias"].unsqueeze(1)), dim=1)
        expected = kronecker_step(left / weight, right / weight, grad, caution * DAMPING)
        torch.testing.assert_close(step["layer.weight"], expected[:, :3], rtol=1e-9, atol=1e-12)
        if bias:
            torch.testing.assert_close(step["layer.bias"], expected[:, 3], rtol=1e-9, atol=1e-12)


def test_the_kronecker_form_is_exact_for_a_linear_function_of_one_electron() -> None:
    """Then F = 2 <O O^T> is a Kronecker product, and the step the natural gradient."""
    ansatz, (electrons, deviation) = OneLayer(1, True, curved=False), batch(30, 1)
    step = kfac(ansatz, damping=1e-16).step(electrons, deviation, 0)
    scores = matrix(explicit_scores(ansatz, electrons))
    fisher = 2 * scores.T @ scores / len(scores)
    expected = -RATE * torch.linalg.solve(fisher, scores.T @ deviation / len(scores))
    torch.testing.assert_close(torch.cat([step[n].flatten() for n in ("layer.weight", "layer.bias")]), expected)


def test_other_parameters_have_their_full_or_diagonal_fisher_block() -> None:
    ansatz, (electrons, deviation) = PairNetwork(), batch(20, 2)
    grad = gradient(ansatz, electrons, deviation)["scale"]
    rows = explicit_scores(ansatz, electrons)["scale"]
    fisher = 2 * rows.T @ rows / len(rows)
    full = kfac(ansatz).step(electrons, deviation, 0)["scale"]
    torch.testing.assert_close(full, -RATE * torch.linalg.solve(fisher + DAMPING * torch.eye(3), grad))
    diagonal = kfac(ansatz, full_block=2).step(electrons, deviation, 0)["scale"]
    torch.testing.assert_close(diagonal, -RATE * grad / (fisher.diagonal() + DAMPING))


@pytest.mark.parametrize("full_block", [2, 512])
def test_groups_of_walkers_take_the_same_steps(full_block: int) -> None:
    ansatz = PairNetwork()
    whole, grouped = kfac(ansatz, full_block=full_block), kfac(ansatz, full_block=full_block)
    grouped.scores.groups = 3
    for iteration in range(3):
        electrons, deviation = batch(20, 2)
        expected = whole.step(electrons, deviation, iteration)
        step = grouped.step(electrons, deviation, iteration)
        for name, value in expected.items():
            torch.testing.assert_close(step[name], value, rtol=1e-10, atol=1e-10 * float(value.abs().max()))


def test_step_is_bounded() -> None:
    ansatz, (electrons, deviation), bound = PairNetwork(), batch(20, 2), 1e-7
    step = kfac(ansatz, max_norm=bound).step(electrons, deviation, 0)
    free = kfac(ansatz).step(electrons, deviation, 0)
    grads = gradient(ansatz, electrons, deviation)
    scale = float(step["scale"][0] / free["scale"][0])
    assert scale < 1
    for name in step:
        torch.testing.assert_close(step[name], scale * free[name])
    # eta^2 g F^-1 g with the unbounded direction d = F^-1 g = -free / RATE
    norm = sum(float((grads[name] * -free[name]).sum()) / RATE for name in grads)
    assert (RATE * scale) ** 2 * norm == pytest.approx(bound)


def test_steps_do_not_change_parameters() -> None:
    ansatz = PairNetwork()
    before = [p.clone() for p in ansatz.parameters()]
    kfac(ansatz).step(*batch(10, 2), 0)
    assert all(torch.equal(p, old) for p, old in zip(ansatz.parameters(), before, strict=True))


def test_the_state_can_be_restored() -> None:
    ansatz = PairNetwork()
    one, two = kfac(ansatz), kfac(ansatz)
    one.step(*batch(10, 2), 0)
    two.load_state_dict(deepcopy(one.state_dict()))
    electrons, deviation = batch(10, 2)
    first, second = (optimiser.step(electrons, deviation, 1) for optimiser in (one, two))
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_reset_discards_only_curvature_that_is_not_finite() -> None:
    optimiser = kfac(PairNetwork())
    optimiser.step(*batch(10, 2), 0)
    optimiser.reset()
    assert optimiser.averages
    optimiser.averages["scale"][0] = torch.inf
    optimiser.reset()
    assert not optimiser.averages
    step = optimiser.step(*batch(10, 2), 0)
    assert all(torch.isfinite(change).all() for change in step.values())
