"""Electron and pair densities with known values."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from exact import Slater1s, molecule
from fusion.chemistry import cube
from fusion.chemistry.system import System
from fusion.errors import InputError
from fusion.runs.layout import DENSITY, PAIR_DENSITY
from fusion.wavefunctions.estimators import Density, Estimates, Estimator, PairDensity, build
from fusion.wavefunctions.hamiltonians import LocalEnergy, Point, molecular
from fusion.wavefunctions.vmc import VariationalMonteCarlo
from killable import TINY, assert_same, at, checkpoint, fusion
from resuming import document, killed_and_resumed, placed

pytestmark = pytest.mark.usefixtures("double_precision")

WIDTH = 0.7  # standard deviation of `gaussian` along each axis, bohr
WORDS = (*TINY, "+estimator=[density,pair_density]", "method.evaluation.estimators.density.spacing=0.5")


def local(electrons: Tensor, lost: int = 0) -> Any:
    """Local energies of walkers, of which the first few are not finite."""
    total = torch.zeros(len(electrons))
    total[:lost] = torch.nan
    return SimpleNamespace(total=total)


def measured(estimator: Any, electrons: Tensor, parts: int = 1, lost: int = 0) -> Estimates:
    """Values from independent walkers, as if they were ``parts`` iterations."""
    rows: list[Mapping[str, Tensor]] = []
    for part in electrons.chunk(parts):
        energies: LocalEnergy = local(part, lost)
        rows.append(estimator(Point(Slater1s(1.0), part, len(part)), energies))
    series = {name: np.array([row[name][lost:].mean(0).numpy() for row in rows]) for name in estimator.measures}
    estimates: Estimates = estimator.finish(series)
    return estimates


def field(tmp_path: Path, estimates: Estimates) -> cube.Cube:
    """Density of estimates as their file has it."""
    (tmp_path / DENSITY).write_bytes(estimates.files[DENSITY])
    return cube.read(tmp_path / DENSITY)


def table(estimates: Estimates) -> dict[str, np.ndarray]:
    """Columns of pair_density.csv."""
    rows = list(csv.DictReader(io.StringIO(estimates.files[PAIR_DENSITY].decode())))
    return {name: np.array([float(row[name] or "nan") for row in rows]) for name in rows[0]}


def gaussian(walkers: int, electrons: int) -> Tensor:
    """Independent electrons (B, N, 3) from a normal distribution around the origin."""
    return WIDTH * torch.randn(walkers, electrons, 3)


def averaged(function: Any, origin: np.ndarray, shape: tuple[int, ...], spacing: float) -> np.ndarray:
    """Means of a function of positions (..., 3) over the voxels around the points of a grid, by quadrature."""
    nodes, weights = np.polynomial.legendre.leggauss(6)
    total = np.zeros(shape)
    points = origin + spacing * np.stack(np.meshgrid(*map(np.arange, shape), indexing="ij"), axis=-1)
    for index in np.ndindex(6, 6, 6):
        total += weights[list(index)].prod() / 8 * function(points + 0.5 * spacing * nodes[list(index)])
    return total


def test_density_of_hydrogen_is_exact_within_statistics(tmp_path: Path) -> None:
    """exp(-2 r) / pi from the walkers that the exact wavefunction's own sampling distribution gives."""
    walkers, spacing = 200_000, 0.5
    generator = np.random.default_rng(0)
    directions = generator.normal(size=(walkers, 3))
    radius = generator.gamma(3, 0.5, size=(walkers, 1))
    electrons = torch.tensor(radius * directions / np.linalg.norm(directions, axis=1, keepdims=True)).unsqueeze(1)
    density = field(tmp_path, measured(Density(molecule("H"), spacing), electrons))
    exact = averaged(
        lambda r: np.exp(-2 * np.linalg.norm(r, axis=-1)) / np.pi, density.origin, density.values.shape, spacing
    )
    counts, expected = (walkers * density.volume * values for values in (density.values, exact))
    frequent = expected > 20
    degrees = int(frequent.sum())
    chi_squared = float(((counts - expected)[frequent] ** 2 / expected[frequent]).sum())
    assert degrees > 500
    assert abs(chi_squared - degrees) < 4 * (2 * degrees) ** 0.5


def test_electrons_inside_and_outside_are_all_electrons(tmp_path: Path) -> None:
    estimates = measured(Density(molecule("Li H", 3.0), 0.5, margin=1.0), 1.5 * torch.randn(1000, 4, 3), parts=10)
    details = estimates.details["density"]
    assert 0.05 < details["share_outside"]["value"] < 0.95
    assert details["electrons_inside"]["value"] + 4 * details["share_outside"]["value"] == pytest.approx(4, abs=1e-12)
    density = field(tmp_path, estimates)
    assert density.values.sum() * density.volume == pytest.approx(details["electrons_inside"]["value"], rel=1e-5)


def test_every_electron_is_in_its_voxel(tmp_path: Path) -> None:
    """The point of the grid with the density of an electron is the centre of its voxel."""
    place = torch.tensor([1.03, -0.41, 2.77])
    density = field(tmp_path, measured(Density(molecule("H H", 1.4), 0.3), place.repeat(2, 2, 1), parts=2))
    (index,) = np.argwhere(density.values > 0)
    assert np.abs(density.origin + density.steps @ index - place.numpy()).max() <= 0.15 + 1e-9
    assert density.values.max() == pytest.approx(2 / 0.3**3, rel=1e-5)


def test_the_grid_surrounds_the_nuclei_at_its_margin(tmp_path: Path) -> None:
    system = molecule("Li H", 3.0)
    density = field(tmp_path, measured(Density(system, 0.25, margin=2.0), torch.zeros(2, 4, 3), parts=2))
    assert density.values.shape == (16, 16, 28)
    np.testing.assert_allclose(density.origin - 0.125, [-2, -2, -2], atol=1e-6)
    np.testing.assert_allclose(density.positions, system.positions)


def test_walkers_without_a_local_energy_do_not_count() -> None:
    electrons = torch.zeros(8, 2, 3)
    electrons[0] = 100.0
    estimators: tuple[Any, ...] = (Density(molecule("He")), PairDensity(molecule("He")))
    density, pairs = (measured(estimator, electrons, lost=1).details for estimator in estimators)
    assert density["density"]["electrons_inside"]["value"] == 2
    assert pairs["pair_density"]["antiparallel_share_beyond"]["value"] == 0


@pytest.mark.parametrize(("spin", "kind"), [(0, "antiparallel"), (2, "parallel")])
def test_pair_density_of_two_independent_electrons(spin: int, kind: str) -> None:
    """The difference of two normal positions is normal with twice the variance."""
    estimates = measured(PairDensity(molecule("He", spin=spin), width=0.1), gaussian(100_000, 2), parts=100)
    columns = table(estimates)
    u = columns["u_bohr"]
    exact = np.exp(-(u**2) / (4 * WIDTH**2)) / (4 * np.pi * WIDTH**2) ** 1.5
    frequent = 4 * np.pi * u**2 * 0.1 * exact > 1e-3
    h, stderr = columns[f"h_{kind}_per_bohr3"][frequent], columns[f"h_{kind}_stderr_per_bohr3"][frequent]
    chi_squared, degrees = float((((h - exact[frequent]) / stderr) ** 2).sum()), int(frequent.sum())
    assert degrees > 25
    assert abs(chi_squared - degrees) < 4 * (2 * degrees) ** 0.5
    other = {"parallel": "antiparallel", "antiparallel": "parallel"}[kind]
    assert not columns[f"h_{other}_per_bohr3"].any()


def test_pair_densities_integrate_to_the_numbers_of_pairs() -> None:
    """Lithium has one pair of parallel and two of antiparallel spins."""
    estimates = measured(PairDensity(molecule("Li"), width=0.25, reach=3.0), gaussian(500, 3), parts=5)
    columns, details = table(estimates), estimates.details["pair_density"]
    shells = 4 / 3 * np.pi * 0.25**3 * np.diff(np.arange(13) ** 3)
    for kind, pairs in (("parallel", 1), ("antiparallel", 2)):
        assert details[f"{kind}_pairs"] == pairs
        within = 1 - details[f"{kind}_share_beyond"]["value"]
        assert 0.5 < within < 1
        assert float(columns[f"h_{kind}_per_bohr3"] @ shells) == pytest.approx(pairs * within, rel=1e-6)


def test_one_electron_has_no_pairs() -> None:
    estimates = measured(PairDensity(molecule("H")), torch.zeros(4, 1, 3), parts=2)
    assert estimates.details["pair_density"] == pytest.approx(
        {"width_bohr": 0.1, "reach_bohr": 8.0, "parallel_pairs": 0, "antiparallel_pairs": 0}
    )
    assert not table(estimates)["h_antiparallel_per_bohr3"].any()


def test_a_pair_density_that_has_not_measured_has_no_file() -> None:
    assert PairDensity(molecule("He")).finish({}) == Estimates()


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda system: Density(system, spacing=0.0), "density.spacing must be a positive number, not 0.0"),
        (lambda system: Density(system, margin=-1), "density.margin must be a number of at least 0, not -1"),
        (
            lambda system: Density(system, spacing=0.001),
            "density.spacing=0.001 gives a grid of .* voxels; set at least",
        ),
        (lambda system: PairDensity(system, width="wide"), "pair_density.width must be a positive number, not 'wide'"),
        (lambda system: PairDensity(system, reach=np.inf), "pair_density.reach must be a positive number, not inf"),
        (lambda system: PairDensity(system, width=1e-5), "pair_density.width=1e-05 gives more than 10,000 bins"),
    ],
)
def test_wrong_settings_are_refused(make: Any, message: str) -> None:
    with pytest.raises(InputError, match=rf"^method\.evaluation\.estimators\.{message}"):
        make(molecule("He"))


def test_the_least_spacing_that_is_advised_is_accepted() -> None:
    with pytest.raises(InputError) as refused:
        Density(molecule("He"), spacing=0.001)
    Density(molecule("He"), spacing=float(str(refused.value).split()[-2]))


def test_two_densities_are_refused() -> None:
    with pytest.raises(InputError, match="two of them measure pair_density; remove one"):
        build(molecule("He"), {"a": PairDensity, "b": PairDensity})


@pytest.mark.parametrize(
    ("estimator", "other", "message"),
    [
        (Density, {"spacing": 0.4}, "density.spacing=0.4: the evaluation in the checkpoint began with 0.2"),
        (Density, {"margin": 5.05}, "density.margin=5.05: the evaluation in the checkpoint began with 5"),
        (PairDensity, {"width": 0.2}, "pair_density.width=0.2: the evaluation in the checkpoint began with 0.1"),
    ],
)
def test_counts_of_another_grid_are_refused(estimator: Any, other: dict[str, float], message: str) -> None:
    system = molecule("He")
    with pytest.raises(InputError, match=message):
        estimator(system, **other).load_state_dict(estimator(system).state_dict())


def test_an_evaluation_begins_without_counts() -> None:
    system = molecule("He")
    estimators: tuple[Any, ...] = (Density(system), PairDensity(system))
    for estimator in estimators:
        measured(estimator, gaussian(4, 2))
    burning: Any = SimpleNamespace(burn_in=lambda *_: None, log_density=None, take_average=lambda: None)
    module: Any = SimpleNamespace(
        estimators=estimators, sampler=burning, optimisation=burning, schedule=SimpleNamespace(burn_in=1)
    )
    VariationalMonteCarlo.begin(module, "evaluating")
    assert not estimators[0].counts.any() and not estimators[0].walkers
    assert not estimators[1].histograms.number and not estimators[1].histograms.sums.any()


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("uninterrupted")
    ended = fusion(place, *WORDS)
    assert ended.complete, ended
    return place / "run"


@pytest.mark.slow
def test_a_killed_and_resumed_evaluation_has_the_same_densities(uninterrupted: Path, tmp_path: Path) -> None:
    (resumed,) = killed_and_resumed(tmp_path, WORDS, [at("step", 33)])
    assert "evaluation step 5 of 12" in resumed.out
    assert_same(uninterrupted, tmp_path / "run")
    for name in (DENSITY, PAIR_DENSITY):
        assert (uninterrupted / name).read_bytes() == (tmp_path / "run" / name).read_bytes()


def test_every_iteration_of_an_evaluation_counts(uninterrupted: Path) -> None:
    sums = checkpoint(uninterrupted)["estimators"]
    inside = document(uninterrupted)["vmc"]["density"]["electrons_inside"]["value"]
    assert sums["density"]["walkers"] == 12 * 16 and sums["pair_density"]["histograms.number"] == 12
    assert float(sums["density"]["counts"].sum()) == pytest.approx(inside * 12 * 16)


def test_evaluating_again_counts_from_zero(uninterrupted: Path, tmp_path: Path) -> None:
    assert fusion(tmp_path, *placed(WORDS, "again"), "task=evaluate", f"ckpt={uninterrupted}").complete
    assert checkpoint(tmp_path / "again")["estimators"]["density"]["walkers"] == 12 * 16


@pytest.mark.slow
def test_a_checkpoint_without_counts_is_resumed(tmp_path: Path) -> None:
    """An estimator that is added to an evaluation counts the remaining iterations."""
    fusion(tmp_path, *TINY, stop=at("step", 33))
    resumed = fusion(tmp_path, *WORDS, "ckpt=last")
    assert resumed.complete and "evaluation step 5 of 12" in resumed.out
    assert checkpoint(tmp_path / "run")["estimators"]["density"]["walkers"] == 7 * 16
    assert document(tmp_path / "run")["vmc"]["density"]["electrons_inside"]["value"] > 1


def test_another_grid_cannot_be_resumed(tmp_path: Path) -> None:
    fusion(tmp_path, *WORDS, stop=at("step", 33))
    refused = fusion(tmp_path, *WORDS, "method.evaluation.estimators.density.margin=4", "ckpt=last")
    assert refused.status == 2 and refused.err.count("\n") == 1
    assert "density.margin=4: the evaluation in the checkpoint began with 5; keep it" in refused.err


def test_settings_are_checked_before_any_work(tmp_path: Path) -> None:
    refused = fusion(tmp_path, *WORDS, "method.evaluation.estimators.density.margin=-1")
    assert refused.status == 2 and refused.err.count("\n") == 1
    assert "method.evaluation.estimators.density.margin must be a number of at least 0, not -1" in refused.err
    assert not any(tmp_path.iterdir())


def test_the_protocol_holds() -> None:
    """The local energies of a real Hamiltonian, as in a run."""
    system: System = molecule("He")
    point = Point(Slater1s(1.7), gaussian(6, 2), 6)
    estimators: list[Estimator] = [Density(system), PairDensity(system)]
    for estimator in estimators:
        assert set(estimator(point, molecular(system).at(point))) == set(estimator.measures)
