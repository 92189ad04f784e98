"""Pretraining brings networks to the Hartree-Fock orbitals."""

from __future__ import annotations

from copy import deepcopy
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from exact import molecule
from fusion.chemistry.system import System
from fusion.wavefunctions.hartree_fock import HartreeFock, hartree_fock
from fusion.wavefunctions.pretraining import Pretraining
from fusion.wavefunctions.sampler import Metropolis, initial_electrons
from fusion_ferminet.network import FermiNet

pytestmark = pytest.mark.usefixtures("double_precision")


class ScaledHartreeFock(nn.Module):
    """Ansatz of K determinants, each the Hartree-Fock one times a factor, full or in blocks."""

    def __init__(self, field: HartreeFock, factor: float, full: bool) -> None:
        super().__init__()
        self.factor = nn.Parameter(torch.full((3, 1, 1), factor))
        self.field, self.full = field.orbitals, full

    def orbitals(self, electrons: Tensor) -> list[Tensor]:
        blocks = [block for block in self.field(electrons) if block.shape[-1]]
        if self.full:
            blocks = [torch.stack([torch.block_diag(*pair) for pair in zip(*blocks, strict=True)])]
        return [self.factor * block.unsqueeze(1) for block in blocks]


def walkers(system: System, number: int = 100) -> Metropolis:
    generator = torch.Generator().manual_seed(0)
    return Metropolis(initial_electrons(system, number, generator), generator)


def states(*slow: str) -> list[Any]:
    """Systems; those named in `slow` are left to the slow tests."""
    cases = {
        "lithium": ("Li", 0, 1),
        "hydrogen": ("H", 0, 1),
        "hydride": ("H", -1, 0),
        "beryllium ion": ("Be", 1, 1),
        "nitrogen": ("N", 0, 3),
    }
    return [
        pytest.param(*case, id=name, marks=pytest.mark.slow if name in slow else ()) for name, case in cases.items()
    ]


@pytest.mark.parametrize("full", [False, True])
@pytest.mark.parametrize(("symbol", "charge", "spin"), states())
def test_loss_is_the_mean_square_distance_from_hartree_fock(symbol: Any, charge: Any, spin: Any, full: bool) -> None:
    system = molecule(symbol, charge=charge, spin=spin)
    field, sampler = hartree_fock(system, "6-31G"), walkers(system)
    targets = ScaledHartreeFock(field, 1.0, full).orbitals(sampler.electrons)
    size = sum(float(block.detach().square().sum()) for block in targets) / sum(block.numel() for block in targets)
    for factor in (1.0, 0.0, 1.5):
        pretraining = Pretraining(ScaledHartreeFock(field, factor, full), field.orbitals, 0.1)
        sampler.electrons = walkers(system).electrons
        assert pretraining.step(sampler) == pytest.approx((factor - 1) ** 2 * size, abs=1e-12)
    for _ in range(60):
        pretraining.step(sampler)
    torch.testing.assert_close(pretraining.ansatz.factor.detach(), torch.ones(3, 1, 1), rtol=0, atol=0.05)


@pytest.mark.parametrize("full", [False, True])
@pytest.mark.parametrize(("symbol", "charge", "spin"), states("hydrogen", "beryllium ion")[:4])
def test_networks_approach_hartree_fock(symbol: Any, charge: Any, spin: Any, full: bool) -> None:
    system = molecule(symbol, charge=charge, spin=spin)
    field, sampler = hartree_fock(system), walkers(system)
    ansatz = FermiNet(system, one_electron=16, two_electron=4, layers=2, determinants=2, full_determinant=full)
    pretraining = Pretraining(ansatz, field.orbitals, 1e-2)
    sampler.burn_in(pretraining.log_density, 100)
    losses = torch.tensor([pretraining.step(sampler) for _ in range(80)])
    assert losses[-10:].mean() < 0.2 * losses[:5].mean()


def test_walkers_follow_the_hartree_fock_density() -> None:
    """<r> is that of hydrogen, and every walker moves."""
    system = molecule("H")
    field, sampler = hartree_fock(system, "cc-pVQZ"), walkers(system, 500)
    pretraining = Pretraining(ScaledHartreeFock(field, 1.0, True), field.orbitals, 0.0)
    sampler.burn_in(pretraining.log_density, 200)
    r = torch.zeros(500)
    for _ in range(200):
        pretraining.step(sampler)
        r += sampler.electrons.norm(dim=-1).squeeze(1) / 200
    assert float(r.mean()) == pytest.approx(1.5, abs=4 * float(r.std()) / 500**0.5)
    assert 0.4 < sampler.acceptance < 0.7


def test_state_can_be_restored() -> None:
    system = molecule("Li")
    field = hartree_fock(system, "6-31G")
    one = Pretraining(ScaledHartreeFock(field, 0.5, True), field.orbitals, 0.1)
    for _ in range(3):
        one.step(walkers(system))
    two = Pretraining(ScaledHartreeFock(field, 0.5, True), field.orbitals, 0.1)
    two.ansatz.load_state_dict(one.ansatz.state_dict())
    two.load_state_dict(deepcopy(one.state_dict()))
    assert one.step(walkers(system)) == two.step(walkers(system))
    assert torch.equal(one.ansatz.factor, two.ansatz.factor)
