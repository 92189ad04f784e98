"""Every rule and every layer of the forward Laplacian against derivatives by autograd."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from exact import explicit_scores
from fusion.wavefunctions.jets import Jet, dense, rules
from fusion.wavefunctions.jets.modules import LayerNorm, Linear, Residual, SelfAttention, Sequential, Tanh
from fusion.wavefunctions.scores import ScoreRecorder

pytestmark = pytest.mark.usefixtures("double_precision")

N, F = 3, 4
MIX = torch.linspace(-1, 1, 9 * F * N, dtype=torch.float64).view(9, F * N).sin()


def inputs(electrons: Tensor) -> Tensor:
    """Features (B, N, F) that depend on all coordinates, with all second derivatives."""
    return torch.sin(electrons.flatten(1) @ MIX + 0.3 * electrons.flatten(1).square().sum(-1, keepdim=True)).view(
        -1, N, F
    )


def jet_of(function: Callable[[Tensor], Tensor], electrons: Tensor) -> Jet:
    """Jet of a function by autograd, walker by walker; reverse mode, as forward mode twice is wrong for layer_norm."""

    def flat(x: Tensor) -> Tensor:
        return function(x.view(1, N, 3))[0]

    rows = []
    for x in electrons.flatten(1):
        hessian = torch.func.jacrev(torch.func.jacrev(flat))(x)
        jacobian = torch.func.jacrev(flat)(x).movedim(-1, 0)
        laplacian = hessian.diagonal(dim1=-2, dim2=-1).sum(-1)
        rows.append(torch.cat((jacobian, laplacian.unsqueeze(0), flat(x).unsqueeze(0))))
    return Jet(torch.stack(rows))


def deviation(function: Callable[[Tensor], Tensor], jet: Callable[[Jet], Jet]) -> float:
    """Largest difference of a rule's jet from autograd's, in units of 1 or of the number itself where it is larger."""
    electrons = torch.randn(2, N, 3)
    expected = jet_of(lambda x: function(inputs(x)), electrons).data
    with torch.no_grad():
        data = jet(jet_of(inputs, electrons)).data
    assert data.shape == expected.shape
    return float(((data - expected).abs() / expected.abs().clamp(min=1.0)).max().detach())


def test_tanh() -> None:
    assert deviation(torch.tanh, rules.tanh) < 1e-9


def test_product() -> None:
    assert deviation(lambda x: x * x.flip(-1), lambda x: rules.product(x, Jet(x.data.flip(-1)))) < 1e-9


def test_layer_norm() -> None:
    weight, bias = torch.randn(F), torch.randn(F)

    def normalised(x: Tensor) -> Tensor:
        centred = x - x.mean(-1, keepdim=True)
        return weight * centred / (centred.square().mean(-1, keepdim=True) + 1e-5).sqrt() + bias

    assert deviation(normalised, lambda x: rules.layer_norm(x, weight, bias, 1e-5)) < 1e-9


def test_softmax() -> None:
    assert deviation(lambda x: torch.softmax(5 * x, -1), lambda x: rules.softmax(Jet(5 * x.data))) < 1e-9


def test_matrix_product() -> None:
    def cubed(x: Jet) -> Jet:
        one_head = Jet(x.data.unsqueeze(2))
        return Jet(rules.matmul(rules.matmul(one_head, Jet(one_head.data.mT)), one_head).data.squeeze(2))

    assert deviation(lambda x: x @ x.mT @ x, cubed) < 1e-9


@pytest.mark.parametrize(
    "layer",
    [
        lambda: Linear(F, 5),
        Tanh,
        lambda: LayerNorm(F),
        lambda: SelfAttention(F, 2),
        lambda: Residual(Sequential(Linear(F, 6), Tanh(), Linear(6, F), Tanh())),
        lambda: Sequential(Residual(SelfAttention(F, 1)), LayerNorm(F), Residual(SelfAttention(F, 2))),
    ],
)
def test_layers(layer: Callable[[], nn.Module]) -> None:
    module = layer()
    for p in module.parameters():
        p.data += 0.5 * torch.randn_like(p)
    assert deviation(module, module.jet) < 1e-9  # type: ignore[arg-type]


def test_functions_of_one_electron_become_dense() -> None:
    local = torch.randn(2, 5, N, F)
    jet = dense(local)
    assert jet.data.shape == (2, 3 * N + 2, N, F)
    for i in range(N):
        torch.testing.assert_close(jet.data[:, 3 * i : 3 * i + 3, i], local[:, :3, i])
        assert not jet.data[:, 3 * i : 3 * i + 3, [j for j in range(N) if j != i]].any()
    torch.testing.assert_close(jet.data[:, -2:], local[:, 3:])


class Transformer(nn.Module):
    """log|psi| with every layer that has parameters."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(3, F, bias=False)
        self.layers = Sequential(Residual(SelfAttention(F, 2)), LayerNorm(F), Linear(F, F), Tanh())

    def forward(self, electrons: Tensor) -> tuple[Tensor, Tensor]:
        log = self.layers(torch.tanh(self.first(electrons))).square().sum((1, 2))
        return torch.ones_like(log), log


def test_scores_of_all_layers_are_known() -> None:
    ansatz, electrons = Transformer(), torch.randn(6, N, 3)
    recorder = ScoreRecorder(ansatz, 6)
    scores, weights = recorder(electrons), torch.randn(6)
    assert recorder.rest == []
    expected = explicit_scores(ansatz, electrons)
    for name, value in scores.transpose_apply(weights).items():
        torch.testing.assert_close(value, torch.tensordot(weights, expected[name], 1))
