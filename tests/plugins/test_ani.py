"""ANI with random weights: the fast path equals the plain one, and the physics of a potential holds."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation

from fusion.chemistry.system import System
from fusion.chemistry.units import ANGSTROM_PER_BOHR, BOHR_PER_ANGSTROM
from fusion.errors import InputError
from fusion.methods import protocol
from fusion.potentials import PotentialMethod, collate, neighbours
from fusion.potentials.derivatives import evaluate
from fusion_ani.aev import Layout, vectors
from fusion_ani.ensemble import Columns
from fusion_ani.fused import EnvironmentVectors, blocks, environment_vectors
from fusion_ani.network import ANI, ANI1

ARGUMENTS: dict[str, Any] = {
    "elements": ["H", "C", "N", "O"],
    "members": 3,
    "hidden": {"H": [20, 12], "C": [16, 12, 8], "N": [12], "O": [16, 8]},
    "radial_cutoff": 5.2,
    "radial_eta": 16.0,
    "radial_shifts": [0.9 + 0.27 * shift for shift in range(16)],
    "angular_cutoff": 3.5,
    "angular_eta": 8.0,
    "angular_shifts": [0.9, 1.55, 2.2, 2.85],
    "zeta": 14.1,
    "angle_shifts": [0.2 + 0.39 * shift for shift in range(8)],  # as many as in ANI-1x: the same kernels
}
PERIODIC = (True, True, True)


def ani(kind: type[ANI] = ANI, seed: int = 0, **changes: Any) -> ANI:
    torch.manual_seed(seed)
    model = kind(**ARGUMENTS | changes)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_(std=0.4)
        model.self_energies.values.copy_(torch.tensor([-0.6, -38.1, -54.7, -75.2]))
    return model.double().eval().requires_grad_(False)


def random_system(atoms: int, seed: int = 0, elements: str = "HCNO", box: float = 2.0) -> System:
    """Atoms at least 0.6 Angstrom apart in a cube whose edge is `box` Angstrom per cubic root of an atom."""
    random = np.random.default_rng(seed)
    positions: list[np.ndarray] = []
    while len(positions) < atoms:
        candidate = random.uniform(0.0, box * atoms ** (1 / 3), 3)
        if all(np.linalg.norm(candidate - other) > 0.6 for other in positions):
            positions.append(candidate)
    symbols = tuple(random.choice(list(elements), atoms))
    return System("random", symbols, np.array(positions) * BOHR_PER_ANGSTROM, spin=_spin(symbols))


def _spin(symbols: tuple[str, ...]) -> int:
    return sum({"H": 1, "C": 6, "N": 7, "O": 8}[symbol] for symbol in symbols) % 2


def crystal(system: System, cell: np.ndarray) -> System:
    return System("crystal", system.symbols, system.positions, spin=system.spin, cell=cell, pbc=PERIODIC)


def at_the_cutoffs() -> System:
    """Neighbours just within and just beyond each cutoff, and an atom that has none."""
    heights = [0.0, 3.5 - 1e-9, 3.5 + 1e-9, 5.2 - 1e-9, 5.2 + 1e-9, 30.0]
    positions = np.array([[0.0, 0.0, 0.0], *([height, 0.3 * row, 0.0] for row, height in enumerate(heights[1:], 1))])
    positions[1:5] *= (np.array(heights[1:5]) / np.linalg.norm(positions[1:5], axis=1))[:, None]
    return System("cutoffs", ("C", "H", "O", "H", "N", "H"), positions * BOHR_PER_ANGSTROM)


STRUCTURES = {
    "cluster": [random_system(40)],
    "dense cluster": [random_system(60, seed=1, box=1.2)],
    "one element": [random_system(12, elements="C")],
    "isolated atom": [random_system(1, elements="O")],
    "no neighbours": [random_system(3, box=60.0)],
    "cutoffs": [at_the_cutoffs()],
    "mixed batch": [random_system(size, seed=size) for size in (5, 1, 17, 9)],
    "many": [random_system(9, seed=seed) for seed in range(40)],  # enough atoms for threads
    "crystal": [crystal(random_system(8), np.diag([5.0, 6.0, 7.0]) + 0.4)],
}


@pytest.fixture
def two_threads() -> Any:
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


@pytest.mark.parametrize("name", STRUCTURES)
def test_kernels_equal_the_plain_path(name: str, two_threads: None) -> None:
    model, batch = ani(), collate(STRUCTURES[name])
    pairs = neighbours(batch, 5.2 * BOHR_PER_ANGSTROM)
    species = torch.tensor([{1: 0, 6: 1, 7: 2, 8: 3}[number] for number in pairs.numbers.tolist()])
    layout = Layout(species, pairs.centre, pairs.other, pairs.first, 4)

    def plain(displacements: torch.Tensor) -> torch.Tensor:
        return vectors(model.environment, displacements * ANGSTROM_PER_BOHR, layout)

    displacements = pairs.vectors.detach().clone().requires_grad_()
    expected = plain(displacements)
    computed = EnvironmentVectors.apply(displacements, model.environment, layout)
    torch.testing.assert_close(computed, expected, rtol=0, atol=1e-12)
    weights = torch.randn(expected.shape, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    (exact,) = torch.autograd.grad(expected, displacements, weights)
    (gradient,) = torch.autograd.grad(computed, displacements, weights)
    torch.testing.assert_close(gradient, exact, rtol=1e-12, atol=1e-12)
    single = environment_vectors(model.environment, displacements.float(), layout)
    torch.testing.assert_close(single.double(), expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name", STRUCTURES)
def test_frozen_and_trainable_networks_agree(name: str) -> None:
    """Compare energies, and forces of the mean, of one member and of a weighted sum of systems."""
    frozen, learning, batch = ani(), ani().requires_grad_(True), collate(STRUCTURES[name])
    batch.positions.requires_grad_()
    one, other = frozen(batch), learning(batch)
    torch.testing.assert_close(one.members, other.members, rtol=0, atol=1e-11)
    factors = torch.arange(1.0, len(batch) + 1.0, dtype=torch.float64)
    for value in (lambda p: p.energy.sum(), lambda p: p.members[1].sum(), lambda p: (p.energy * factors).sum()):
        (values,) = torch.autograd.grad(value(one), batch.positions, retain_graph=True)
        (expected,) = torch.autograd.grad(value(other), batch.positions, retain_graph=True)
        torch.testing.assert_close(values, expected, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("elements", ["HO", "HHHHHHHHHHHHCCCCCCCCNNO"])
def test_many_atoms_are_processed_in_groups(elements: str) -> None:
    """Test chunks of one element, and groups of its atoms whose vectors end early."""
    system = random_system(700, elements=elements, box=2.6)
    (together,) = PotentialMethod("ani", ani()).calculate([system], {"forces"})
    with torch.no_grad():
        prediction, result = evaluate(ani().requires_grad_(True), collate([system]), {"forces"})
    assert together.energy == pytest.approx(float(prediction.energy[0].detach()), abs=1e-9)
    np.testing.assert_allclose(together.properties["forces"], result["forces"][0], rtol=0, atol=1e-10)
    (single,) = PotentialMethod("ani", ani(), dtype="float32").calculate([system], {"forces"})
    assert single.energy == pytest.approx(together.energy, abs=1e-5 * 700)
    assert single.energy_std == pytest.approx(together.energy_std, abs=1e-5 * 700)
    scale = float(np.abs(together.properties["forces"]).max())
    np.testing.assert_allclose(single.properties["forces"], together.properties["forces"], rtol=0, atol=1e-4 * scale)


def test_groups_cover_all_atoms_and_columns() -> None:
    """Every atom is in one block of its element; columns that a block leaves out are zero for its atoms."""
    model, system = ani(), random_system(700, elements="HHHHHHHHHHHHCCCCCCCCNNO", box=2.6)
    pairs = neighbours(collate([system]), 5.2 * BOHR_PER_ANGSTROM)
    species = torch.tensor([{1: 0, 6: 1, 7: 2, 8: 3}[number] for number in pairs.numbers.tolist()])
    layout = Layout(species, pairs.centre, pairs.other, pairs.first, 4)
    whole = environment_vectors(model.environment, pairs.vectors, layout)
    parts = blocks(model.environment, pairs, species.numpy(), 4)
    assert len({near for *_, near in parts}) > 2
    assert sorted(atom for _, atoms, _ in parts for atom in atoms.tolist()) == list(range(700))
    for element, atoms, near in parts:
        panels = Columns.of(model.environment, 4, 16, 15, near).panels
        empty = sorted(set(range(whole.shape[1] // 16)) - set(panels.tolist()))
        assert not whole.unflatten(1, (-1, 16))[layout.row[torch.from_numpy(atoms)]][:, empty].any()
        assert bool((species[torch.from_numpy(atoms)] == element).all())


def test_derivatives_match_the_energy() -> None:
    method, system = PotentialMethod("ani", ani()), random_system(7, seed=3)
    (result,) = method.calculate([system], {"forces", "hessian"})
    forces = np.asarray(result.properties["forces"])
    np.testing.assert_allclose(forces, protocol.numerical_forces(method, system, 1e-4), rtol=0, atol=2e-5)
    hessian, _ = protocol.numerical_hessian(method, system, 1e-4)
    scale = np.abs(hessian).max()
    np.testing.assert_allclose(result.properties["hessian"], hessian, rtol=0, atol=1e-4 * scale)


def test_stress_matches_the_energy() -> None:
    method, cell = PotentialMethod("ani", ani()), np.diag([5.0, 6.0, 7.0]) + 0.4
    system = random_system(6, seed=5)
    (result,) = method.calculate([crystal(system, cell)], {"stress"})
    strain = np.zeros((3, 3))
    strain[0, 1] = strain[1, 0] = 0.5e-4
    energies = []
    for sign in (1.0, -1.0):
        deform = np.eye(3) + sign * strain
        moved = System(
            "x", system.symbols, system.positions @ deform, spin=system.spin, cell=cell @ deform, pbc=PERIODIC
        )
        energies.append(method.calculate([moved], set())[0].energy)
    numerical = (energies[0] - energies[1]) / 2e-4 / abs(np.linalg.det(cell))
    assert np.asarray(result.properties["stress"])[0, 1] == pytest.approx(numerical, rel=1e-4, abs=1e-7)


def test_a_small_cell_equals_its_supercell() -> None:
    method = PotentialMethod("ani", ani())
    system, cell = random_system(3, seed=2), np.diag([4.0, 4.5, 5.0]) + 0.3
    shifts = np.array([[x, y, z] for x in (0, 1) for y in (0, 1) for z in (0, 1)]) @ cell
    positions = (system.positions[None] + shifts[:, None]).reshape(-1, 3)
    large = System("large", system.symbols * 8, positions, cell=2 * cell, pbc=PERIODIC)
    small, large_one = (method.calculate([one], {"forces"})[0] for one in (crystal(system, cell), large))
    assert large_one.energy == pytest.approx(8 * (small.energy or 0.0), abs=1e-9)
    np.testing.assert_allclose(
        large_one.properties["forces"], np.tile(small.properties["forces"], (8, 1)), rtol=0, atol=1e-9
    )


def test_invariances() -> None:
    method, system = PotentialMethod("ani", ani()), random_system(15, seed=4)
    turn = Rotation.from_euler("xyz", [0.3, 1.1, -0.7]).as_matrix()
    order = np.random.default_rng(1).permutation(15)
    symbols = tuple(system.symbols[index] for index in order)
    (one,) = method.calculate([system], {"forces"})
    (other,) = method.calculate(
        [System("turned", symbols, system.positions[order] @ turn.T + 7.0, spin=system.spin)], {"forces"}
    )
    assert other.energy == pytest.approx(one.energy, abs=1e-10)
    forces = np.asarray(one.properties["forces"])[order] @ turn.T
    np.testing.assert_allclose(other.properties["forces"], forces, rtol=0, atol=1e-9)


def test_a_system_is_independent_of_its_batch() -> None:
    method, systems = PotentialMethod("ani", ani()), STRUCTURES["mixed batch"]
    for system, together in zip(systems, method.calculate(systems, {"forces"}), strict=True):
        (alone,) = method.calculate([system], {"forces"})
        assert together.energy == pytest.approx(alone.energy, abs=1e-11)
        np.testing.assert_allclose(together.properties["forces"], alone.properties["forces"], rtol=0, atol=1e-11)


def test_packed_weights_follow_every_change() -> None:
    """After each change of the weights, the frozen and the trainable model agree."""
    model, batch = ani(), collate([random_system(6, elements="HC")])

    def check() -> torch.Tensor:
        energy: torch.Tensor = model(batch).energy
        fresh = copy.deepcopy(model).requires_grad_(True)(batch).energy
        torch.testing.assert_close(energy, fresh.detach(), rtol=0, atol=1e-10)
        return energy

    energies = [check()]
    with torch.no_grad():
        model.networks["H"].weights[0].mul_(1.1)
    energies.append(check())
    model.load_state_dict(ani(seed=1).state_dict())
    energies.append(check())
    optimiser = torch.optim.SGD(model.requires_grad_(True).parameters(), lr=1e-3)
    model(batch).energy.sum().backward()
    optimiser.step()
    model.requires_grad_(False)
    energies.append(check())
    model.train()
    for parameter in model.parameters():
        parameter.data.mul_(0.9)
    model.eval()
    energies.append(check())
    model.networks["H"].weights[0] = torch.nn.Parameter(model.networks["H"].weights[0] * 1.2, requires_grad=False)
    energies.append(check())
    assert len({round(float(energy), 9) for energy in energies}) == len(energies)
    single = model.float()(collate([random_system(6, elements="HC")], torch.float32)).energy
    assert float(single) == pytest.approx(float(energies[-1]), abs=1e-4)


def test_forces_can_be_learned() -> None:
    """The gradient of a loss on forces by a weight equals its central difference."""
    model, batch = ani().requires_grad_(True), collate([random_system(6, seed=8)])

    def loss() -> torch.Tensor:
        positions = batch.positions.clone().requires_grad_()
        moved = copy.copy(batch)
        object.__setattr__(moved, "positions", positions)
        (gradient,) = torch.autograd.grad(model(moved).energy.sum(), positions, create_graph=True)
        return gradient.square().sum()

    weight = model.networks["H"].weights[0]
    (gradient,) = torch.autograd.grad(loss(), weight)
    place = np.unravel_index(int(gradient.abs().argmax()), gradient.shape)
    values = []
    for sign in (1.0, -2.0):
        with torch.no_grad():
            weight[place] += sign * 1e-5
        values.append(float(loss().detach()))
    assert (values[0] - values[1]) / 2e-5 == pytest.approx(float(gradient[place]), rel=1e-5)


def test_self_energies_stay_in_float64() -> None:
    model = ani()
    exact = model.self_energies.values.clone()
    model.float().to("cpu", torch.float32).half().float()
    torch.testing.assert_close(model.self_energies.values, exact, rtol=0, atol=0)
    system = random_system(300, elements="O")
    single = float(model(collate([system], torch.float32)).energy[0])
    double = float(model.double()(collate([system])).energy[0])
    assert single == pytest.approx(double, abs=0.02)  # half precision has rounded the networks, not 22,560 hartree


def test_unknown_elements_are_an_error() -> None:
    system = System("x", ("H", "Cl"), np.array([[0.0, 0.0, 0.0], [0.0, 0.0, 2.4]]))
    with pytest.raises(InputError, match=r"H C N O, not Cl"):
        ani()(collate([system]))


def test_a_single_member_as_a_model() -> None:
    model, batch = ani(), collate(STRUCTURES["mixed batch"])
    expected = model(batch).members
    for index in range(3):
        alone = model.member(index)(batch)
        torch.testing.assert_close(alone.energy, expected[index], rtol=0, atol=1e-10)
        assert len(alone.members) == 1


def test_the_network_of_the_first_paper() -> None:
    from hydra.utils import instantiate
    from omegaconf import OmegaConf

    from fusion_ani import __file__ as plugin

    config = OmegaConf.load(f"{plugin.rpartition('/')[0]}/conf/method/ani/ani1.yaml")
    model = instantiate(config.method.model)
    assert isinstance(model, ANI1)
    for networks in model.networks.values():
        assert networks.weights[0].shape[-1] == 768
        assert sum(parameter.numel() for parameter in networks.parameters()) == 124_033
        assert all(bool((weight.abs() <= 1.0 / weight.shape[-1]).all()) for weight in networks.weights)
        assert not any(bool(bias.any()) for bias in (*networks.biases, networks.offset))


def test_forces_of_the_first_paper_are_minus_the_slope_of_the_energy() -> None:
    torch.manual_seed(0)
    method, system = PotentialMethod("ani1", ANI1(**ARGUMENTS)), random_system(6)
    (result,) = method.calculate([system], {"forces"})
    np.testing.assert_allclose(
        result.properties["forces"], protocol.numerical_forces(method, system, 1e-3), rtol=0, atol=1e-8
    )
