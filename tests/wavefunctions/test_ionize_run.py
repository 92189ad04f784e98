"""task=ionize with a wavefunction: every state is an optimisation of its own, killed and resumed to the last bit."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

from killable import TINY, assert_same, at, fusion
from resuming import document, killed_and_resumed

WORDS = (*TINY, "system=he", "task=ionize")
STEPS = 37
"""Iterations of one state: 12 of pretraining, 13 of optimisation, 12 of evaluation."""


@pytest.fixture(scope="module")
def ionised(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Directory of an uninterrupted run."""
    place = tmp_path_factory.mktemp("ionised")
    assert fusion(place, *WORDS).complete
    return place / "run"


def test_errors_of_the_states_add_in_quadrature(ionised: Path) -> None:
    ionisation = document(ionised)["ionisation"]
    errors = [state["stderr_hartree"] for state in ionisation["states"]]
    assert ionisation["ionisation_potential"]["stderr_hartree"] == math.hypot(*errors)


def test_a_state_is_the_ordinary_run_of_its_system(ionised: Path, tmp_path: Path) -> None:
    assert fusion(tmp_path, *TINY, "system=he", "system.charge=1").complete
    assert document(tmp_path / "run")["energy"] == document(ionised / "states" / "cation")["energy"]


@pytest.mark.slow
@pytest.mark.parametrize(
    "stops",
    [pytest.param((20,), id="system"), pytest.param((STEPS + 30, 2), id="cation twice")],
)
def test_a_killed_run_ends_with_the_same_bits(ionised: Path, tmp_path: Path, stops: tuple[int, ...]) -> None:
    resumed = killed_and_resumed(tmp_path, WORDS, [at("step", step) for step in stops])
    assert resumed[-1].status in (0, 1) and resumed[-1].err == "", resumed
    assert document(tmp_path / "run")["ionisation"] == document(ionised)["ionisation"]
    for name in ("system", "cation"):
        assert_same(ionised / "states" / name, tmp_path / "run" / "states" / name)
