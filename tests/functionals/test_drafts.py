"""Drafts on a coarse grid: corrected by the fine grid, they end where an SCF on the fine grid alone does."""

from typing import Any

import numpy as np
import pytest
import torch
from pyscf import dft, gto
from pyscf.scf import diis
from torch import Tensor, nn

from functional_models import PBEExchange, SlaterExchange
from fusion.functionals import DensityFeatures, kohn_sham
from fusion.functionals.grid.numint import LearnedNumInt
from fusion.functionals.grid.precision import Precision

WATER = gto.M(atom="O 0 0 0; H 0.0 0.76 0.59; H 0 -0.76 0.59", basis="6-31g", verbose=0)
RADICAL = gto.M(atom="O 0 0 0; H 0 0.3 0.92", basis="6-31g", spin=1, verbose=0)


def level_3(mol: gto.Mole) -> dft.Grids:
    grids = dft.Grids(mol)
    grids.level = 3
    return grids.build()


@pytest.mark.parametrize("spins", [1, 2])
def test_corrected_draft_equals_the_fine_grid_at_its_density(spins: int) -> None:
    grids, numint = level_3(WATER), LearnedNumInt(PBEExchange())
    numint.drafts = numint.with_coarse_drafts(WATER, grids)
    assert numint.drafts is not None and numint.drafts.grids.size < 0.5 * grids.size
    dms = np.repeat(0.5 * dft.RKS(WATER).get_init_guess()[None], spins, axis=0)
    _, energy, matrix = numint.integrate(WATER, grids, dms)
    numint.draft = True
    assert abs(numint.integrate(WATER, grids, dms)[1] - energy) > 1e-5
    assert numint.last is not None
    numint.drafts.correct(WATER, numint.last)
    _, corrected, potential = numint.integrate(WATER, grids, dms)
    assert corrected == pytest.approx(energy, abs=1e-10)
    np.testing.assert_allclose(potential, matrix, rtol=0, atol=1e-10)
    # The potential is the derivative of the corrected energy.
    change = 1e-3 * np.random.default_rng(1).normal(size=dms.shape) @ np.ones_like(dms)
    change = 1e-3 * (change + change.transpose(0, 2, 1))
    up, down = (numint.integrate(WATER, grids, dms + sign * change)[1] for sign in (1.0, -1.0))
    assert 0.5 * (up - down) == pytest.approx(2.0 / spins * np.vdot(potential, change), abs=3e-7)


@pytest.mark.parametrize("mol", [WATER, RADICAL])
def test_scf_with_drafts_needs_few_evaluations_on_the_fine_grid(mol: gto.Mole) -> None:
    ks = kohn_sham(mol, PBEExchange())
    coarse, count = [], 0

    def on_grid(done: int, total: int) -> None:
        nonlocal count
        count += done == total and not ks._numint.draft

    def callback(envs: dict[str, Any]) -> None:
        coarse.append(ks._numint.drafts is not None)

    ks._numint.on_grid, ks.callback = on_grid, callback
    ks.kernel()
    assert ks.converged and len(ks.attempts) == 1 and all(coarse)
    assert count <= 3 and ks._numint.drafts is None and not ks._numint.draft
    alone = kohn_sham(mol, PBEExchange())
    alone.DIIS = type("Own", (diis.SCF_DIIS,), {})  # chosen by the user: no drafts on a coarse grid
    assert alone.kernel() == pytest.approx(ks.e_tot, abs=2e-9)


def test_float32_at_points_of_few_electrons() -> None:
    class Scaled(nn.Module):
        needs = frozenset({"rho"})

        def __init__(self) -> None:
            super().__init__()
            self.scale = nn.Parameter(torch.tensor(0.7, dtype=torch.float64), requires_grad=False)

        def energy_density(self, features: DensityFeatures) -> Tensor:
            return self.scale * SlaterExchange().energy_density(features)

    class Tolerant(Scaled):
        float32_error = 3e-8

    grids = level_3(WATER)
    dms = 0.5 * dft.RKS(WATER).get_init_guess()[None]
    energies = []
    for tolerance in (0.0, 1e-9, 1e-7, 1.0):
        numint = LearnedNumInt(Tolerant())
        numint.tolerance = tolerance
        energies.append(numint.integrate(WATER, grids, dms)[1])
    errors = np.abs(np.array(energies[1:]) - energies[0])
    assert 0.0 < errors[0] < 1e-9 and errors[1] < 1e-7 and errors[2] < 1e-6
    strict = LearnedNumInt(Scaled())  # does not say that it tolerates float32
    strict.tolerance = 1.0
    assert strict.integrate(WATER, grids, dms)[1] == energies[0]


def test_no_coarse_drafts_in_short_memory_or_on_coarse_grids() -> None:
    numint = LearnedNumInt(PBEExchange(), memory_mb=3.0)
    assert numint.with_coarse_drafts(WATER, level_3(WATER)) is None
    grids = dft.Grids(WATER)
    grids.level = 1
    assert LearnedNumInt(PBEExchange()).with_coarse_drafts(WATER, grids.build()) is None


def test_the_copy_in_float32_follows_every_change_of_the_weights() -> None:
    class Scaled(nn.Module):
        needs = SlaterExchange.needs

        def __init__(self) -> None:
            super().__init__()
            self.scale = nn.Parameter(torch.ones((), dtype=torch.float64), requires_grad=False)

        def energy_density(self, features: DensityFeatures) -> Tensor:
            return self.scale * SlaterExchange().energy_density(features)

    model = Scaled()
    precision = Precision(model, "test")
    assert precision.single.scale == 1.0
    model.scale.data.fill_(2.0)  # does not raise the tensor's version
    assert precision.single.scale == 2.0
