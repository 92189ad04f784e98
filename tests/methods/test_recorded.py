"""Journals: which recorded results belong to a calculation."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
import pytest
from omegaconf import OmegaConf

from fusion.chemistry import core_potentials
from fusion.chemistry.system import System
from fusion.errors import InputError
from fusion.methods.recorded import Journal, resume_note
from fusion.runs.layout import CHECKPOINT
from fusion.runs.results import Result
from fusion.runs.run import Run


class Constant:
    """Method whose energy is a constant."""

    name = kind = label = "constant"
    energy_zero = "total"
    takes_cores = True
    provides = frozenset({"energy"})

    def calculate(self, systems: Sequence[System], properties: Iterable[str]) -> list[Result]:
        """Return -1 hartree for each system."""
        return [Result(system, energy=-1.0) for system in systems]


def run(directory: Path, checkpoint: Path | None = None) -> Run:
    return Run(directory, OmegaConf.create({"method": {"name": "constant"}}), checkpoint, 0, directory)


def test_results_with_another_core_potential_are_not_taken(tmp_path: Path) -> None:
    lithium = System("li", ("Li",), np.zeros((1, 3)), spin=1)
    with_core = lithium.with_cores(core_potentials.read("ccecp", ["Li"], tmp_path))
    with Journal(Constant(), with_core, run(tmp_path), "energy") as journal:
        journal.calculate([with_core], {"energy"})
    resumed = run(tmp_path, tmp_path / CHECKPOINT)
    assert "after 1 calculation" in str(resume_note(Constant(), with_core, resumed, "energy"))
    with pytest.raises(InputError, match="belongs to another core potential"):
        resume_note(Constant(), lithium, resumed, "energy")
