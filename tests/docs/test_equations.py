"""Equations of docs/theory, written out term by term, agree with the code that the pages name for them."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from fusion.chemistry.system import System
from fusion.evaluation.uncertainty import calibrated
from fusion.functionals import DensityFeatures
from fusion.wavefunctions.diffusion.population import population_bias
from fusion.wavefunctions.diffusion.walk import Walk, Walkers, place
from fusion.wavefunctions.estimators.forces import Forces
from fusion.wavefunctions.excited.spectrum import oscillator_strength
from fusion.wavefunctions.jastrow import CuspJastrow
from fusion.wavefunctions.jets import LogPsi
from fusion.wavefunctions.proposals import ScaledElectrons
from fusion.wavefunctions.statistics import blocked
from fusion.wavefunctions.three_body import ThreeBodyJastrow
from fusion_ani.aev import Environment, Layout, vectors
from fusion_dm21.network import DM21
from fusion_ferminet.network import FermiNet
from fusion_psiformer.network import Psiformer

pytestmark = pytest.mark.usefixtures("double_precision")

CH = System("CH", ("C", "H"), np.array([[0.0, 0.0, 0.0], [0.0, 0.0, 2.1]]), spin=1)
LIH = System("LiH", ("Li", "H"), np.array([[0.0, 0.0, 0.0], [0.0, 0.0, 3.0]]))


def walkers(system: System, number: int = 3) -> Tensor:
    return torch.randn(number, system.n_electrons, 3, generator=torch.Generator().manual_seed(1))


def test_environment_vectors() -> None:
    """aev.md, section "Environment vectors"."""
    environment = Environment(4.0, 3.0, (0.5, 1.5), 3.0, 2.0, (0.8, 1.6), 5.0, (0.4, 2.0))
    species = [0, 1, 0, 1, 1]
    places = 1.2 * torch.randn(5, 3, generator=torch.Generator().manual_seed(0))
    pairs = [(i, j) for i in range(5) for j in range(5) if i != j]
    centre, other = torch.tensor(pairs).T
    layout = Layout(torch.tensor(species), centre, other, torch.arange(0, 21, 4), 2)
    result = vectors(environment, places[other] - places[centre], layout)[layout.row]

    def cutoff(r: float, reach: float) -> float:
        return 0.5 + 0.5 * math.cos(math.pi * r / reach) if r <= reach else 0.0

    for i in range(5):
        r = {j: float((places[j] - places[i]).norm()) for j in range(5) if j != i}
        radial = torch.zeros(2, 2)
        for j in r:
            for s, shift in enumerate(environment.radial_shifts):
                radial[species[j], s] += 0.25 * math.exp(-3.0 * (r[j] - shift) ** 2) * cutoff(r[j], 4.0)
        angular = torch.zeros(3, 2, 2)
        for j, k in ((j, k) for j in r for k in r if j < k):
            cosine = 0.95 * float((places[j] - places[i]) @ (places[k] - places[i])) / (r[j] * r[k])
            block = species[j] + species[k]  # columns of the upper triangle: (0, 0), (0, 1), (1, 1)
            for s, shift in enumerate(environment.angular_shifts):
                for t, angle in enumerate(environment.angle_shifts):
                    term = 2 * ((1 + math.cos(math.acos(cosine) - angle)) / 2) ** 5
                    term *= math.exp(-2.0 * ((r[j] + r[k]) / 2 - shift) ** 2)
                    angular[block, s, t] += term * cutoff(r[j], 3.0) * cutoff(r[k], 3.0)
        expected = torch.cat((radial.flatten(), angular.flatten()))
        torch.testing.assert_close(result[i], expected, rtol=1e-10, atol=1e-12)


def test_factor_and_limit_of_an_uncertainty() -> None:
    """aev.md, section "Spread and calibrated uncertainty"."""
    rng = np.random.default_rng(0)
    std, errors, atoms = rng.uniform(0.5, 2, 40), rng.normal(size=40), rng.integers(3, 9, 40)
    found = calibrated(std, errors, atoms)
    assert found is not None
    factor = np.sort(np.abs(errors) / std)[math.ceil(41 * math.erf(2**-0.5)) - 1]
    assert found.factor == pytest.approx(factor)
    assert found.limit == pytest.approx(np.max(factor * std / np.sqrt(atoms)))


def test_energy_density_of_dm21() -> None:
    """dm21.md, section "The network of DM21"."""
    model, generator = DM21(width=8, depth=6), torch.Generator().manual_seed(2)
    rho, tau, e0, e4 = (torch.rand(2, 4, generator=generator) for _ in range(4))
    grad = torch.randn(2, 3, 4, generator=generator)
    features = DensityFeatures(rho=rho, grad=grad, tau=tau, hfx={0.0: -e0, 0.4: -e4})
    (up, down), total = grad.square().sum(1), grad.sum(0).square().sum(0)
    x = torch.stack((*rho, total, up, down, *tau, -e0[0], -e4[0], -e0[1], -e4[1]), dim=1)
    h = torch.tanh(torch.log(x.abs() + 1e-4 + 1e-9) @ model.input.weight.T + model.input.bias)
    for block in model.blocks:
        linear, norm = block.linear, block.norm
        y = h + h @ linear.weight.T + linear.bias
        y = (y - y.mean(1, keepdim=True)) / (y.var(1, unbiased=False, keepdim=True) + 1e-5).sqrt()
        h = torch.nn.functional.elu(y * norm.weight + norm.bias)
    f = 2 / (1 + torch.exp(-(h @ model.output.weight.T + model.output.bias) / 2))
    lda = -0.75 * (6 / math.pi) ** (1 / 3) * (rho ** (4 / 3)).sum(0)
    expected = f[:, 0] * lda - f[:, 1] * e0.sum(0) - f[:, 2] * e4.sum(0)
    torch.testing.assert_close(model.energy_density(features), expected, rtol=1e-12, atol=1e-12)


def test_orbitals_envelopes_and_determinants() -> None:
    """ferminet.md, section "Orbitals, envelopes, determinants"; the streams are tested with the plugin."""
    ansatz = FermiNet(LIH, one_electron=6, two_electron=3, layers=2, determinants=2)
    with torch.no_grad():
        for envelope in ansatz.envelope:
            envelope.sigma.uniform_(-1.5, 1.5)
    x, nuclei = walkers(LIH), torch.tensor(LIH.positions)
    vector = x.unsqueeze(2) - nuclei
    distance = vector.norm(dim=-1)
    h = ansatz.trunk(x, vector, distance)
    rows = []
    for i in range(4):
        spin = 0 if i < 2 else 1
        envelope = ansatz.envelope[spin]
        decay = (envelope.pi * torch.exp(-envelope.sigma.abs() * distance[:, i, :, None])).sum(1)
        rows.append((h[:, i] @ ansatz.orbital[spin].weight.T * decay).unflatten(-1, (2, 4)))
    psi = torch.linalg.det(torch.stack(rows, dim=2)).sum(1)
    sign, log = ansatz(x)
    torch.testing.assert_close(sign * log.exp(), psi, rtol=1e-10, atol=1e-14)


def test_jastrow_factors() -> None:
    """ferminet.md, section "Jastrow factors"."""
    x, nuclei = walkers(CH), torch.tensor(CH.positions)
    cusp, three = CuspJastrow(CH.n_up, CH.n_down), ThreeBodyJastrow(CH)
    with torch.no_grad():
        cusp.length.copy_(torch.tensor([0.7, 1.3]))
        three.coefficients.normal_(generator=torch.Generator().manual_seed(3))

    def functions(r: Tensor, decay: Tensor) -> Tensor:
        f = r**2 / (r + 1 / decay[-1])
        return torch.cat((torch.ones(1), torch.exp(-decay * f)))

    for walker in range(len(x)):
        expected_cusp, expected_three = torch.zeros(()), torch.zeros(())
        for i in range(CH.n_electrons):
            for j in range(i + 1, CH.n_electrons):
                r = (x[walker, i] - x[walker, j]).norm()
                opposite = i < CH.n_up <= j
                a, c = (1.3, 0.5) if opposite else (0.7, 0.25)
                expected_cusp = expected_cusp - c * a**2 / (a + r)
                for nucleus, place_ in enumerate(nuclei):
                    g = [functions((x[walker, e] - place_).norm(), three.decay_nuclear[nucleus]) for e in (i, j)]
                    coefficients = three.coefficients[nucleus, int(opposite)]
                    symmetric = (coefficients + coefficients.mT) / 2
                    terms = torch.einsum("cab,a,b,c->", symmetric, *g, functions(r, three.decay_electronic))
                    expected_three = expected_three + terms
        distance = (x.unsqueeze(2) - nuclei).norm(dim=-1)
        torch.testing.assert_close(cusp(x)[walker], expected_cusp)
        torch.testing.assert_close(three(x, distance)[walker], expected_three)


def test_self_attention_between_electrons() -> None:
    """psiformer.md, section "Network"."""
    trunk = Psiformer(LIH, heads=2, head_width=3, mlp=(5,), layers=1, determinants=1).trunk
    x = walkers(LIH)
    vector = x.unsqueeze(2) - torch.tensor(LIH.positions)
    distance = vector.norm(dim=-1)
    result = trunk(x, vector, distance)

    def normalised(y: Tensor, layer: torch.nn.Module) -> Tensor:
        centred = y - y.mean(-1, keepdim=True)
        return layer.weight * centred / (centred.square().mean(-1, keepdim=True) + 1e-5).sqrt() + layer.bias

    r = distance.unsqueeze(-1)
    inputs = torch.cat((torch.log(1 + r), torch.log(1 + r) / r * vector), dim=-1).flatten(2)
    spins = torch.tensor([1.0, 1.0, -1.0, -1.0]).expand(3, 4).unsqueeze(-1)
    y = torch.cat((inputs, spins), dim=-1) @ trunk.embedding.weight.T
    attending, first, perceptron, second = trunk.layers
    attention, heads = attending.inner, []
    for head in (slice(0, 3), slice(3, 6)):
        q, k, v = (y @ layer.weight[head].T for layer in (attention.query, attention.key, attention.value))
        weights = torch.exp(q @ k.mT / math.sqrt(3))
        heads.append(weights / weights.sum(-1, keepdim=True) @ v)
    y = normalised(y + torch.cat(heads, dim=-1) @ attention.output.weight.T, first)
    inner, _, outer, _ = perceptron.inner
    hidden = torch.tanh(y @ inner.weight.T + inner.bias)
    y = normalised(y + torch.tanh(hidden @ outer.weight.T + outer.bias), second)
    torch.testing.assert_close(result, y, rtol=1e-10, atol=1e-12)


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
