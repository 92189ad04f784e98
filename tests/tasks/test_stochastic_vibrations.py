"""Vibrations with noisy forces: exact Hessians without noise, stated errors that hold, verdicts, and resumed runs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fusion.chemistry import constraints, units
from fusion.chemistry.system import System
from fusion.methods import protocol
from fusion.tasks.geometry.normal_modes import normal_modes
from fusion.tasks.relax.points import visited
from fusion.tasks.vibrations.stochastic import Differences, Errors, differences, number
from fusion.tasks.vibrations.thermochemistry import by_wavenumber, thermochemistry
from processes import Program
from resuming import Resumes, Stop, document

NOISY = ("+method=noisy", "task=vibrations", "hydra.run.dir=run")
HYDROGEN = System("h2", ("H", "H"), np.array([[0.0, 0, 0], [0, 0, 1.4]]))
HEIGHT = (1.8**2 - 1.45**2) ** 0.5
WATER = System("h2o", ("O", "H", "H"), np.array([[0.0, 0, 0], [0, 1.45, HEIGHT], [0, -1.45, HEIGHT]]))  # all at rest
pytestmark = pytest.mark.usefixtures("with_toy")


def found(system: System, sigma: float, morse: bool = False, seed: int = 0) -> Differences:
    from toy.noisy import Noisy

    method = Noisy(sigma, morse, seed)
    return differences(method, visited(method, system), lambda done: None)


def errors(system: System, sigma: float, morse: bool = False, seed: int = 0) -> Errors:
    differences = found(system, sigma, morse, seed)
    modes = normal_modes(differences.hessian, system.positions, system.nuclear_masses, fixed=system.fixed)
    return Errors(differences, modes, differences.offset)


def exact(system: System) -> np.ndarray:
    """Exact frequencies (n,), cm^-1, at a geometry at which all springs are at rest."""
    from toy.noisy import Noisy

    hessian, _ = protocol.numerical_hessian(Noisy(errors=False, morse=False), system, 1e-3)
    return normal_modes(hessian, system.positions, system.nuclear_masses, fixed=system.fixed).frequencies


@pytest.mark.parametrize("system", [HYDROGEN, WATER])
@pytest.mark.parametrize("morse", [False, True])
def test_without_noise_to_speak_of_the_frequencies_are_exact(system: System, morse: bool) -> None:
    """The narrowest steps are 0.01 bohr wide, and the anharmonic share of a Morse curve is subtracted."""
    frequencies = errors(system, 1e-9, morse).modes.frequencies
    np.testing.assert_allclose(frequencies, exact(system), rtol=5e-5)


def test_a_step_has_two_ends_for_every_mode() -> None:
    assert number(HYDROGEN) == 2 and number(WATER) == 6
    assert len(found(WATER, 1e-3).points) == 6


def test_the_anharmonic_share_of_wide_steps_is_subtracted() -> None:
    """Noise of 3e-3 asks for the widest steps, which raise the frequency of a Morse bond by 1 %."""
    frequencies = [errors(HYDROGEN, 3e-3, True, seed).modes.frequencies[0] for seed in range(100)]
    stderr = np.std(frequencies, ddof=1) / 10
    assert np.mean(frequencies) == pytest.approx(exact(HYDROGEN)[0], abs=max(3 * stderr, 8.0))
    raw = np.mean([np.diag(found(HYDROGEN, 3e-3, True, seed).anharmonic) for seed in range(5)])
    assert raw > 0.01


@pytest.mark.parametrize(
    ("system", "sigma", "morse"), [(HYDROGEN, 1e-3, False), (WATER, 1e-3, True), (WATER, 1e-4, True)]
)
def test_frequencies_and_zero_point_energies_are_right_within_their_stated_errors(
    system: System, sigma: float, morse: bool
) -> None:
    """The mean square deviation of 60 seeds in stated errors is near one."""
    reference, deviations = exact(system), []
    half = np.full(len(reference), 0.5)
    for seed in range(60):
        one = errors(system, sigma, morse, seed)
        difference = one.modes.frequencies - reference
        deviations.append([*(difference / one.frequencies), half @ difference / one.stderr(half)])
    ratios = np.sqrt(np.mean(np.square(deviations), axis=0))
    assert np.all((ratios > 0.5) & (ratios < 1.2)), ratios


def test_the_error_of_a_sum_contains_the_correlation_of_its_modes() -> None:
    """The symmetric and the antisymmetric stretch share the forces of both bonds."""
    one = errors(WATER, 1e-3)
    independent = float(np.linalg.norm(one.frequencies))
    assert one.stderr(np.ones(3)) != pytest.approx(independent, rel=1e-3)


def test_a_reference_off_the_minimum_widens_the_errors() -> None:
    there = errors(HYDROGEN, 1e-4, True)
    moved = HYDROGEN.moved(np.array([[0.0, 0, 0], [0, 0, 1.42]]))
    away = errors(moved, 1e-4, True)
    shift = abs(away.modes.frequencies[0] - exact(HYDROGEN)[0])
    assert away.frequencies[0] > 5 * there.frequencies[0]
    assert away.frequencies[0] == pytest.approx(shift, rel=0.3)


def test_held_coordinates_are_not_displaced() -> None:
    fixed = np.zeros((2, 3), dtype=bool)
    fixed[0] = True
    held = constraints.hold(HYDROGEN, [0])
    one = found(held, 1e-6)
    assert all((point.result.system.positions[0] == held.positions[0]).all() for point in one.points)
    frequencies = normal_modes(one.hessian, held.positions, held.nuclear_masses, fixed=held.fixed).frequencies
    np.testing.assert_allclose(frequencies[-1], exact(HYDROGEN)[0] / 2**0.5, rtol=1e-4)


def test_the_slopes_of_enthalpy_and_gibbs_energy_are_those_of_the_partition_function() -> None:
    atoms, frequencies, step = WATER.to_atoms(), np.array([90.0, 900.0, 3000.0]), 0.01
    slopes = by_wavenumber(frequencies, 350.0)

    def functions(values: np.ndarray) -> np.ndarray:
        thermo = thermochemistry(atoms, 0.0, values, "nonlinear", 2, 0, 350.0, 1.0)
        return np.array([thermo["enthalpy_hartree"], thermo["gibbs_hartree"]])

    for index, move in enumerate(step * np.eye(3)):
        by_difference = (functions(frequencies + move) - functions(frequencies - move)) / (2 * step)
        np.testing.assert_allclose([slope[index] for slope in slopes], by_difference, rtol=1e-5)


def test_a_run_relaxes_and_reports_frequencies_with_errors(pictures: None, program: Program, tmp_path: Path) -> None:
    done = program(*NOISY, "system=h2o", "method.sigma=1e-3")
    assert done.status == 0, done
    content = document(tmp_path / "run")
    z = (np.array(content["frequencies_cm1"]) - exact(WATER)) / content["frequencies_stderr_cm1"]
    assert np.abs(z).max() < 4
    thermo = content["thermochemistry"]
    assert thermo["enthalpy_stderr_hartree"] == pytest.approx(
        np.hypot(content["zero_point_energy_stderr_hartree"], content["energy"]["stderr"]), rel=0.05
    )
    assert "± stderr" in done.out and "zero-point       0.018" in done.out and " ± " in done.out
    assert "no imaginary modes: a minimum; largest force" in done.out and "so have the frequencies" in done.out
    run = tmp_path / "run"
    assert np.load(run / "hessian.npy").shape == (9, 9) and len(list((run / "modes").iterdir())) == 3
    assert (run / "modes.png").stat().st_size > 10_000
    again = program("report", "run")
    assert again.status == 0 and "± stderr" in again.out


def test_away_from_a_stationary_point_nothing_is_converged(program: Program, tmp_path: Path) -> None:
    done = program(*NOISY, "system.distance=1.7", "task.relax=false")
    assert (
        done.status == 1
        and "not a stationary point: largest force 0.0684 ± 0.0021" in done.out
        and "above its noise" in done.out
    )


def test_too_few_steps_of_the_relaxation_give_no_vibrations(program: Program, tmp_path: Path) -> None:
    done = program(*NOISY, "system.distance=1.7", "task.steps=3")
    content = document(tmp_path / "run")
    assert done.status == 1 and content["message"].endswith("no vibrations were calculated")
    assert "frequencies_cm1" not in content and not (tmp_path / "run" / "hessian.npy").exists()


def test_displaced_calculations_that_do_not_converge_are_told(program: Program, tmp_path: Path) -> None:
    done = program(*NOISY, "system.distance=1.4", "task.relax=false", "method.converged=false")
    content = document(tmp_path / "run")
    assert done.status == 1 and content["message"] == "3 of 3 calculations did not converge: more steps"
    assert "NO: 3 of 3 calculations did not converge: more steps" in done.out
    assert content["frequencies_cm1"]


def test_an_imaginary_mode_within_its_error_counts_as_noise(program: Program, tmp_path: Path) -> None:
    """With errors of 0.1 Ha/bohr the curvature of the bend is negative by chance."""
    signs = set()
    for seed in (0, 1):
        words = ("system=h2o", "method.sigma=0.1", f"method.seed={seed}", "task.relax=false", f"hydra.run.dir={seed}")
        done = program(*NOISY[:2], *words)
        content = document(tmp_path / str(seed))
        lowest, vibrations = content["frequencies_cm1"][0], content["vibrations"]
        signs.add(lowest < 0)
        assert vibrations["n_imaginary"] == 0 and vibrations["noise_cm1"] >= max(20.0, -lowest), done
        assert "may be imaginary" in done.out or lowest < 0
    assert True in signs


def test_an_atom_does_not_vibrate(program: Program, tmp_path: Path) -> None:
    assert program(*NOISY, "system=he").status == 0
    assert document(tmp_path / "run")["frequencies_cm1"] == []


def test_intensities_come_from_a_second_method(program: Program, tmp_path: Path) -> None:
    second = "task.dipoles={method: hf, basis: sto-3g}"
    done = program(*NOISY, "system=h2o", second)
    assert done.status == 0, done
    content: dict[str, Any] = document(tmp_path / "run")
    assert len(content["ir_intensities_km_per_mol"]) == 3 and (tmp_path / "run" / "spectrum.csv").exists()


@pytest.mark.slow
def test_a_killed_run_resumes_to_the_same_result(resumes: Resumes) -> None:
    stops = [Stop("toy.noisy:Noisy.one", call) for call in (5, 18)]
    words = (*NOISY, "system.distance=1.5")
    assert len(resumes(words, *stops, files=("relax.extxyz", "relaxed.xyz", "hessian.npy"))) == 2


def test_the_unit_of_the_zero_point_energy_is_that_of_the_sum_of_the_frequencies() -> None:
    one = errors(HYDROGEN, 1e-3)
    assert one.stderr(np.array([0.5 / units.CM1_PER_HARTREE])) == pytest.approx(
        0.5 * one.frequencies[0] / units.CM1_PER_HARTREE
    )
