"""Jastrow factor: cusp conditions, derivatives, scores and exchange of electrons."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from exact import explicit_scores
from fusion.wavefunctions.jastrow import CuspJastrow
from fusion.wavefunctions.jets import laplacian_by_autograd

pytestmark = pytest.mark.usefixtures("double_precision")


def with_sign(jastrow: CuspJastrow) -> Callable[[Tensor], tuple[Tensor, Tensor]]:
    return lambda electrons: (torch.ones(len(electrons)), jastrow(electrons))


def random_jastrow(n_up: int, n_down: int) -> CuspJastrow:
    jastrow = CuspJastrow(n_up, n_down)
    jastrow.length.data = torch.tensor([0.7, 1.8])
    return jastrow


@pytest.mark.parametrize(("n_up", "n_down", "cusp"), [(2, 0, 0.25), (1, 1, 0.5)])
def test_slope_fulfils_katos_cusp_condition(n_up: int, n_down: int, cusp: float) -> None:
    jastrow = random_jastrow(n_up, n_down)
    separation = 1e-6
    electrons = torch.zeros(2, 2, 3)
    electrons[1, 1, 0] = separation
    together, apart = jastrow(electrons + 0.3).detach()
    assert float(apart - together) / separation == pytest.approx(cusp, rel=1e-4)


@pytest.mark.parametrize(("n_up", "n_down"), [(1, 0), (2, 0), (1, 1), (3, 2)])
def test_jet_matches_autograd(n_up: int, n_down: int) -> None:
    jastrow = random_jastrow(n_up, n_down)
    electrons = torch.randn(6, n_up + n_down, 3)
    expected = laplacian_by_autograd(with_sign(jastrow), electrons)
    value, gradient, laplacian = jastrow.jet(electrons)
    torch.testing.assert_close(value, expected.log)
    torch.testing.assert_close(gradient, expected.gradient, rtol=1e-10, atol=1e-10)
    torch.testing.assert_close(laplacian, expected.laplacian, rtol=1e-10, atol=1e-10)


def test_scores_of_the_lengths() -> None:
    jastrow, electrons = random_jastrow(3, 2), torch.randn(6, 5, 3)

    class LogPsi(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.jastrow = jastrow

        def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
            return torch.ones(len(x)), self.jastrow(x)

    expected = explicit_scores(LogPsi(), electrons)["jastrow.length"]
    scores = jastrow.parameter_scores(torch.ones(6), electrons)["length"]
    torch.testing.assert_close(scores, expected, rtol=1e-12, atol=1e-12)


def test_exchange_of_equal_spins_changes_nothing() -> None:
    jastrow, electrons = random_jastrow(3, 2), torch.randn(6, 5, 3)
    torch.testing.assert_close(jastrow(electrons[:, [2, 1, 0, 4, 3]]), jastrow(electrons))
    assert not torch.allclose(jastrow(electrons[:, [3, 1, 2, 0, 4]]), jastrow(electrons))
