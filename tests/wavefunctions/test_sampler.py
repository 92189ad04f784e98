"""Metropolis sampling: moments, acceptance and widths of moves."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
import torch

from exact import Oscillator, Slater1s, molecule, radii
from fusion.chemistry.system import System
from fusion.wavefunctions.proposals import ScaledElectrons
from fusion.wavefunctions.sampler import Metropolis, initial_electrons

pytestmark = pytest.mark.usefixtures("double_precision")

HYDROGEN = Slater1s(1.0)


def log_density(electrons: torch.Tensor) -> torch.Tensor:
    return 2 * HYDROGEN(electrons)[1]


def sampler(walkers: int = 2000, seed: int = 1, width: float = 1.0) -> Metropolis:
    generator = torch.Generator().manual_seed(seed)
    return Metropolis(torch.randn(walkers, 1, 3, generator=generator), generator, width)


@pytest.mark.parametrize(("width", "scaled"), [(0.5, False), (1.0, False), (2.5, False), (0.5, True), (0.9, True)])
def test_moments_of_hydrogen(width: float, scaled: bool) -> None:
    """<r> = 3/2, <1/r> = 1, <r^2> = 3 for every width and kind of move; no direction is preferred."""
    metropolis = sampler(width=width)
    if scaled:
        generator, electrons = metropolis.generator, metropolis.electrons
        metropolis = Metropolis(electrons, generator, width, [ScaledElectrons(molecule("H"))])
    metropolis.run(log_density, 200)
    per_walker = torch.zeros(2000, 4)
    for _ in range(30):
        metropolis.run(log_density, 10)
        r = radii(metropolis.electrons)
        per_walker += torch.cat((r, 1 / r, r * r, metropolis.electrons[:, :, 2]), dim=1).detach() / 30
    error = per_walker.std(0) / 2000**0.5
    assert float(error.max()) < 0.04
    assert torch.all((per_walker.mean(0) - torch.tensor([1.5, 1.0, 3.0, 0.0])).abs() < 4 * error)


def test_fermions_in_a_trap_keep_apart() -> None:
    """<r^2> of one s and one p electron at w = 1 is 3/2 + 5/2."""
    trap, generator = Oscillator(1.0), torch.Generator().manual_seed(0)
    metropolis = Metropolis(torch.randn(1000, 2, 3, generator=generator), generator, 0.6)
    metropolis.run(lambda x: 2 * trap(x)[1], 150)
    per_walker = torch.zeros(1000)
    for _ in range(20):
        metropolis.run(lambda x: 2 * trap(x)[1], 10)
        per_walker += metropolis.electrons.square().sum((1, 2)) / 20
    assert float(per_walker.mean()) == pytest.approx(4.0, abs=4 * float(per_walker.std()) / 1000**0.5)


def test_acceptance_counts_accepted_moves() -> None:
    metropolis = sampler(width=1.0)
    before = metropolis.electrons.clone()
    acceptance = metropolis.run(log_density, 1)
    moved = (metropolis.electrons != before).any(-1).double().mean()
    assert acceptance == metropolis.acceptance == pytest.approx(float(moved))
    assert sampler(width=1e-4).run(log_density, 5) > 0.99


@pytest.mark.parametrize("width", [0.001, 0.3, 30.0])
def test_burn_in_finds_the_widths(width: float) -> None:
    """Burn-in adapts the widths of moves of all electrons, and of one, which are larger."""
    metropolis = sampler(500, width=width)
    metropolis.burn_in(log_density, 400)
    widths = list(metropolis.widths)
    metropolis.run(log_density, 50)
    assert metropolis.acceptances == pytest.approx([kind.target for kind in metropolis.proposals], abs=0.05)
    assert metropolis.widths == widths
    assert widths[0] < widths[1]


def test_widths_of_unused_moves_do_not_change() -> None:
    metropolis = sampler(100, width=0.01)
    metropolis.run(log_density, 20)
    metropolis.adapt()
    small, large = metropolis.widths
    for _ in range(5):
        metropolis.run(log_density, 1)
        metropolis.adapt(strength=0.1)
    assert metropolis.widths[0] > small and metropolis.widths[1] == large


def test_moves_of_one_electron_do_not_move_others() -> None:
    trap, generator = Oscillator(1.0), torch.Generator().manual_seed(0)
    metropolis = Metropolis(torch.randn(200, 4, 3, generator=generator), generator, 0.0)
    metropolis.widths = [0.0, 0.5]
    before = metropolis.electrons.clone()
    metropolis.run(lambda x: 2 * trap(x)[1], 2)
    moved = (metropolis.electrons != before).any(-1)
    assert int(moved.sum(1).max()) == 1
    assert torch.all(moved.double().mean(0) > 0.05)  # each of them in some walkers


def test_the_same_random_stream_gives_the_same_walkers() -> None:
    one, two, other = sampler(20), sampler(20), sampler(20, seed=2)
    for metropolis in (one, two, other):
        metropolis.run(log_density, 10)
    assert torch.equal(one.electrons, two.electrons)
    assert not torch.equal(one.electrons, other.electrons)


def test_a_saved_random_stream_goes_on_the_same() -> None:
    one, two = sampler(20), sampler(20)
    for metropolis in (one, two):
        metropolis.run(log_density, 10)
    two.generator = torch.Generator()
    two.generator.set_state(one.generator.get_state())
    one.run(log_density, 10), two.run(log_density, 10)
    assert torch.equal(one.electrons, two.electrons)


def test_walkers_leave_a_place_where_psi_vanishes() -> None:
    trap, generator = Oscillator(1.0), torch.Generator().manual_seed(0)
    metropolis = Metropolis(torch.zeros(50, 2, 3), generator, 0.5)
    metropolis.run(lambda x: 2 * trap(x)[1], 5)
    assert torch.isfinite(trap(metropolis.electrons)[1]).all()
    assert metropolis.electrons.any((1, 2)).all()


def electrons_at(system: System, walkers: int = 300) -> list[tuple[tuple[int, ...], tuple[int, ...]]]:
    """Spin-up and spin-down electrons at every nucleus for each walker; the nuclei are far apart."""
    electrons = initial_electrons(system, walkers, torch.Generator().manual_seed(3))
    assert electrons.shape == (walkers, system.n_electrons, 3)
    nearest = torch.cdist(electrons, torch.tensor(system.positions).expand(walkers, -1, -1)).argmin(-1)
    atoms = range(len(system.symbols))
    up, down = nearest[:, : system.n_up], nearest[:, system.n_up :]
    return [
        (tuple(int((u == a).sum()) for a in atoms), tuple(int((d == a).sum()) for a in atoms))
        for u, d in zip(up, down, strict=True)
    ]


def test_neutral_molecules_start_as_neutral_atoms() -> None:
    counts = Counter(electrons_at(molecule("Li H", 100.0)))
    assert set(counts) == {((2, 0), (1, 1)), ((1, 1), (2, 0))}
    assert min(counts.values()) > 100  # either spin of hydrogen's electron


def test_open_shells_have_their_spin() -> None:
    for up, down in electrons_at(molecule("O O", 100.0, spin=2)):
        assert (sum(up), sum(down)) == (9, 7)
        assert [u + d for u, d in zip(up, down, strict=True)] == [8, 8]
    assert set(electrons_at(molecule("N", spin=7))) == {((7,), (0,))}


@pytest.mark.parametrize(("symbols", "charge", "spin"), [("H H", 1, 1), ("H", -1, 0), ("Li H", -1, 1), ("C O", 2, 2)])
def test_ions(symbols: str, charge: int, spin: int) -> None:
    system = molecule(symbols, 100.0, charge, spin)
    for up, down in electrons_at(system):
        assert (sum(up), sum(down)) == (system.n_up, system.n_down)
        for nucleus, z in enumerate(system.numbers):
            assert abs(up[nucleus] + down[nucleus] - z) <= abs(charge)


def test_an_extra_electron_goes_to_any_nucleus() -> None:
    counts = Counter(up[0] + down[0] for up, down in electrons_at(molecule("H H", 100.0, -1)))
    assert set(counts) == {1, 2} and min(counts.values()) > 100


def test_electrons_are_around_their_nucleus() -> None:
    electrons = initial_electrons(molecule("Be"), 5000, torch.Generator().manual_seed(0))
    np.testing.assert_allclose(electrons.mean((0, 1)), 0, atol=0.04)
    np.testing.assert_allclose(electrons.std((0, 1)), 1, atol=0.04)
