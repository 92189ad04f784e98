"""The penalty that keeps separate states apart: its derivative, the noise of its estimate, overlaps."""

from __future__ import annotations

from typing import Any, cast

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from fusion.wavefunctions.clipping import clip
from fusion.wavefunctions.excited.local_matrix import StateEnergy
from fusion.wavefunctions.excited.penalty import PenalisedOptimisation, half_overlaps, overlaps, pushes, ratios_of

pytestmark = pytest.mark.usefixtures("double_precision")


def penalised(penalty: float) -> PenalisedOptimisation:
    """Optimisation whose deviations are asked for directly, with neither walkers nor optimiser."""
    return PenalisedOptimisation(*[nn.Linear(1, 1), *[cast(Any, None)] * 3, 0, 5.0, 1], penalty=penalty)


def test_the_penalty_pushes_along_the_derivative_of_the_squared_overlap() -> None:
    """exp(-r) and exp(-b r): S = 8 b^(3/2) / (1 + b)^3, with r^2 psi^2 sampled exactly."""
    b, count = 0.8, 200_000
    stream = torch.Generator().manual_seed(0)
    radii = [
        -torch.rand(count, 3, generator=stream).log().sum(1) / (2 * exponent) for exponent in (1.0, b)
    ]  # sums of three exponential variables
    values = torch.stack([torch.stack((torch.exp(-r), torch.exp(-b * r)), dim=-1) for r in radii], dim=1)
    zero = torch.zeros(count, 2, 2)
    measured = StateEnergy(torch.zeros(count), {}, zero, values)
    optimisation = penalised(penalty=2.0)
    force = optimisation.deviation(measured, clip(measured.total, 5.0))
    gradient = 2 * float((force[:, 1] * -radii[1]).mean())  # d ln psi / db = -r
    exponent = torch.tensor(b, requires_grad=True)
    squared = (8 * exponent**1.5 / (1 + exponent) ** 3) ** 2
    (expected,) = torch.autograd.grad(2.0 * squared, exponent)
    assert gradient == pytest.approx(float(expected), rel=0.03)


def orthogonal_pair(walkers: int, stream: torch.Generator) -> tuple[Tensor, Tensor]:
    """exp(-r) and (1 - a r) exp(-b r), orthogonal for a = (1 + b) / 3: values (B, 2, 2), r of the second."""
    b = 0.6
    a = (1 + b) / 3
    grid = torch.linspace(1e-3, 40.0, 20_001)
    cumulative = torch.cumsum(((1 - a * grid) * grid).square() * torch.exp(-2 * b * grid), 0)
    first = -torch.rand(walkers, 3, generator=stream).log().sum(1) / 2
    drawn = torch.rand(walkers, generator=stream) * cumulative[-1]
    second = grid[torch.searchsorted(cumulative, drawn).clamp(max=len(grid) - 1)]
    radii = torch.stack((first, second), dim=1)
    return torch.stack((torch.exp(-radii), (1 - a * radii) * torch.exp(-b * radii)), dim=2), second


@pytest.mark.slow
def test_few_walkers_give_the_derivative_of_the_squared_overlap_on_average() -> None:
    """The squared overlap of orthogonal states has no slope; running means have less noise than one iteration."""
    batches, walkers = 400, 64
    stream = torch.Generator().manual_seed(1)
    zero = torch.zeros(walkers, 2, 2)
    optimisation = penalised(penalty=1.0)
    slopes = np.zeros((2, batches))
    for batch in range(batches):
        values, second = orthogonal_pair(walkers, stream)
        one = pushes(values, *half_overlaps(values))
        running = optimisation.deviation(StateEnergy(zero[:, 0, 0], {}, zero, values), clip(zero[:, 0, 0], 5.0))
        slopes[:, batch] = [2 * float((push[:, 1] * -second).mean()) for push in (one, running)]
    noise = slopes[0].std()
    assert abs(slopes[0].mean()) < 3 * noise / batches**0.5  # the same walkers for both factors give 0.023
    later = slopes[1, 100:]
    assert noise < 0.12 and later.std() < 0.35 * noise
    assert abs(later.mean()) < 3 * noise / len(later) ** 0.5


def test_running_means_are_part_of_a_checkpoint() -> None:
    stream = torch.Generator().manual_seed(3)
    zero = torch.zeros(64, 2, 2)
    first, second = (StateEnergy(zero[:, 0, 0], {}, zero, orthogonal_pair(64, stream)[0]) for _ in range(2))
    whole, resumed, fresh = (penalised(penalty=1.0) for _ in range(3))
    local = clip(zero[:, 0, 0], 5.0)
    whole.deviation(first, local)
    resumed.load_state_dict(whole.state_dict())
    expected = whole.deviation(second, local)
    assert torch.equal(resumed.deviation(second, local), expected)
    assert not torch.equal(fresh.deviation(second, local), expected)


def test_the_push_on_a_state_with_nodes_has_its_whole_size() -> None:
    """<r_ji^2> = 1 over the walkers of i, so that the push takes away an admixture of j at its full rate."""
    values, _ = orthogonal_pair(200_000, torch.Generator().manual_seed(2))
    norms, _ = half_overlaps(values)
    push = pushes(values, norms, torch.tensor([[1.0, 0.1], [0.1, 1.0]]).expand(2, 2, 2))
    along = (push[:, 1] * ratios_of(values / norms.mean(0))[:, 1, 0]).mean()
    assert float(along) == pytest.approx(0.1, rel=0.1)


def test_overlaps_of_diffuse_and_compact_states() -> None:
    """exp(-r) and exp(-b r) with b = 1/4, whose ratio has its largest values where exp(-2 r) has no walkers."""
    b, count = 0.25, 20_000
    stream = torch.Generator().manual_seed(0)
    radii = [-torch.rand(count, 3, generator=stream).log().sum(1) / (2 * exponent) for exponent in (1.0, b)]
    values = torch.stack([torch.stack((torch.exp(-r), torch.exp(-b * r)), dim=-1) for r in radii], dim=1).double()
    values[0, 0] = torch.nan
    norms, overlap = overlaps(values * torch.rand(count, 2, 1, generator=stream))
    assert torch.allclose(overlap.diagonal(), torch.ones(2, dtype=torch.float64))
    assert float(overlap[0, 1]) == pytest.approx(8 * b**1.5 / (1 + b) ** 3, abs=0.005)
    assert float(norms[1] / norms[0]) == pytest.approx(b**-1.5, rel=0.02)
