"""Expansions in configurations: equal to sums of determinants, with their derivatives and scores."""

from __future__ import annotations

from itertools import combinations, pairwise

import numpy as np
import pytest
import torch
from torch import Tensor

from fusion.wavefunctions.configurations import Configurations, aligned
from fusion.wavefunctions.jets import Jet

pytestmark = pytest.mark.usefixtures("double_precision")

SPINS = {"one spin": [(3, 5)], "two spins": [(3, 5), (2, 4)], "one electron each": [(1, 3), (1, 2)]}
"""Electrons and orbitals of each spin."""

spins = pytest.mark.parametrize("spins", SPINS.values(), ids=SPINS)


def expansion(spins: list[tuple[int, int]]) -> tuple[Configurations, list[np.ndarray], np.ndarray]:
    """Expansion in all strings, the strings in ascending order, and their coefficients."""
    strings = [np.array(list(combinations(range(orbitals), n))) for n, orbitals in spins]
    sizes = [len(own) for own in strings]
    coefficients = np.random.default_rng(0).normal(size=(sizes[0], sizes[1] if len(sizes) == 2 else 1))
    rows, changed = aligned(strings[0], coefficients)
    own = [rows]
    if len(strings) == 2:
        columns, turned = aligned(strings[1], changed.T)
        own, changed = [rows, columns], turned.T
    return Configurations(own, changed), strings, coefficients


def orbitals_of(spins: list[tuple[int, int]], electrons: Tensor) -> list[Tensor]:
    """Orbitals (B, n, O) of every spin that depend on all electrons (B, N, 3)."""
    mixing = torch.tensor(np.random.default_rng(1).normal(size=(3, sum(o for _, o in spins))))
    phi = torch.sin(electrons @ mixing) + 0.1 * electrons.sum((1, 2), keepdim=True) ** 2
    rows = phi.split([n for n, _ in spins], dim=1)
    ends = np.cumsum([0, *(o for _, o in spins)])
    return [own[..., first:last] for own, (first, last) in zip(rows, pairwise(ends), strict=True)]


@spins
def test_equal_to_the_sum_of_determinants(spins: list[tuple[int, int]]) -> None:
    configurations, strings, coefficients = expansion(spins)
    phi = orbitals_of(spins, torch.randn(4, sum(n for n, _ in spins), 3))
    determinants = [torch.linalg.det(own[..., s].permute(0, 2, 1, 3)) for own, s in zip(phi, strings, strict=True)]
    other = determinants[1] if len(spins) == 2 else torch.ones(4, 1)
    expected = torch.einsum("bs,st,bt->b", determinants[0], torch.tensor(coefficients), other)
    sign, log = configurations(phi)
    torch.testing.assert_close(sign * log.exp(), expected, rtol=1e-10, atol=1e-12)


@spins
def test_derivatives_agree_with_autograd(spins: list[tuple[int, int]]) -> None:
    configurations, _, _ = expansion(spins)
    n = sum(n for n, _ in spins)
    x = torch.randn(n, 3)

    def log_psi(electrons: Tensor) -> Tensor:
        return configurations(orbitals_of(spins, electrons.view(1, n, 3)))[1][0]

    def flat(electrons: Tensor) -> Tensor:
        return torch.cat([phi.flatten() for phi in orbitals_of(spins, electrons.view(1, n, 3))])

    value, jacobian = flat(x.flatten()), torch.func.jacrev(flat)(x.flatten())
    laplacian = torch.func.hessian(flat)(x.flatten()).diagonal(dim1=1, dim2=2).sum(-1)
    rows = torch.cat((jacobian.T, laplacian.unsqueeze(0), value.unsqueeze(0)))
    sizes = [electrons * orbitals for electrons, orbitals in spins]
    jets = [Jet(part.view(1, -1, *shape)) for part, shape in zip(rows.split(sizes, dim=1), spins, strict=True)]
    psi = configurations.laplacian(jets)
    torch.testing.assert_close(psi.log[0], log_psi(x.flatten()))
    torch.testing.assert_close(psi.gradient[0], torch.func.grad(log_psi)(x.flatten()), rtol=1e-8, atol=1e-8)
    expected = torch.func.hessian(log_psi)(x.flatten()).diagonal().sum()
    torch.testing.assert_close(psi.laplacian[0], expected, rtol=1e-8, atol=1e-8)


def test_strings_of_a_checkpoint_are_used() -> None:
    """A checkpoint whose strings are others, of the same number, gives its own wavefunction."""
    reference, other, third = [0, 1], [0, 2], [1, 3]
    first, second = (
        Configurations([np.array(rows)], np.array([[1.0], [0.5]])) for rows in ([reference, other], [reference, third])
    )
    first.load_state_dict(second.state_dict())
    phi = [torch.randn(3, 2, 4)]
    for number, wanted in zip(first(phi), second(phi), strict=True):
        torch.testing.assert_close(number, wanted)


def test_the_leading_configuration_of_a_mixture_of_states() -> None:
    """Two states of two electrons in two orbitals: 0 0 and 0 1; a mixture has that with the larger coefficient."""
    strings = [np.array([[0], [1]])] * 2
    states = np.array([[[1.0, 0.0], [0.0, 0.2]], [[0.0, 1.0], [0.0, 0.0]]])
    configurations = Configurations(strings, states)
    assert configurations.leading(torch.tensor([1.0, 0.1])) == ([[0], [0]], pytest.approx(1 / (1 + 0.2**2 + 0.1**2)))
    assert configurations.leading(torch.tensor([0.1, -1.0]))[0] == [[0], [1]]
