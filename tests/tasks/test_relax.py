"""Relaxations: minima of the potential, unconverged runs, and runs that are killed and resumed."""

from __future__ import annotations

import json
import signal
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ase import Atoms
from ase.io import read, write
from omegaconf import OmegaConf

from fusion.app.settings import refuse_changes
from fusion.errors import InputError
from processes import Program
from resuming import Resumes, Stop

# Morse bonds between all atoms of the toy potential: the three distances of water at rest, bohr and Angstrom.
OH, HH = 1.8, 1.4
MORSE = ("+method=morse", "task=relax", "hydra.run.dir=run")
BOHR = 0.529177210903


def result(directory: Path) -> dict[str, Any]:
    document: dict[str, Any] = json.loads((directory / "result.json").read_text())
    return document


def distances(path: Path) -> list[float]:
    atoms = read(path)
    return sorted(atoms.get_all_distances()[np.triu_indices(len(atoms), 1)] / BOHR)


def test_every_bond_relaxes_to_its_length(pictures: None, program: Program, tmp_path: Path) -> None:
    done = program(*MORSE, "task.fmax=1e-6")
    assert done.status == 0, done
    document = result(tmp_path / "run")
    relaxation = document["relaxation"]
    assert document["energy"]["value"] == pytest.approx(-3 * 0.17, abs=1e-9)
    assert distances(tmp_path / "run" / "relaxed.xyz") == pytest.approx([HH, OH, OH], abs=1e-4)
    assert np.linalg.norm(document["forces_hartree_per_bohr"], axis=1).max() < 1e-6
    assert len(read(tmp_path / "run" / "relax.extxyz", ":")) == relaxation["steps"] + 1
    assert relaxation["energies_hartree"][0] - relaxation["energies_hartree"][-1] > 0.1
    assert "converged        yes" in done.out and "relaxation.png" in done.out
    assert (tmp_path / "run" / "relaxation.png").stat().st_size > 10_000
    again = program("+method=morse", "task=relax", "system=run/relaxed.xyz", "task.fmax=1e-5", "hydra.run.dir=again")
    assert again.status == 0 and result(tmp_path / "again")["relaxation"]["steps"] == 0


def test_too_few_steps_do_not_converge(program: Program, tmp_path: Path) -> None:
    done = program(*MORSE, "task.steps=3")
    document = result(tmp_path / "run")
    assert done.status == 1 and document["status"] == "not_converged"
    assert "task.steps=6" in document["message"] and "NOT CONVERGED" in done.out
    positions = read(tmp_path / "run" / "relaxed.xyz").positions
    np.testing.assert_allclose(positions, document["system"]["positions"], atol=1e-7)
    # With more of them it goes on, not from the beginning: the trajectory is that of one run.
    more = program(*MORSE, "task.steps=100", "ckpt=last")
    assert more.status == 0 and "resuming after 4 calculations" in more.out
    whole = program(*MORSE[:2], "hydra.run.dir=whole")
    assert whole.status == 0
    assert result(tmp_path / "run")["relaxation"] == result(tmp_path / "whole")["relaxation"]


def test_a_run_that_resumes_keeps_its_seed_and_its_model(program: Program, tmp_path: Path) -> None:
    assert program(*MORSE, "task.steps=3").status == 1
    before = (tmp_path / "run" / "result.json").read_bytes()
    refused = program(*MORSE, "ckpt=last", "seed=1")
    assert refused.status == 2 and refused.err.count("\n") == 1, refused
    assert "seed=1 cannot change a run that resumes" in refused.err and "began with seed=0" in refused.err
    assert (tmp_path / "run" / "result.json").read_bytes() == before
    config = OmegaConf.load(tmp_path / "run" / "config.yaml")
    refuse_changes(tmp_path / "run", OmegaConf.merge(config, {"ckpt": "last"}))
    with pytest.raises(InputError, match=r"weights=ani-2x cannot change .* began with weights=null"):
        refuse_changes(tmp_path / "run", OmegaConf.merge(config, {"ckpt": "last", "weights": "ani-2x"}))


def test_noise_of_single_precision_is_named(program: Program, tmp_path: Path) -> None:
    done = program(*MORSE, "system=ch4", "dtype=float32", "task.fmax=1e-9", "task.steps=60")
    assert done.status == 1 and "the noise of float32. Set dtype=float64" in done.out


def test_fixed_atoms_stay_and_their_force_does_not_count(program: Program, tmp_path: Path) -> None:
    assert program(*MORSE, "task.fixed=[2,3]").status == 0
    document = result(tmp_path / "run")
    frames = read(tmp_path / "run" / "relax.extxyz", ":")
    np.testing.assert_array_equal(frames[0].positions[1:], frames[-1].positions[1:])
    assert np.linalg.norm(frames[0].positions[0] - frames[-1].positions[0]) > 0.005
    forces = np.linalg.norm(document["forces_hartree_per_bohr"], axis=1)
    assert forces[0] < 1e-4 < forces[1] and document["relaxation"]["largest_force_hartree_per_bohr"] < 1e-4


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (("task.fmax=0",), "task.fmax must be a positive force"),
        (("task.fmax=small",), "task.fmax must be a positive force"),
        (("task.pressure_gpa=high",), "task.pressure_gpa must be a number of GPa"),
        (("task.steps=0",), "task.steps must be a whole number"),
        (("task.cell=true",), "three periodic directions"),
        (("task.pressure_gpa=1",), "add task.cell=true"),
        (("task.fixed=[4]",), "no atom 4 in H2O"),
        (("task.fixed=[1,2,3]",), "nothing is left"),
        (("task.optimiser._target_=ase.optimize.Best",), "no optimiser 'ase.optimize.Best'"),
        (("task.optimiser._target_=ase.Atoms",), "not one of ASE's own optimisers"),
        (("+task.optimiser.stride=3",), "cannot create"),
        (("task.optimiser._target_=ase.optimize.ODE12r",), "not one of ASE's own optimisers"),
        (("+method=ferminet", "++method.evaluation.estimators.forces=null"), "task relax needs forces"),
    ],
)
def test_wrong_settings_are_refused(program: Program, tmp_path: Path, words: tuple[str, ...], complaint: str) -> None:
    method = () if words[0].startswith("+method") else MORSE[:1]
    done = program(*method, *words, *MORSE[1:])
    assert done.status == 2 and complaint in done.err and not (tmp_path / "run").exists()


@pytest.mark.parametrize(("calls", "until_done"), [((2, 6), False), pytest.param((6,), True, marks=pytest.mark.slow)])
def test_a_run_killed_at_any_step_resumes_to_the_same_result(
    resumes: Resumes, calls: tuple[int, ...], until_done: bool
) -> None:
    stops = [Stop("toy.morse:Morse.forward", call) for call in calls]
    resumed = resumes(MORSE, *stops, files=("relax.extxyz", "relaxed.xyz"), until_done=until_done)
    assert len(resumed) >= len(stops)


def sheared_argon(directory: Path) -> tuple[str, ...]:
    """Write face-centred argon with a sheared cell to a file; return the words of a run that relaxes it."""
    half = 2.55
    cell = np.array([[0.0, half, half], [half, 0.1, half], [half, half + 0.2, -0.1]])
    write(directory / "argon.xyz", Atoms("Ar", [[0, 0, 0]], cell=cell, pbc=True), format="extxyz")
    crystal = ("+method=morse", "method.model._target_=toy.morse.Crystal", "method.model.depth=0.0005", "task=relax")
    return (*crystal, "system=argon.xyz", "task.cell=true", "task.fmax=1e-7")


@pytest.mark.slow
def test_a_killed_cell_relaxation_resumes_to_the_same_cell(resumes: Resumes, tmp_path: Path) -> None:
    stop = Stop("toy.morse:Crystal.forward", 12)
    assert len(resumes(sheared_argon(tmp_path), stop, files=("relax.extxyz",), until_done=True)) > 1


@pytest.mark.slow
def test_a_crystal_relaxes_its_cell_with_and_without_pressure(program: Program, tmp_path: Path) -> None:
    """Face-centred argon from a sheared cell gets twelve equal neighbours and the requested pressure."""
    words = sheared_argon(tmp_path)
    assert program(*words, "hydra.run.dir=free").status == 0
    assert program(*words, "task.pressure_gpa=0.5", "hydra.run.dir=pressed").status == 0
    free, pressed = (result(tmp_path / name)["relaxation"] for name in ("free", "pressed"))
    assert (free["pressure_gpa"], pressed["pressure_gpa"]) == pytest.approx((0.0, 0.5), abs=1e-3)
    relaxed = read(tmp_path / "free" / "relaxed.xyz").repeat(3)
    nearest = np.sort(relaxed.get_all_distances(mic=True)[13])[1:13] / BOHR
    assert np.ptp(nearest) < 0.04 and 6.5 < nearest.mean() < 7.0  # a bond of its own would be of 7 bohr
    stress = np.array(result(tmp_path / "pressed")["stress_hartree_per_bohr3"])
    np.testing.assert_allclose(stress, np.eye(3) * np.trace(stress) / 3.0, atol=1e-3 * abs(np.trace(stress)))
    assert pressed["volume_angstrom3"] < free["volume_angstrom3"]
    work = 0.5 / 4.3597447e3 * free["volume_angstrom3"]  # GPa Angstrom^3 in hartree: 1 Ha = 4359.7 GPa Angstrom^3
    assert pressed["enthalpy_hartree"] < free["final_energy_hartree"] + work
    assert "remaining pressure" in program("report", "free").out


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_saves_all_calculations(program: Program, tmp_path: Path, number: signal.Signals) -> None:
    stopped = program(*MORSE, "method.model.kill_at=4", f"method.model.kill_by={number.name}")
    assert stopped.status == 128 + number and "run continues the run" in stopped.err
    again = (*MORSE, "ckpt=last", "method.model.kill_at=4", f"method.model.kill_by={number.name}")
    resumed = program(*again)  # the signal comes at the fifth call of this process again, and is obeyed
    assert resumed.status == 128 + number and "resuming after 5 calculations" in resumed.out
    assert program("resume", "run").status == 0
    assert program(*MORSE[:2], "hydra.run.dir=whole").status == 0
    assert result(tmp_path / "run")["relaxation"] == result(tmp_path / "whole")["relaxation"]


def test_a_relaxation_that_climbs_is_not_converged(program: Program, tmp_path: Path) -> None:
    """L-BFGS pulls a stretched hydrogen molecule apart, where the forces fall below any threshold."""
    stretched = ("system=inline", "system.atoms='H 0 0 0; H 0 0 1.6'", "task.fmax=1e-3")
    hartree_fock = ("+method=hf", "method.basis=sto-3g", "task=relax", "hydra.run.dir=run", *stretched)
    done = program(*hartree_fock, "task.optimiser._target_=ase.optimize.LBFGS")
    document = result(tmp_path / "run")
    assert done.status == 1 and document["status"] == "not_converged"
    assert "the optimiser went uphill" in document["message"] and not document["relaxation"]["converged"]
    downhill = program(*hartree_fock, "hydra.run.dir=downhill")  # the default for small molecules: BFGS
    assert downhill.status == 0 and result(tmp_path / "downhill")["energy"]["value"] == pytest.approx(-1.1175, abs=1e-4)
