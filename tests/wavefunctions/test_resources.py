"""Estimates of memory and cost of a run."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from exact import Slater1s, molecule
from fusion.chemistry.system import System
from fusion.errors import InputError
from fusion.wavefunctions import resources
from fusion.wavefunctions.hamiltonians import molecular
from fusion.wavefunctions.resources import available_memory, default_chunk, estimate
from fusion_ferminet.network import FermiNet

GIB = 2**30


def cost(system: System, ansatz: torch.nn.Module, walkers: int, ranks: int = 1) -> resources.Cost:
    return estimate(system, ansatz, molecular(system), walkers // ranks, default_chunk(system), 10, 10, walkers)


def small_network(system: System) -> FermiNet:
    return FermiNet(system, one_electron=16, two_electron=4, layers=2, determinants=2)


def test_a_small_run_fits_and_reports_its_cost() -> None:
    system = molecule("H")
    computed = cost(system, small_network(system), 64)
    assert 0.1 * GIB < computed.memory < 2 * GIB
    assert 0 < computed.evaluation_s < computed.optimisation_s < 1


def test_an_ansatz_of_unknown_layers_has_a_cost_too() -> None:
    assert cost(molecule("He"), Slater1s(1.7), 64).optimisation_s > 0


def test_too_many_walkers_are_refused_before_anything_is_allocated() -> None:
    system = molecule("Li H", 3.0)
    with pytest.raises(InputError, match=r"LiH with 10000000 walkers needs about \d{6,}\.\d GiB.*free.*walkers"):
        cost(system, small_network(system), 10_000_000)


def test_a_large_molecule_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """One layer's forward Laplacian of 4 walkers needs 4 x (3 x 120 + 2) x 120 x 256 numbers, and temporaries."""
    monkeypatch.setattr(resources, "available_memory", lambda: 1 * GIB)
    carbon = System("chain", ("C",) * 20, np.arange(60.0).reshape(20, 3))
    ansatz = FermiNet(carbon, layers=1, determinants=1)
    with pytest.raises(InputError, match=r"C20 with 16 walkers needs about [1-9]\.\d GiB of memory, 1\.0 GiB are free"):
        cost(carbon, ansatz, 16)


def test_memory_grows_with_walkers_and_the_message_names_it(monkeypatch: pytest.MonkeyPatch) -> None:
    system = molecule("Li H", 3.0)
    ansatz = small_network(system)
    small, large = cost(system, ansatz, 100).memory, cost(system, ansatz, 4000).memory
    assert large > small
    monkeypatch.setattr(resources, "available_memory", lambda: int(0.9 * large))
    assert cost(system, ansatz, 100).memory == small
    with pytest.raises(InputError, match=f"needs about {large / GIB:.1f} GiB of memory, {0.9 * large / GIB:.1f} GiB"):
        cost(system, ansatz, 4000)


def test_ranks_share_the_walkers() -> None:
    system = molecule("Li H", 3.0)
    ansatz = FermiNet(system, layers=2)
    assert cost(system, ansatz, 2000, ranks=4).memory < cost(system, ansatz, 2000).memory


def test_free_memory_is_plausible() -> None:
    assert 0.1 * GIB < available_memory() < 100_000 * GIB


@pytest.mark.parametrize(("electrons", "least", "most"), [(1, 128, 256), (4, 32, 128), (14, 4, 16), (100, 4, 4)])
def test_chunks_shrink_with_the_electrons(electrons: int, least: int, most: int) -> None:
    charged = molecule("Fm", charge=100 - electrons)
    assert least <= default_chunk(charged) <= most
