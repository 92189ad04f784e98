"""Commands and Python code in README.md work as printed: they are composed and checked, without the long work."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from ase import Atoms
from commands import assert_right
from readme import COMMANDS, PYTHON

import fusion
from fusion import zoo
from fusion.zoo import store
from processes import Program


def test_the_readme_has_commands() -> None:
    assert len(COMMANDS) > 8 and len(PYTHON) == 1


@pytest.mark.parametrize("command", COMMANDS)
def test_a_command_works_as_printed(
    command: str, program: Program, files: Path, checked_only: None, trained: Path
) -> None:
    assert_right(command, program, trained)


@pytest.mark.parametrize("block", PYTHON)
def test_a_piece_of_python_works_as_printed(
    block: str, files: Path, checked_only: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    from pyscf import gto

    from fusion.functionals.scf.mean_field import LearnedRKS

    load: Callable[[str], Any] = zoo.load
    blank = store.blank(zoo.find("dm21"), {torch.float64}).eval().requires_grad_(False)
    monkeypatch.setattr(zoo, "load", lambda name: blank if name.startswith("dm21") else load(name))
    monkeypatch.setattr(LearnedRKS, "kernel", lambda self: None)
    names = {
        "fusion": fusion,
        "mol": gto.M(atom="H 0 0 0; H 0 0 0.74", verbose=0),
        "atoms": Atoms("H2O", [[0, 0, 0], [0, 0, 1], [0, 1, 0]]),
    }
    exec(block, names)
    if "atoms.calc" in block:
        assert names["atoms"].get_potential_energy() < 0
