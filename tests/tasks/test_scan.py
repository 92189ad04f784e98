"""Scans: a known torsional energy in both directions, and runs that are killed and resumed."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ase import Atoms
from ase.build import molecule
from ase.io import read

from fusion.chemistry import units
from fusion.chemistry.structures import from_atoms
from fusion.errors import InputError
from fusion.runs.results import Result
from fusion.tasks.geometry.internal_coordinates import Angle, Bond, Dihedral, InternalCoordinate, RigidMotion
from fusion.tasks.scan.report import Point, describe, hysteresis, lower, table
from fusion.tasks.ts.report import scan_rows
from processes import Program
from resuming import Resumes, Stop

B, C = 0.008, 0.006  # of the toy potential's torsion, hartree
SCAN = ("+method=torsion", "task=scan", "hydra.run.dir=run")
TURN = (*SCAN, "task.atoms=[1,2,3,4]")


def result(directory: Path) -> dict[str, Any]:
    document: dict[str, Any] = json.loads((directory / "result.json").read_text())
    return document


def torsion(degrees: np.ndarray) -> np.ndarray:
    """Energy of the toy potential at these dihedrals with all other coordinates relaxed."""
    angle = np.radians(degrees)
    return np.asarray(B * np.cos(angle) + C * np.cos(2.0 * angle))


@pytest.mark.parametrize(("start", "stop"), [(None, None), (150, 240), (-150, -240), (30, -30)])
def test_a_relaxed_scan_is_the_torsional_energy(
    program: Program, tmp_path: Path, start: float | None, stop: float | None
) -> None:
    span, points = ((), 13) if start is None else ((f"task.start={start}", f"task.stop={stop}"), 7)
    done = program(*TURN, *span, f"task.points={points}", "task.fmax=1e-5")
    assert done.status == 0, done
    scan = result(tmp_path / "run")["scan"]
    values = np.array(scan["values_degree"])
    assert values == pytest.approx(np.linspace(-45 if start is None else start, 315 if stop is None else stop, points))
    np.testing.assert_allclose(scan["energies_hartree"], torsion(values), atol=1e-7)
    assert scan["barrier_hartree"] == pytest.approx(np.ptp(torsion(values)), abs=1e-7)
    frames = read(tmp_path / "run" / "scan.extxyz", ":")
    dihedrals = [frame.get_dihedral(0, 1, 2, 3) for frame in frames]
    assert np.cos(np.radians(dihedrals)) == pytest.approx(np.cos(np.radians(values)), abs=1e-6)
    with (tmp_path / "run" / "scan.csv").open(newline="") as file:
        table = list(csv.DictReader(file))
    relative = units.KJ_MOL_PER_HARTREE * (torsion(values) - torsion(values).min())
    assert [float(row["relative_kj_mol"]) for row in table] == pytest.approx(relative, abs=1e-3)
    assert "kcal/mol" in done.out


def test_stationary_points_at_the_ends_of_a_full_turn(pictures: None, program: Program, tmp_path: Path) -> None:
    assert program(*TURN, "task.start=0", "task.points=25").status == 0
    places = [(place["kind"], place["degree"]) for place in result(tmp_path / "run")["scan"]["stationary"]]
    assert places == [("maximum", 0.0), ("minimum", 105.0), ("maximum", 180.0), ("minimum", 255.0)]
    assert (tmp_path / "run" / "scan.png").stat().st_size > 10_000


def test_a_rigid_scan_moves_one_coordinate_in_one_batch(program: Program, tmp_path: Path) -> None:
    assert program(*TURN, "task.relaxed=false", "task.points=7").status == 0
    document = result(tmp_path / "run")
    values = np.array(document["scan"]["values_degree"])
    energies = np.array(document["scan"]["energies_hartree"])
    assert energies - energies[0] == pytest.approx(torsion(values) - torsion(values)[0], abs=1e-9)
    frames = read(tmp_path / "run" / "scan.extxyz", ":")
    lengths = [[frame.get_distance(i, j) for i, j in ((0, 1), (1, 2), (2, 3), (0, 2), (1, 3))] for frame in frames]
    assert np.ptp(lengths, axis=0) == pytest.approx(0.0, abs=1e-7)


@pytest.mark.parametrize(
    ("details", "columns"),
    [
        ({}, {}),
        ({"scf": {"spin_squared": 0.77}}, {"spin_squared": "0.77"}),
        ({"scf": {"spin_squared": 0.77}, "correlation": {"energy_hartree": -0.1}}, {}),
        (
            {"vmc": {"spin_squared": {"value": 0.8, "stderr": 0.1}}},
            {"spin_squared": "0.8", "spin_squared_stderr": "0.1"},
        ),
    ],
)
def test_the_table_has_the_spin_that_the_method_states(details: dict[str, Any], columns: dict[str, str]) -> None:
    """The spin of a mean field is not that of a wavefunction correlated on top of it."""
    system = from_atoms(Atoms("H2", [[0, 0, 0], [0, 0, 0.8]]))
    content = table(Bond((0, 1)), [Point(0.8, Result(system, "ok", -1.0, details=details))])
    (row,) = csv.DictReader(content.splitlines())
    assert {name: cell for name, cell in row.items() if name.startswith("spin")} == columns


@pytest.mark.parametrize(("atoms", "start", "stop"), [("[2,3]", 1.4, 1.7), ("[3,2,1]", 110, 70)])
def test_bonds_and_angles_are_held_at_their_values(
    program: Program, tmp_path: Path, atoms: str, start: float, stop: float
) -> None:
    assert (
        program(*SCAN, f"task.atoms={atoms}", f"task.start={start}", f"task.stop={stop}", "task.points=4").status == 0
    )
    frames = read(tmp_path / "run" / "scan.extxyz", ":")
    bond = atoms == "[2,3]"
    held = [frame.get_distance(1, 2) if bond else frame.get_angle(2, 1, 0) for frame in frames]
    assert held == pytest.approx(np.linspace(start, stop, 4), abs=1e-4)
    stiffness = units.BOHR_PER_ANGSTROM**2 if bond else np.radians(1.0) ** 2
    rest = 2.75 * units.ANGSTROM_PER_BOHR if bond else 180.0 - np.degrees(1.4)
    energies = 0.3 * stiffness * (np.array(held) - rest) ** 2 - C - B**2 / (8.0 * C)
    np.testing.assert_allclose(result(tmp_path / "run")["scan"]["energies_hartree"], energies, atol=1e-7)


def test_unconverged_points_are_marked(program: Program, tmp_path: Path) -> None:
    few = program(*TURN, "task.points=5", "task.steps=1")
    document = result(tmp_path / "run")
    assert few.status == 1 and document["status"] == "not_converged" and "NOT CONVERGED" in few.out
    assert not all(document["scan"]["converged"]) and None not in document["scan"]["energies_hartree"]
    hole = program(*TURN[:2], TURN[3], "task.points=13", "method.model.fails_beyond=100", "hydra.run.dir=hole")
    scan = result(tmp_path / "hole")["scan"]
    assert hole.status == 1 and "no energy" in hole.out
    inside = np.array(scan["energies_hartree"], dtype=float)
    np.testing.assert_array_equal(np.isfinite(inside), scan["converged"])
    assert np.isnan(inside).sum() == 3  # 105, 135 and 165 degrees
    assert program("report", "hole").status == 0


@pytest.mark.parametrize("relaxed", [True, False])
def test_a_refused_structure_costs_only_its_point(program: Program, tmp_path: Path, relaxed: bool) -> None:
    words = (*TURN, "task.points=13", "method.model.refuses=100", f"task.relaxed={str(relaxed).lower()}")
    done = program(*words)
    scan = result(tmp_path / "run")["scan"]
    assert done.status == 1 and "atoms are too close" in done.out
    assert scan["converged"].count(False) == scan["energies_hartree"].count(None) == 3
    assert set(scan["failures"].values()) == {"atoms are too close"}


def test_a_scan_in_both_directions_takes_the_lower_energy(program: Program, tmp_path: Path) -> None:
    done = program(*TURN, "task.both_ways=true", "task.points=9", "method.model.spread=0.0005")
    scan = result(tmp_path / "run")["scan"]
    assert done.status == 0 and "hysteresis" in done.out and "model" in done.out
    assert scan["energies_hartree"] == np.minimum(scan["forward_hartree"], scan["backward_hartree"]).tolist()
    assert scan["hysteresis_hartree"] < 1e-6
    cosines = np.cos(np.radians(scan["values_degree"]))
    lowest = np.argmin(scan["energies_hartree"])
    # Two members that differ by as much as cos(phi): the part they share with the lowest point is no uncertainty.
    np.testing.assert_allclose(scan["energies_std_hartree"], 0.0005 * np.sqrt(2.0) * np.abs(cosines), atol=1e-8)
    relative = 0.0005 * np.sqrt(2.0) * np.abs(cosines - cosines[lowest])
    np.testing.assert_allclose(scan["relative_std_hartree"], relative, atol=1e-8)


def noisy(value: float, energy: float, stderr: float | None = 0.001, failure: str | None = None) -> Point:
    system = from_atoms(Atoms("H2", [[0, 0, 0], [0, 0, value]]))
    return Point(value, Result(system, "ok", energy, stderr), failure=failure)


def test_noise_does_not_choose_between_two_directions() -> None:
    random = np.random.default_rng(0)
    pairs = [[noisy(0.8, -1.0 + 0.001 * error) for error in random.standard_normal(2)] for _ in range(2000)]
    energies = [lower(*pair).energy or 0.0 for pair in pairs]
    assert abs(np.mean(energies) + 1.0) < 4 * 0.001 / 2000**0.5  # the lower ones are 0.00056 below
    high, low = noisy(0.8, -1.0), noisy(0.8, -1.006)
    assert lower(high, low) is low and lower(low, high) is low
    assert lower(noisy(0.8, -2.0, failure="not converged"), high) is high
    exact = noisy(0.8, -1.0, None), noisy(0.8, -1.0001, None)
    assert lower(*exact) is exact[1]
    assert hysteresis(Bond((0, 1)), [high], [low])["hysteresis_stderr_hartree"] == pytest.approx(0.001 * 2**0.5)


def test_extrema_of_noisy_points_are_beyond_the_noise() -> None:
    points = [noisy(0.5 + 0.1 * n, energy) for n, energy in enumerate((-1.0, -1.1, -1.102, -1.101, -1.0, -1.05, -1.0))]
    scan = describe(Bond((0, 1)), points[0].result.system, points, relaxed=False)["scan"]  # type: ignore[union-attr]
    assert [(place["kind"], place["angstrom"]) for place in scan["stationary"]] == [
        ("maximum", pytest.approx(0.9)),
        ("minimum", pytest.approx(1.0)),
    ]
    assert scan["barrier_stderr_hartree"] == pytest.approx(0.001 * 2**0.5)
    assert scan["lowest_within_noise"] == pytest.approx([0.6, 0.8])
    rows = "\n".join(" ".join(row) for row in scan_rows(scan))
    assert "0.89 kcal/mol statistical" in rows and "as low within the noise" in rows


@pytest.mark.slow
@pytest.mark.parametrize(("calls", "until_done"), [((8, 4), False), ((12,), True)])
def test_a_run_killed_at_any_step_resumes_to_the_same_result(
    resumes: Resumes, calls: tuple[int, ...], until_done: bool
) -> None:
    stops = [Stop("toy.torsion:Torsion.forward", call) for call in calls]
    words = (*TURN, "task.points=7")
    assert len(resumes(words, *stops, files=("scan.csv", "scan.extxyz"), until_done=until_done)) >= len(stops)


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (("task.atoms=[1,2,3,5]",), "no atom 5"),
        (("task.atoms=[1,2,2,3]",), "twice"),
        (("task.atoms=[1,2,3]", "task.coordinate=dihedral"), "a dihedral needs 4 atoms"),
        (("task.atoms=[1,2,3]", "task.coordinate=twist"), "bond, angle or dihedral"),
        ((), "none are given"),
        (("task.atoms=7",), "a list of atoms"),
        (("task.atoms=[1,2]",), "task.stop is missing"),
        (("task.atoms=[1,2]", "task.stop=-1"), "a bond of -1"),
        (("task.atoms=[1,2,3]", "task.stop=180"), "1 to 179"),
        (("task.atoms=[1,2,3]", "task.stop=far"), "must be a number"),
        (("task.atoms=[1,2,3,4]", "task.start=0", "task.stop=0"), "nothing would move"),
        (("task.atoms=[1,2,3,4]", "task.points=1"), "task.points"),
        (("task.atoms=[1,2,3,4]", "task.fmax=-1"), "task.fmax"),
        (("task.atoms=[1,2,3,4]", "task.fmax=abc"), "task.fmax must be a positive force"),
        (("task.atoms=[1,2,3,4]", "task.relaxed=false", "task.both_ways=true"), "no history"),
        (("task.atoms=[1,2,3,4]", "system.atoms=H 0 0 0; O 1 0 0; O 2.5 0 0; H 3 1 0"), "no defined direction"),
    ],
)
def test_wrong_settings_are_refused(program: Program, tmp_path: Path, words: tuple[str, ...], complaint: str) -> None:
    done = program(*SCAN, *words)
    assert done.status == 2 and complaint in done.err and done.err.count("\n") == 1
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("coordinate", "value", "moving"),
    [
        (Dihedral((2, 0, 1, 5)), 170.0, 4),  # methyl groups of ethane: C 0 1, H 2 3 4 and 5 6 7
        (Dihedral((5, 1, 0, 2)), 190.0, 4),
        (Bond((1, 5)), 1.5, 1),
        (Bond((5, 1)), 1.5, 1),
        (Bond((0, 1)), 2.0, 4),
        (Angle((2, 0, 1)), 100.0, 1),
        (Angle((1, 0, 2)), 120.0, 1),
    ],
)
def test_the_smaller_part_moves_as_a_rigid_body(coordinate: InternalCoordinate, value: float, moving: int) -> None:
    ethane = from_atoms(molecule("C2H6"))
    motion = RigidMotion(coordinate, ethane)
    assert motion.moving.sum() == moving
    moved = motion.to(value, ethane.positions)
    assert np.sin(np.radians(coordinate.value(moved) - value) / 2.0) == pytest.approx(0.0, abs=1e-9)
    both = [ethane.positions[motion.moving], moved[motion.moving]]
    before, after = (np.linalg.norm(part[:, None] - part[None], axis=-1) for part in both)
    np.testing.assert_allclose(before, after, atol=1e-12)


def test_values_are_those_of_ase() -> None:
    atoms = Atoms("HOOH", np.random.default_rng(3).normal(size=(4, 3)))
    positions = from_atoms(atoms).positions
    assert Dihedral((0, 1, 2, 3)).value(positions) % 360.0 == pytest.approx(atoms.get_dihedral(0, 1, 2, 3))
    assert Angle((0, 1, 2)).value(positions) == pytest.approx(atoms.get_angle(0, 1, 2))
    assert Bond((0, 1)).value(positions) == pytest.approx(atoms.get_distance(0, 1))


def test_bonds_of_rings_are_refused() -> None:
    with pytest.raises(InputError, match="ring"):
        RigidMotion(Bond((0, 1)), from_atoms(molecule("C6H6")))
