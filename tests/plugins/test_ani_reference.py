"""The published ANI models against reference values: energies, forces, Hessians, stress, spread."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from ase import Atoms

from fusion.chemistry.structures import from_atoms
from fusion.chemistry.system import System
from fusion.chemistry.units import BOHR_PER_ANGSTROM, EV_ANGSTROM3_PER_HARTREE_BOHR3
from fusion.potentials import PotentialMethod, collate, neighbours
from fusion_ani import neurochem
from fusion_ani.aev import Layout
from fusion_ani.fused import environment_vectors
from fusion_ani.network import ANI

DATA = os.environ.get("FUSION_TEST_DATA")
pytestmark = pytest.mark.skipif(not DATA, reason="FUSION_TEST_DATA names no directory with the published weights")
NAMES = {"ani1x": "ani-1x", "ani1ccx": "ani-1ccx", "ani2x": "ani-2x"}
CASES = [
    *("water", "ethanol", "benzene", "acetamide_rattled", "hcn_linear", "n2_stretched", "oxygen_atom", "water_dimer"),
    *("methane_water_beyond_cutoff", "thiophene_2x", "cf3cn_2x", "chloroethane_2x", "water_box_pbc_8A", "peptide_264"),
]


@cache
def reference() -> dict[str, Any]:
    content: dict[str, Any] = json.loads((Path(DATA or "") / "reference" / "ani_reference.json").read_text())
    return content


@pytest.fixture(scope="module")
def load(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], ANI]:
    """Load a model by name, such as ani2x, in float64 by default, directly from the published files."""

    @cache
    def read(key: str) -> ANI:
        directory = tmp_path_factory.mktemp(key)
        for file in (Path(DATA or "") / "weights" / "ani").glob(f"{NAMES[key]}_8x*"):
            (directory / file.name).symlink_to(file)
        model = ANI(**neurochem.arguments(directory))
        model.load_state_dict(neurochem.convert(directory))
        return model.double().eval().requires_grad_(False)

    return read


def system_of(name: str) -> System:
    case = reference()["cases"][name]
    cell = case.get("cell")
    atoms = Atoms(case["symbols"], case["positions"], cell=cell, pbc=cell is not None)
    return from_atoms(atoms, name=name)


@pytest.mark.parametrize("key", NAMES)
@pytest.mark.parametrize("case", CASES)
def test_reference_values(load: Callable[[str], ANI], case: str, key: str) -> None:
    expected = reference()["cases"][case]["models"].get(key)
    if expected is None:
        pytest.skip(f"{key} lacks an element of {case}")
    system, method = system_of(case), PotentialMethod(key, load(key))
    wanted = {"forces"} | ({"hessian", "stress"} & {name.partition("_")[0] for name in expected})
    (result,) = method.calculate([system], wanted)
    assert result.energy == pytest.approx(expected["energy"], abs=1e-8)
    forces = np.asarray(result.properties["forces"]) * BOHR_PER_ANGSTROM
    np.testing.assert_allclose(forces, expected["forces"], rtol=0, atol=1e-7)
    members = load(key)(collate([system])).members
    np.testing.assert_allclose(members[:, 0], expected["member_energies"], rtol=0, atol=1e-8)
    if "qbc" in expected:
        spread = (result.energy_std or 0.0) / np.sqrt(len(system.symbols))
        assert spread == pytest.approx(expected["qbc"], abs=1e-8)
    if "hessian" in wanted:
        hessian = np.asarray(result.properties["hessian"]) * BOHR_PER_ANGSTROM**2
        np.testing.assert_allclose(hessian.ravel(), np.ravel(expected["hessian_Ha_A2"]), rtol=0, atol=1e-6)
    if "stress" in wanted:
        stress = np.asarray(result.properties["stress"]) * EV_ANGSTROM3_PER_HARTREE_BOHR3
        np.testing.assert_allclose(stress, expected["stress_eV_A3"], rtol=0, atol=1e-7)


@pytest.mark.parametrize("key", NAMES)
def test_float32_keeps_the_digits_of_total_energies(load: Callable[[str], ANI], key: str) -> None:
    model = load(key).member(0).eval().requires_grad_(False)
    for case in ("benzene", "water_box_pbc_8A", "peptide_264"):
        system = system_of(case)
        (exact,) = PotentialMethod(key, model, dtype="float64").calculate([system], {"forces"})
        (single,) = PotentialMethod(key, model, dtype="float32").calculate([system], {"forces"})
        assert single.energy == pytest.approx(exact.energy, abs=1e-7 * len(system.symbols))
        np.testing.assert_allclose(single.properties["forces"], exact.properties["forces"], rtol=0, atol=1e-5)


def test_environment_vectors(load: Callable[[str], ANI]) -> None:
    system = system_of("water")
    for key in ("ani1x", "ani2x"):
        expected, model = reference()["aev_water_nonzero"][key], load(key)
        pairs = neighbours(collate([system]), model.environment.radial_cutoff * BOHR_PER_ANGSTROM)
        species = torch.tensor([model.elements.index(symbol) for symbol in system.symbols])
        layout = Layout(species, pairs.centre, pairs.other, pairs.first, len(model.elements))
        values = torch.zeros(expected["shape"], dtype=torch.float64)
        columns = model.environment.columns(layout.present, len(model.elements))
        values[:, columns] = environment_vectors(model.environment, pairs.vectors, layout)[layout.row]
        for place, value in expected["values"].items():
            row, column = map(int, place.split(","))
            assert values[row, column] == pytest.approx(value, abs=1e-10)
            values[row, column] = 0.0
        assert values.abs().max() < 1e-12


def test_padded_batch(load: Callable[[str], ANI]) -> None:
    batch = reference()["padded_batch"]
    systems = []
    for numbers, positions in zip(batch["atomic_numbers"], batch["coordinates"], strict=True):
        real = [number > 0 for number in numbers]
        atoms = Atoms(np.array(numbers)[real], np.array(positions)[real])
        systems.append(from_atoms(atoms, name=str(atoms.symbols)))
    for key, energies in batch["energies"].items():
        computed = load(key)(collate(systems)).energy
        np.testing.assert_allclose(computed, energies, rtol=0, atol=1e-8)
