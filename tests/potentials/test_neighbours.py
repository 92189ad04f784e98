"""Neighbours and their gradients against a loop over all images: molecules, batches, small and triclinic cells."""

from __future__ import annotations

import itertools
import sys

import numpy as np
import pytest
import torch

from fusion.chemistry.system import System
from fusion.potentials import Batch, collate, neighbours

SLANTED = np.array([[7.0, 0.0, 0.0], [2.0, 6.0, 0.0], [-1.0, 1.5, 8.0]])


def system(atoms: int, seed: int, cell: np.ndarray | None = None, pbc: tuple[bool, bool, bool] = (True,) * 3) -> System:
    rng = np.random.default_rng(seed)
    grid = np.array(list(itertools.product(range(5), repeat=3)), dtype=float)[rng.permutation(125)[:atoms]] * 2.5
    positions = grid + 0.3 * rng.normal(size=grid.shape)
    return System(
        "test", ("H",) * atoms, positions, spin=atoms % 2, cell=cell, pbc=pbc if cell is not None else (False,) * 3
    )


def by_hand(system: System, cutoff: float) -> list[tuple[int, int, tuple[float, ...]]]:
    """(i, j, vector) of all pairs and images within the cutoff, by looping over images."""
    reach = [range(-4, 5) if flag else range(1) for flag in system.pbc]
    cell = np.zeros((3, 3)) if system.cell is None else system.cell
    pairs = []
    for shift in itertools.product(*reach):
        vectors = system.positions[None] + np.array(shift) @ cell - system.positions[:, None]
        for i, j in zip(*np.nonzero(np.linalg.norm(vectors, axis=-1) < cutoff), strict=True):
            if any(shift) or i != j:
                pairs.append((int(i), int(j), tuple(np.round(vectors[i, j], 9))))
    return sorted(pairs)


def listed(batch: Batch, cutoff: float) -> list[tuple[int, int, tuple[float, ...]]]:
    near = neighbours(batch, cutoff)
    rows = zip(near.centre.tolist(), near.other.tolist(), near.vectors.numpy(), strict=True)
    return sorted((i, j, tuple(np.round(vector, 9))) for i, j, vector in rows)


@pytest.mark.parametrize("atoms", [1, 2, 9, 60, 100])
def test_pairs_of_molecules(atoms: int) -> None:
    molecule = system(atoms, atoms)
    assert listed(collate([molecule]), 5.0) == by_hand(molecule, 5.0)


@pytest.mark.parametrize("pbc", [(True, True, True), (True, False, True), (False, False, True)])
@pytest.mark.parametrize("cutoff", [3.0, 9.5])
def test_pairs_in_cells_smaller_than_the_cutoff(cutoff: float, pbc: tuple[bool, bool, bool]) -> None:
    crystal = system(6, 1, SLANTED, pbc)
    pairs = listed(collate([crystal]), cutoff)
    assert pairs == by_hand(crystal, cutoff)
    assert cutoff < 6 or any(i == j for i, j, _ in pairs), "atoms are neighbours of their own images"


def test_pairs_with_a_direction_without_a_cell_vector() -> None:
    slab = system(6, 1, np.array([[7.0, 0, 0], [2.0, 6.0, 0], [0, 0, 0]]), (True, True, False))
    assert listed(collate([slab]), 6.0) == by_hand(slab, 6.0)


@pytest.mark.parametrize("large", [False, True])
def test_pairs_of_a_batch_are_those_of_its_systems(large: bool) -> None:
    systems = [system(5, 1), system(1, 2), system(80 if large else 12, 3), system(7, 4)]
    near = neighbours(collate(systems), 5.0)
    parts = [neighbours(collate([member]), 5.0) for member in systems]
    starts = np.cumsum([0, *(len(part.numbers) for part in parts[:-1])])
    for name in ("centre", "other"):
        shifted = [getattr(part, name) + start for part, start in zip(parts, starts.tolist(), strict=True)]
        torch.testing.assert_close(getattr(near, name), torch.cat(shifted))
    torch.testing.assert_close(near.vectors, torch.cat([part.vectors for part in parts]))
    assert near.system.tolist() == [row for row, part in enumerate(parts) for _ in part.numbers]


def test_pairs_are_sorted_by_atom() -> None:
    near = neighbours(collate([system(9, 5), system(1, 6), system(4, 7)]), 5.0)
    for atom, (start, end) in enumerate(itertools.pairwise(near.first.tolist())):
        assert (near.centre[start:end] == atom).all()
    assert near.first[-1] == len(near.centre)


def test_gradients_with_respect_to_positions_and_cell() -> None:
    batch = collate([system(4, 8, SLANTED)])
    positions, cell = batch.positions.requires_grad_(True), batch.cell.requires_grad_(True)

    def energy(positions: torch.Tensor, cell: torch.Tensor) -> torch.Tensor:
        moved = type(batch)(batch.numbers, positions, batch.mask, cell, batch.pbc, batch.charge, batch.spin)
        return torch.exp(-neighbours(moved, 9.0).distances).sum()

    assert torch.autograd.gradcheck(energy, (positions, cell))


def test_a_large_batch_is_searched_in_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    """The search for small molecules on GPUs, in chunks, agrees with the compiled search."""
    module = sys.modules["fusion.potentials.neighbours"]
    batch = collate([system(1 + seed % 9, seed) for seed in range(20)])
    monkeypatch.setattr(module, "_DENSE_PAIRS", 200)
    centre, other = module._dense(batch, 5.0)
    near = neighbours(batch, 5.0)
    assert torch.equal(near.centre, centre) and torch.equal(near.other, other)


@pytest.mark.parametrize("stretch", [(1.0, 1.0, 1.0), (8.0, 0.3, 1.0), (40.0, 0.3, 0.3)])
def test_large_molecules_are_searched_like_small_ones(stretch: tuple[float, float, float]) -> None:
    """Cells give every pair, in both directions, for molecules of any shape beside small ones and single atoms."""
    random = np.random.default_rng(0)
    sizes = [300, 1, 30, 90]
    sites = [np.stack(np.unravel_index(random.permutation(1000)[:n], (10, 10, 10)), axis=1) for n in sizes]
    points = [2.0 * (site + random.uniform(-0.2, 0.2, site.shape)) * stretch for site in sites]
    batch = collate([System("x", ("He",) * len(each), each) for each in points])
    near = neighbours(batch, 5.0)
    starts = np.concatenate([[0], np.cumsum(sizes)])
    expected = set()
    for row, start in enumerate(starts[:-1]):
        distances = np.linalg.norm(points[row][:, None] - points[row][None], axis=-1)
        for i, j in zip(*np.nonzero(distances < 5.0), strict=True):
            expected |= {(start + i, start + j)} if i != j else set()
    rows = list(zip(near.centre.tolist(), near.other.tolist(), strict=True))
    assert set(rows) == expected and len(rows) == len(expected)
