"""AIMNet2: the numbers of its package for random weights, invariances, derivatives, long range, what is refused."""

from __future__ import annotations

import copy
import importlib.util
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from hashlib import sha256
from pathlib import Path
from typing import Any

import aimnet_files
import numpy as np
import pytest
import torch
from ase import Atoms
from ase.build import molecule

from fusion import zoo
from fusion.chemistry.structures import from_atoms
from fusion.chemistry.system import System
from fusion.chemistry.units import (
    BOHR_PER_ANGSTROM,
    EV_ANGSTROM_PER_HARTREE_BOHR,
    EV_PER_HARTREE,
)
from fusion.errors import CalculationError, InputError
from fusion.methods import by_name, protocol
from fusion.potentials import collate, neighbours
from fusion.zoo import Card, card_file, store
from fusion.zoo.card import Model, Origin, Weights
from fusion.zoo.files import File
from fusion_aimnet.convert import convert
from fusion_aimnet.dispersion import Dispersion
from fusion_aimnet.potential import AIMNet2
from processes import Program

REFERENCE = Path(__file__).with_name("aimnet_reference.json")
ELEMENTS = list(aimnet_files.ELEMENTS)
WATER = molecule("H2O")


def card(folder: Path, name: str, seeds: dict[str, int], channels: int) -> Card:
    """Card like the published one, of the files in `folder`, which get random weights of these seeds."""
    published = zoo.find("aimnet2" if channels == 1 else "aimnet2-nse")
    for file, seed in seeds.items():
        if not (folder / file).exists():
            torch.save(aimnet_files.published(channels, seed), folder / file)
    files = tuple(_file(folder / file) for file in seeds)
    model = Model(published.model.target, {**published.model.arguments, "members": len(files)})
    weights = Weights.of_source(model, str(published.origin.converter), files)
    origin = Origin((f"file://{folder}/nowhere/",), "", published.origin.converter)
    return replace(published, name=name, model=model, weights=weights, files=files, origin=origin)


def _file(path: Path) -> File:
    content = path.read_bytes()
    return File(path.name, len(content) + 10_000, sha256(content).hexdigest(), (), exact=False)


@pytest.fixture(scope="module")
def mirror(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Directory of files with random weights that serves as mirror; their cards are in a zoo, the cache is empty."""
    folder, own = tmp_path_factory.mktemp("mirror"), tmp_path_factory.mktemp("zoo")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FUSION_CACHE", str(tmp_path_factory.mktemp("cache")))
        patch.setenv("FUSION_MIRROR", f"file://{folder}")
        patch.setenv("FUSION_ZOO", str(own))
        seed = aimnet_files.SEED
        made = [
            card(folder, "aimnet2-closed", {"closed.pt": seed}, 1),
            card(folder, "aimnet2-open", {"open.pt": seed}, 2),
            card(folder, "aimnet2-two", {"closed.pt": seed, "other.pt": seed + 1}, 1),
        ]
        for model in made:
            card_file.write(model, own / f"{model.name}-1.toml")
        yield folder


def method(weights: str, **settings: Any) -> Any:
    return by_name.method({"method": "aimnet2", "weights": weights, **settings})


@pytest.fixture(scope="module")
def closed(mirror: Path) -> Any:
    return method("aimnet2-closed")


@pytest.fixture(scope="module")
def opened(mirror: Path) -> Any:
    return method("aimnet2-open")


@pytest.fixture(scope="module")
def two(mirror: Path) -> Any:
    return method("aimnet2-two")


def structure(name: str) -> System:
    """One of the structures of `aimnet_files`, rounded to float32 as the package rounds it."""
    given = aimnet_files.STRUCTURES[name]
    cell = _bohr(given["cell"]) if "cell" in given else None
    state = {"charge": given.get("charge", 0), "spin": given.get("spin", 0)}
    symbols, positions = tuple(given["symbols"]), _bohr(given["positions"])
    return System(name, symbols, positions, **state, cell=cell, pbc=(cell is not None,) * 3)


def _bohr(values: Any) -> np.ndarray:
    return np.array(values, dtype=np.float32).astype(float) * BOHR_PER_ANGSTROM


def molecules() -> list[System]:
    return [structure(name) for name in ("water", "hydroxide", "mixed")]


def check(model: Any, expected: dict[str, Any]) -> None:
    """Compare the results of `model` with those of the package."""
    without = copy.deepcopy(model)
    without.model.dispersion.damping.zero_()
    for name, values in expected.items():
        system, exact = structure(name), name != "crystal"
        (result,) = protocol.calculate(model, [system], {"energy", "forces", "charges"})
        (bare,) = protocol.calculate(without, [system], {"energy", "forces"})
        # The package computes dispersion and the Coulomb energy of crystals in float32, and rounds forces to it.
        assert bare.energy * EV_PER_HARTREE == pytest.approx(values["bare_energy"], rel=1e-11 if exact else 1e-5)
        assert result.properties["charges"] == pytest.approx(np.array(values["charges"]), abs=1e-11 if exact else 1e-6)
        energies = values["energy"], values["bare_energy"]
        dispersion = (result.energy - bare.energy) * EV_PER_HARTREE
        assert dispersion == pytest.approx(energies[0] - energies[1], rel=2e-5, abs=1e-9)
        for forces, own in (("forces", result), ("bare_forces", bare)):
            theirs = np.array(values[forces])
            ours = own.properties["forces"] * EV_ANGSTROM_PER_HARTREE_BOHR
            assert ours == pytest.approx(theirs, abs=(1e-6 if exact else 5e-6) * np.abs(theirs).max())


def test_energies_charges_and_forces_are_those_of_the_package(closed: Any, opened: Any) -> None:
    """The file has the numbers of aimnet 0.2.6 for these weights, from `aimnet_files.py float64`."""
    expected = json.loads(REFERENCE.read_text())
    check(closed, expected["closed"])
    check(opened, expected["open"])


def test_a_file_that_the_package_writes_gives_the_numbers_of_the_package(mirror: Path, tmp_path: Path) -> None:
    python = os.environ.get("FUSION_TEST_PYTHON_AIMNET")
    if python is None and importlib.util.find_spec("aimnet") is None:
        pytest.skip("aimnet is not installed, and FUSION_TEST_PYTHON_AIMNET names no Python that has it")
    script = [python or sys.executable, aimnet_files.__file__]
    for action in ("export", "float64"):
        subprocess.run([*script, action, str(tmp_path)], check=True, capture_output=True, env=_without_fusion())
    expected = json.loads((tmp_path / "float64.json").read_text())
    for name, channels in aimnet_files.CHANNELS.items():
        model = by_name.method({"method": "aimnet2", "weights": None})
        published = card(tmp_path, name, {f"{name}.pt": aimnet_files.SEED}, channels)
        network = store.build(published, convert(tmp_path, published))
        model.__dict__["model"] = network.double().requires_grad_(False)
        check(model, expected[name])


def _without_fusion() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}


def test_a_batch_has_the_results_of_its_systems(two: Any) -> None:
    systems = [*molecules(), structure("crystal"), System("atom", ("Cl",), np.zeros((1, 3)), charge=-1)]
    names = {"energy", "forces", "charges", "energy_members"}
    together = protocol.calculate(two, systems, names)
    for one, system in zip(together, systems, strict=True):
        (alone,) = protocol.calculate(two, [system], names)
        assert one.energy == pytest.approx(alone.energy, abs=1e-12)
        for name in names - {"energy"}:
            assert one.properties[name] == pytest.approx(alone.properties[name], abs=1e-11)


def test_turned_moved_and_reordered_molecules_have_the_same_energy(opened: Any) -> None:
    system = structure("methyl")
    turn, _ = np.linalg.qr(np.random.default_rng(0).normal(size=(3, 3)))
    order = [2, 0, 3, 1]
    moved = system.moved(system.positions @ turn.T + 3.0)
    other = System("other", tuple(system.symbols[i] for i in order), system.positions[order], spin=1)
    first, *rest = protocol.calculate(opened, [system, moved, other], {"energy", "forces", "charges"})
    for result in rest:
        assert result.energy == pytest.approx(first.energy, abs=1e-11)
    assert rest[0].properties["forces"] == pytest.approx(first.properties["forces"] @ turn.T, abs=1e-9)
    assert rest[1].properties["charges"] == pytest.approx(first.properties["charges"][order], abs=1e-10)


def test_partial_charges_sum_to_the_total_charge(two: Any, opened: Any) -> None:
    """Up to the constant that the authors add to the sum of softnesses."""
    for model in (two, opened):
        results = protocol.calculate(model, molecules(), {"charges", "dipole"})
        for result in results:
            assert result.properties["charges"].sum() == pytest.approx(result.system.charge, abs=1e-4)
            moments = result.properties["charges"] @ result.system.positions
            assert result.properties["dipole"] == pytest.approx(moments, abs=1e-10)


@pytest.mark.parametrize("name", ["hydroxide", "apart"])
def test_hessians_and_dipole_derivatives_are_exact(two: Any, name: str) -> None:
    system = structure(name)
    (result,) = protocol.calculate(two, [system], {"energy", "hessian", "dipole_derivatives"})
    numerical, _ = protocol.numerical_hessian(two, system, step=1e-4)
    assert result.properties["hessian"] == pytest.approx(numerical, abs=1e-5 * np.abs(numerical).max())
    translation = result.properties["dipole_derivatives"].reshape(-1, 3, 3).sum(axis=0)
    assert translation == pytest.approx(system.charge * np.eye(3), abs=1e-4)


def test_the_stress_of_a_crystal_is_its_strain_derivative(closed: Any) -> None:
    crystal = structure("crystal")
    (result,) = protocol.calculate(closed, [crystal], {"energy", "stress", "forces"})
    assert crystal.cell is not None
    energies = []
    for size in (1e-4, -1e-4):
        strain = np.eye(3) + size * np.array([[1.0, 0.3, 0.0], [0.3, 0.0, 0.0], [0.0, 0.0, 0.0]])
        strained = replace(crystal, positions=crystal.positions @ strain, cell=crystal.cell @ strain)
        energies.append(protocol.calculate(closed, [strained], {"energy"})[0].energy)
    slope = (energies[0] - energies[1]) / 2e-4 / abs(np.linalg.det(crystal.cell))
    stress = result.properties["stress"]
    assert stress[0, 0] + 0.6 * stress[0, 1] == pytest.approx(slope, rel=1e-5)
    doubled = from_atoms(crystal.to_atoms() * (2, 1, 1), 0, None)
    (twice,) = protocol.calculate(closed, [doubled], {"energy"})
    assert twice.energy == pytest.approx(2.0 * result.energy, abs=1e-7)


@pytest.mark.parametrize("distance", [8.0, 60.0])
def test_distant_atoms_interact_as_their_charges_do(closed: Any, distance: float) -> None:
    """Beyond 5 Angstrom the charges do not change with the distance: the energy is q1 q2 / r, without dispersion."""
    without = copy.deepcopy(closed)
    without.model.dispersion.damping.zero_()
    places = [np.array([[0.0, 0.0, 0.0], [0.0, 0.0, length]]) * BOHR_PER_ANGSTROM for length in (distance, 200.0)]
    systems = [System("pair", ("Cl", "H"), positions, charge=2) for positions in places]
    near, far = without.calculate(systems, {"charges", "energy"})
    one, other = near.properties["charges"]
    assert near.properties["charges"] == pytest.approx(far.properties["charges"], abs=1e-12)
    expected = one * other * (1.0 / distance - 1.0 / 200.0) / BOHR_PER_ANGSTROM
    assert near.energy - far.energy == pytest.approx(expected, rel=1e-9)
    assert abs(expected) > 1e-6


def test_dispersion_is_d3_of_its_authors_library() -> None:
    """s-dftd3 has no cutoff at these distances; all pairs of elements occur."""
    from dftd3.interface import DispersionModel, RationalDampingParam

    random = np.random.default_rng(1)
    steps = random.uniform(1.6, 2.4, size=(2 * len(ELEMENTS), 1)) * random.normal(size=(2 * len(ELEMENTS), 3))
    lattice = np.stack(np.meshgrid(*[np.arange(4)] * 3, indexing="ij"), axis=-1).reshape(-1, 3)[: len(steps)] * 2.1
    positions = (lattice + 0.1 * steps) * BOHR_PER_ANGSTROM
    symbols = tuple(random.permutation(2 * ELEMENTS))
    system = System("cluster", symbols, positions, spin=0)
    model = Dispersion(ELEMENTS)
    model.damping.copy_(torch.tensor(list(aimnet_files.DAMPING.values())))
    batch = collate([system])
    species = torch.tensor([ELEMENTS.index(symbol) for symbol in symbols])
    energy = float(model(species, neighbours(batch, 60.0), 1))
    damping = RationalDampingParam(**aimnet_files.DAMPING, s9=0.0)
    expected = DispersionModel(system.numbers, positions).get_dispersion(damping, grad=False)["energy"]
    assert energy == pytest.approx(float(expected), rel=1e-5)


def test_members_spread_and_mean_are_those_of_single_networks(two: Any, closed: Any) -> None:
    (result,) = protocol.calculate(two, [structure("water")], {"energy", "energy_members", "forces_std"})
    (first,) = protocol.calculate(closed, [structure("water")], {"energy"})
    members = result.properties["energy_members"]
    assert members[0] == pytest.approx(first.energy, abs=1e-12)
    assert result.energy == pytest.approx(members.mean(), abs=1e-12)
    assert result.energy_std == pytest.approx(abs(members[0] - members[1]) / np.sqrt(2.0))
    assert result.properties["forces_std"].max() > 0.0
    assert first.energy_std is None and "energy_std" not in closed.provides


def test_energies_depend_on_charge_and_spin(closed: Any, opened: Any) -> None:
    ion, cation = (from_atoms(WATER, charge, None) for charge in (0, 2))
    one, other = (r.energy for r in protocol.calculate(closed, [ion, cation], {"energy"}))
    assert abs(one - other) > 1e-4
    states = [from_atoms(WATER, 0, spin) for spin in (0, 2)]
    singlet, triplet = (r.energy for r in protocol.calculate(opened, states, {"energy"}))
    assert abs(singlet - triplet) > 1e-4


@pytest.mark.parametrize(
    ("weights", "atoms", "charge", "words"),
    [
        ("aimnet2-closed", Atoms("LiH", [[0, 0, 0], [0, 0, 1.6]]), 0, "also has Li"),
        ("aimnet2-closed", molecule("CH3"), 0, "closed shells; 9 electrons is an odd number"),
        ("aimnet2-closed", WATER, -12, "charge -12 is outside its domain"),
        ("aimnet2-open", molecule("CH3"), -12, "charge -12 is outside its domain"),
    ],
)
def test_what_it_was_not_trained_on_is_refused_in_one_line(
    mirror: Path, weights: str, atoms: Atoms, charge: int, words: str
) -> None:
    with pytest.raises(InputError, match=words) as error:
        protocol.calculate(method(weights), [from_atoms(atoms, charge, None)], {"energy"})
    assert "\n" not in str(error.value)


def test_single_precision_and_copies_work(closed: Any) -> None:
    single = method("aimnet2-closed", dtype="float32")
    coarse, fine = (protocol.calculate(m, molecules(), {"energy"}) for m in (single, closed))
    assert [r.energy for r in coarse] == pytest.approx([r.energy for r in fine], abs=1e-6)
    assert copy.deepcopy(closed.model).arguments == AIMNet2(**closed.model.arguments).arguments


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"coulomb_mode": "none"}, "coulomb_mode = 'none'"),
        ({"coulomb_sr_envelope": "cosine"}, "coulomb_sr_envelope = 'cosine'"),
        ({"has_embedded_d3ts": True}, "predicts its dispersion coefficients"),
        ({"d3_params": {"s8": 0.4}}, "gives no a1, a2"),
        ({"d3_params": {"s8": 0.4, "a1": 0.5, "a2": 4.0}}, "other dispersion parameters than closed.pt"),
        ({"implemented_species": [1, 6, 7, 8]}, r"is of the elements \[1, 6, 7, 8\]"),
        ({"state_dict": {}}, "is of the elements"),
        ({"state_dict": None}, "no published AIMNet2 file"),
        ({"code": Path("x")}, "holds more than tensors and settings"),
    ],
)
def test_a_file_of_another_model_is_refused_in_one_line(
    mirror: Path, tmp_path: Path, change: dict[str, Any], words: str
) -> None:
    shutil.copy(mirror / "closed.pt", tmp_path)
    torch.save(aimnet_files.published(1, 3) | change, tmp_path / "changed.pt")
    two_files = card(tmp_path, "changed", {"closed.pt": 0, "changed.pt": 0}, 1)
    with pytest.raises(CalculationError, match=words) as error:
        convert(tmp_path, two_files)
    assert "\n" not in str(error.value)


def test_a_network_of_another_size_is_refused_in_one_line(mirror: Path, tmp_path: Path) -> None:
    shutil.copy(mirror / "closed.pt", tmp_path)
    published = card(tmp_path, "open", {"closed.pt": 0}, 2)
    with pytest.raises(InputError, match="do not fit") as error:
        store.build(published, convert(tmp_path, published))
    assert "\n" not in str(error.value)


def test_a_file_of_a_mirror_is_pulled_converted_and_used(
    mirror: Path, tmp_path: Path, program: Program, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The files are as a user would download them; the run needs neither the mirror nor a network."""
    monkeypatch.setenv("FUSION_CACHE", str(tmp_path / "cache"))
    done = program("zoo", "pull", "aimnet2-two")
    assert done.status == 0 and "digests of its files verified" in done.out
    monkeypatch.setenv("FUSION_OFFLINE", "1")
    run = program("+method=aimnet2", "weights=aimnet2-two", "system=h2o", "hydra.run.dir=run")
    assert run.status == 0, run.err
    result = json.loads((tmp_path / "run" / "result.json").read_text())
    assert result["energy_std_hartree"] > 0.0
    assert result["weights"]["sha256"] == zoo.find("aimnet2-two").weights.sha256
    assert program("zoo", "verify", "aimnet2-two").status == 0


def test_without_the_published_files_the_pull_names_what_is_missing(
    tmp_path: Path, program: Program, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in {"FUSION_CACHE": str(tmp_path / "cache"), "FUSION_OFFLINE": "1"}.items():
        monkeypatch.setenv(name, value)
    done = program("zoo", "pull", "aimnet2")
    assert done.status == 2 and len(done.err.splitlines()) == 1
    assert "aimnet2@1: 4 of its 4 files are missing (at most 48 MB)" in done.err
    monkeypatch.delenv("FUSION_OFFLINE")
    monkeypatch.setattr("fusion.zoo.store.files", _only_in_an_empty_directory(tmp_path))
    done = program("zoo", "pull", "aimnet2")
    assert done.status == 1 and "could not be downloaded: file://" in done.err and len(done.err.splitlines()) == 1


def _only_in_an_empty_directory(directory: Path) -> Callable[[Card], list[File]]:
    """Replacement of the card's addresses by those of an empty directory: no test asks a public server."""

    def files(published: Card) -> list[File]:
        return [replace(file, urls=(f"file://{directory}/{file.path}",)) for file in published.files]

    return files


def test_an_element_without_dispersion_parameters_is_refused_in_one_line() -> None:
    with pytest.raises(InputError, match="no dispersion parameters for Pd; it covers H B C") as error:
        AIMNet2(["H", "Pd"])
    assert "\n" not in str(error.value)


def test_the_published_cards_have_four_members_and_digests_of_their_files() -> None:
    for name, spins in (("aimnet2", (0,)), ("aimnet2-nse", (0, 1, 2)), ("aimnet2-2025", (0,)), ("aimnet2-b973c", (0,))):
        published = zoo.find(name)
        assert published.licence == "MIT" and published.spins == spins and {-1, 0, 1} <= set(published.charges)
        assert len({file.sha256 for file in published.files}) == published.model.arguments["members"] == 4
        assert published.model.arguments["spins"] == (len(spins) > 1)
        assert published.weights.converted and published.elements == tuple(ELEMENTS)
