"""Psiformer: published sizes, symmetries, and derivatives by forward propagation."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from fusion.chemistry.system import System
from fusion.errors import InputError
from fusion.wavefunctions.jets import laplacian_by_autograd
from fusion.wavefunctions.references import HartreeFockOrbitals
from fusion.wavefunctions.scores import ScoreRecorder
from fusion_psiformer.network import Psiformer

OPTIONS: list[dict[str, Any]] = [
    {},
    {"norm": "pre"},
    {"norm": "none", "jastrow": False},
    {"reference": HartreeFockOrbitals},
]
LAPTOP: dict[str, Any] = {"heads": 4, "head_width": 16, "mlp": (64,), "layers": 2, "determinants": 4}


pytestmark = pytest.mark.usefixtures("double_precision")


def system(*symbols: str, spin: int = 0) -> System:
    positions = np.zeros((len(symbols), 3))
    positions[:, 2] = 1.7 * np.arange(len(symbols))
    return System("chain", symbols, positions, 0, spin)


def network(molecule: System, **options: Any) -> Psiformer:
    """Small network whose parameters all differ from their special initial values."""
    ansatz = Psiformer(
        molecule, **{"heads": 2, "head_width": 3, "mlp": (5,), "layers": 2, "determinants": 2, **options}
    )
    for p in ansatz.parameters():
        p.data += 0.1 * torch.randn_like(p)
    return ansatz


def psi(ansatz: Psiformer, electrons: Tensor) -> Tensor:
    sign, log = ansatz(electrons)
    return sign * log.exp()


@pytest.mark.parametrize(
    ("symbols", "spin", "published", "laptop"),
    [
        ("H", 1, 1_584_418, 50_506),
        ("He", 0, 1_596_802, 51_298),
        ("Li", 1, 1_605_058, 51_826),
        ("Li H", 0, 1_614_594, 52_674),
        ("N", 3, 1_638_082, 53_938),
        ("O H H", 0, 1_666_178, 56_354),
        ("C H H H H", 0, 1_669_506, 57_186),
    ],
)
def test_parameter_counts(symbols: str, spin: int, published: int, laptop: int) -> None:
    """P = (4M+1) d + L [4 d^2 + MLP + 4 d] + sum_s N K (d + 2 M) + 2, at the published and the laptop's sizes."""
    molecule = system(*symbols.split(), spin=spin)
    for options, count in (({}, published), (LAPTOP, laptop)):
        assert sum(p.numel() for p in Psiformer(molecule, **options).parameters()) == count


def test_layer_normalisation_can_be_left_out() -> None:
    assert sum(p.numel() for p in Psiformer(system("Li", "H"), norm="none").parameters()) == 1_610_498


def test_unknown_normalisations_are_refused() -> None:
    with pytest.raises(InputError, match="norm must be one of post, pre, none, not 'layer'"):
        Psiformer(system("H", "H"), norm="layer")


@pytest.mark.parametrize("options", OPTIONS)
def test_exchange_of_electrons_of_one_spin_flips_the_sign(options: dict[str, Any]) -> None:
    ansatz, electrons = network(system("B", spin=1), **options), torch.randn(10, 5, 3)
    before = psi(ansatz, electrons)
    for order in ([1, 0, 2, 3, 4], [0, 2, 1, 3, 4], [0, 1, 2, 4, 3]):
        torch.testing.assert_close(psi(ansatz, electrons[:, order]), -before, rtol=1e-9, atol=0)
    opposite = psi(ansatz, electrons[:, [3, 1, 2, 0, 4]])
    assert not torch.allclose(opposite.abs(), before.abs(), rtol=0.1)


@pytest.mark.parametrize("options", OPTIONS)
def test_forward_laplacian_matches_autograd(options: dict[str, Any]) -> None:
    ansatz, electrons = network(system("Li", "H"), **options), torch.randn(4, 4, 3)
    for value, expected in zip(ansatz.laplacian(electrons), laplacian_by_autograd(ansatz, electrons), strict=True):
        torch.testing.assert_close(value, expected, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("options", OPTIONS)
def test_all_scores_are_known_layer_by_layer(options: dict[str, Any]) -> None:
    recorder = ScoreRecorder(network(system("Li", "H"), **options), 4)
    recorder(torch.randn(4, 4, 3))
    assert recorder.rest == []
