"""The three-body Jastrow factor: derivatives, scores, symmetry, and no cusps."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from exact import molecule
from fusion.wavefunctions.features import nuclear_vectors
from fusion.wavefunctions.three_body import ThreeBodyJastrow

pytestmark = pytest.mark.usefixtures("double_precision")

SYSTEMS = {
    "two spins and nuclei": molecule("Li H", 3.0),
    "parallel spins alone": molecule("H H", 1.4, spin=2),
    "antiparallel spins alone": molecule("He"),
    "one electron": molecule("H", spin=1),
}
systems = pytest.mark.parametrize("name", SYSTEMS)


def factor(name: str) -> tuple[ThreeBodyJastrow, Tensor, Tensor]:
    """Factor with random coefficients, its nuclei, and electrons of two walkers."""
    system = SYSTEMS[name]
    jastrow = ThreeBodyJastrow(system)
    torch.nn.init.normal_(jastrow.coefficients)
    return jastrow, torch.tensor(system.positions), torch.randn(2, system.n_electrons, 3)


def value(jastrow: ThreeBodyJastrow, nuclei: Tensor, electrons: Tensor) -> Tensor:
    return jastrow(electrons, nuclear_vectors(electrons, nuclei)[1])


@systems
def test_derivatives_agree_with_autograd(name: str) -> None:
    jastrow, nuclei, x = factor(name)
    values, gradient, laplacian = jastrow.jet(x, *nuclear_vectors(x, nuclei))
    torch.testing.assert_close(values, value(jastrow, nuclei, x))
    for walker in range(2):

        def of_one(flat: Tensor) -> Tensor:
            return value(jastrow, nuclei, flat.view(1, -1, 3))[0]

        flat = x[walker].flatten()
        torch.testing.assert_close(gradient[walker], torch.func.grad(of_one)(flat), rtol=1e-9, atol=1e-9)
        expected = torch.func.hessian(of_one)(flat).diagonal().sum()
        torch.testing.assert_close(laplacian[walker], expected, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("name", [name for name in SYSTEMS if name != "one electron"])
def test_scores_agree_with_autograd(name: str) -> None:
    jastrow, nuclei, x = factor(name)
    distance = nuclear_vectors(x, nuclei)[1]
    scores = jastrow.parameter_scores(torch.tensor([1.0, 2.0]), x, distance)["coefficients"]
    for walker, weight in enumerate((1.0, 2.0)):
        (expected,) = torch.autograd.grad(value(jastrow, nuclei, x[walker : walker + 1])[0], jastrow.coefficients)
        torch.testing.assert_close(scores[walker], weight * expected)


def test_exchange_of_parallel_spins_changes_nothing() -> None:
    jastrow, nuclei, x = factor("two spins and nuclei")
    exchanged = x[:, [1, 0, 2, 3]]
    torch.testing.assert_close(value(jastrow, nuclei, exchanged), value(jastrow, nuclei, x))


def test_there_are_no_cusps() -> None:
    """The slope vanishes where an electron meets a nucleus or another electron, averaged over directions."""
    jastrow, nuclei, x = factor("two spins and nuclei")
    place = torch.cat((nuclei, x[0, 1:2], x[0, 3:4]))
    direction = torch.tensor([0.6, 0.0, 0.8])
    for at in place:
        near = [x[:1].clone() for _ in range(3)]
        for electrons, r in zip(near, (1e-4, 0.0, -1e-4), strict=True):
            electrons[0, 0] = at + (r if r else 1e-9) * direction
        after, here, before = (value(jastrow, nuclei, electrons)[0] for electrons in near)
        assert abs(float(after + before - 2 * here)) / 2e-4 < 2e-2
