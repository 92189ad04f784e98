"""FermiNet: symmetries, published sizes and formulas, and derivatives by forward propagation."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from fusion.chemistry.system import System
from fusion.wavefunctions.envelopes import DiagonalEnvelope, FullEnvelope
from fusion.wavefunctions.features import nuclear_vectors
from fusion.wavefunctions.hamiltonians import molecular
from fusion.wavefunctions.jets import laplacian_by_autograd
from fusion.wavefunctions.references import ConfigurationInteraction, HartreeFockOrbitals
from fusion.wavefunctions.scores import LinearScores, ScoreRecorder
from fusion_ferminet.network import FermiNet

OPTIONS: list[dict[str, Any]] = [
    {},
    {"full_determinant": False},
    {"envelope": DiagonalEnvelope},
    {"envelope": FullEnvelope, "full_determinant": False},
    {"jastrow": True, "rescale_inputs": True},
    {"layers": 1, "determinants": 1},
    {"reference": HartreeFockOrbitals, "jastrow": True},
    {"reference": ConfigurationInteraction},
    {"one_electron": 4, "two_electron": 4, "layers": 3},  # residuals from the first layer on for the pairs
]
SYSTEMS = {
    "LiH": (("Li", "H"), 0, 0),
    "hydrogen": (("H",), 0, 1),
    "triplet H2": (("H", "H"), 0, 2),
    "boron": (("B",), 0, 1),
    "H-": (("H",), -1, 0),
}


pytestmark = pytest.mark.usefixtures("double_precision")


def system(name: str) -> System:
    symbols, charge, spin = SYSTEMS[name]
    positions = np.zeros((len(symbols), 3))
    positions[:, 2] = 1.7 * np.arange(len(symbols))
    return System(name, symbols, positions, charge, spin)


def network(name: str, **options: Any) -> FermiNet:
    """Small network whose parameters all differ from their special initial values."""
    ansatz = FermiNet(system(name), **{"one_electron": 8, "two_electron": 3, "layers": 2, "determinants": 2, **options})
    for p in ansatz.parameters():
        p.data += 0.1 * torch.randn_like(p)
    return ansatz


def walkers(name: str, batch: int = 5) -> Tensor:
    return torch.randn(batch, system(name).n_electrons, 3)


def psi(ansatz: FermiNet, electrons: Tensor) -> Tensor:
    sign, log = ansatz(electrons)
    return sign * log.exp()


@pytest.mark.parametrize(
    ("symbols", "count"), [(("H", "H"), 667_104), (("Li", "H"), 683_744), (("C", "H", "H", "H", "H"), 744_800)]
)
def test_parameter_counts_of_the_published_network(symbols: Any, count: int) -> None:
    positions = np.arange(3 * len(symbols)).reshape(-1, 3) ** 1.1
    ansatz = FermiNet(System("published", symbols, positions))
    assert sum(p.numel() for p in ansatz.parameters()) == count


def test_initial_parameters_have_the_published_spread() -> None:
    ansatz = FermiNet(system("LiH"))
    layer = ansatz.trunk.equivariant[2].requires_grad_(False)
    assert float(layer.weight.std()) == pytest.approx(layer.in_features**-0.5, rel=0.02)
    assert float(layer.bias.std()) == pytest.approx(1, rel=0.15)
    assert torch.all(ansatz.envelope[0].pi == 1) and torch.all(ansatz.envelope[0].sigma == 1)


@pytest.mark.parametrize("options", OPTIONS)
def test_exchange_of_electrons_of_one_spin_flips_the_sign(options: Any) -> None:
    ansatz, electrons = network("boron", **options), walkers("boron", 20)
    before = psi(ansatz, electrons)
    for order in ([1, 0, 2, 3, 4], [0, 2, 1, 3, 4], [0, 1, 2, 4, 3]):
        torch.testing.assert_close(psi(ansatz, electrons[:, order]), -before, rtol=1e-9, atol=0)
    torch.testing.assert_close(psi(ansatz, electrons[:, [1, 2, 0, 3, 4]]), before, rtol=1e-9, atol=0)
    opposite = psi(ansatz, electrons[:, [3, 1, 2, 0, 4]])  # unequal particles to the network
    assert not torch.allclose(opposite.abs(), before.abs(), rtol=0.1)


def test_two_electrons_of_one_spin_in_one_place() -> None:
    ansatz, electrons = network("boron"), walkers("boron")
    expected = ansatz(electrons)[1].clone()
    electrons[2, 1] = electrons[2, 0]
    log = ansatz(electrons)[1]
    assert log[2] < expected[2] - 25
    torch.testing.assert_close(log[[0, 1, 3, 4]], expected[[0, 1, 3, 4]])


def test_log_psi_is_translation_invariant() -> None:
    ansatz, electrons, shift = network("LiH"), walkers("LiH"), torch.tensor([0.3, -2.0, 1.0])
    before = psi(ansatz, electrons)
    ansatz.nuclei += shift
    torch.testing.assert_close(psi(ansatz, electrons + shift), before)


def test_full_determinants_of_block_matrices_are_block_determinants() -> None:
    full, block = network("LiH"), network("LiH", full_determinant=False)
    block.trunk.equivariant.load_state_dict(full.trunk.equivariant.state_dict())
    block.trunk.pair.load_state_dict(full.trunk.pair.state_dict())
    for spin, own in ((0, slice(0, 2)), (1, slice(2, 4))):
        weight = full.orbital[spin].weight.data.view(2, 4, -1)
        block.orbital[spin].weight.data = weight[:, own].flatten(0, 1).clone()
        for name, p in full.envelope[spin].named_parameters():
            part = p.data.view(-1, 2, 4)[:, :, own].flatten(1)
            block.envelope[spin].get_parameter(name).data = part.clone()
        weight[:, slice(2, 4) if spin == 0 else slice(0, 2)] = 0
    electrons = walkers("LiH")
    assert [m.shape[1:] for m in full.orbitals(electrons)] == [(2, 4, 4)]
    assert [m.shape[1:] for m in block.orbitals(electrons)] == [(2, 2, 2)] * 2
    torch.testing.assert_close(psi(full, electrons), psi(block, electrons), rtol=1e-10, atol=0)


def as_published(ansatz: FermiNet, electrons: Tensor) -> Tensor:
    """psi of one walker (N, 3), electron by electron and pair by pair (Pfau et al. 2020, eqs. 1-9)."""
    n, spins, nuclei = len(electrons), ansatz.spins, ansatz.nuclei
    blocks = torch.arange(n).split(spins)

    def features(vector: Tensor) -> Tensor:
        return torch.cat((vector.norm().view(1), vector))

    h = [torch.cat([features(r - nucleus) for nucleus in nuclei]) for r in electrons]
    g = [[features(b - a) if b is not a else torch.zeros(4) for b in electrons] for a in electrons]
    for layer in range(len(ansatz.trunk.equivariant)):
        dense = ansatz.trunk.equivariant[layer]
        new = []
        for i in range(n):
            means = [torch.stack([h[j] for j in block]).mean(0) for block in blocks]
            pairs = [torch.stack([g[j][i] for j in block]).mean(0) for block in blocks]
            out = torch.tanh(dense.weight @ torch.cat((h[i], *pairs, *means)) + dense.bias)
            new.append((h[i] + out) / 2**0.5 if out.shape == h[i].shape else out)
        h = new
        if layer < len(ansatz.trunk.pair):
            out = [[torch.tanh(ansatz.trunk.pair[layer](x)) for x in row] for row in g]
            same = out[0][0].shape == g[0][0].shape
            g = [
                [(x + y) / 2**0.5 if same else y for x, y in zip(*rows, strict=True)]
                for rows in zip(g, out, strict=True)
            ]
    total = torch.tensor(0.0)
    for k in range(ansatz.determinants):
        rows = []
        for spin, block in enumerate(blocks):
            envelope = ansatz.envelope[spin]
            own = slice(k * n, (k + 1) * n)
            for i in block:
                distance = (electrons[i] - nuclei).norm(dim=1, keepdim=True)
                decay = (envelope.pi * torch.exp(-envelope.sigma.abs() * distance)).sum(0)
                rows.append((ansatz.orbital[spin].weight[own] @ h[i]) * decay[own])
        total = total + torch.linalg.det(torch.stack(rows))
    return total


@pytest.mark.parametrize("name", SYSTEMS)
def test_value_matches_the_published_formulas(name: Any) -> None:
    ansatz, electrons = network(name, layers=3), walkers(name, 3)
    expected = torch.stack([as_published(ansatz, walker) for walker in electrons])
    torch.testing.assert_close(psi(ansatz, electrons), expected, rtol=1e-10, atol=0)


def largest_error(ansatz: FermiNet, electrons: Tensor) -> float:
    """Largest error of sign, logarithm, gradient and Laplacian, relative if they are above 1."""
    computed, expected = ansatz.laplacian(electrons), laplacian_by_autograd(ansatz, electrons)
    parts = zip(computed, expected, strict=True)
    return max(float(((got - exact).abs() / exact.abs().clamp(min=1.0)).max()) for got, exact in parts)


@pytest.mark.parametrize("options", OPTIONS)
def test_forward_laplacian_matches_autograd(options: Any) -> None:
    ansatz, electrons = network("LiH", **options), walkers("LiH")
    assert not any(part.requires_grad for part in ansatz.laplacian(electrons))
    assert largest_error(ansatz, electrons) < 1e-8


@pytest.mark.parametrize("name", SYSTEMS)
@pytest.mark.parametrize("full", [False, True])
def test_forward_laplacian_of_other_systems(name: Any, full: bool) -> None:
    ansatz = network(name, full_determinant=full, layers=3, jastrow=True, rescale_inputs=True)
    assert largest_error(ansatz, walkers(name)) < 1e-8


def test_forward_laplacian_in_single_precision() -> None:
    ansatz, electrons = network("boron", one_electron=32, two_electron=8), walkers("boron", 200)
    exact = ansatz.laplacian(electrons)
    single = ansatz.float().laplacian(electrons.float())
    assert all(part.dtype == torch.float32 for part in single)
    kinetic, rounded = (-0.5 * (x.laplacian + x.gradient.square().sum(-1)) for x in (exact, single))
    assert float(((rounded - kinetic) / kinetic).abs().quantile(0.9)) < 1e-3


def explicit_scores(ansatz: nn.Module, electrons: Tensor) -> Tensor:
    """d log|psi| / d theta (B, P) by one backward pass per walker."""
    rows = []
    for walker in electrons:
        grads = torch.autograd.grad(ansatz(walker.unsqueeze(0))[1][0], list(ansatz.parameters()))
        rows.append(torch.cat([grad.flatten() for grad in grads]))
    return torch.stack(rows)


@pytest.mark.parametrize(
    ("name", "options"),
    [*(("LiH", options) for options in OPTIONS), ("hydrogen", {}), ("triplet H2", {}), ("boron", {})],
)
def test_scores_match_the_derivatives_of_every_walker(name: Any, options: Any) -> None:
    ansatz, electrons = network(name, **options), walkers(name)
    recorder = ScoreRecorder(ansatz, 3)
    scores, dense = recorder(electrons), explicit_scores(ansatz, electrons)
    assert recorder.rest == []
    u, v = torch.randn(5), {n: torch.randn(p.shape) for n, p in ansatz.named_parameters()}
    exact = {"rtol": 1e-10, "atol": 1e-10}
    torch.testing.assert_close(scores.gram(), dense @ dense.T, **exact)
    torch.testing.assert_close(scores.apply(v), dense @ torch.cat([x.flatten() for x in v.values()]), **exact)
    step = scores.transpose_apply(u)
    flat = torch.cat([step[n].flatten() for n, _ in ansatz.named_parameters()])
    torch.testing.assert_close(flat, u @ dense, **exact)


def test_scores_in_single_precision_need_no_fallback() -> None:
    ansatz, electrons = network("LiH", one_electron=32).float(), walkers("LiH", 64).float()
    recorder = ScoreRecorder(ansatz, 64)
    linear = [block.weight for block in recorder(electrons).blocks() if isinstance(block, LinearScores)]
    assert recorder.rest == []
    assert len(linear) == sum(isinstance(m, nn.Linear) for m in ansatz.modules())


def test_corrected_reference_orbitals_keep_every_cusp() -> None:
    """The local energy stays finite where an electron meets a nucleus or another electron, whatever the parameters."""
    ansatz, electrons = network("LiH", reference=HartreeFockOrbitals), walkers("LiH", 1)
    hamiltonian, direction = molecular(system("LiH")), torch.tensor([0.6, 0.0, 0.8])
    for place in (*torch.tensor(system("LiH").positions), electrons[0, 3]):
        energies = []
        for distance in (1e-4, 1e-5):
            close = electrons.clone()
            close[0, 0] = place + distance * direction
            energies.append(float(hamiltonian.local_energy(ansatz, close, 1)))
        assert energies[0] == pytest.approx(energies[1], abs=0.2)


def test_reference_orbitals_start_at_hartree_fock() -> None:
    ansatz, electrons = FermiNet(system("LiH"), 8, 3, 2, 3, reference=HartreeFockOrbitals), walkers("LiH", 50)
    for layer in ansatz.orbital:
        layer.weight.data.zero_()
    sign, log = ansatz(electrons)
    reference = HartreeFockOrbitals(system("LiH"))
    rows = reference(*nuclear_vectors(electrons, ansatz.nuclei)).split(reference.spins, dim=1)
    up, down = (own[..., strings[0]] for own, strings in zip(rows, reference.strings, strict=True))
    expected = torch.linalg.det(up) * torch.linalg.det(down) * torch.exp(ansatz.jastrow(electrons))
    torch.testing.assert_close(sign * log.exp(), expected)
