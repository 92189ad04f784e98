"""Mixtures of Slater densities: what is drawn has the density that is returned."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.stats import kstest

from exact import molecule
from fusion.chemistry.system import System
from fusion.parallel.collectives import random_stream
from fusion.wavefunctions.hartree_fock import lowest_field, natural_molecule
from fusion.wavefunctions.slater_mixture import SlaterMixture, fit_density

pytestmark = pytest.mark.usefixtures("double_precision")


@pytest.mark.parametrize("power", [0, 2])
def test_radii_have_the_distribution_of_the_density(power: int) -> None:
    mixture = SlaterMixture(np.array([[1.0, -2.0, 0.5]]), np.array([1.7]), np.array([power]), np.ones(1))
    drawn = mixture.sample(4000, random_stream(0)) - mixture.centres[0]
    edges = torch.linspace(0.0, 30.0, 30_001)
    shells = mixture(mixture.centres[0] + edges.unsqueeze(-1) * torch.tensor([0.6, 0.8, 0.0])) * 4 * np.pi * edges**2
    cumulative = np.append(0.0, np.cumsum(((shells[1:] + shells[:-1]) / 2 * 1e-3).numpy()))
    assert cumulative[-1] == pytest.approx(1, abs=1e-6)
    radii = torch.linalg.vector_norm(drawn, dim=-1).numpy()
    assert kstest(radii, lambda r: np.interp(r, edges.numpy(), cumulative)).pvalue > 1e-3
    assert float(torch.linalg.vector_norm((drawn / torch.tensor(radii).unsqueeze(-1)).mean(0))) < 0.05


def test_components_are_drawn_with_their_weights() -> None:
    mixture = SlaterMixture(np.diag([0.0, 50.0, 90.0]), np.full(3, 5.0), np.zeros(3), np.array([1.0, 0.0, 3.0]))
    _, y, z = mixture.sample(4000, random_stream(0)).unbind(-1)
    assert not (y > 25).any()
    assert float((z > 45).double().mean()) == pytest.approx(0.75, abs=0.03)


@pytest.mark.parametrize("system", [molecule("H"), molecule("Li H", 3.0), molecule("N", spin=3), molecule("O H", 1.8)])
def test_the_fit_is_close_to_the_density(system: System) -> None:
    """The mean of n / (N p) over the density n is the second moment of the weights; it is 1 for p = n / N."""
    from pyscf import dft

    mol = natural_molecule(system)
    matrix = lowest_field(mol).make_rdm1().reshape(-1, mol.nao, mol.nao)
    matrix = matrix.sum(0)
    mixture = fit_density(mol, matrix)
    grid = dft.gen_grid.Grids(mol)
    grid.build()
    orbitals = mol.eval_gto("GTOval", grid.coords)
    share = np.einsum("gp,pq,gq->g", orbitals, matrix, orbitals) / system.n_electrons
    density = mixture(torch.tensor(grid.coords)).numpy()
    assert float(grid.weights @ density) == pytest.approx(1, abs=5e-3)
    assert 1 <= float(grid.weights @ (share**2 / density)) < 1.15
