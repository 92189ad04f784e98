"""Transition states with known barriers, failing proofs, and runs that are killed and resumed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ase import Atoms
from ase.io import read, write

from fusion.chemistry.system import System
from fusion.runs.results import Result
from fusion.tasks.geometry.normal_modes import normal_modes
from fusion.tasks.ts.outcome import outcome
from fusion.tasks.ts.saddle import Saddle
from processes import Program
from resuming import Resumes, Stop

B, C = 0.008, 0.006  # of the toy potential's torsion, hartree
MINIMUM = -C - B**2 / (8.0 * C)  # at 109.5 degrees
TRANS, CIS = C - B, C + B  # the barriers' tops, at 180 and 0 degrees
TS = ("+method=torsion", "task=ts", "hydra.run.dir=run")
BAND = (*TS, "system=left.xyz", "task.product=right.xyz")


def result(directory: Path) -> dict[str, Any]:
    document: dict[str, Any] = json.loads((directory / "result.json").read_text())
    return document


@pytest.fixture(autouse=True)
def structures(tmp_path: Path) -> None:
    """Write files with the chain of four atoms at some dihedrals."""
    for name, degrees in (("left", 100), ("right", -120), ("trans", 170), ("cis", 15)):
        atoms = Atoms("HOOH", [[0.9, 0.6, 0.3], [0, 0.7, 0], [0, -0.75, 0], [0.8, -0.9, -0.4]])
        atoms.set_dihedral(0, 1, 2, 3, degrees, indices=[3])
        write(tmp_path / f"{name}.xyz", atoms)
    write(tmp_path / "shuffled.xyz", atoms[[0, 1, 3, 2]])
    write(tmp_path / "short.xyz", atoms[:3])


def test_a_band_and_a_saddle_search_find_the_barrier(pictures: None, program: Program, tmp_path: Path) -> None:
    done = program(*BAND, "method.model.spread=0.0003")
    assert done.status == 0, done
    document = result(tmp_path / "run")
    barriers, path, saddle = document["barriers"], document["path"], document["transition_state"]
    assert document["energy"]["value"] == pytest.approx(TRANS, abs=1e-7)
    assert barriers["forward_hartree"] == pytest.approx(TRANS - MINIMUM, abs=1e-6)
    assert barriers["reverse_hartree"] == pytest.approx(TRANS - MINIMUM, abs=1e-6)
    assert barriers["reaction_hartree"] == pytest.approx(0.0, abs=1e-6)
    assert saddle["n_imaginary"] == 1 and sum(frequency < 0 for frequency in saddle["frequencies_cm1"]) == 1
    assert {symbol for symbol, _, _ in saddle["movers"]} == {"H"}
    # Two members that differ by as much as cos(phi): -1 at the top, -1/3 at the minima.
    assert barriers["forward_std_hartree"] == pytest.approx(0.0003 * np.sqrt(2.0) * 2.0 / 3.0, rel=5e-3)
    assert barriers["reaction_std_hartree"] < 1e-6 and barriers["n_imaginary"] == {"reactant": 0, "product": 0}
    heights = [barriers[f"{name}_zero_point_hartree"] for name in ("transition_state", "reactant")]
    lifted = barriers["with_zero_point"]["forward_hartree"] - barriers["forward_hartree"]
    assert lifted == pytest.approx(heights[0] - heights[1]) and lifted < -5e-4  # a mode less
    assert path["converged"] and len(path["energies_hartree"]) == path["images"] == 11
    assert path["energies_hartree"][path["top_image"] - 1] == pytest.approx(TRANS, abs=1e-4)
    assert read(tmp_path / "run" / "ts.xyz").get_dihedral(0, 1, 2, 3) == pytest.approx(180.0, abs=0.1)
    frames = read(tmp_path / "run" / "path.extxyz", ":")
    turned = [frame.get_dihedral(0, 1, 2, 3) for frame in frames]
    assert np.all(np.diff(turned) > 0) and (turned[0], turned[-1]) == pytest.approx((109.47, 250.53), abs=0.2)
    assert "barrier forward  3.35 kcal/mol" in done.out and "14.00 kJ/mol" in done.out
    assert (tmp_path / "run" / "path.png").stat().st_size > 10_000
    modes = read(tmp_path / "run" / "ts_mode.xyz", ":")
    swing = [mode.get_dihedral(0, 1, 2, 3) for mode in modes]
    assert len(modes) == 20 and np.ptp(swing) > 20.0


@pytest.mark.parametrize(("name", "height"), [("trans", TRANS), ("cis", CIS)])
def test_a_guess_leads_to_the_saddle_beside_it(program: Program, tmp_path: Path, name: str, height: float) -> None:
    assert program(*TS, f"system={name}.xyz").status == 0
    document = result(tmp_path / "run")
    assert document["energy"]["value"] == pytest.approx(height, abs=1e-6)
    assert document["transition_state"]["n_imaginary"] == 1 and "barriers" not in document
    assert program(*TS[:2], "system=left.xyz", f"task.guess={name}.xyz", "hydra.run.dir=other").status == 0
    assert result(tmp_path / "other")["energy"] == document["energy"]


def test_the_band_is_calculated_in_one_call_per_step(program: Program, tmp_path: Path) -> None:
    """If the images were calculated one by one, the process would be killed: nine calls for each of about 20 steps."""
    done = program(*BAND, "method.model.kill_at=120")
    assert done.status == 0, done
    assert result(tmp_path / "run")["path"]["steps"] > 10


@pytest.mark.slow
def test_the_path_downhill_connects_the_minima(pictures: None, program: Program, tmp_path: Path) -> None:
    done = program(*BAND, "task.irc=true")
    assert done.status == 0 and "it connects reactant and product" in done.out, done
    irc = result(tmp_path / "run")["irc"]
    assert (irc["backward"]["is"], irc["forward"]["is"]) == ("reactant", "product")
    top, energies = irc["transition_state"], np.array(irc["energies_hartree"])
    assert np.all(np.diff(energies[: top + 1]) > -1e-7) and np.all(np.diff(energies[top:]) < 1e-7)
    frames = read(tmp_path / "run" / "irc.extxyz", ":")
    angles = np.radians([frame.get_dihedral(0, 1, 2, 3) for frame in frames])
    # Centrifugal stretching apart, the bottom of the valley is the torsional energy.
    np.testing.assert_allclose(energies, B * np.cos(angles) + C * np.cos(2.0 * angles), atol=2e-5)
    assert irc["s_bohr_sqrt_dalton"][top] == 0.0 and np.all(np.diff(irc["s_bohr_sqrt_dalton"]) > 0)
    assert (tmp_path / "run" / "irc.png").stat().st_size > 10_000


def test_two_ends_in_the_same_minimum_have_no_barrier(program: Program, tmp_path: Path) -> None:
    done = program(*TS, "system=left.xyz", "task.product=left.xyz")
    assert done.status == 1 and "relax to the same structure" in done.err
    assert result(tmp_path / "run")["status"] == "failed"


def test_unrelaxed_ends_are_named(program: Program, tmp_path: Path) -> None:
    for name, force in (("left", "3e-3"), ("right", "1e-4")):
        words = ("task=relax", f"system={name}.xyz", f"task.fmax={force}", f"hydra.run.dir={name}")
        assert program(*BAND[:1], *words).status == 0
    words = ("system=left/relaxed.xyz", "task.product=right/relaxed.xyz", "task.relax_ends=false", "hydra.run.dir=run")
    done = program(*BAND[:2], *words)
    assert done.status == 0 and "note             the reactant is not relaxed" in done.out


def path(converged: bool = True) -> dict[str, Any]:
    forces = {"forces_at_ends_hartree_per_bohr": {"reactant": 0.0, "product": 0.0}, "ends_fmax_hartree_per_bohr": 1e-4}
    return {"converged": converged, "steps": 300, "largest_force_hartree_per_bohr": 0.2, "minima_between": []} | forces


def irc(backward: str = "reactant", forward: str = "product", arrived: bool = True) -> dict[str, Any]:
    ends = {"backward": backward, "forward": forward}
    return {way: {"is": end, "relaxed": True, "arrived": arrived, "points": 9} for way, end in ends.items()}


@pytest.mark.parametrize(
    ("details", "status", "said"),
    [
        ({}, "ok", None),
        ({"path": path(), "irc": irc()}, "ok", None),
        ({"path": path(False)}, "not_converged", "band itself did not converge"),
        ({"path": path(False), "irc": irc()}, "ok", "band itself did not converge"),
        ({"path": path(), "irc": irc(arrived=False)}, "ok", "still goes down"),
        ({"path": path(), "irc": irc(forward="reactant")}, "not_converged", "does not connect reactant and product"),
        ({"barriers": {"n_imaginary": {"reactant": 0, "product": 2}}}, "not_converged", "the product is not a minimum"),
        ({"barriers": {"forward_hartree": 0.1, "reverse_hartree": -0.01}}, "not_converged", "lies below the product"),
    ],
)
def test_a_saddle_point_of_another_reaction_does_not_converge(
    details: dict[str, Any], status: str, said: str | None
) -> None:
    system = System("chain", ("H", "O", "H"), np.array([[0.0, 0, 0], [0, 0, 2], [0, 2, 2]]))
    modes = normal_modes(-np.eye(9), system.positions, system.nuclear_masses)
    saddle = Saddle(Result(system, energy=-1.0), modes, 1, 1, 1e-6, 1, None)
    summary = {"imaginary_cm1": -500.0, "shift_from_path_angstrom": 0.1}
    done = outcome(saddle, {"transition_state": summary} | details)
    assert done.status == status and ("verdict" in summary) == (status == "ok")
    told = done.message if status == "not_converged" else " ".join(done.warnings)
    assert said in told if said else not told  # type: ignore[operator]


def test_a_search_with_too_few_steps_does_not_converge(program: Program, tmp_path: Path) -> None:
    done = program(*TS, "system=left.xyz", "task.steps=3")
    document = result(tmp_path / "run")
    assert done.status == 1 and document["status"] == "not_converged" and "NOT CONVERGED" in done.out
    assert "no stationary point in 3 steps" in document["message"]
    assert "verdict" not in document["transition_state"]


def test_displacements_of_a_numerical_hessian_are_counted(program: Program, monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[str] = []
    monkeypatch.setattr("fusion.console.phases.REFRESH_S", 0.0)
    monkeypatch.setattr("fusion.console.phases.PlainLine.draw", lambda self, state: said.append(state.text))
    assert program("+method=ase", "method.calculator=emt", *TS[1:], "system=trans.xyz", "task.steps=1").status == 1
    assert said[0] == "Hessian" and said.count("Hessian: 24 of 24 displacements") == 2


@pytest.mark.slow
@pytest.mark.parametrize(("calls", "until_done"), [((35, 30), False), ((35,), True)])
def test_a_run_killed_at_any_step_resumes_to_the_same_result(
    resumes: Resumes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, calls: tuple[int, ...], until_done: bool
) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path / "temporary"))
    (tmp_path / "temporary").mkdir()
    stops = [Stop("toy.torsion:Torsion.forward", call) for call in calls]
    resumes((*BAND, "task.irc=true"), *stops, files=("path.extxyz", "irc.extxyz", "ts.xyz"), until_done=until_done)
    left = {path.name for path in (tmp_path / "temporary").iterdir()}
    assert not {name for name in left if not name.startswith("torchinductor")}  # a folder of torch's own


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (("task.product=shuffled.xyz",), "atom 3 is O in the system and H in shuffled.xyz"),
        (("task.product=short.xyz",), "short.xyz is HO2, the system H2O2"),
        (("task.product=nowhere.xyz",), "task.product: no file 'nowhere.xyz'"),
        (("task.guess=short.xyz",), "task.guess"),
        (("task.product=right.xyz", "task.images=2"), "task.images"),
        (("task.fmax=0",), "task.fmax"),
        (("task.irc=maybe",), "task.irc must be true or false"),
        (("task.hessian_every=0",), "task.hessian_every"),
        (("system=inline", "system.atoms=H 0 0 0; H 0 0 0.74"), "at least 3 atoms"),
    ],
)
def test_wrong_settings_are_refused(program: Program, tmp_path: Path, words: tuple[str, ...], complaint: str) -> None:
    done = program(*TS, *(() if words[0].startswith("system") else ("system=left.xyz",)), *words)
    assert done.status == 2 and complaint in done.err and done.err.count("\n") == 1
    assert not (tmp_path / "run").exists()


def test_a_band_of_collinear_atoms_bends_around_collisions(with_toy: None) -> None:
    """HCN and HNC on a line: the linear path, and every path of its symmetry, leads through the nuclei."""
    from fusion.chemistry.system import System
    from fusion.potentials import PotentialMethod
    from fusion.tasks.ts.neb import Band
    from toy.morse import Morse

    method = PotentialMethod("morse", Morse())
    ends = [
        method.calculate([System("hcn", ("H", "C", "N"), np.array([[0, 0, z], [0, 0, 0], [0, 0, 2.2]]))], {"forces"})[0]
        for z in (-2.0, 4.1)
    ]
    band = Band(method, ends[0], ends[1], 9)
    path = band.relax(1e9, 2, lambda step, energy, force: None)
    distances = [
        np.linalg.norm(np.diff(result.system.positions[[0, i]], axis=0)) for result in path.results for i in (1, 2)
    ]
    assert min(distances) > 1.0
    assert np.all(np.diff(path.lengths) > 0.1)
