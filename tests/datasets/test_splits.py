"""Splits are reproducible, disjoint and recorded; batches cover an epoch once on any number of ranks."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ase.io import write
from molecules import frames

from fusion import datasets
from fusion.datasets.labelled import UNKNOWN_SPIN
from fusion.datasets.mixture import mixed
from fusion.datasets.naming import absolute, node
from fusion.errors import InputError

PARTS = ("train", "validation", "test")


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> datasets.Labelled:
    """30 structures of each of three molecules; the last ten are duplicates; folds 0 to 4."""
    place = tmp_path_factory.mktemp("data")
    many = frames(80)
    for number, atoms in enumerate([*many, *many[:10]]):
        atoms.info["part"] = number % 5
        write(place / "data.xyz", atoms, format="extxyz", append=True)
    entry = {"data": str(place / "data.xyz"), "fold": "part"}
    return datasets.load(absolute(node(entry), place), place)


def split(data: datasets.Labelled, run: int = 1, **settings: Any) -> datasets.Split:
    return datasets.split(data, {"split": settings}, run)


def identities(data: datasets.Labelled, parts: datasets.Split) -> dict[str, set[int]]:
    return {name: set(np.asarray(data.ids)[getattr(parts, name)].tolist()) for name in PARTS}


def test_a_split_depends_only_on_the_seed_and_the_structures(data: datasets.Labelled) -> None:
    first = split(data, validation=10, test=0.2)
    assert len(set(np.asarray(data.ids)[first.validation].tolist())) == 10
    assert sorted(np.concatenate([first.train, first.validation, first.test]).tolist()) == list(range(90))
    shuffled = data.select(np.random.default_rng(0).permutation(90))
    assert identities(shuffled, split(shuffled, validation=10, test=0.2)) == identities(data, first)
    assert identities(data, split(data, 2, validation=10, test=0.2)) != identities(data, first)
    assert identities(data, split(data, 2, validation=10, test=0.2, seed=1)) == identities(data, first)


def test_duplicates_and_molecules_stay_together(data: datasets.Labelled) -> None:
    parts = identities(data, split(data, validation=0.3, test=0.3))
    assert not (parts["train"] & parts["test"] or parts["train"] & parts["validation"])
    by = split(data, by="molecule", validation=1, test=1)
    groups = [set(data.group[getattr(by, name)].tolist()) for name in PARTS]
    assert [len(one) for one in groups] == [1, 1, 1] and len(set.union(*groups)) == 3
    unseen = split(data, validation=0.1, test=0.1, unseen_molecules=1)
    marked = unseen.unseen(data)
    held = set(data.group[unseen.test[marked]].tolist())
    assert len(held) == 1 and not held & set(data.group[unseen.train].tolist())
    assert 0 < (~marked).sum() < marked.sum()


def test_a_split_can_use_the_folds_of_the_data(data: datasets.Labelled) -> None:
    assert data.fold is not None
    parts = split(data, test=[4], validation=[0, 1])
    assert set(data.fold[parts.test].tolist()) == {4} and set(data.fold[parts.validation].tolist()) == {0, 1}
    assert set(data.fold[parts.train].tolist()) == {2, 3}
    assert len(split(data, test=[4], validation=0.25).validation) == pytest.approx(18, abs=3)


def test_a_split_is_written_and_read_back(data: datasets.Labelled, tmp_path: Path) -> None:
    first = split(data, validation=0.2, test=0.2)
    first.write(tmp_path, data)
    content = json.loads((tmp_path / "split.json").read_text())
    assert content["settings"]["seed"] == 1 and len(content["train"]["names"]) == len(first.train)
    shuffled = data.select(np.random.default_rng(0).permutation(90))
    assert identities(shuffled, split(shuffled, file=str(tmp_path))) == identities(data, first)
    with pytest.raises(InputError, match=r"train structures .* are not in the data"):
        split(data.select(np.arange(40)), file=str(tmp_path))
    with pytest.raises(InputError, match=r"not a split\.json"):
        split(data, file=str(tmp_path / "nothing"))


@pytest.mark.parametrize(
    ("settings", "complaint"),
    [
        ({"validation": 0.001}, "nothing for validation of 90 structures .* data.split.validation=0"),
        ({"validation": 0, "test": 1.0}, "nothing for train"),
        ({"validation": 100}, "validation=100: only 72 of 90"),
        ({"validation": [9]}, "no fold 9; the data have 0, 1, 2, 3, 4"),
        ({"test": -1}, "a number of structures, a fraction below 1"),
        ({"by": "colour"}, "structure or molecule"),
        ({"unseen_molecules": 3}, "only 3 molecules"),
    ],
)
def test_impossible_splits_are_refused(data: datasets.Labelled, settings: dict[str, Any], complaint: str) -> None:
    with pytest.raises(InputError, match=complaint):
        split(data, **settings)


def test_limited_data_are_the_same_structures_in_any_order(data: datasets.Labelled) -> None:
    from fusion.datasets.loading import limited

    shuffled = data.select(np.random.default_rng(0).permutation(80))
    chosen = [set(limited(one, 30).ids.tolist()) for one in (data.select(np.arange(80)), shuffled)]
    assert chosen[0] == chosen[1] and len(chosen[0]) == 30


def test_an_epoch_has_every_structure_once_in_batches_of_similar_size(data: datasets.Labelled) -> None:
    indices = np.arange(3, 90)
    taken = list(datasets.batches(data.sizes, indices, 8, seed=5, epoch=0))
    assert len(taken) == datasets.number_of_batches(87, 8) and sorted(np.concatenate(taken)) == indices.tolist()
    assert np.mean([len(set(data.sizes[one].tolist())) for one in taken]) < 1.5, "padding is what mixing costs"
    again = list(datasets.batches(data.sizes, indices, 8, seed=5, epoch=0, start=4))
    assert [one.tolist() for one in again] == [one.tolist() for one in taken[4:]]
    other = list(datasets.batches(data.sizes, indices, 8, seed=5, epoch=1))
    assert [one.tolist() for one in other] != [one.tolist() for one in taken]
    ranks = [list(datasets.batches(data.sizes, indices, 8, 5, 0, rank, 3)) for rank in range(3)]
    for number, one in enumerate(taken):
        assert sorted(np.concatenate([shares[number] for shares in ranks])) == sorted(one.tolist())


def test_a_mixture_records_the_sources_of_its_structures(data: datasets.Labelled) -> None:
    bare = replace(data.select(np.arange(20)), forces=None, sources=("bare",))
    both = mixed([data, bare, data.select(np.arange(5))])
    assert both.sources == ("data", "bare", "data-2") and np.bincount(both.source).tolist() == [90, 20, 5]
    assert both.forces is not None and np.isnan(both.forces[both.atoms(np.arange(90, 110))]).all()
    assert both.groups == data.groups and both.system(95).formula == data.system(5).formula
    np.testing.assert_array_equal(both.forces[both.atoms([112])], data.forces[data.atoms([2])])  # type: ignore[index]
    with pytest.raises(InputError, match="cannot be mixed"):
        mixed([data, replace(bare, energy_zero="atomization")])


def test_a_spin_that_the_data_do_not_state_is_the_lowest_possible(data: datasets.Labelled) -> None:
    charge, spin = np.zeros_like(data.charge), np.full_like(data.spin, UNKNOWN_SPIN)
    charge[1], spin[2], charge[3], spin[3] = 1, 2, -1, 3
    assert replace(data, charge=charge, spin=spin).spins([0, 1, 2, 3]).tolist() == [0, 1, 2, 3]
