"""Held coordinates and masses of the structure: all tasks keep them bit for bit, use them, and write them to files."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ase import Atoms
from ase.io import read, write
from scipy.spatial.transform import Rotation

from fusion.chemistry import constraints, system_input, units
from fusion.chemistry.system import System
from fusion.errors import InputError
from fusion.tasks.geometry.internal_coordinates import Bond, RigidMotion
from fusion.tasks.geometry.normal_modes import free_rigid_motions, normal_modes, spread
from fusion.tasks.md.ensembles import ConstantPressure
from fusion.tasks.relax.relaxation import Settings, check_settings
from fusion.tasks.ts.reaction_path import onto
from processes import Program

MORSE = ("+method=morse", "hydra.run.dir=run")
TORSION = ("+method=torsion", "system=chain.xyz", "hydra.run.dir=run")
States = Callable[..., None]


def result(tmp_path: Path, name: str = "run") -> dict[str, Any]:
    document: dict[str, Any] = json.loads((tmp_path / name / "result.json").read_text())
    return document


@pytest.fixture
def stated(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> States:
    """`stated(fixed=..., masses=...)` sets held coordinates and masses of the run's structure."""
    for name, degrees in (("chain", 100), ("other", -120), ("top", 170)):
        atoms = Atoms("HOOH", [[0.9, 0.6, 0.3], [0, 0.7, 0], [0, -0.75, 0], [0.8, -0.9, -0.4]])
        atoms.set_dihedral(0, 1, 2, 3, degrees, indices=[3])
        write(tmp_path / f"{name}.xyz", atoms)
    read_system = system_input.read

    def state(fixed: Any = None, masses: Any = None) -> None:
        def given(config: Mapping[str, Any], start_dir: Path) -> System:
            return replace(read_system(config, start_dir), fixed=fixed, masses=masses)

        monkeypatch.setattr(system_input, "read", given)

    return state


def mask(atoms: int, *held: int, axes: tuple[int, ...] = (0, 1, 2)) -> np.ndarray:
    fixed = np.zeros((atoms, 3), dtype=bool)
    fixed[np.ix_(held, axes)] = True
    return fixed


def positions(tmp_path: Path, name: str = "run") -> np.ndarray:
    return np.array(result(tmp_path, name)["system"]["positions"])


@pytest.mark.parametrize("fixed", [mask(3, 1, 2), mask(3, 0, axes=(2,)), mask(3, 0, 1, axes=(0, 2))])
def test_a_relaxation_moves_only_free_coordinates(
    program: Program, tmp_path: Path, stated: States, fixed: np.ndarray
) -> None:
    stated(fixed)
    done = program(*MORSE, "task=relax")
    assert done.status == 0, done
    frames = read(tmp_path / "run" / "relax.extxyz", ":")
    np.testing.assert_array_equal(frames[0].positions[fixed], frames[-1].positions[fixed])
    assert np.abs(frames[0].positions - frames[-1].positions)[~fixed].max() > 0.005
    document = result(tmp_path)
    forces = np.array(document["forces_hartree_per_bohr"])
    assert np.abs(forces[~fixed]).max() < 1e-4 and document["system"]["fixed"] == fixed.tolist()
    held = constraints.names(replace(System("w", ("O", "H", "H"), positions(tmp_path)), fixed=fixed))
    assert document["system"]["held"] == held and f"held: {' '.join(held)}" in done.out
    kept = read(tmp_path / "run" / "relaxed.xyz")
    np.testing.assert_array_equal(constraints_of(kept), fixed)


def constraints_of(atoms: Atoms) -> np.ndarray:
    fixed = np.zeros((len(atoms), 3), dtype=bool)
    for each in atoms.constraints:
        fixed[each.index] |= getattr(each, "mask", True)
    return fixed


@pytest.mark.parametrize(
    ("words", "fixed", "complaint"),
    [
        (("task=relax",), mask(3, 0, 1, 2), "nothing is left to relax"),
        (("task=relax", "task.fixed=[1]"), mask(3, 1, 2), "nothing is left to relax"),
        (("task=vibrations",), mask(3, 0, 1, 2), "nothing is left to relax"),
        (("task=md",), mask(3, 0, 1, 2), "nothing is left to move"),
        (("task=scan", "task.atoms=[1,2]", "task.stop=1"), mask(3, 0, 1), "bond O1-H2 are held"),
        (
            ("task=scan", "task.atoms=[1,2]", "task.stop=1", "task.relaxed=false"),
            mask(3, 0, 1, axes=(2,)),
            "both parts",
        ),
        (("task=thermochemistry", "task.reaction='2 H2 + O2 -> 2 w.xyz'"), mask(3, 0), "held"),
    ],
)
def test_tasks_that_held_atoms_make_impossible_are_refused(
    program: Program, tmp_path: Path, stated: States, words: tuple[str, ...], fixed: np.ndarray, complaint: str
) -> None:
    stated(fixed)
    done = program(*MORSE[:1], *words, "hydra.run.dir=run")
    assert done.status == 2 and complaint in done.err and done.err.count("\n") == 1, done


def test_held_atoms_in_a_relaxing_cell_are_refused() -> None:
    system = System("w", ("H", "H"), np.eye(2, 3), cell=np.eye(3) * 20, pbc=(True, True, True), fixed=mask(2, 0))
    with pytest.raises(InputError, match=r"task\.cell=true moves every atom with the cell, but atoms are held \(H1\)"):
        check_settings(Settings({"_target_": "ase.optimize.LBFGS"}, 1e-4, 10, cell=True), system)
    with pytest.raises(InputError, match="ensemble=npt moves every atom with the cell, but atoms of w are held"):
        ConstantPressure(1.0, 1.0, 1.0, True).check(system, 300.0)


@pytest.mark.parametrize(
    ("fixed", "periodic", "number"),
    [
        (mask(4, 0), False, 3),
        (mask(4, 0, 1), False, 1),
        (mask(4, 0, 1, 2), False, 0),
        (mask(4, 0, 1, 2, 3, axes=(0, 1)), False, 1),
        (mask(4, 0, axes=(2,)), True, 2),
        (mask(4, 0), True, 0),
    ],
)
def test_rigid_motions_left_free_by_held_atoms(fixed: np.ndarray, periodic: bool, number: int) -> None:
    places = np.random.default_rng(3).normal(size=(4, 3))
    assert free_rigid_motions(places, np.array([1.0, 12.0, 14.0, 16.0]), periodic, fixed) == number


def test_a_rigid_motion_does_not_move_held_atoms() -> None:
    system = System("w", ("O", "H", "H"), np.array([[0.0, 0, 0], [0, 1.4, 1.1], [0, -1.4, 1.1]]))
    bond = Bond((0, 1))
    assert RigidMotion(bond, system).moving.tolist() == [False, True, False]
    assert RigidMotion(bond, replace(system, fixed=mask(3, 1))).moving.tolist() == [True, False, True]
    with pytest.raises(InputError, match="both parts"):
        RigidMotion(bond, replace(system, fixed=mask(3, 1, 2)))


def test_a_band_keeps_held_atoms(program: Program, tmp_path: Path, stated: States) -> None:
    fixed = mask(4, 0, 1, 2)
    stated(fixed)
    words = (*TORSION, "task=ts", "task.product=other.xyz", "task.zero_point=false")
    done = program(*words)
    assert done.status == 0, done
    path = read(tmp_path / "run" / "path.extxyz", ":")
    assert all((frame.positions[fixed] == path[0].positions[fixed]).all() for frame in path)


def test_a_band_refuses_other_positions_of_held_atoms(program: Program, tmp_path: Path, stated: States) -> None:
    stated(mask(4, 0, 1, 2))
    words = (*TORSION, "task=ts", "task.product=other.xyz", "task.zero_point=false")
    moved = read(tmp_path / "other.xyz")
    moved.positions[1] += 0.1
    write(tmp_path / "other.xyz", moved)
    assert "O2 are held, but have other positions in other.xyz" in program(*words).err


@pytest.mark.parametrize(
    ("fixed", "ensemble"),
    [
        (mask(3, 0), "nve"),
        (mask(3, 1, axes=(0, 2)), "langevin"),
        pytest.param(mask(3, 0), "langevin", marks=pytest.mark.slow),
        pytest.param(mask(3, 1, axes=(0, 2)), "nve", marks=pytest.mark.slow),
    ],
)
def test_dynamics_move_and_count_only_free_coordinates(
    program: Program, tmp_path: Path, stated: States, fixed: np.ndarray, ensemble: str
) -> None:
    stated(fixed)
    words = (*MORSE, "task=md", f"ensemble={ensemble}", "task.temperature_k=300", "task.timestep_fs=0.25")
    done = program(*words, "task.steps=40", "task.save_every=20", "task.drift_limit_mev=1000")
    assert done.status == 0, done
    frames = read(tmp_path / "run" / "md.extxyz", ":")
    np.testing.assert_array_equal(frames[0].positions[fixed], frames[-1].positions[fixed])
    assert (frames[-1].get_momenta()[fixed] == 0).all() and (frames[-1].get_momenta()[~fixed] != 0).all()
    document = result(tmp_path)
    assert document["md"]["degrees_of_freedom"] == 9 - fixed.sum()
    assert document["md"]["initial_temperature_k"] == pytest.approx(300, abs=1e-3)
    np.testing.assert_array_equal(constraints_of(frames[-1]), fixed)
    again = program(*words[:1], "hydra.run.dir=again", *words[2:], "task.steps=20", "task.save_every=20")
    more = program(*words[:1], "hydra.run.dir=again", *words[2:], "task.steps=40", "task.save_every=20", "ckpt=last")
    assert more.status == again.status == 0, more
    np.testing.assert_array_equal(positions(tmp_path, "again"), positions(tmp_path))


def test_modes_of_free_coordinates_come_from_their_block_of_the_hessian() -> None:
    random = np.random.default_rng(1)
    hessian = random.normal(size=(9, 9))
    hessian = hessian @ hessian.T
    places, masses, fixed = random.normal(size=(3, 3)), np.array([12.0, 1.0, 2.0]), mask(3, 0, axes=(0, 1))
    modes = normal_modes(hessian, places, masses, fixed=fixed)
    free = ~fixed.ravel()
    roots = np.sqrt(np.repeat(masses, 3)[free])
    wanted = np.linalg.eigvalsh(hessian[np.ix_(free, free)] / np.outer(roots, roots))
    scale = units.CM1_PER_HARTREE / np.sqrt(units.ELECTRON_MASSES_PER_DALTON)
    np.testing.assert_allclose(modes.frequencies, scale * np.sqrt(wanted), rtol=1e-9)
    assert modes.removed == 0 and (modes.displacements[:, fixed] == 0).all()


def test_vibrations_of_a_held_molecule_have_neither_translations_nor_rotations(
    program: Program, tmp_path: Path, stated: States
) -> None:
    stated(mask(3, 0, 1))
    done = program(*MORSE, "task=vibrations")
    assert done.status == 0, done
    document = result(tmp_path)
    assert len(document["frequencies_cm1"]) == 3 and "free coordinates alone" in done.out
    assert "leave 1 translation or rotation of the whole system free" in document["warnings"][0]
    thermo = document["thermochemistry"]
    assert "symmetry_number" not in thermo and "harmonic oscillators alone" in thermo["model"]
    # Two stretches and a rotation about the held bond, which costs nothing.
    frequencies = np.array([value for value in document["frequencies_cm1"] if value > 20])
    assert len(frequencies) == 2 and document["zero_point_energy_hartree"] >= frequencies.sum() / 2 / 219474.64
    quanta = 1.438777 * frequencies / 298.15
    entropy = 8.314463 * (quanta / np.expm1(quanta) - np.log1p(-np.exp(-quanta)))
    assert thermo["entropy_j_per_mol_k"] >= entropy.sum() - 1e-3


def test_masses_of_the_structure_act_as_task_masses(program: Program, tmp_path: Path, stated: States) -> None:
    heavy = [15.999, 2.014, 2.014]
    assert program(*MORSE, "task=vibrations", "task.masses={2:2.014,3:2.014}").status == 0
    wanted = result(tmp_path)
    stated(masses=heavy)
    done = program("+method=morse", "task=vibrations", "hydra.run.dir=file")
    assert "masses in daltons: H2 2.014, H3 2.014" in done.out
    document = result(tmp_path, "file")
    assert document["frequencies_cm1"] == wanted["frequencies_cm1"]
    assert document["thermochemistry"]["gibbs_hartree"] == wanted["thermochemistry"]["gibbs_hartree"]
    assert "experiment" not in document and document["system"]["masses_dalton"] == heavy
    assert read(tmp_path / "file" / "relaxed.xyz").get_masses() == pytest.approx(heavy)
    assert (
        program("+method=morse", "task=vibrations", "task.masses={2:1.008,3:1.008}", "hydra.run.dir=user").status == 0
    )
    light = result(tmp_path, "user")["frequencies_cm1"]
    assert light[-1] / document["frequencies_cm1"][-1] == pytest.approx(np.sqrt(2.0), rel=0.05)
    words = ("task=md", "task.steps=5", "task.save_every=5", "hydra.run.dir=md")
    assert program("+method=morse", *words).status == 0
    assert read(tmp_path / "md" / "md.extxyz", "-1").get_masses() == pytest.approx(heavy)


@pytest.mark.parametrize("fixed", [pytest.param(mask(4, 1), marks=pytest.mark.slow), mask(4, 0, 1, axes=(0, 1))])
def test_a_relaxed_scan_keeps_held_atoms(program: Program, tmp_path: Path, stated: States, fixed: np.ndarray) -> None:
    stated(fixed)
    done = program(*TORSION, "task=scan", "task.atoms=[1,2,3,4]", "task.stop=160", "task.points=3", "task.fmax=1e-5")
    assert done.status == 0, done
    scan = result(tmp_path)["scan"]
    angle = np.radians(scan["values_degree"])
    assert scan["converged"] == [True] * 3
    np.testing.assert_allclose(scan["energies_hartree"], 0.008 * np.cos(angle) + 0.006 * np.cos(2 * angle), atol=1e-6)
    frames = read(tmp_path / "run" / "scan.extxyz", ":")
    start = read(tmp_path / "chain.xyz").positions[fixed]
    assert all((np.abs(frame.positions[fixed] - start) < 1e-7).all() for frame in frames)
    np.testing.assert_array_equal(frames[0].positions[fixed], frames[-1].positions[fixed])


@pytest.mark.parametrize("fixed", [pytest.param(mask(4, 1), marks=pytest.mark.slow), mask(4, 0, 1, axes=(1,))])
def test_transition_states_and_paths_keep_held_atoms(
    program: Program, tmp_path: Path, stated: States, fixed: np.ndarray
) -> None:
    stated(fixed)
    done = program(*TORSION[:1], "task=ts", "system=top.xyz", "task.irc=true", "task.fmax=1e-5", "hydra.run.dir=run")
    assert done.status == 0, done
    document, start = result(tmp_path), read(tmp_path / "top.xyz").positions
    assert document["energy"]["value"] == pytest.approx(0.006 - 0.008, abs=1e-6)
    saddle = document["transition_state"]
    assert saddle["n_imaginary"] == 1 and len(saddle["frequencies_cm1"]) == 12 - fixed.sum()
    assert (np.array(saddle["mode"])[fixed] == 0).all()
    path = read(tmp_path / "run" / "irc.extxyz", ":")
    assert all((np.abs(frame.positions[fixed] - start[fixed]) < 1e-7).all() for frame in path)
    minimum = -0.006 - 0.008**2 / (8 * 0.006)
    assert [document["irc"][way]["energy_hartree"] for way in ("backward", "forward")] == pytest.approx(
        [minimum] * 2, abs=1e-6
    )
    np.testing.assert_array_equal(constraints_of(path[0]), fixed)


@pytest.mark.slow
def test_a_reaction_path_is_weighted_by_the_masses_of_the_structure(
    program: Program, tmp_path: Path, stated: States
) -> None:
    lengths = []
    for masses in (None, [2.014, 15.999, 15.999, 2.014]):
        stated(masses=masses)
        words = ("task=ts", "system=top.xyz", "task.irc=true", "task.fmax=1e-5", "task.zero_point=false")
        assert program(*TORSION[:1], *words, "hydra.run.dir=run").status == 0
        document = result(tmp_path)
        lengths.append(np.ptp(document["irc"]["s_bohr_sqrt_dalton"]))
        assert document["transition_state"]["imaginary_cm1"] < -100
    assert lengths[1] / lengths[0] == pytest.approx(np.sqrt(2.014 / 1.008), rel=0.05)


def test_an_atom_has_no_spread_of_modes() -> None:
    modes = normal_modes(np.zeros((3, 3)), np.zeros((1, 3)), np.array([15.999]))
    assert spread(np.zeros((8, 3, 3)), modes, np.zeros((1, 3)), np.array([15.999])).shape == (0,)


def test_the_length_of_a_path_excludes_rotations() -> None:
    places, masses = np.random.default_rng(2).normal(size=(4, 3)), np.array([1.0, 12.0, 14.0, 16.0])
    turn = Rotation.from_rotvec([0.2, -0.4, 0.3]).as_matrix()
    moved = places.copy()
    moved[0] += 0.01
    back = onto(moved @ turn.T + 1.0, places, masses)
    assert np.sqrt((masses[:, None] * (back - places) ** 2).sum()) <= 0.01 * np.sqrt(3.0)
    assert np.abs(onto(places @ turn.T - 3.0, places, masses) - places).max() < 1e-12
