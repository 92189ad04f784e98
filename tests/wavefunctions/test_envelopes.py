"""Envelopes of the orbitals: decay, derivatives and scores."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from fusion.wavefunctions.envelopes import DiagonalEnvelope, Envelope, FullEnvelope, IsotropicEnvelope

pytestmark = pytest.mark.usefixtures("double_precision")

KINDS = [IsotropicEnvelope, DiagonalEnvelope, FullEnvelope]
NUCLEI = torch.tensor([[0.0, 0.0, 0.0], [0.3, -1.0, 2.0]])
ELECTRONS, ORBITALS = 3, 5


def random_envelope(kind: type[Envelope], soft: bool = False) -> Envelope:
    """Random envelope with exponents of both signs, which must act by their absolute value."""
    envelope = kind(len(NUCLEI), ORBITALS)
    envelope.soften(torch.tensor([0.8, 0.0]) if soft else None)
    for p in envelope.parameters():
        p.data += 0.8 * torch.randn_like(p)
    return envelope


def vectors(electrons: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    vector = electrons.unsqueeze(-2) - NUCLEI
    return vector, vector.norm(dim=-1)


@pytest.mark.parametrize("kind", KINDS)
def test_all_kinds_start_with_the_same_exponential(kind: Any) -> None:
    electrons = torch.randn(4, ELECTRONS, 3)
    vector, distance = vectors(electrons)
    expected = torch.exp(-distance).sum(-1, keepdim=True).expand(-1, -1, ORBITALS)
    torch.testing.assert_close(kind(len(NUCLEI), ORBITALS)(vector, distance), expected)


@pytest.mark.parametrize("kind", KINDS)
def test_orbitals_vanish_far_away(kind: Any) -> None:
    far = random_envelope(kind)(*vectors(torch.full((1, 1, 3), 200.0)))
    assert float(far.detach().abs().max()) < 1e-2


@pytest.mark.parametrize("soft", [False, True])
@pytest.mark.parametrize("kind", KINDS)
def test_jet_is_value_gradient_and_laplacian_of_each_electron(kind: Any, soft: bool) -> None:
    envelope, electrons = random_envelope(kind, soft), torch.randn(2, ELECTRONS, 3)
    jet = envelope.jet(*vectors(electrons))

    def orbital(place: torch.Tensor, o: int) -> torch.Tensor:
        return envelope(*vectors(place.view(1, 1, 3)))[0, 0, o]

    for b in range(2):
        for i in range(ELECTRONS):
            for o in range(ORBITALS):
                place = electrons[b, i]
                gradient = torch.func.grad(orbital)(place, o)
                laplacian = torch.func.hessian(orbital)(place, o).trace()
                expected = torch.cat((gradient, laplacian.view(1), orbital(place, o).view(1)))
                torch.testing.assert_close(jet[b, :, i, o], expected, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("soft", [False, True])
@pytest.mark.parametrize("kind", KINDS)
def test_scores_match_the_derivatives_of_each_walker(kind: Any, soft: bool) -> None:
    envelope, electrons = random_envelope(kind, soft), torch.randn(4, ELECTRONS, 3)
    weight = torch.randn(4, ELECTRONS, ORBITALS)
    scores = envelope.parameter_scores(weight, *vectors(electrons))
    assert set(scores) == {name for name, _ in envelope.named_parameters()}
    for b in range(4):
        value = (weight[b] * envelope(*vectors(electrons[b]))).sum()
        for (name, p), grad in zip(
            envelope.named_parameters(), torch.autograd.grad(value, list(envelope.parameters())), strict=True
        ):
            assert scores[name].shape == (4, *p.shape)
            torch.testing.assert_close(scores[name][b], grad, rtol=1e-10, atol=1e-12)
