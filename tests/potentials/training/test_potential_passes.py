"""Gradients of the loss: ANI's own passes against automatic differentiation, and this against finite differences."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from structures import METHANE, WATER, Linear, labelled
from torch import Tensor, nn

from fusion.chemistry.units import BOHR_PER_ANGSTROM
from fusion.datasets import Labelled
from fusion.potentials.batch import batch_of
from fusion.potentials.training.loss import Counts, Weights, loss, steepened
from fusion.potentials.training.passes import Differentiated, Found, Passes
from fusion.potentials.training.targets import Labels
from fusion_ani.network import ANI, ANI1
from fusion_ani.products import product_of

SMALL: dict[str, Any] = {
    "elements": ["H", "C", "N", "O"],
    "members": 2,
    "hidden": {"H": [9, 7], "C": [8, 8], "N": [8, 6], "O": [10, 6, 5]},
    "radial_cutoff": 3.1,
    "radial_eta": 4.0,
    "radial_shifts": [0.8 + 0.15 * shift for shift in range(16)],
    "angular_cutoff": 2.6,
    "angular_eta": 3.0,
    "angular_shifts": [0.8, 1.2, 1.6, 2.0],
    "zeta": 8.0,
    "angle_shifts": [0.4, 0.8, 1.2, 1.6, 2.0, 2.4, 2.8, 3.0],  # as many as in ANI-1x: the same kernels
}


def model(kind: type[ANI] = ANI, dtype: torch.dtype = torch.float64) -> ANI:
    torch.manual_seed(1)
    ani = kind(**SMALL)
    for name, parameter in ani.named_parameters():
        if kind is ANI1 or "biases" in name:
            nn.init.normal_(parameter, std=0.3)
    return ani.to(dtype)


def gradients(
    module: nn.Module, passes: Passes, labels: Labels, indices: np.ndarray, weights: Weights, used: Tensor
) -> tuple[Tensor, dict[str, Tensor]]:
    module.zero_grad(set_to_none=True)
    said, back = passes(indices, weights.forces > 0, weights.stress > 0, True)
    result = loss(said, labels.batch(indices), weights, Counts.of(labels, indices, used), used)
    assert back is not None
    back(result.by)
    return result.value, {name: p.grad.clone() for name, p in module.named_parameters() if p.grad is not None}


def assert_same(data: Labelled, ani: ANI, weights: Weights, tolerance: float = 1e-10) -> None:
    indices = np.array([5, 0, 3, 2])
    labels = Labels(data, data.energy, next(ani.parameters()).dtype)
    used = torch.tensor([[1, 1, 1, 0], [1, 0, 1, 1]]).bool()
    value, fast = gradients(ani, ani.passes(data, 1.0), labels, indices, weights, used)
    expected, slow = gradients(ani, Differentiated(ani, data), labels, indices, weights, used)
    assert value.tolist() == pytest.approx(expected.tolist(), rel=10 * tolerance)
    for name, gradient in slow.items():
        scale = float(gradient.abs().max())
        assert float((fast.get(name, 0.0) - gradient).abs().max()) <= tolerance * scale, name


@pytest.mark.parametrize("kind", [ANI, ANI1])
@pytest.mark.parametrize(
    "weights",
    [
        pytest.param(Weights(1.0, 0.0, 0.0), id="energies", marks=pytest.mark.slow),
        pytest.param(Weights(0.0, 1.0, 0.0), id="forces", marks=pytest.mark.slow),
        pytest.param(Weights(0.7, 0.2, 0.0), id="both"),
    ],
)
def test_gradients_agree_with_automatic_differentiation(kind: Any, weights: Any) -> None:
    assert_same(labelled(6), model(kind), weights)


def test_gradients_where_the_data_have_all_elements_of_the_model() -> None:
    """With three or more elements the kernels' blocks of pairs are not in the published order."""
    assert_same(labelled(6), model().restricted(["H", "C", "O"]).double(), Weights(0.7, 0.2, 0.0))


@pytest.mark.slow
def test_gradients_in_single_precision() -> None:
    assert_same(labelled(6), model(dtype=torch.float32), Weights(1.0, 1.0, 0.0), tolerance=3e-6)


def test_gradients_of_the_stress() -> None:
    data = labelled(6)
    cells = np.tile(np.diag([5.0, 5.5, 6.0]) + 0.2, (6, 1, 1))
    stress = np.random.default_rng(0).normal(scale=1e-3, size=(6, 3, 3))
    stress[3] = np.nan
    stress = stress + stress.swapaxes(1, 2)
    crystals = replace(data, cell=cells, pbc=np.ones((6, 3), dtype=bool), stress=stress)
    assert_same(crystals, model(), Weights(0.3, 0.5, 0.2))


def test_gradients_where_labels_are_missing() -> None:
    data = labelled(6)
    data.energy[5], data.forces[data.offsets[3] : data.offsets[4]] = np.nan, np.nan
    assert_same(data, model(), Weights(1.0, 1.0, 0.0))


def test_pairs_that_do_not_fit_into_memory_are_recomputed() -> None:
    data, ani = labelled(6), model()
    cached, recomputed = ani.passes(data, 1.0), ani.passes(data, 1e-9)
    assert cached.store.kept is not None and recomputed.store.kept is None
    one, two = (passes(np.array([4, 1]), True, False, False)[0] for passes in (cached, recomputed))
    assert torch.equal(one.energy, two.energy) and torch.equal(one.forces, two.forces)


def test_vectors_of_structures_are_computed_once() -> None:
    data, ani, some = labelled(6), model(), np.array([4, 1, 0])
    passes = ani.passes(data, 1.0)
    made, _ = passes(some[:2], True, False, False)
    assert passes.environments.made.tolist() == [False, True, False, False, True, False]
    passes(some, False, False, False)
    kept, _ = passes(some[:2], True, False, False)
    assert torch.equal(made.energy, kept.energy) and torch.equal(made.forces, kept.forces)


def test_members_are_distributed_over_threads(request: pytest.FixtureRequest) -> None:
    request.addfinalizer(lambda: torch.set_num_threads(1))
    data, ani, indices = labelled(40), model(), np.arange(40)
    labels, used = Labels(data, data.energy, torch.float64), torch.ones(2, 40, dtype=torch.bool)
    results = []
    for threads in (1, 2):
        torch.set_num_threads(threads)
        results.append(gradients(ani, ani.passes(data, 1.0), labels, indices, Weights(1.0, 1.0, 0.0), used))
    assert torch.equal(results[0][0], results[1][0])
    assert all(torch.equal(gradient, results[1][1][name]) for name, gradient in results[0][1].items())


@pytest.mark.parametrize("rows", [1, 5, 31])
@pytest.mark.parametrize("turned", [False, True])
def test_products_of_any_size(rows: int, turned: bool) -> None:
    random, (depth, columns) = np.random.default_rng(0), (300, 37)
    left, right = random.normal(size=(rows, depth)), random.normal(size=(depth, columns))
    start, memory = random.normal(size=(1, columns)), np.full((rows + 1, columns), 7.0)
    product_of(memory[:rows], start, np.ascontiguousarray(left.T) if turned else left, turned, right)
    assert np.allclose(memory[:rows], start + left @ right, atol=1e-12) and (memory[rows] == 7.0).all()


def test_frozen_parameters_get_no_gradient() -> None:
    data, ani = labelled(6), model()
    ani.networks["H"].requires_grad_(False)
    ani.networks["C"].weights[0].requires_grad_(False)
    labels = Labels(data, data.energy, torch.float64)
    arguments = labels, np.arange(4), Weights(1.0, 1.0, 0.0), torch.ones(2, 4, dtype=torch.bool)
    _, fast = gradients(ani, ani.passes(data, 1.0), *arguments)
    _, slow = gradients(ani, Differentiated(ani, data), *arguments)
    slow = {name: gradient for name, gradient in slow.items() if gradient.any()}
    assert {name for name, gradient in fast.items() if gradient.any()} == set(slow)
    assert all(torch.allclose(fast[name], slow[name], rtol=1e-10) for name in slow)


def test_gradients_of_the_loss_agree_with_finite_differences() -> None:
    data, linear = labelled(5, molecules=(WATER, METHANE)), Linear()
    linear.weights.data.normal_(generator=torch.Generator().manual_seed(3))
    labels, indices = Labels(data, data.energy + 75.0, torch.float64), np.arange(5)
    arguments = labels, indices, Weights(0.4, 0.6, 0.0), torch.ones(1, 5, dtype=torch.bool)
    _, analytic = gradients(linear, Differentiated(linear, data), *arguments)
    step = 1e-5
    for place in ((0, 1), (2, 0), (1, 1)):
        values = []
        for sign in (1, -1):
            linear.weights.data[place] += sign * step
            values.append(float(gradients(linear, Differentiated(linear, data), *arguments)[0]))
            linear.weights.data[place] -= sign * step
        assert float(analytic["weights"][place]) == pytest.approx((values[0] - values[1]) / (2 * step), rel=1e-6)


def test_derivatives_of_the_exponential_cost_agree_with_finite_differences() -> None:
    slopes, tau, step = torch.tensor([[0.3, -0.2], [1.0, 0.5]], dtype=torch.float64), 4.0, 1e-6
    value = torch.tensor([2.0, 7.0], dtype=torch.float64)  # a linear L
    derivatives = steepened(Found(slopes, slopes[:, :, None].float()), value, tau)
    ends = [tau * ((value[:, None] + sign * step * slopes) / tau).exp() for sign in (1, -1)]
    assert torch.allclose(derivatives.energy, (ends[0] - ends[1]) / (2 * step), rtol=1e-7)
    assert derivatives.forces is not None and derivatives.forces.dtype == torch.float32 and derivatives.stress is None
    assert torch.allclose(derivatives.forces[:, :, 0], derivatives.energy.float())
    far = steepened(derivatives, 1e9 * value, tau).energy
    assert torch.allclose(far, derivatives.energy * np.exp(2.0))


def test_the_loss_is_the_mean_over_the_whole_batch() -> None:
    data = labelled(5)
    linear, labels = Linear(), Labels(data, data.energy, torch.float64)
    used, indices = torch.ones(1, 5, dtype=torch.bool), np.arange(5)
    counts = Counts.of(labels, indices, used)
    assert [float(count) for count in (counts.energy, counts.forces, counts.stress)] == [5.0, 19.0, 0.0]
    whole, parts = 0.0, 0.0
    for rows in (slice(0, 5), slice(0, 2), slice(2, 5)):
        said, _ = Differentiated(linear, data)(indices[rows], True, False, True)
        value = loss(said, labels.batch(indices[rows]), Weights(1.0, 1.0, 0.0), counts, used[:, rows]).value
        whole, parts = (float(value), parts) if rows == slice(0, 5) else (whole, parts + float(value))
    assert parts == pytest.approx(whole, rel=1e-12)


def test_stress_and_forces_of_the_passes_agree_with_the_model() -> None:
    from fusion.potentials.derivatives import evaluate

    data, ani = labelled(4), model()
    cells = np.tile(np.diag([5.0, 5.5, 6.0]) * BOHR_PER_ANGSTROM, (4, 1, 1))
    crystals = replace(data, cell=cells, pbc=np.ones((4, 3), dtype=bool), stress=np.zeros((4, 3, 3)))
    said, _ = ani.passes(crystals, 1.0)(np.arange(4), True, True, False)
    batch = batch_of(crystals, np.arange(4), torch.float64)
    prediction, expected = evaluate(ani, batch, ("forces", "stress"))
    assert torch.allclose(said.energy, prediction.members, atol=1e-12)
    assert torch.allclose(said.forces.mean(0), expected["forces"][batch.mask], atol=1e-12)
    assert torch.allclose(said.stress.mean(0), expected["stress"], atol=1e-13)
