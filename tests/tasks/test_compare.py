"""Comparisons: all methods on the same geometries, errors of energy sums, resumed comparisons."""

from __future__ import annotations

import csv
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
from ase.build import molecule
from omegaconf import OmegaConf
from pyscf import gto, scf

from fusion.app import resolved
from fusion.chemistry.structures import from_atoms
from fusion.chemistry.system import System
from fusion.chemistry.units import KCAL_MOL_PER_HARTREE
from fusion.runs.results import Result
from fusion.runs.run import Run
from fusion.tasks.compare import energies, outcome, tables
from fusion.tasks.compare.cost import MeasuredEnergy, measuring, peak_memory
from fusion.tasks.compare.subject import Quantity
from processes import Program, Running

RUN = ("task=compare", "hydra.run.dir=run")
SCAN = "task.scan={atoms: [1,2], values: [0.9,1.0,1.1]}"
WATER = "system=h2o"
MORSE = "{method: morse, label: good}"


@pytest.fixture(autouse=True)
def plugin_of_children(environment: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Give the toy plugin also to the processes that a comparison starts."""
    for name in ("PYTHONPATH", "OMP_NUM_THREADS"):
        monkeypatch.setenv(name, environment[name])


def comparison(directory: Path) -> dict[str, Any]:
    document: dict[str, Any] = json.loads((directory / "result.json").read_text())
    assert document["schema"] == 1 and document["task"] == "compare" and "method" not in document
    summary: dict[str, Any] = document["comparison"]
    return summary


def hartree_fock(atoms: str, spin: int = 0, **options: Any) -> float:
    mol = gto.M(atom=atoms, unit="Bohr", basis="6-31g", spin=spin, verbose=0, **options)
    return float((scf.UHF if spin else scf.RHF)(mol).kernel())


def test_a_reaction_by_two_methods(pictures: None, program: Program, tmp_path: Path) -> None:
    words = ("methods=[{method: hf, basis: 6-31g},{method: toy, energy: -1.5}]", "task.reaction=2 h -> h2")
    done = program(*RUN, *words)
    assert done.status == 0 and done.err == ""
    exact = hartree_fock("H 0 0 0; H 0 0 1.401") - 2 * hartree_fock("H 0 0 0", spin=1)
    summary = comparison(tmp_path / "run")
    (reaction,) = summary["quantities"]
    assert reaction["values"]["hf"]["energy_hartree"] == pytest.approx(exact, abs=1e-8)
    assert reaction["values"]["toy"]["energy_hartree"] == 1.5
    assert reaction["values"]["toy"]["difference_hartree"] == pytest.approx(1.5 - exact, abs=1e-8)
    assert f"{exact * KCAL_MOL_PER_HARTREE:.2f}" in done.out and "2 h -> h2" in done.out
    with (tmp_path / "run" / "comparison.csv").open(newline="") as file:
        table = {row["method"]: row for row in csv.DictReader(file)}
    assert float(table["hf"]["energy_hartree"]) == pytest.approx(exact, abs=1e-8)
    assert float(table["hf"]["cpu_s"]) > 0.0 and float(table["hf"]["peak_memory_bytes"]) > 1e8
    assert "| hf |" in (tmp_path / "run" / "comparison.md").read_text()
    assert (tmp_path / "run" / "comparison.png").stat().st_size > 10_000
    part = program("report", "run/parts/hf/h2")  # an ordinary run
    assert part.status == 0 and "H2 (2 electrons, singlet)" in part.out
    again = program("resume", "run")
    assert again.out.startswith("2 h -> h2 · compare · ")
    assert again.status == 0 and again.out.splitlines()[-3:] == done.out.splitlines()[-3:]


def test_reaction_files_are_relative_to_the_start_directory(tmp_path: Path) -> None:
    (tmp_path / "a.xyz").write_text("1\n\nHe 0 0 0\n")
    task = {"name": "compare", "reaction": ["2 a.xyz -> 2 he", "h2 -> b.xyz"], "frames": "a.xyz"}
    config = OmegaConf.create(
        {"methods": ["hf"], "system": {"name": "x"}, "task": task, "seed": 0, "dtype": "float32", "ckpt": None}
    )
    resolved_task = resolved(config, tmp_path).task
    assert (
        resolved_task.reaction == [f"2 {tmp_path}/a.xyz -> 2 he", "h2 -> b.xyz"]
        and resolved_task.frames == f"{tmp_path}/a.xyz"
    )


@pytest.mark.slow
def test_a_killed_method_does_not_stop_the_others(program: Program, tmp_path: Path) -> None:
    methods = (
        f"methods=[{MORSE},{{method: morse, label: bad, model.kill_at: 0, forces: true}},{{method: toy, basis: none}}]"
    )
    refused = program(*RUN, methods, WATER, SCAN)
    assert refused.status == 2 and refused.err == "error: no basis none\n" and not (tmp_path / "run").exists()
    methods = methods.replace(",{method: toy, basis: none}", "")
    done = program(*RUN, methods, WATER, SCAN)
    assert done.status == 1 and "NOT ALL DONE" in done.out and "was killed" in done.out
    summary = comparison(tmp_path / "run")
    good, bad = summary["methods"]
    assert (good["status"], good["done"], bad["status"]) == ("ok", 3, "failed")
    assert summary["quantities"][2]["values"]["good"]["energy_hartree"] is not None
    kept = tmp_path / "run" / "parts" / "good" / "point-001" / "result.json"
    before = kept.stat().st_mtime_ns
    config = tmp_path / "run" / "config.yaml"
    config.write_text(config.read_text().replace("model.kill_at: 0", "model.kill_at: null"))
    done = program("resume", "run")
    assert done.status == 0 and "resuming after 3 of 6 calculations" in done.out
    assert kept.stat().st_mtime_ns == before
    summary = comparison(tmp_path / "run")
    for quantity in summary["quantities"]:  # the same model at the same geometries
        assert quantity["values"]["bad"]["difference_hartree"] == 0.0
    assert summary["methods"][1]["forces_difference"]["max_hartree_per_bohr"] == 0.0


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_an_interrupted_comparison_stops_its_processes_and_resumes(
    program: Program, environment: dict[str, str], tmp_path: Path, number: signal.Signals
) -> None:
    methods = "methods=[{method: morse, model.seconds: 8.0}]"
    home = tmp_path / "run" / "parts" / "morse"
    first, second = home / "point-001" / "result.json", home / "point-003" / "result.json"
    running = Running((*RUN, methods, WATER, SCAN), tmp_path, environment)
    while not first.is_file() and running.alive:
        time.sleep(0.05)
    children = psutil.Process(running.pid).children()
    os.kill(running.pid, number)
    status = running.done().status
    assert len(children) == 1 and not psutil.wait_procs(children, timeout=600.0)[1]
    assert status == (143 if number == signal.SIGTERM else -number) and not second.is_file()
    if number == signal.SIGTERM:
        return
    config = tmp_path / "run" / "config.yaml"
    config.write_text(config.read_text().replace("model.seconds: 8.0", "model.seconds: 0.0"))
    before = first.stat().st_mtime_ns
    done = program("report", "run")
    assert done.status == 0 and "UNFINISHED" in done.out and "calculation" in done.out
    done = program("resume", "run")
    assert done.status == 0 and first.stat().st_mtime_ns == before
    assert comparison(tmp_path / "run")["methods"][0]["done"] == 3


@pytest.mark.slow
def test_a_wavefunction_resumes_from_its_checkpoint(
    program: Program, environment: dict[str, str], tmp_path: Path
) -> None:
    settings = "walkers: 64, pretraining.steps: 100, optimisation.steps: 400, evaluation: {steps: 20}"
    words = (f"methods=[{{method: fci, basis: sto-3g}},{{method: ferminet, {settings}}}]", "system=h2")
    home = tmp_path / "run" / "parts" / "ferminet"
    running = Running((*RUN, *words), tmp_path, environment)
    while not (home / "h2" / "checkpoints" / "last.ckpt").is_file() and running.alive:
        time.sleep(0.05)
    running.kill()
    running.done()
    assert not (home / "h2" / "result.json").is_file()
    done = program("resume", "run")
    assert done.status == 0, done.out
    assert "resuming from step" in (home / "output.txt").read_text()
    summary = comparison(tmp_path / "run")
    value = summary["quantities"][0]["values"]["ferminet"]
    assert value["stderr_hartree"] == value["difference_stderr_hartree"] > 0.0  # the other side has no error
    assert summary["methods"][1]["lower_bound"] and "≥" in (tmp_path / "run" / "comparison.md").read_text()


@pytest.mark.slow
def test_counterpoise_is_for_methods_with_a_basis(program: Program, tmp_path: Path) -> None:
    atoms = "system.atoms='He 0 0 0; He 0 0 2.0'"
    methods = "methods=[{method: hf, basis: 6-31g},{method: toy, energy: 0.0}]"
    done = program(*RUN, methods, "system=inline", atoms, "system.unit=bohr", "task.fragments=[[1],[2]]")
    assert done.status == 0, done
    plain, corrected = comparison(tmp_path / "run")["quantities"]
    alone = hartree_fock("He 0 0 0")
    dimer = hartree_fock("He 0 0 0; He 0 0 2.0")
    dressed = hartree_fock("He 0 0 0; ghost-He 0 0 2.0")
    assert plain["values"]["hf"]["energy_hartree"] == pytest.approx(dimer - 2 * alone, abs=1e-9)
    assert corrected["values"]["hf"]["energy_hartree"] == pytest.approx(dimer - 2 * dressed, abs=1e-9)
    assert plain["values"]["toy"]["energy_hartree"] == corrected["values"]["toy"]["energy_hartree"] == 0.0


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        ((), "no methods to compare"),
        (("methods=[hf,mopse]",), "Did you mean 'morse'?"),
        (("methods=[hf,{method: dft, xcc: pbe}]",), "Did you mean 'xc'?"),
        (("methods=[hf,hf]",), "hf is listed twice"),
        (("methods=[hf,morse]", "task.against=mors"), "Did you mean 'morse'?"),
        (("methods=[hf,morse]", "task.reaction=h2o -> h2 + o2"), "the left lacks 1 O"),
        (("methods=[hf,morse]", "+method=hf"), "remove +method="),
        (("methods=[hf,{method: morse, forces: false}]",), "have neither a zero of energy nor forces in common"),
        (("methods=[hf,{method: morse, forces: 3}]",), "forces of morse must be true or false, not 3"),
        (("methods=[toy]", "task.zero=2"), "a point of task.scan"),
        (("methods=[toy]", "dtype=float64"), "dtype belongs to one method"),
        (("methods=[toy,morse]",), "have neither a zero of energy nor forces in common"),
        (("methods=[toy]", "system=h2o", "task.scan={atoms: [1,2]}"), "task.scan.stop is missing"),
        (("methods=[toy]", "system=h2o", "task.fragments=auto"), "is one molecule"),
        (("methods=[toy]", "system=h2o", "task.fragments=[[1],[2]]"), "atom 3 is in none"),
        (("methods=[toy]", "task.atomisation=true", SCAN), "a comparison has only one of them"),
    ],
)
def test_bad_input_gives_one_line(program: Program, tmp_path: Path, words: tuple[str, ...], reason: str) -> None:
    done = program(*RUN, *words)
    assert done.status == 2 and done.err.count("\n") == 1 and reason in done.err
    assert not (tmp_path / "run").exists()


def result(energy: float, stderr: float | None = None, members: list[float] | None = None) -> dict[str, Any]:
    document: dict[str, Any] = {"status": "ok", "energy": {"value": energy, "stderr": stderr}}
    return document | ({"energy_members_hartree": members} if members else {})


def test_errors_of_sums() -> None:
    reaction = Quantity("2 a -> b", (("a", -2.0), ("b", 1.0)))
    noisy = energies.total(reaction, {"a": result(-1.0, 0.003), "b": result(-2.5, 0.004)}, frozenset())
    assert noisy.energy == -0.5 and noisy.stderr == pytest.approx(np.hypot(2 * 0.003, 0.004))
    exact = energies.total(reaction, {"a": result(-1.0), "b": result(-2.4)}, frozenset())
    assert exact.stderr is None and energies.difference(noisy, exact)[1] == noisy.stderr
    assert energies.difference(noisy, noisy)[1] == pytest.approx(np.sqrt(2) * (noisy.stderr or 0.0))
    # What members have in common cancels in the spread of a difference; in quadrature it would not.
    ensemble = {"a": result(-1.0, members=[-0.9, -1.1]), "b": result(-2.0, members=[-1.8, -2.2])}
    assert energies.total(reaction, ensemble, frozenset()).std == pytest.approx(0.0, abs=1e-15)
    above = Quantity("a above a", (("a", 1.0), ("a", -1.0)))
    assert energies.total(above, {"a": result(-1.0, 0.003)}, frozenset()).stderr == 0.0
    spread = {"a": result(-1.0, members=[-0.9, -1.1]) | {"energy_std_hartree": 0.14}}
    assert energies.total(above, spread, frozenset()).std == 0.0
    failed = energies.total(above, {"a": result(-1.0) | {"status": "failed", "message": "50 cycles"}}, frozenset())
    assert failed.energy is None and failed.missing == "50 cycles"
    loose = result(-1.0) | {"status": "not_converged", "message": "50 cycles"}
    assert energies.total(reaction, {"a": loose, "b": result(-2.0)}, frozenset()).missing == "a: 50 cycles"


def test_status_names_the_failed_methods() -> None:
    methods = [{"label": "a", "status": "ok"}, {"label": "b", "status": "not_converged"}]
    assert outcome.status({"methods": methods[:1]}) == ("ok", None)
    assert outcome.status({"methods": methods}) == ("not_converged", "not all calculations succeeded: b")
    methods.append({"label": "c", "status": "failed"})
    assert outcome.status({"methods": methods})[0] == "failed"


@pytest.mark.parametrize(
    ("kind", "number"), [("molecule", 1), ("reaction", 1), ("reaction", 2), ("reaction", 5), ("scan", 5)]
)
def test_tables_hold_every_number_once(kind: str, number: int) -> None:
    exact = {"energy_hartree": -0.5}
    noisy = {"energy_hartree": -0.4, "stderr_hartree": 0.002, "std_hartree": 0.01, "difference_hartree": 0.1}
    methods = [{"label": label, "level": label, "status": "ok", "wall_s": 2.0, "cpu_s": 1.0} for label in "ab"]
    quantities = [{"label": f"q{i}", "coordinate": i, "values": {"a": exact, "b": noisy}} for i in range(number)]
    summary = {"kind": kind, "title": "t", "against": "a", "methods": methods, "quantities": quantities, "notes": []}
    summary |= {"jobs": 1, "threads": 1} | ({"axis": "x / Å", "zero": "q0"} if kind == "scan" else {})
    text = tables.markdown(summary)
    for table in text.split("\n\n"):
        bars = {line.replace("\\|", "").count("|") for line in table.splitlines() if line.startswith("|")}
        assert len(bars) <= 1, table
    value = "-0.4000 ± 0.0020" if kind == "molecule" else f"{-0.4 * KCAL_MOL_PER_HARTREE:.1f} ± 1.3"
    assert text.count(value) == number
    assert len(list(csv.DictReader(tables.comma_separated(summary).splitlines()))) == 2 * number
    assert all(len(row) >= 2 for row in tables.rows(summary))


def test_errors_of_a_scan_contain_that_of_its_zero_once() -> None:
    """Energies with the error e each: those relative to a point have 2^1/2 e, and so has every height."""
    e = 0.002
    relative = [{"energy_hartree": 0.0, "stderr_hartree": 0.0}]
    relative += [{"energy_hartree": height, "stderr_hartree": 2**0.5 * e} for height in (-0.1, 0.3)]
    methods = [{"label": "a", "zero_stderr_hartree": e}]
    quantities = [{"label": f"p{n}", "coordinate": n, "values": {"a": value}} for n, value in enumerate(relative)]
    summary: dict[str, Any] = {"kind": "scan", "against": "a", "axis": "x / Å", "zero": "p0", "methods": methods}
    for ends in ((1, 2), (0, 2), (1, 0)):
        height = tables.error_of_height([relative[end] for end in ends], e)
        assert height == pytest.approx(2**0.5 * e)
    summary["quantities"] = quantities[::2]
    assert outcome.noisy_zero(summary) == []
    quantities[2]["values"]["a"]["energy_hartree"] = 0.005
    (note,) = outcome.noisy_zero(summary)
    assert "p0, the lowest point of a, is not clearly below p2" in note and "task.zero" in note


@pytest.mark.slow
def test_excited_states_of_several_methods(pictures: None, program: Program, tmp_path: Path) -> None:
    """Coupled cluster is exact for two electrons; a method without excited states is named."""
    basis = "basis: aug-cc-pvdz"
    words = (f"methods=[{{method: fci, {basis}}},{{method: ccsd, {basis}}},{{method: mp2, {basis}}}]", "task.states=3")
    done = program(*RUN, *words, "system=he")
    assert done.status == 1, done.err
    summary = comparison(tmp_path / "run")
    assert [quantity["label"] for quantity in summary["quantities"]] == ["state 2", "state 3"]
    for quantity in summary["quantities"]:
        assert quantity["values"]["ccsd"]["difference_hartree"] == pytest.approx(0.0, abs=1e-5)
        assert quantity["values"]["fci"]["energy_hartree"] > 0.7
    assert "state 2 / eV" in done.out and "mp2" in done.out and "has no excited states" in done.out
    part = program("report", "run/parts/fci/he")  # an ordinary run
    assert part.status == 0 and "triplet" in part.out


def test_states_are_compared_by_number(program: Program) -> None:
    done = program(*RUN, "methods=[hf]", "task.states=1", "system=he")
    assert done.status == 2 and "task.states must be" in done.err
    done = program(*RUN, "methods=[hf]", "task.states=3", SCAN, "system=h2")
    assert done.status == 2 and "a comparison has only one of them" in done.err


class Asked:
    """Method that records the properties that it is asked for; its forces are costly."""

    name = kind = label = "asked"
    energy_zero = "total"
    provides = frozenset({"energy", "forces", "energy_members", "dipole"})
    costly = frozenset({"forces"})

    def __init__(self) -> None:
        self.properties: frozenset[str] = frozenset()

    def calculate(self, systems: Sequence[System], properties: Iterable[str]) -> list[Result]:
        self.properties = frozenset(properties)
        return [Result(system, energy=0.0) for system in systems]


@pytest.mark.parametrize("forces", [True, False])
def test_a_part_asks_for_what_is_compared(tmp_path: Path, forces: bool) -> None:
    """Costly forces belong to a comparison unless task.forces=false; members' energies give the spread of sums."""
    method, task = Asked(), MeasuredEnergy(forces)
    run = Run(tmp_path, OmegaConf.create({}), None, 0, tmp_path)
    task.run(task.check(method, from_atoms(molecule("H2O")), run), run)
    assert method.properties == {"energy", "energy_members"} | ({"forces"} if forces else set())


def test_the_cost_of_a_program_that_still_runs_is_counted() -> None:
    """A calculator in another environment ends after the comparison has read its costs."""
    program = (
        "import sys, time\nblock = b'x' * 300_000_000\nwhile time.process_time() < 1.0: pass\n"
        "print('ready', flush=True)\nsys.stdin.read()\n"
    )
    before = peak_memory()
    with measuring() as cost:
        called = subprocess.Popen([sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        assert called.stdout is not None and called.stdout.readline() == b"ready\n"
    called.communicate()
    assert cost["cpu_s"] > 0.9
    assert cost["peak_memory_bytes"] > before + 250_000_000
