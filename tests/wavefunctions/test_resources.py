"""Estimates of memory and cost of a run."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from exact import Slater1s, molecule
from fusion.chemistry.system import System
from fusion.errors import InputError
from fusion.parallel.memory import available_memory
from fusion.wavefunctions import resources
from fusion.wavefunctions.hamiltonians import molecular
from fusion.wavefunctions.resources import default_chunk, estimate
from fusion.wavefunctions.schedule import Schedule
from fusion.wavefunctions.scores import ScoreRecorder
from fusion_ferminet.network import FermiNet

GIB = 2**30


def cost(
    system: System,
    ansatz: torch.nn.Module,
    walkers: int,
    ranks: int = 1,
    pairs: bool | None = True,
    free: float | None = None,
) -> resources.Cost:
    """Cost of an optimiser with a Gram matrix; of one without if `pairs` is False, without any scores if None."""
    chunk = default_chunk(system)
    schedule = Schedule(walkers, chunk, 0, 1e-3, 10, 10, 100, 5.0, 100, 10)
    recorder = None if pairs is None else ScoreRecorder(ansatz, 4 * chunk, pairs)
    return estimate(system, ansatz, molecular(system), schedule, recorder, ranks, free)


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


def chain(length: int) -> System:
    return System("chain", ("C",) * length, np.arange(3.0 * length).reshape(length, 3))


def test_a_large_molecule_is_refused() -> None:
    """One layer's forward Laplacian of 4 walkers needs 4 x (3 x 120 + 2) x 120 x 256 numbers, and temporaries."""
    carbon = chain(20)
    ansatz = FermiNet(carbon, layers=1, determinants=1)
    with pytest.raises(InputError, match=r"C20 with 16 walkers needs about [1-9]\.\d GiB of memory, 1\.0 GiB are free"):
        cost(carbon, ansatz, 16, free=1 * GIB)


def test_the_message_names_the_chunk_that_fits_or_what_else_to_change() -> None:
    carbon = chain(20)
    ansatz = FermiNet(carbon, layers=1, determinants=1)
    with pytest.raises(InputError, match=r"; method\.chunk=2 fits$"):
        cost(carbon, ansatz, 16, pairs=None, free=1.4 * GIB)
    with pytest.raises(InputError, match=r"; fewer electrons \(system.ecp\) or a smaller network need less$"):
        cost(carbon, ansatz, 16, pairs=None, free=0.8 * GIB)


def test_a_gram_matrix_that_does_not_fit_is_refused_and_kfac_is_not() -> None:
    system = molecule("Li H", 3.0)
    ansatz = small_network(system)
    with pytest.raises(InputError, match=r"; fewer method\.walkers or optimiser=kfac need less$"):
        cost(system, ansatz, 10_000, free=2 * GIB)
    assert cost(system, ansatz, 10_000, pairs=False, free=2 * GIB).memory < 2 * GIB


def test_walkers_whose_scores_do_not_fit_are_taken_in_groups() -> None:
    """An optimiser without Gram matrix holds one group at a time, not two."""
    system = molecule("Li H", 3.0)
    ansatz = FermiNet(system)
    whole, free = cost(system, ansatz, 1000, free=100 * GIB), 0.97 * cost(system, ansatz, 1000).memory / 0.8
    assert whole.groups == 1
    grouped = cost(system, ansatz, 1000, free=free)
    assert grouped.groups > 2 and grouped.memory <= 0.8 * free
    assert cost(system, ansatz, 1000, pairs=False, free=free).groups == 1


def test_an_evaluation_needs_no_scores() -> None:
    system = molecule("Li H", 3.0)
    ansatz = FermiNet(system, layers=2)
    assert cost(system, ansatz, 100_000, pairs=None, free=2 * GIB).memory < 2 * GIB


def test_memory_grows_with_walkers() -> None:
    system = molecule("Li H", 3.0)
    ansatz = small_network(system)
    assert cost(system, ansatz, 4000).memory > cost(system, ansatz, 100).memory


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
