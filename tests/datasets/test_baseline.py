"""Labels of delta-learning: differences to a method, calculated once and saved also after failures."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ase.io import write
from molecules import frames, write_npz

from fusion import datasets
from fusion.datasets import baseline
from fusion.datasets.naming import absolute, node
from fusion.errors import CalculationError, InputError
from fusion.methods import by_name, protocol


def load(path: Path, **options: Any) -> datasets.Labelled:
    return datasets.load(absolute(node({"data": str(path), **options}), path.parent), path.parent)


@pytest.fixture
def place(with_toy: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("FUSION_CACHE", str(tmp_path / "cache"))
    write(tmp_path / "data.xyz", frames(12), format="extxyz")
    return tmp_path


def test_labels_are_differences_to_the_method(place: Path) -> None:
    whole, rest = load(place / "data.xyz"), load(place / "data.xyz", baseline="morse")
    results = protocol.calculate(by_name.method("morse"), [whole.system(i) for i in range(12)], {"energy", "forces"})
    np.testing.assert_allclose(rest.energy, whole.energy - [one.energy for one in results], atol=1e-9)
    assert rest.forces is not None and whole.forces is not None
    said = np.concatenate([np.asarray(one.properties["forces"]) for one in results])
    np.testing.assert_allclose(rest.forces, whole.forces - said, atol=1e-9)
    assert rest.energy_zero == "difference" and rest.ids.tolist() == whole.ids.tolist()


def test_the_stress_of_total_energies_is_left_out(place: Path) -> None:
    many = frames(2)
    for atoms in many:
        atoms.set_cell([9.0, 9.0, 9.0])
        atoms.pbc = True
        atoms.calc.results["stress"] = np.ones(6)
    write(place / "crystals.xyz", many, format="extxyz")
    assert load(place / "crystals.xyz").stress is not None
    rest = load(place / "crystals.xyz", baseline="morse")
    assert rest.stress is None and any("the stress is left out" in text for text in rest.report.checks)


def test_the_baseline_is_calculated_once_and_resumes(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[int] = []
    original = protocol.calculate

    def counted(method: Any, systems: Any, properties: Any) -> Any:
        calls.append(len(systems))
        if len(calls) == 3:
            raise KeyboardInterrupt
        if "forces" in properties and any(system.formula == "CO" for system in systems):
            raise CalculationError("carbon monoxide is too much")
        return original(method, systems, properties)

    monkeypatch.setattr(protocol, "calculate", counted)
    with pytest.raises(KeyboardInterrupt):
        load(place / "data.xyz", baseline="morse")
    assert calls == [1, 2, 4]
    rest = load(place / "data.xyz", baseline="morse")
    assert len(rest) == 8 and len(rest.report.left_out) == 4
    assert all("carbon monoxide is too much" in reason for _, reason in rest.report.left_out)
    before = len(calls)
    assert load(place / "data.xyz", baseline="morse").energy.tolist() == rest.energy.tolist() and len(calls) == before
    with pytest.raises(InputError, match="no method 'mors'"):
        load(place / "data.xyz", baseline="mors")
    assert not list((place / "cache" / "data" / "baselines").glob("*.part")) and baseline.DIFFERENCE == "difference"


def test_a_column_of_the_file_can_be_subtracted(tmp_path: Path) -> None:
    path = write_npz(tmp_path / "data.npz", frames(6), True)
    with np.load(path) as content:
        arrays = dict(content)
    np.savez(path, **arrays, cheap=arrays["energies"] + np.arange(6.0))
    data = load(path, energy_unit="kcal/mol", subtract="cheap")
    np.testing.assert_allclose(data.energy * 627.509474, -np.arange(6.0), rtol=1e-6)
    with pytest.raises(InputError, match="its arrays are"):
        load(path, energy_unit="kcal/mol", subtract="dear")
