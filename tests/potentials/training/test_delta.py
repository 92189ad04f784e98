"""Delta-learning as a whole: a baseline, the learned correction, and their sum."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ase import Atoms
from ase.io import read, write
from structures import write as write_structures
from test_potential_training_run import ABOUT, words

import fusion
from fusion.chemistry import energy_zeros, units
from fusion.chemistry.system import System
from fusion.cli import publish
from fusion.methods import by_name, protocol

HF = "{method: hf, basis: sto-3g}"


def document(run: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((run / "result.json").read_text())
    return content


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Directory of a run on energies, forces and dipoles less those of Hartree-Fock."""
    place = tmp_path_factory.mktemp("delta")
    path = write_structures(place / "data.extxyz", 20)
    frames: list[Atoms] = read(path, ":")
    for frame in frames:
        frame.info["mu"] = frame.positions[0] - frame.positions.mean(axis=0)
    write(path, frames)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FUSION_CACHE", str(place / "cache"))
        keys = (f"data.baseline={HF}", "data.dipole.key=mu", "method.model.charges=true")
        loss = "method.training.loss={energy: 1.0, forces: 1.0, dipole: 1.0}"
        assert fusion.run(words(path, place / "run", *keys, loss)).status == "ok"
    return place


@pytest.mark.slow
def test_the_sum_has_the_errors_of_the_training(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fusion.zoo.registry.user", lambda: place / "zoo")
    monkeypatch.setenv("FUSION_CACHE", str(place / "cache"))
    card = publish.add(place / "run", ABOUT, place / "zoo")
    assert card.energy_zero == "difference"
    ani = "{method: ani, weights: tiny, dtype: float64}"
    data = (f"data={place / 'data.extxyz'}", f"data.split.file={place / 'run'}", "task.part=test")
    fusion.run(
        ["+method=sum", f"method.terms=[{HF}, {ani}]", "task=evaluate", *data, f"hydra.run.dir={place / 'evaluation'}"]
    )
    trained = document(place / "run")["training"]["parts"]["test"]
    used = document(place / "evaluation")["evaluation"]
    assert used["energy"]["total"]["mae"] == pytest.approx(trained["energy_mae_kcal_mol"], rel=1e-5)
    ev = units.EV_PER_HARTREE / units.KCAL_MOL_PER_HARTREE
    forces = 1000.0 * ev * used["forces"]["total"]["mae"]
    assert forces == pytest.approx(trained["forces_mae_mev_angstrom"], rel=1e-4)

    parts = [
        by_name.method(entry) for entry in ({"method": "hf", "basis": "sto-3g"}, {"method": "ani", "weights": "tiny"})
    ]
    assert [part.energy_zero for part in parts] == [energy_zeros.TOTAL, energy_zeros.CORRECTION]
    both = by_name.method(
        {"method": "sum", "terms": [{"method": "hf", "basis": "sto-3g"}, {"method": "ani", "weights": "tiny"}]}
    )
    assert both.energy_zero == energy_zeros.TOTAL
    water = System("water", ("O", "H", "H"), np.array([[0.0, 0.0, 0.2], [0.0, 1.4, -0.9], [0.0, -1.4, -0.9]]))
    dipoles = [protocol.calculate(one, [water], {"dipole"})[0].properties["dipole"] for one in (*parts, both)]
    np.testing.assert_allclose(np.asarray(dipoles[0]) + dipoles[1], dipoles[2], atol=1e-6)
    assert np.linalg.norm(dipoles[1]) > 1e-3
