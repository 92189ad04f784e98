"""Calculators, functionals and runs that several threads create and use at the same time."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from ase import Atoms
from omegaconf import OmegaConf

import fusion
from fusion import errors
from fusion.chemistry.units import EV_PER_HARTREE

THREADS = 8


def together(work: Callable[[int], Any], threads: int = THREADS) -> list[Any]:
    """Call `work` with the number of each thread, all at the same time; return the results."""
    start = threading.Barrier(threads)

    def begin(number: int) -> Any:
        start.wait()
        return work(number)

    with ThreadPoolExecutor(threads) as pool:
        return list(pool.map(begin, range(threads)))


def test_calculators_work_in_threads(with_toy: None) -> None:
    def energy(number: int) -> float:
        atoms = Atoms("H2", [[0, 0, 0], [0, 0, 0.74]])
        atoms.calc = fusion.calculator("toy", energy=-float(number + 1))
        return float(atoms.get_potential_energy()) / EV_PER_HARTREE

    assert together(energy) == pytest.approx([-(number + 1) for number in range(THREADS)])


def test_a_wrong_name_is_refused_in_every_thread(with_toy: None) -> None:
    def message(number: int) -> str:
        with pytest.raises(errors.InputError) as refusal:
            fusion.calculator("toy", **{f"energies{number}": 1.0})
        return str(refusal.value)

    assert all(f"toy has no setting 'energies{number}'" in text for number, text in enumerate(together(message)))


def test_runs_in_threads_do_not_share_settings_or_results(with_toy: None, tmp_path: Path) -> None:
    def run(number: int) -> float:
        directory = tmp_path / str(number)
        words = ["+method=toy", f"method.energy=-{number + 1}.5", f"seed={number}", f"hydra.run.dir={directory}"]
        result = fusion.run(words)
        assert result.energy is not None
        return result.energy

    assert together(run, 3) == [-1.5, -2.5, -3.5]
    for number in range(3):
        directory = tmp_path / str(number)
        document = json.loads((directory / "result.json").read_text())
        assert document["energy"]["value"] == -(number + 1.5) and document["seed"] == number
        assert OmegaConf.load(directory / "config.yaml").seed == number


def test_a_model_of_another_precision_is_built_while_others_compute(with_toy: None) -> None:
    """Building a model sets torch's default dtype for a moment; this must not affect other threads."""
    import torch

    from fusion import zoo
    from fusion.zoo import store

    card = zoo.find("dm21")

    def built(number: int) -> torch.dtype:
        model = store.blank(card, {(torch.float32, torch.float64)[number % 2]})
        return next(model.parameters()).dtype

    assert together(built) == [torch.float32, torch.float64] * (THREADS // 2)
    assert torch.get_default_dtype() == torch.float32
