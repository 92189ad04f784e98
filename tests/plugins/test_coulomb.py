"""Coulomb matrices and the network on them: the formula, order of atoms, sortings, calibration, a saved model."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from ase.build import molecule
from ase.calculators.singlepoint import SinglePointCalculator
from ase.io import write

import fusion
from fusion.chemistry.system import System
from fusion.errors import InputError
from fusion.potentials import collate
from fusion_coulomb.matrix import Eigenspectrum, RandomlySortedMatrix, SortedMatrix, coulomb_matrix
from fusion_coulomb.network import CoulombNetwork

WATER = System("water", ("O", "H", "H"), [[0.0, 0.0, 0.2], [0.0, 1.4, -0.9], [0.0, -1.4, -0.9]])
HYDRIDES = [
    System("h2", ("H", "H"), [[0.0, 0.0, 0.0], [0.0, 0.0, 1.4]]),
    WATER,
    System(
        "ch4", ("C", "H", "H", "H", "H"), 1.2 * np.array([[0, 0, 0], [1, 1, 1], [1, -1, -1], [-1, 1, -1], [-1, -1, 1]])
    ),
    System("h2o2", ("H", "O", "O", "H"), [[0.0, 1.5, 1.8], [0.0, 0.0, 1.4], [0.0, 0.0, -1.4], [1.5, 0.0, -1.8]]),
    System("co", ("C", "O"), [[0.0, 0.0, 0.0], [0.0, 0.0, 2.1]]),
]
SIZE = 6


def permuted(system: System, order: list[int]) -> System:
    symbols = tuple(system.symbols[index] for index in order)
    return System(system.name, symbols, np.asarray(system.positions)[order])


def network(descriptor: torch.nn.Module) -> CoulombNetwork:
    """Build a network, calibrated on energies that are a sum over atoms plus a remainder."""
    torch.manual_seed(1)
    model = CoulombNetwork(("H", "C", "O"), descriptor, hidden=(8, 4)).double()
    model.calibrate([collate(HYDRIDES)], torch.tensor([-0.17, -0.35, -0.65, -0.43, -0.41]))
    return model.eval()


def test_matrix_matches_the_paper() -> None:
    (matrix,) = coulomb_matrix(collate([WATER]), 4)
    assert matrix[0, 0] == pytest.approx(0.5 * 8**2.4)
    assert matrix[1, 1] == pytest.approx(0.5)
    assert matrix[1, 2] == pytest.approx(1.0 / 2.8)
    assert matrix[0, 1] == pytest.approx(8.0 / np.hypot(1.4, 1.1))
    assert torch.equal(matrix, matrix.T)
    assert not matrix[3].any()
    with pytest.raises(InputError, match="of 2 rows is too small for a molecule of 3 atoms"):
        coulomb_matrix(collate([WATER]), 2)


@pytest.mark.parametrize("descriptor", [SortedMatrix(SIZE), Eigenspectrum(SIZE)], ids=["sorted", "eigenspectrum"])
def test_energies_are_invariant_to_order_and_position(descriptor: torch.nn.Module) -> None:
    model = network(descriptor)
    methane = HYDRIDES[2]
    turned = np.linalg.qr(np.random.default_rng(0).normal(size=(3, 3)))[0]
    shaken = methane.moved(np.asarray(methane.positions) + np.random.default_rng(1).normal(0, 0.1, (5, 3)))
    others = [permuted(shaken, [3, 0, 4, 2, 1]), shaken.moved(np.asarray(shaken.positions) @ turned.T + 1.0)]
    energies = model(collate([shaken, *others])).energy
    torch.testing.assert_close(energies[1:], energies[:1].expand(2))
    alone = model(collate([shaken])).energy
    torch.testing.assert_close(alone, energies[:1])  # whatever the batch is padded to


def test_random_sortings_vary_in_training_and_are_averaged_in_evaluation() -> None:
    model = network(RandomlySortedMatrix(SIZE, noise=1.0, draws=400))
    batch = collate([HYDRIDES[1]])
    torch.manual_seed(0)
    drawn = torch.cat([model.train()(batch).energy for _ in range(400)]).detach()
    assert drawn.std() > 0
    mean = model.eval()(batch).energy.detach()
    torch.testing.assert_close(mean, model(batch).energy.detach())
    assert abs(float(drawn.mean() - mean)) < 4.0 * float(drawn.std()) * np.sqrt(2.0 / 400)


def test_forces_match_the_energy() -> None:
    model = network(RandomlySortedMatrix(SIZE))
    batch = collate([WATER])
    positions = batch.positions.clone().requires_grad_()
    at = type(batch)(**{**vars(batch), "positions": positions})
    (gradient,) = torch.autograd.grad(model(at).energy.sum(), positions)
    step = torch.zeros_like(positions)
    step[0, 0, 2] = 1e-4
    ends = [
        model(type(batch)(**{**vars(batch), "positions": batch.positions + sign * step})).energy for sign in (1, -1)
    ]
    assert float(gradient[0, 0, 2]) == pytest.approx((ends[0] - ends[1]).item() / 2e-4, rel=1e-5)


def test_calibration_removes_the_composition_and_covers_the_data() -> None:
    model = network(SortedMatrix(SIZE))
    first = model.place[model.entry == 0]  # of the heaviest atom's diagonal: hydrogen's, carbon's or oxygen's
    assert float(first.max()) == np.ceil(0.5 * 8**2.4)
    assert len(first) < 30  # all those between carbon's and oxygen's say the same
    inputs = model.binarised(model.descriptor(coulomb_matrix(collate(HYDRIDES), SIZE)))
    assert inputs.shape == (5, len(model.entry))
    torch.testing.assert_close(inputs.mean(dim=0), torch.zeros(inputs.shape[1], dtype=torch.float64))
    torch.testing.assert_close(inputs.square().mean(), torch.ones((), dtype=torch.float64))


def test_a_saved_model_gives_the_same_energies() -> None:
    model, other = (network(SortedMatrix(SIZE)), CoulombNetwork(("H", "C", "O"), SortedMatrix(SIZE), hidden=(8, 4)))
    with pytest.raises(InputError, match="untrained and has no layers"):
        other(collate([WATER]))
    other.load_state_dict(model.state_dict())
    torch.testing.assert_close(other.eval()(collate(HYDRIDES)).energy, model(collate(HYDRIDES)).energy)


def test_foreign_elements_are_refused_by_name() -> None:
    with pytest.raises(InputError, match="the model has H C O, not N"):
        network(SortedMatrix(SIZE))(collate([System("n2", ("N", "N"), [[0.0, 0.0, 0.0], [0.0, 0.0, 2.0]])]))


@pytest.mark.slow
def test_training_on_a_file_learns_more_than_the_composition(tmp_path: Path) -> None:
    """Energies are Morse curves of the molecules' bonds, which the composition cannot explain."""
    generator = np.random.default_rng(0)
    frames = []
    for _ in range(80):
        for system in HYDRIDES[:3]:
            atoms = system.to_atoms()
            atoms.positions *= generator.uniform(0.85, 1.4)
            bond = atoms.get_distance(0, 1)
            energy = 3.0 * (len(atoms) - 1) * ((1.0 - np.exp(-1.9 * (bond - 1.0))) ** 2 - 1.0)
            atoms.calc = SinglePointCalculator(atoms, energy=energy)
            frames.append(atoms)
    write(tmp_path / "morse.extxyz", frames)
    words = [
        "+method=coulomb", "weights=null", "descriptor=sorted", "task=train", f"data.path={tmp_path / 'morse.extxyz'}",
        "data=file", "data.energy_zero=atomization", "data.check=false", "data.split.test=24",
        "data.split.validation=24", "method.model.elements=[H,C,O]", "method.model.descriptor.size=5",
        "method.model.hidden=[32,16]", "method.model.step=0.3", "method.training.epochs=60", "method.training.batch=8",
        "method.training.average=0.9", f"hydra.run.dir={tmp_path / 'run'}",
    ]  # fmt: skip
    parts = fusion.run(words).details["training"]["parts"]
    energies = 23.06 * np.array([frame.get_potential_energy() for frame in frames]).reshape(-1, 3)
    by_composition = np.abs(energies - energies.mean(axis=0)).mean()  # three molecules: the best that it can be
    assert parts["test"]["energy_mae_kcal_mol"] < 0.3 * by_composition


def test_published_model_reproduces_methane(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Atomisation energy at PBE0/def2-TZVP: -417.0 kcal/mol."""
    monkeypatch.setenv("FUSION_CACHE", str(tmp_path))
    methane = molecule("CH4")
    methane.calc = fusion.calculator("coulomb-qm7")
    assert methane.get_potential_energy() == pytest.approx(-417.0 / 23.0605, abs=0.1)


def test_energies_are_labelled_as_atomisation_energies(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("FUSION_CACHE", str(tmp_path))
    fusion.run(["+method=coulomb", "system=nh3", f"hydra.run.dir={tmp_path / 'run'}"])
    assert "\natomisation energy -0." in capsys.readouterr().out
    document = json.loads((tmp_path / "run/result.json").read_text())
    assert document["energy_zero"] == "atomization"
