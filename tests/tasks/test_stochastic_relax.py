"""Relaxations with noisy forces: the mean position and its stated error, the end at the noise, and refusals."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from ase.io import read

from fusion.chemistry.system import System
from fusion.tasks.compare.energies import forces_difference
from fusion.tasks.geometry import model_hessian
from fusion.tasks.relax import stochastic
from fusion.tasks.relax.averaged import variance_of_mean
from fusion.tasks.relax.stochastic import Descent, descend
from processes import Program
from resuming import Resumes, Stop, document

NOISY = ("+method=noisy", "task=relax", "system.distance=1.7", "hydra.run.dir=run")
HYDROGEN = System("h2", ("H", "H"), np.array([[0.0, 0, 0], [0, 0, 1.7]]))
WATER = System("h2o", ("O", "H", "H"), np.array([[0.0, 0, 0], [0, 1.6, 1.3], [0, -1.5, 1.2]]))
MINIMA = {(0, 1): 1.8, (0, 2): 1.8, (1, 2): 2.9}
BOHR = 0.529177210903
pytestmark = pytest.mark.usefixtures("with_toy")


def relaxed(system: System, seed: int = 0, sigma: float = 3e-3, morse: bool = True, steps: int = 200) -> Descent:
    from toy.noisy import Noisy

    method = Noisy(sigma, morse, seed)
    return descend(method, system, 1e-4, steps, None, lambda step, energy, force: None)  # type: ignore[arg-type]


def deviation(descent: Descent, pair: tuple[int, int], exact: float) -> float:
    """Deviation of a distance in its stated errors."""
    assert descent.mean is not None
    distance, stderr = descent.mean.distance(*pair)
    return (distance - exact) / stderr


@pytest.mark.parametrize(("morse", "sigma"), [(False, 3e-3), (True, 3e-3), (True, 3e-4), (True, 0.02)])
def test_the_bond_of_a_diatomic_is_right_within_its_stated_error(morse: bool, sigma: float) -> None:
    """At most one of 8 seeds is off by 2.5 errors, none by 4, and the errors are not too large by a factor of 3."""
    z = [deviation(relaxed(HYDROGEN, seed, sigma, morse), (0, 1), 1.4) for seed in range(8)]
    assert np.sum(np.abs(z) > 2.5) <= 1 and np.max(np.abs(z)) < 4
    assert np.sqrt(np.mean(np.square(z))) > 1 / 3


def test_the_distances_of_a_triatomic_are_right_within_their_stated_errors() -> None:
    descents = [relaxed(WATER, seed) for seed in range(5)]
    for pair, exact in MINIMA.items():
        z = [deviation(descent, pair, exact) for descent in descents]
        assert np.sum(np.abs(z) > 2.5) <= 1 and np.sqrt(np.mean(np.square(z))) > 1 / 4, pair


def test_the_position_errors_are_those_of_half_the_bond() -> None:
    """Both atoms of a diatomic move against each other by half of the change of the distance."""
    mean = relaxed(HYDROGEN).mean
    assert mean is not None
    half = mean.distance(0, 1)[1] / 2
    np.testing.assert_allclose(mean.positions_stderr, [[0, 0, half], [0, 0, half]], rtol=1e-6, atol=1e-9)


def test_steps_are_halved_down_to_the_noise() -> None:
    """Ten times less noise needs steps that are shorter by about as much, and gives a bond that is as much better."""
    coarse, fine = (relaxed(HYDROGEN, sigma=sigma) for sigma in (3e-3, 3e-4))
    for descent in (coarse, fine):
        ratios = np.array(descent.lengths[2:-1]) / np.array(descent.lengths[1:-2])
        assert descent.lengths[1] == stochastic.FIRST and set(ratios) <= {0.5, 1.0}
    assert 3 < coarse.lengths[-2] / fine.lengths[-2] < 30
    assert coarse.mean is not None and fine.mean is not None
    assert 3 < coarse.mean.distance(0, 1)[1] / fine.mean.distance(0, 1)[1] < 30


@pytest.mark.parametrize("seed", range(3))
def test_the_end_has_no_force_above_the_noise_and_the_points_before_the_last_stage_have(seed: int) -> None:
    descent = relaxed(HYDROGEN, seed)
    assert not descent.points[-1].above(1e-4).any()
    assert all(point.above(1e-4).any() for point in descent.points[:3])  # 0.3, 0.2 and 0.1 bohr away


def test_without_noise_to_speak_of_the_threshold_decides() -> None:
    descent = relaxed(HYDROGEN, sigma=1e-9)
    assert descent.points[-1].largest < 1e-4
    assert descent.mean is not None and abs(deviation(descent, (0, 1), 1.4)) < 3


def test_few_steps_give_no_mean() -> None:
    descent = relaxed(HYDROGEN, steps=5)
    assert descent.steps == 5 and descent.mean is None


def test_the_molecule_neither_moves_nor_turns_as_a_whole() -> None:
    descent = relaxed(HYDROGEN)
    assert descent.mean is not None
    np.testing.assert_allclose(descent.mean.positions.mean(axis=0), [0, 0, 0.85], atol=1e-10)
    np.testing.assert_allclose(descent.mean.positions[:, :2], 0.0, atol=1e-10)


def test_the_variance_of_a_mean_contains_the_correlation() -> None:
    """A chain x' = 0.6 x + noise has a mean of variance s^2 / T (1 + f) / (1 - f), s^2 = 1 / (1 - f^2)."""
    noise, f = np.random.default_rng(1), 0.6
    estimates = []
    for _ in range(300):
        chain = [noise.standard_normal() / (1 - f**2) ** 0.5]
        for _ in range(63):
            chain.append(f * chain[-1] + noise.standard_normal())
        estimates.append(variance_of_mean(np.array(chain)))
    assert np.median(estimates) == pytest.approx(1 / (1 - f) ** 2 / 64, rel=0.25)


def test_the_model_hessian_has_no_rigid_motions_and_the_curvature_of_hydrogen() -> None:
    modes, inverse = model_hessian.scaled_modes(WATER)
    shift, turn = np.tile([1.0, 0, 0], 3), np.cross([0, 0, 1.0], WATER.positions - WATER.positions.mean(axis=0)).ravel()
    np.testing.assert_allclose(modes.T @ np.stack([shift, turn], axis=1), 0.0, atol=1e-10)
    np.testing.assert_allclose(inverse @ modes, np.eye(3), atol=1e-10)
    stretch, _ = model_hessian.scaled_modes(HYDROGEN.moved(np.array([[0.0, 0, 0], [0, 0, 1.4]])))
    assert 1 / (stretch[5, 0] - stretch[2, 0]) ** 2 == pytest.approx(0.37, rel=0.1)  # of the exact curve at 1.4 bohr


def test_a_run_reports_the_bond_with_its_error(pictures: None, program: Program, tmp_path: Path) -> None:
    done = program(*NOISY)
    assert done.status == 0, done
    relaxation = document(tmp_path / "run")["relaxation"]
    (bond,) = relaxation["bonds"]
    assert bond["angstrom"] == pytest.approx(1.4 * BOHR, abs=3 * bond["stderr_angstrom"])
    assert "all forces are below 2 times their errors" in done.out and "without task.optimiser" in done.out
    assert "bond             0.74" in done.out
    assert relaxation["averaged_positions"] == stochastic.AVERAGED and relaxation["steps"] > stochastic.AVERAGED
    assert len(read(tmp_path / "run" / "relax.extxyz", ":")) == relaxation["steps"] + 1
    positions = read(tmp_path / "run" / "relaxed.xyz").positions
    assert positions[1, 2] - positions[0, 2] == pytest.approx(bond["angstrom"], abs=1e-7)
    assert (tmp_path / "run" / "relaxation.png").stat().st_size > 10_000


def test_exact_forces_are_left_to_the_optimiser(program: Program, tmp_path: Path) -> None:
    assert program(*NOISY, "method.errors=false").status == 0
    relaxation = document(tmp_path / "run")["relaxation"]
    assert relaxation["steps"] < 12 and "positions_stderr_angstrom" not in relaxation
    assert relaxation["largest_force_hartree_per_bohr"] < 1e-4


def test_held_atoms_stay(program: Program, tmp_path: Path) -> None:
    assert program(*NOISY, "task.fixed=[1]", "task.steps=60").status == 0
    frames = read(tmp_path / "run" / "relax.extxyz", ":")
    assert all((frame.positions[0] == frames[0].positions[0]).all() for frame in frames)
    assert np.linalg.norm(frames[-1].positions[1] - frames[0].positions[1]) > 0.05


def test_too_few_steps_do_not_converge(program: Program, tmp_path: Path) -> None:
    done = program(*NOISY, "task.steps=4")
    assert done.status == 1 and "the forces did not settle within their noise" in done.out
    assert "task.steps=8" in document(tmp_path / "run")["message"]


def test_an_unconverged_last_calculation_is_no_converged_relaxation(program: Program, tmp_path: Path) -> None:
    assert program(*NOISY, "method.converged=false").status == 1
    content = document(tmp_path / "run")
    assert content["message"] == "more steps" and "calculations did not converge on the way" in content["warnings"][0]
    assert not content["relaxation"]["converged"] and content["relaxation"]["bonds"]


@pytest.mark.slow
def test_a_killed_run_resumes_to_the_same_result(resumes: Resumes) -> None:
    stops = [Stop("toy.noisy:Noisy.one", call) for call in (3, 12)]
    assert len(resumes(NOISY, *stops, files=("relax.extxyz", "relaxed.xyz"))) == 2


@pytest.mark.parametrize("task", ["ts", "irc", "md", "thermochemistry", "scan"])
def test_tasks_that_need_exact_forces_refuse_noisy_ones(program: Program, tmp_path: Path, task: str) -> None:
    more = ("task.atoms=[1,2]", "task.stop=1.2") if task == "scan" else ()
    done = program("+method=noisy", f"task={task}", "system=h2o", *more, "hydra.run.dir=run")
    assert done.status == 2 and "needs exact forces, and those of noisy have error bars" in done.err, done
    assert not (tmp_path / "run").exists()


def test_the_energy_shows_the_largest_force_with_its_error(program: Program) -> None:
    done = program("+method=noisy", "task=energy", "system.distance=1.7", "hydra.run.dir=run")
    assert done.status == 0 and "0.070 ± 0.003 Ha/bohr" in done.out, done


def test_errors_of_the_terms_of_a_sum_add_in_quadrature(program: Program, tmp_path: Path) -> None:
    terms = "method.terms=[{method: noisy, factor: 2},noisy]"
    done = program("+method=sum", terms, "task=energy", "system=h2", "hydra.run.dir=run")
    assert done.status == 0, done
    stderr = document(tmp_path / "run")["forces_stderr_hartree_per_bohr"]
    np.testing.assert_allclose(stderr, 5**0.5 * 3e-3)


def test_a_comparison_has_the_error_of_the_largest_difference() -> None:
    system = {"symbols": ["H", "H"]}
    base = {"status": "ok", "energy": {"value": -1.0}, "system": system}
    noisy = base | {
        "forces_hartree_per_bohr": [[0, 0, 0.3], [0, 0, -0.1]],
        "forces_stderr_hartree_per_bohr": [[0.5, 0.5, 0.03], [0.5, 0.5, 0.02]],
    }
    exact = base | {"forces_hartree_per_bohr": [[0, 0, 0.1], [0, 0, -0.1]]}
    difference = forces_difference({"h2": noisy}, {"h2": exact})
    assert difference is not None and difference["max_hartree_per_bohr"] == pytest.approx(0.2)
    assert difference["max_stderr_hartree_per_bohr"] == pytest.approx(0.03)
    assert "max_stderr_hartree_per_bohr" not in (forces_difference({"h2": exact}, {"h2": exact}) or {})


def test_a_single_atom_has_nothing_to_relax(program: Program, tmp_path: Path) -> None:
    assert program("+method=noisy", "task=relax", "system=he", "hydra.run.dir=run").status == 0
    assert document(tmp_path / "run")["relaxation"]["steps"] == 0
