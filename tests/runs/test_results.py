"""result.json is replaced atomically and has only keys that apply."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from omegaconf import OmegaConf

from fusion.chemistry.system import System
from fusion.runs.results import Origin, Result, read_result, write_atomically, write_result
from fusion.runs.run import Run

METHOD = Origin("toy", "conventional", "total")


def run_in(directory: Path) -> Run:
    return Run(directory, OmegaConf.create({"seed": 3}), None, 3, directory)


def written(tmp_path: Path) -> dict[str, Any]:
    """Document of a result without reference, weights and message."""
    system = System("h2", ("H", "H"), np.array([[0.0, 0, 0], [0, 0, 1.4]]))
    result = Result(
        system, energy=-1.1, energy_std=0.2, properties={"forces": np.ones((2, 3))}, details={"scf": {"n": 3}}
    )
    write_result(run_in(tmp_path), METHOD, "energy", result, 1.5)
    document = read_result(tmp_path)
    assert document is not None
    assert json.dumps(document)
    return document


def test_units_are_in_the_key_names(tmp_path: Path) -> None:
    document = written(tmp_path)
    assert document["forces_hartree_per_bohr"] == [[1.0] * 3] * 2 and document["scf"] == {"n": 3}
    assert document["energy"] == {"value": -1.1, "stderr": None} and document["energy_std_hartree"] == 0.2
    assert document["system"]["positions"][1][2] == pytest.approx(1.4 * 0.529177, abs=1e-5)


def test_missing_values_are_absent(tmp_path: Path) -> None:
    document = written(tmp_path)
    assert document["reference"] is None and document["weights"] is None and "message" not in document


def test_a_failure_has_no_energy(tmp_path: Path) -> None:
    system = System("h", ("H",), np.zeros((1, 3)), spin=1)
    write_result(
        run_in(tmp_path), METHOD, "energy", Result(system, "failed", message="why", details={"a": float("nan")}), 0.1
    )
    document = read_result(tmp_path)
    assert document is not None and document["energy"] is None and document["message"] == "why"
    assert document["a"] is None


def test_a_file_is_replaced_atomically(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "file"
    write_atomically(path, "old")
    monkeypatch.setattr("os.replace", lambda *_: (_ for _ in ()).throw(OSError("crash")))
    with pytest.raises(OSError, match="crash"):
        write_atomically(path, "new")
    assert path.read_text() == "old" and list(tmp_path.iterdir()) == [path]
    assert read_result(tmp_path) is None
