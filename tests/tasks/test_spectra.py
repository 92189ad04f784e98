"""Infrared and Raman intensities: closed forms for bonds, sum rules, and runs with two methods."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fusion.chemistry.system import System
from fusion.methods import protocol
from fusion.potentials import PotentialMethod
from fusion.tasks.geometry.normal_modes import NormalModes, external_and_internal, normal_modes
from fusion.tasks.vibrations.infrared import KM_MOL, intensities, strengths
from fusion.tasks.vibrations.property_derivatives import along_modes, calculations, of_nuclei
from fusion.tasks.vibrations.raman import ANGSTROM4, activities, cross_sections
from processes import Program
from resuming import Resumes, Stop

RUN = ("+method=morse", "task=vibrations", "task.dipoles=bonds", "task.fmax=1e-7", "hydra.run.dir=run")
NITROGEN = System("n2", ("N", "N"), np.array([[0.0, 0.0, 0.0], [0.9, -1.2, 2.1]]))
BENT = System("h2o", ("O", "H", "H"), np.array([[0.0, 0.1, 0.0], [1.5, 0.0, 1.1], [-1.4, 0.2, 1.0]]))
PROPERTIES = ("dipole", "polarizability")


def result(directory: Path) -> dict[str, Any]:
    document: dict[str, Any] = json.loads((directory / "result.json").read_text())
    return document


def modes_of(system: System, masses: list[float]) -> NormalModes:
    from toy.morse import Morse

    (calculated,) = PotentialMethod("morse", Morse()).calculate([system], {"hessian"})
    return normal_modes(np.asarray(calculated.properties["hessian"]), system.positions, np.array(masses))


def slopes_of(system: System, modes: NormalModes) -> dict[str, np.ndarray]:
    from toy.bonds import Bonds

    derivatives = Bonds().values(system)
    return {name: of_nuclei(modes, derivatives[f"{name}_derivatives"]).values for name in PROPERTIES}


def test_raman_activity_of_a_bond(with_toy: None) -> None:
    from toy.bonds import ACROSS, ALONG

    modes = modes_of(NITROGEN, [14.0, 15.0])
    mass = 14.0 * 15.0 / 29.0
    mean, anisotropy = (ALONG[1] + 2.0 * ACROSS[1]) / 3.0, ALONG[1] - ACROSS[1]
    strong, ratios = activities(slopes_of(NITROGEN, modes)["polarizability"], modes.reduced_masses)
    assert strong == pytest.approx([(45.0 * mean**2 + 7.0 * anisotropy**2) * ANGSTROM4 / mass], rel=1e-10)
    assert ratios == pytest.approx([3.0 * anisotropy**2 / (45.0 * mean**2 + 4.0 * anisotropy**2)], rel=1e-10)


def test_differences_along_modes_are_the_derivatives(with_toy: None) -> None:
    from toy.bonds import Bonds

    modes, told = modes_of(BENT, [16.0, 1.0, 2.0]), []
    chosen = np.array([True, False, True])
    slopes = along_modes(Bonds(), BENT, modes, chosen, PROPERTIES, told.append)
    exact = slopes_of(BENT, modes)
    for name in PROPERTIES:
        np.testing.assert_allclose(slopes[name].values[chosen], exact[name][chosen], rtol=3e-4, atol=3e-4)
        assert np.isnan(slopes[name].values[1]).all()
        assert 0 < slopes[name].details["strongest_changes_by_at_twice_the_step"] < 2e-3
    assert told == list(range(1, len(told) + 1)) and len(told) <= calculations(chosen, 2)


def test_cartesian_differences_are_the_derivatives(with_toy: None) -> None:
    from toy.bonds import Bonds

    names = {"dipole_derivatives", "polarizability_derivatives"}
    (calculated,) = protocol.calculate(Bonds(), [BENT], names)
    for name in names:
        np.testing.assert_allclose(calculated.properties[name], Bonds().values(BENT)[name], atol=1e-4)
    quality = of_nuclei(
        modes_of(BENT, [16.0, 1.0, 1.0]), np.asarray(calculated.properties["polarizability_derivatives"])
    )
    assert quality.details["sum_over_atoms"] < 1e-12  # the molecule may be anywhere


def test_dipole_derivatives_of_an_ion_sum_to_its_charge() -> None:
    modes = normal_modes(np.diag([0.1, 0.1, 0.1, -0.1, -0.1, -0.1]), NITROGEN.positions, np.ones(2))
    halves = np.kron(np.array([0.25, 0.75]), np.eye(3)).T
    assert of_nuclei(modes, halves, charge=1).details["sum_over_atoms"] == pytest.approx(0.0, abs=1e-15)
    assert of_nuclei(modes, halves).details["sum_over_atoms"] == pytest.approx(1.0)


def test_intensities_of_degenerate_modes(with_toy: None) -> None:
    """Two modes that span a degenerate pair have an invariant sum, and light scattered by them is depolarised."""
    angles = 2.0 * np.pi * np.arange(3) / 3.0
    hydrogens = np.stack([1.8 * np.cos(angles), 1.8 * np.sin(angles), np.full(3, 0.7)], axis=1)
    pyramid = System("nh3", ("N", "H", "H", "H"), np.vstack([np.zeros(3), hydrogens]))
    modes = modes_of(pyramid, [14.0, 1.0, 1.0, 1.0])
    pairs = [k for k in range(5) if modes.frequencies[k + 1] - modes.frequencies[k] < 1e-6]
    assert len(pairs) == 2
    slopes, masses = slopes_of(pyramid, modes), modes.reduced_masses
    _, ratios = activities(slopes["polarizability"], masses)
    alone = [k for k in range(6) if k not in pairs and k - 1 not in pairs]
    assert (ratios[alone] < 0.749).all()
    for k in pairs:
        two, sums = slice(k, k + 2), []
        for angle in (0.0, 0.4, 1.3):
            turn = np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])
            turned = [np.tensordot(turn, slopes[name][two], axes=1) for name in PROPERTIES]
            strong, ratios = activities(turned[1], masses[two])
            assert ratios == pytest.approx([0.75, 0.75], rel=1e-6)
            sums.append((strengths(turned[0], masses[two]).sum(), strong.sum()))
        assert min(sums[0]) > 1.0
        np.testing.assert_allclose(sums, [sums[0]] * 3, rtol=1e-6)


def test_intensities_do_not_depend_on_orientation(with_toy: None) -> None:
    turn = np.linalg.qr(np.random.default_rng(2).normal(size=(3, 3)))[0]
    there = System("h2o", BENT.symbols, BENT.positions @ turn.T - 3.0)
    one, other = (modes_of(system, [16.0, 1.0, 2.0]) for system in (BENT, there))
    for name, measure in (("dipole", strengths), ("polarizability", lambda *given: np.stack(activities(*given)))):
        np.testing.assert_allclose(
            measure(slopes_of(BENT, one)[name], one.reduced_masses),
            measure(slopes_of(there, other)[name], other.reduced_masses),
            rtol=1e-6,
        )


def test_isotopes_obey_the_sum_rule(with_toy: None) -> None:
    """Crawford's G sum: intensities of vibrations and rotations add up to those of the single nuclei.

    J. Chem. Phys. 20, 977 (1952).
    """
    from toy.bonds import Bonds

    derivatives = Bonds().values(BENT)["dipole_derivatives"]
    sums = []
    for masses in ([16.0, 1.0, 1.0], [16.0, 2.0, 1.0], [18.0, 2.0, 3.0]):
        roots = np.sqrt(np.repeat(masses, 3))
        external, _ = external_and_internal(BENT.positions, np.array(masses))
        turning = KM_MOL * (((external / roots[:, None]).T @ derivatives) ** 2).sum()
        vibrating = intensities(modes_of(BENT, masses), derivatives).sum()
        assert vibrating + turning == pytest.approx(KM_MOL * ((derivatives / roots[:, None]) ** 2).sum(), rel=1e-10)
        sums.append(vibrating)
    assert sums[0] > sums[1] > sums[2]


def test_raman_lines_depend_on_laser_and_temperature() -> None:
    """Scattering grows with the fourth power of the frequency, and for a low mode in proportion to the temperature."""
    place, activity = np.array([10.0]), np.array([1.0])
    cold, warm = (cross_sections(place, activity, 532.0, kelvin)[0] for kelvin in (300.0, 600.0))
    assert warm / cold == pytest.approx(2.0, rel=0.03)
    green, infrared = (cross_sections(np.array([1000.0]), activity, nm, 1.0)[0] for nm in (500.0, 1000.0))
    assert green / infrared == pytest.approx((19.0 / 9.0) ** 4)
    # The activity of N2 and its measured cross-section, 4.3e-31 cm^2/sr at 514.5 nm: Schroetter and Kloeckner, 1979.
    assert cross_sections(np.array([2331.0]), np.array([20.0]), 514.5, 300.0)[0] == pytest.approx(4.3e-31, rel=0.1)
    assert np.isnan(cross_sections(np.array([-100.0]), activity, 532.0, 300.0)[0])


def test_mutual_exclusion_with_a_centre_of_inversion(program: Program, tmp_path: Path) -> None:
    """Only the symmetric stretch of carbon dioxide is in the Raman spectrum; all other modes are in the infrared."""
    words = ("+method=hf", "method.basis=sto-3g", "task=vibrations", "task.raman=true", "hydra.run.dir=run")
    done = program(*words, "system=co2")
    assert done.status == 0 and "experiment" in done.out, done
    document = result(tmp_path / "run")
    infrared = np.array(document["ir_intensities_km_per_mol"])
    raman = np.array(document["raman_activities_angstrom4_per_dalton"])
    assert infrared[0] == pytest.approx(infrared[1]) and infrared[[0, 1, 3]].min() > 1.0 and infrared[2] < 1e-6
    assert raman[2] > 1.0 and raman[[0, 1, 3]].max() < 1e-4
    assert document["depolarization_ratios"][:2] == [None, None] and 0 < document["depolarization_ratios"][2] < 0.5
    assert document["experiment"]["fundamentals_cm1"] == [667.0, 1333.0, 2349.0]


def test_forces_in_a_field_agree_with_the_response_to_nuclei(with_toy: None) -> None:
    """The derivatives of an ion sum to its charge. The grid of a functional moves with the nuclei, so that no error
    remains in the sum."""
    from fusion.methods import by_name

    both = []
    for more in (set(), {"hessian"}):
        method = by_name.method({"method": "hf", "basis": "sto-3g"})
        (calculated,) = method.calculate([BENT], {"energy", "dipole_derivatives", *more})
        both.append(np.asarray(calculated.properties["dipole_derivatives"]))
    np.testing.assert_allclose(both[0], both[1], atol=1e-4)
    functional = by_name.method({"method": "dft", "xc": "r2scan", "basis": "sto-3g", "grid_level": 0})
    ion = System("h3o+", ("O", "H", "H", "H"), np.vstack([BENT.positions, [0.1, -1.7, 0.3]]), charge=1)
    (calculated,) = functional.calculate([ion], {"energy", "dipole_derivatives"})
    total = np.asarray(calculated.properties["dipole_derivatives"]).reshape(4, 3, 3).sum(axis=0)
    np.testing.assert_allclose(total, np.eye(3), atol=1e-6)


@pytest.mark.slow
def test_dipoles_of_another_method(pictures: None, program: Program, tmp_path: Path) -> None:
    done = program(*RUN[:2], "task.dipoles={method: bonds, flux: 0.5}", *RUN[3:], "task.raman=true")
    assert done.status == 0, done
    document = result(tmp_path / "run")
    summary = document["intensities"]
    assert (summary["method"], summary["label"], summary["settings"]["flux"]) == ("bonds", "Bonds(flux 0.5)", 0.5)
    assert summary["dipole"]["modes"] == 3 and "dipoles of Bonds(flux 0.5)" in done.out
    assert document["energy"]["value"] < -0.3 and "dipole_e_bohr" not in document  # the energy is that of Morse
    assert program("+method=morse", "task=vibrations", "task.fmax=1e-7", "hydra.run.dir=bare").status == 0
    bare = result(tmp_path / "bare")
    for key in ("frequencies_cm1", "zero_point_energy_hartree", "thermochemistry", "vibrations"):
        assert document[key] == bare[key]
    assert not (tmp_path / "bare" / "spectrum.csv").exists() and "ir_intensities_km_per_mol" not in bare
    exact = program(*RUN[:2], "task.dipoles={method: bonds, flux: 0.5, analytic: true}", *RUN[3:4], "task.raman=true")
    assert exact.status == 0
    (analytic,) = (result(path) for path in (tmp_path / "runs").glob("*/*") if path.is_dir())
    assert analytic["intensities"]["polarizability"]["by"] == "the method itself"
    for key in ("ir_intensities_km_per_mol", "raman_activities_angstrom4_per_dalton", "depolarization_ratios"):
        assert document[key] == pytest.approx(analytic[key], rel=2e-3)
    for name in ("infrared.png", "raman.png"):
        assert (tmp_path / "run" / name).stat().st_size > 10_000


@pytest.mark.slow
def test_only_modes_in_the_range_are_calculated(program: Program, tmp_path: Path) -> None:
    assert program(*RUN[:-1], "hydra.run.dir=all").status == 0
    whole = result(tmp_path / "all")
    places = np.array(whole["frequencies_cm1"])
    low = round(0.45 * (places[0] + places[1]))
    shown = (f"task.spectrum.range_cm1=[{low},6000]", "task.spectrum.scale=0.9", "task.spectrum.half_width_cm1=5")
    assert program(*RUN[:-1], "hydra.run.dir=some", *shown).status == 0
    document = result(tmp_path / "some")
    assert document["intensities"]["dipole"]["modes"] == 2 and document["frequencies_cm1"] == places.tolist()
    assert document["ir_intensities_km_per_mol"] == [None, *whole["ir_intensities_km_per_mol"][1:]]
    rows = np.loadtxt(tmp_path / "all" / "spectrum.csv", delimiter=",", skiprows=1)
    assert rows[:, 1].sum() * (rows[1, 0] - rows[0, 0]) == pytest.approx(
        sum(whole["ir_intensities_km_per_mol"]), rel=0.03
    )
    narrow = np.loadtxt(tmp_path / "some" / "spectrum.csv", delimiter=",", skiprows=1)
    assert (narrow[0, 0], narrow[-1, 0]) == (low, 6000.0)
    assert np.abs(0.9 * places[1:] - narrow[narrow[:, 1].argmax(), 0]).min() < 0.5


@pytest.mark.slow
def test_a_run_killed_during_the_dipoles_resumes_to_the_same_result(
    resumes: Resumes, program: Program, tmp_path: Path
) -> None:
    (resumed,) = resumes(RUN, Stop("toy.bonds:Bonds._one", 8), rel=1e-9)
    assert (tmp_path / "run" / "dipoles/checkpoints/last.ckpt").is_file()
    assert re.search("dipoles: resuming after [1-8] calculation", resumed.out), resumed
    changed = program(*RUN[:2], "task.dipoles={method: bonds, flux: 0.7}", *RUN[3:], "ckpt=last")
    assert changed.status == 2 and "belongs to another method" in changed.err


def test_dipoles_that_fail_leave_the_frequencies(program: Program, tmp_path: Path) -> None:
    done = program(*RUN[:2], "task.dipoles={method: bonds, fails_at: 4}", *RUN[3:])
    document = result(tmp_path / "run")
    assert done.status == 1 and document["status"] == "not_converged" and len(document["frequencies_cm1"]) == 3
    assert "displaced along mode 8: the bonds did not converge" in document["message"]
    assert "ir_intensities_km_per_mol" not in document and not (tmp_path / "run" / "spectrum.csv").exists()


def test_an_imaginary_mode_has_no_intensity(program: Program, tmp_path: Path) -> None:
    """Methane with bonds but no angles is a saddle point with five imaginary bends."""
    assert program(*RUN, "task.raman=true", "system=ch4").status == 0
    document = result(tmp_path / "run")
    for key in ("ir_intensities_km_per_mol", "raman_activities_angstrom4_per_dalton"):
        assert [value is None for value in document[key]] == [True] * 5 + [False] * 4
    assert np.isfinite(np.loadtxt(tmp_path / "run" / "spectrum.csv", delimiter=",", skiprows=1)).all()


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (("task.dipoles=bondz",), "task.dipoles: no method 'bondz'"),
        (("task.dipoles={method: bonds, flax: 1}",), "bonds has no setting 'flax'"),
        (("task.dipoles=3",), "names no method"),
        (("task.dipoles=morse",), "task.dipoles=morse needs dipole, which morse does not give"),
        (("task.raman=true",), "task.raman needs dipole and polarizability, which morse does not give"),
        (("task.raman=maybe",), "task.raman must be true or false"),
        (("task.spectrum.scale=0",), "task.spectrum.scale must be a number from 0.5 to 1.5"),
        (("task.spectrum.half_width_cm1=-1",), "task.spectrum.half_width_cm1 must be"),
        (("task.spectrum.range_cm1=[400]",), "two wavenumbers, the lower first"),
        (("task.spectrum.range_cm1=[4000,400]",), "two wavenumbers, the lower first"),
        (("task.spectrum.range_cm1=all",), "two wavenumbers, the lower first"),
        (("task.dipoles=bonds", "task.spectrum.laser_nm=5"), "task.spectrum.laser_nm must be"),
    ],
)
def test_wrong_settings_are_refused(program: Program, tmp_path: Path, words: Any, complaint: str) -> None:
    done = program("+method=morse", "task=vibrations", *words, "hydra.run.dir=run")
    assert done.status == 2 and complaint in done.err and not (tmp_path / "run").exists(), done
    assert done.err.count("\n") == 1
