"""Equations of docs/theory about models, written out term by term, agree with the code that the pages name."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from small_molecules import CH, LIH, walkers
from torch import Tensor

from fusion.evaluation.uncertainty import calibrated
from fusion.functionals import DensityFeatures
from fusion.wavefunctions.determinants import laplacian_of_determinants
from fusion.wavefunctions.jastrow import CuspJastrow
from fusion.wavefunctions.jets import Jet
from fusion.wavefunctions.jets import rules as jet_rules
from fusion.wavefunctions.three_body import ThreeBodyJastrow
from fusion_ani.aev import Environment, Layout, vectors
from fusion_dm21.network import DM21
from fusion_ferminet.network import FermiNet
from fusion_psiformer.network import Psiformer
from fusion_skala.network import Skala
from fusion_skala.surroundings import envelope, radial_constants, reach

pytestmark = pytest.mark.usefixtures("double_precision")


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


def test_energy_of_skala() -> None:
    """skala.md, sections "Energy" and "Messages": pairs of points by way of each nucleus, with Legendre polynomials."""
    torch.manual_seed(3)
    model, points, channels = Skala(width=6, channels=4, degree=3), 9, 4
    rho, tau, grad = torch.rand(2, points), torch.rand(2, points), torch.randn(2, 3, points)
    coords, weights, nuclei = 3.0 * torch.randn(points, 3), torch.rand(points), torch.randn(2, 3)
    features = DensityFeatures(rho, grad, tau, coords=coords, weights=weights, nuclei=nuclei)
    squares, total = grad.square().sum(1), grad.sum(0).square().sum(0)
    x, swapped = (torch.stack((*rho[o], *squares[o], *tau[o], total), dim=1) for o in ([0, 1], [1, 0]))
    h = 0.5 * (model.input(torch.log(x + 1e-5)) + model.input(torch.log(swapped + 1e-5)))
    u, messages = model.messages.before(h), torch.zeros(points, channels)
    exponents, norms = radial_constants(channels)
    q = [[float(reach((r - a).norm() / 5.0)) for a in nuclei] for r in coords]
    for a in range(2):
        vectors = coords - nuclei[a]
        near = [g for g in range(points) if vectors[g].norm() < 5.0]
        radial = []
        for vector in vectors:
            y = vector.square().sum() / exponents
            radial.append(2 / 3 * y * torch.exp(-y) / norms * envelope(vector.norm() / 5.0))
        for g in near:
            for f in near:
                cosine = float(vectors[g] @ vectors[f] / (vectors[g].norm() * vectors[f].norm()))
                for degree in range(4):
                    factor = np.polynomial.Legendre.basis(degree)(cosine) / (2 * degree + 1)
                    sent = weights[f] * radial[f] * (u[f] @ model.messages.down[degree])
                    share = q[g][a] / (0.1 + sum(q[g]))
                    messages[g] += share * radial[g] * factor * (sent @ model.messages.up[degree])
    n = model.messages.after(messages) * torch.exp(-rho.sum(0))[:, None]
    y = model.output(torch.cat((h, n), dim=1))[:, 0]
    lda = -0.75 * (6 / math.pi) ** (1 / 3) * (rho ** (4 / 3)).sum(0)
    expected = (weights * 2 / (1 + torch.exp(-y / 2)) * lda).sum()
    torch.testing.assert_close(model.energy(features), expected, rtol=1e-12, atol=1e-12)


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


@pytest.mark.parametrize(("d", "m", "layers", "k"), [(256, 256, 4, 16), (64, 64, 2, 4)])
def test_number_of_parameters(d: int, m: int, layers: int, k: int) -> None:
    """psiformer.md, section "Number of parameters"."""
    with torch.device("meta"):
        ansatz = Psiformer(LIH, heads=4, head_width=d // 4, mlp=(m,), layers=layers, determinants=k)
    nuclei, electrons = 2, 4
    trunk = (4 * nuclei + 1) * d + layers * (4 * d**2 + 2 * d * m + m + d + 4 * d)
    expected = trunk + 2 * electrons * k * (d + 2 * nuclei) + 2
    assert sum(parameter.numel() for parameter in ansatz.parameters()) == expected


def test_rules_of_jets() -> None:
    """forward_laplacian.md, section "Rules": normalisation, softmax and determinants."""
    generator = torch.Generator().manual_seed(9)
    data = torch.randn(2, 8, 5, generator=generator)
    j, lap, x = data[:, :6], data[:, 6], data[:, 7]

    c, jc, lc = (part - part.mean(-1, keepdim=True) for part in (x, j, lap))
    s = (c.square().mean(-1, keepdim=True) + 1e-5) ** -0.5
    a = (c.unsqueeze(1) * jc).mean(-1, keepdim=True)
    js = -(s.unsqueeze(1) ** 3) * a
    ls = -(s**3) * (jc.square().mean(-1, keepdim=True).sum(1) + (c * lc).mean(-1, keepdim=True))
    ls = ls + 3 * s**5 * a.square().sum(1)
    expected = torch.cat(
        (jc * s.unsqueeze(1) + c.unsqueeze(1) * js, (c * ls + s * lc + 2 * (jc * js).sum(1)).unsqueeze(1)), dim=1
    )
    result = jet_rules.layer_norm(Jet(data), torch.ones(5), torch.zeros(5), 1e-5).data[:, :-1]
    torch.testing.assert_close(result, expected)

    p = torch.softmax(x, -1)
    centred = j - (p.unsqueeze(1) * j).sum(-1, keepdim=True)
    u = lap + centred.square().sum(1)
    expected = torch.cat((p.unsqueeze(1) * centred, (p * (u - (p * u).sum(-1, keepdim=True))).unsqueeze(1)), dim=1)
    torch.testing.assert_close(jet_rules.softmax(Jet(data)).data[:, :-1], expected)

    blocks = torch.randn(1, 8, 3, 2, 3, generator=generator)  # D + 2, electrons, determinants, orbitals
    psi = laplacian_of_determinants([Jet(blocks)])
    matrices = blocks[0].transpose(1, 2)
    value = torch.linalg.det(matrices[-1])
    share, inverse = value / value.sum(), torch.linalg.inv(matrices[-1])

    def trace(matrix: Tensor) -> Tensor:
        return matrix.diagonal(dim1=-2, dim2=-1).sum(-1)

    m = matrices[:-2] @ inverse
    second = trace(matrices[-2] @ inverse) + (trace(m) ** 2 - trace(m @ m)).sum(0)
    gradient = (share * trace(m)).sum(-1)
    torch.testing.assert_close(psi.gradient[0], gradient)
    torch.testing.assert_close(psi.laplacian[0] + gradient.square().sum(), (share * second).sum())
