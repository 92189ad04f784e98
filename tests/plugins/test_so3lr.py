"""SO3LR: its weights from its package, the energies of that package, exact derivatives, charges, what is refused."""

from __future__ import annotations

import copy
import importlib.util
import pickle
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from ase import Atoms
from ase.build import molecule

from fusion import zoo
from fusion.chemistry.structures import from_atoms
from fusion.chemistry.system import System
from fusion.errors import CalculationError, InputError
from fusion.methods import by_name, protocol
from fusion_so3lr.convert import convert
from fusion_so3lr.potential import SO3LRPotential

installed = pytest.mark.skipif(
    importlib.util.find_spec("so3krates_torch") is None, reason="so3krates-torch is not installed"
)
ACETATE = Atoms(
    "CCOOH3",
    [[0, 0, 0], [1.54, 0, 0], [2.1, 1.12, 0], [2.1, -1.12, 0], [-0.38, 1.02, 0], [-0.38, -0.51, 0.88],
     [-0.38, -0.51, -0.88]],
)  # fmt: skip
ZWITTERION = Atoms(
    "NCCOOH5",
    [[-1.93, 0.02, 0], [-0.62, -0.69, 0], [0.58, 0.3, 0], [0.35, 1.52, 0], [1.7, -0.26, 0], [-2, 0.62, 0.83],
     [-2, 0.62, -0.83], [-2.7, -0.66, 0], [-0.55, -1.32, 0.89], [-0.55, -1.32, -0.89]],
)  # fmt: skip
GLYCINE = ZWITTERION.copy()
GLYCINE.positions[7] = [2.37, 0.44, 0]
ICE = Atoms(
    "OH2OH2",
    [[0.1, 0.2, 0.3], [0.9, 0.6, 0.3], [-0.6, 0.8, 0.4], [2.1, 2.2, 3.0], [2.9, 2.6, 3.0], [1.4, 2.8, 3.1]],
    cell=[5, 5.2, 6],
    pbc=True,
)


def systems() -> list[System]:
    neutral = (ZWITTERION, GLYCINE, molecule("CH3CH2OH"))
    return [from_atoms(ACETATE, -1, None), *(from_atoms(atoms, 0, None) for atoms in neutral)]


@pytest.fixture(scope="module")
def empty_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Cache without models; downloads are forbidden."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FUSION_CACHE", str(tmp_path_factory.mktemp("cache")))
        patch.setenv("FUSION_OFFLINE", "1")
        yield


@pytest.fixture(scope="module")
def method(empty_cache: None) -> Any:
    return by_name.method("so3lr")


@pytest.mark.parametrize(("atoms", "hydrogens"), [(ACETATE, "CCC"), (ZWITTERION, "NNNCC"), (GLYCINE, "NNOCC")])
def test_the_structures_have_their_protons_where_their_names_say(atoms: Atoms, hydrogens: str) -> None:
    distances = atoms.get_all_distances() + 9.0 * np.eye(len(atoms))
    nearest = [int(distances[i].argmin()) for i in range(len(atoms)) if atoms.symbols[i] == "H"]
    assert "".join(atoms.symbols[i] for i in nearest) == hydrogens


@installed
def test_the_weights_come_from_the_package_without_a_download(empty_cache: None) -> None:
    card = zoo.find("so3lr")
    zoo.pull(card)
    assert zoo.digest(zoo.state(card)) == card.weights.sha256


@installed
def test_the_converter_runs_no_code_of_a_file(tmp_path: Path) -> None:
    """A stranger's card may name the converter together with a file of its own."""

    class Evil:
        def __reduce__(self) -> tuple[object, ...]:
            return Path.touch, (tmp_path / "ran",)

    card = zoo.find("so3lr")
    card = replace(card, files=(replace(card.files[0], path="evil.model"),))
    torch.save({"network": Evil()}, tmp_path / "evil.model")
    with pytest.raises(CalculationError, match="another network"):
        convert(tmp_path, card)
    (tmp_path / "evil.model").write_bytes(pickle.dumps(Evil(), protocol=2))
    with pytest.raises(CalculationError, match="another network"):
        convert(tmp_path, card)
    torch.save({"x": torch.ones(2)}, tmp_path / "evil.model")
    with pytest.raises(CalculationError, match="holds no network"):
        convert(tmp_path, card)
    assert not (tmp_path / "ran").exists()


@installed
def test_energies_forces_and_dipoles_are_those_of_the_package(method: Any) -> None:
    """The package's calculator sets torch's default dtype, on which the numbers of its network depend."""
    before = torch.get_default_dtype()
    names = {"energy", "forces", "dipole"}
    ours = protocol.calculate(method, systems(), names)
    theirs = protocol.calculate(by_name.method("ase/so3lr"), systems(), names)
    for one, other in zip(ours, theirs, strict=True):
        assert one.energy == pytest.approx(other.energy, abs=1e-10)
        for name in ("forces", "dipole"):
            assert one.properties[name] == pytest.approx(other.properties[name], abs=1e-10)
    assert ours[0].energy == pytest.approx(-42.493226383, abs=1e-8)
    assert torch.get_default_dtype() == before


@installed
def test_the_hessian_is_exact_and_charges_sum_to_the_charge(method: Any) -> None:
    ion = systems()[0]
    (result,) = protocol.calculate(method, [ion], {"energy", "hessian", "charges", "dipole_derivatives"})
    numerical, _ = protocol.numerical_hessian(method, ion)
    assert result.properties["hessian"] == pytest.approx(numerical, abs=3e-5)
    assert result.properties["charges"].sum() == pytest.approx(-1.0, abs=1e-9)
    translation = result.properties["dipole_derivatives"].reshape(-1, 3, 3).sum(axis=0)
    assert translation == pytest.approx(-np.eye(3), abs=1e-6)  # the dipole of an ion moves with it


@installed
def test_a_batch_has_the_energies_of_its_systems(method: Any) -> None:
    together = protocol.calculate(method, systems(), {"energy"})
    apart = [protocol.calculate(method, [system], {"energy"})[0] for system in systems()]
    assert [result.energy for result in together] == pytest.approx([result.energy for result in apart], abs=1e-11)


@installed
def test_the_energy_depends_on_the_charge_and_not_on_the_frame(method: Any) -> None:
    ion, cation = systems()[0], from_atoms(ACETATE, 1, None)
    turn, _ = np.linalg.qr(np.random.default_rng(0).normal(size=(3, 3)))
    moved = ion.moved(ion.positions @ turn.T + 3.0)
    one, other, charged = (r.energy for r in protocol.calculate(method, [ion, moved, cation], {"energy"}))
    assert one == pytest.approx(other, abs=1e-10)
    assert charged != pytest.approx(one, abs=1e-2)


@installed
def test_the_stress_of_a_crystal_is_its_strain_derivative(method: Any) -> None:
    (result,) = protocol.calculate(method, [from_atoms(ICE, 0, None)], {"energy", "stress", "forces"})
    energies = []
    for size in (1e-4, -1e-4):
        strained = ICE.copy()
        strained.set_cell(ICE.cell[:] * (1.0 + np.array([size, 0.0, 0.0])), scale_atoms=True)
        system = from_atoms(strained, 0, None)
        energies.append(protocol.calculate(method, [system], {"energy"})[0].energy)
    volume = abs(np.linalg.det(result.system.cell))
    slope = (energies[0] - energies[1]) / 2e-4 / volume
    assert result.properties["stress"][0, 0] == pytest.approx(slope, rel=1e-4)
    doubled = from_atoms(ICE * (2, 1, 1), 0, None)
    assert protocol.calculate(method, [doubled], {"energy"})[0].energy == pytest.approx(2.0 * result.energy, abs=1e-9)


@installed
def test_single_precision_and_copies_work(method: Any) -> None:
    single = by_name.method({"method": "so3lr", "dtype": "float32"})
    coarse, fine = (protocol.calculate(m, systems(), {"energy"}) for m in (single, method))
    assert [r.energy for r in coarse] == pytest.approx([r.energy for r in fine], abs=2e-5)
    copied = copy.deepcopy(method.model)
    assert copied.arguments == SO3LRPotential(**method.model.arguments).arguments


@installed
@pytest.mark.parametrize(
    ("atoms", "words"),
    [
        (Atoms("CBr4", np.array([[0, 0, 0], [1, 1, 1], [-1, -1, 1], [-1, 1, -1], [1, -1, -1]]) * 1.1), "also has Br"),
        (Atoms("Li"), "also has Li"),
        (molecule("CH3"), "closed shells; 9 electrons is an odd number"),
    ],
)
def test_what_it_was_not_trained_on_is_refused_in_one_line(method: Any, atoms: Atoms, words: str) -> None:
    with pytest.raises(InputError, match=words) as error:
        protocol.calculate(method, [from_atoms(atoms, 0, None)], {"energy"})
    assert "\n" not in str(error.value)


def test_the_card_states_charges_and_closed_shells() -> None:
    card = zoo.find("so3lr")
    assert card.spins == (0,) and {-1, 0, 1} <= set(card.charges) and card.licence == "MIT"


def test_without_the_package_it_says_how_to_install_it(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in sys.modules if name.partition(".")[0] == "so3krates_torch"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "so3krates_torch", None)
    with pytest.raises(InputError, match=r"pip install 'aiqm-fusion\[so3lr\]'.*method\.python") as error:
        SO3LRPotential(["H"])
    assert "\n" not in str(error.value)


@pytest.mark.skipif(importlib.util.find_spec("so3krates_torch") is not None, reason="so3krates-torch is installed")
def test_without_the_package_pull_says_where_the_weights_come_from(
    empty_cache: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("fusion.zoo.convert._plugin_packages", lambda: {"fusion_so3lr"})  # also before its installation
    with pytest.raises(
        InputError, match=r"the Python package so3krates-torch, .*: pip install so3krates-torch=="
    ) as error:
        zoo.pull(zoo.find("so3lr"))
    assert "\n" not in str(error.value)
