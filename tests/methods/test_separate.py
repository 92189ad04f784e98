"""Displaced geometries in processes of their own: the same results for every number of processes, and failures."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from omegaconf import OmegaConf

from fusion.chemistry.system import System
from fusion.errors import CalculationError
from fusion.methods import abilities, by_name
from fusion.methods.separate import Separate, Share

HYDROGEN = System("h2", ("H", "H"), np.array([[0.0, 0.0, 0.0], [0.0, 0.0, 1.4]]))
DISPLACED = [HYDROGEN.moved(HYDROGEN.positions * factor) for factor in (0.99, 1.01, 1.02)]
WANTED = frozenset({"energy", "forces"})


def settings() -> dict[str, Any]:
    node = OmegaConf.to_container(by_name.node("hf", {"basis": "6-31g", "conv_tol": 1e-4}))
    assert isinstance(node, dict)
    return {str(key): value for key, value in node.items()}


def energies(processes: int) -> list[float | None]:
    method = by_name.method({"method": "hf", "basis": "6-31g", "conv_tol": 1e-4})
    method.calculate([HYDROGEN], WANTED)
    before = method.memory()["densities"]["6-31g"]
    found: list[float | None] = []
    with Separate(method, settings(), Share(processes, 1)) as separate:
        while len(found) < len(DISPLACED):
            parts = separate.calculate(DISPLACED[len(found) :][: separate.size], WANTED)
            assert all(np.shape(part.properties["forces"]) == (2, 3) for part in parts)
            found += [part.energy for part in parts]
    np.testing.assert_array_equal(method.memory()["densities"]["6-31g"]["positions"], before["positions"])
    return found


def test_every_geometry_starts_from_the_reference() -> None:
    method = by_name.method({"method": "hf", "basis": "6-31g", "conv_tol": 1e-4})
    method.calculate([HYDROGEN], WANTED)
    memory = method.memory()
    method.recall(memory)
    (last,) = method.calculate([DISPLACED[2]], WANTED)
    assert energies(1)[2] == last.energy


@pytest.mark.slow
def test_two_processes_have_the_results_of_one() -> None:
    assert energies(2) == energies(1)


def test_a_process_that_ends_gives_its_reason() -> None:
    method = by_name.method({"method": "hf"})
    broken = Separate(method, {"_target_": "fusion_conventional.nothing.Here"}, Share(2, 1))
    with broken, pytest.raises(CalculationError, match=r"a process of the displaced geometries ended: .*nothing"):
        broken.calculate(DISPLACED[:2], WANTED)


def test_methods_with_programs_or_batches_are_not_separated() -> None:
    assert abilities.separable(by_name.method("hf"))
    assert not abilities.separable(by_name.method({"method": "ase", "calculator": "emt"}))
