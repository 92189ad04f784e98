"""The gradient 2 <(E_L - E) O> against finite differences of the energy, with walkers that sample |psi|^2 exactly."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.stats import gamma
from torch import Tensor

from exact import Slater1s, molecule
from fusion.chemistry.system import System
from fusion.wavefunctions.clipping import clip
from fusion.wavefunctions.hamiltonians import molecular
from fusion.wavefunctions.scores import ScoreRecorder

pytestmark = pytest.mark.usefixtures("double_precision")


def on_spheres(r: np.ndarray, seed: int = 0) -> Tensor:
    """Electrons (B, N, 3) at radii r (B, N) in random directions."""
    direction = np.random.default_rng(seed).normal(size=(*r.shape, 3))
    direction /= np.linalg.norm(direction, axis=-1, keepdims=True)
    return torch.tensor(r[..., None] * direction)


def estimate(system: System, ansatz: Slater1s, electrons: Tensor) -> tuple[float, dict[str, Tensor]]:
    """Energy and its gradient, as the optimisers compute it."""
    local = clip(molecular(system).local_energy(ansatz, electrons, len(electrons)), width=1e6)
    scores = ScoreRecorder(ansatz, len(electrons))(electrons)
    return local.mean, scores.transpose_apply(2 * local.deviation / len(electrons))


def quadrature_energy(a: float, b: float) -> float:
    """<H> of hydrogen for psi = exp(-a r - b r^2), from the radial integrals of the gradient and 1/r."""
    r = np.linspace(1e-6, 40, 200_001)
    density = r * r * np.exp(-2 * a * r - 2 * b * r * r)
    return float(np.sum(density * (0.5 * (a + 2 * b * r) ** 2 - 1 / r)) / np.sum(density))


@pytest.mark.parametrize("a", [0.8, 1.0, 1.3])
def test_gradient_of_hydrogen_by_quadrature(a: float) -> None:
    """Radii at equal steps of the cumulative density integrate without noise."""
    uniform = (np.arange(40_000) + 0.5) / 40_000
    electrons = on_spheres(gamma.ppf(uniform, 3, scale=1 / (2 * a))[:, None])
    energy, gradient = estimate(molecule("H"), Slater1s(a), electrons)
    h = 1e-3
    by_a = (quadrature_energy(a + h, 0) - quadrature_energy(a - h, 0)) / (2 * h)
    by_b = (quadrature_energy(a, h) - quadrature_energy(a, -h)) / (2 * h)
    assert energy == pytest.approx(a * a / 2 - a, abs=1e-4)
    assert float(gradient["a"]) == pytest.approx(by_a, abs=2e-3)
    assert float(gradient["b"]) == pytest.approx(by_b, abs=5e-3)
    assert by_a == pytest.approx(a - 1, abs=1e-5)


@pytest.mark.parametrize(
    ("symbol", "charge", "z", "electrons", "a"), [("H", 0, 1, 1, 1.3), ("He", 0, 2, 2, 2.0), ("H", -1, 1, 2, 1.0)]
)
def test_gradient_has_no_bias(symbol: str, charge: int, z: int, electrons: int, a: float) -> None:
    """E(a) = N a^2 / 2 - N Z a, plus 5 a / 8 for two electrons."""
    system, ansatz = molecule(symbol, charge=charge), Slater1s(a)
    random = np.random.default_rng(7)
    energies, gradients = [], []
    for batch in range(20):
        r = random.gamma(3, 1 / (2 * a), size=(4096, electrons))
        energy, gradient = estimate(system, ansatz, on_spheres(r, batch))
        energies.append(energy)
        gradients.append(float(gradient["a"]))
    repulsion = 0.625 if electrons == 2 else 0.0
    expected = electrons * (a - z) + repulsion
    error = np.std(gradients, ddof=1) / 20**0.5
    assert error < 0.02
    assert np.mean(gradients) == pytest.approx(expected, abs=3.5 * error)
    assert abs(expected) > 10 * error  # the test could tell a factor of 2
    error = np.std(energies, ddof=1) / 20**0.5
    assert np.mean(energies) == pytest.approx(electrons * (a * a / 2 - z * a) + repulsion * a, abs=3.5 * error)
