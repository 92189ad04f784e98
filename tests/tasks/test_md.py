"""Molecular dynamics: conserved quantities, fluctuations of the ensembles, and bitwise identical resumed runs."""

from __future__ import annotations

import signal
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ase import units
from ase.io import read
from omegaconf import OmegaConf

from fusion.chemistry import energy_zeros
from fusion.chemistry.system import System
from fusion.chemistry.units import HARTREE_PER_EV
from fusion.errors import InputError
from fusion.runs.layout import CHECKPOINT
from fusion.runs.results import Result
from fusion.runs.run import Run
from fusion.tasks.md import simulation
from fusion.tasks.md.table import mean_error, read_table
from fusion.tasks.md.task import MolecularDynamics
from processes import Program
from resuming import Resumes, Stop, assert_same_result

BOLTZMANN = units.kB * HARTREE_PER_EV
ENSEMBLES = Path(__file__).parents[2] / "conf" / "ensemble"
CONF = ENSEMBLES.parent / "task" / "md.yaml"


class Analytic:
    """A method whose energy and forces are formulas; `force` scales the forces alone."""

    name, label, kind, energy_zero = "analytic", "analytic", "potential", energy_zeros.OWN
    provides = frozenset({"energy", "forces", "stress", "energy_std"})

    def __init__(self, force: float = 1.0) -> None:
        self.force = force

    def calculate(self, systems: Sequence[System], properties: Iterable[str]) -> list[Result]:
        return [self._result(system) for system in systems]

    def _result(self, system: System) -> Result:
        energy, forces = self.surface(system.positions)
        properties = {"forces": self.force * forces, "stress": np.zeros((3, 3))}
        return Result(system, energy=energy, properties=properties)  # type: ignore[arg-type]

    def surface(self, positions: np.ndarray) -> tuple[float, np.ndarray]:
        return 0.0, np.zeros_like(positions)


class Morse(Analytic):
    """Bonds of 0.1 hartree and 2 bohr between all atoms."""

    def surface(self, positions: np.ndarray) -> tuple[float, np.ndarray]:
        vectors = positions[:, None] - positions
        distances = np.linalg.norm(vectors, axis=-1) + 1e9 * np.eye(len(positions))
        decay = np.exp(-(distances - 2.0))
        slope = 0.2 * (1.0 - decay) * decay
        return float(0.05 * np.sum((1.0 - decay) ** 2 - 1.0)), -np.sum((slope / distances)[..., None] * vectors, axis=1)


class Crystal(Analytic):
    """Every atom at its site on its own spring, k = 0.02 hartree/bohr^2."""

    k = 0.02

    def __init__(self, sites: np.ndarray) -> None:
        super().__init__()
        self.sites = sites

    def surface(self, positions: np.ndarray) -> tuple[float, np.ndarray]:
        displaced = positions - self.sites
        return float(0.5 * self.k * np.sum(displaced**2)), -self.k * displaced


class Unsure(Morse):
    """An ensemble with a domain: bonds longer than 2.1 bohr are outside."""

    def _result(self, system: System) -> Result:
        result = super()._result(system)
        stretch = np.linalg.norm(system.positions[0] - system.positions[1]) - 2.0
        result.energy_std = float(0.01 * abs(stretch))
        result.details["domain"] = {"outside": bool(stretch > 0.1)}
        return result


def cluster(length: float = 2.0) -> System:
    """Four argon atoms near the minimum of their Morse bonds."""
    corners = np.array([[1, 1, 1], [1, -1, -1], [-1, 1, -1], [-1, -1, 1]]) * length / 8**0.5
    return System("ar4", ("Ar",) * 4, corners)


def task(ensemble: str = "langevin", **settings: Any) -> MolecularDynamics:
    values: Any = OmegaConf.to_container(OmegaConf.load(CONF), resolve=False)
    del values["defaults"], values["_target_"]
    values["ensemble"] = OmegaConf.load(ENSEMBLES / f"{ensemble}.yaml")
    for key in [key for key in settings if key in values["ensemble"]]:
        values["ensemble"][key] = settings.pop(key)
    return MolecularDynamics(**{**values, **settings})


def run(directory: Path, checkpoint: Path | None = None, seed: int = 0) -> Run:
    directory.mkdir(exist_ok=True)
    return Run(directory, OmegaConf.create({"method": {"name": "analytic"}}), checkpoint, seed, directory)


def simulate(
    md: MolecularDynamics, method: Any, system: System, directory: Path, ckpt: Path | None = None, seed: int = 0
) -> Result:
    place = run(directory, ckpt, seed)
    return md.run(md.check(method, system, place), place)


def test_energy_error_is_of_second_order(tmp_path: Path) -> None:
    pair = System("ar2", ("Ar", "Ar"), np.array([[0, 0, 0], [0, 0, 2.0]]))
    scatter = {}
    for timestep in (4.0, 2.0):
        md = task("nve", timestep_fs=timestep, time_ps=4.0, log_every=1, temperature_k=300.0)
        result = simulate(md, Morse(), pair, tmp_path)
        assert result.status == "ok" and result.details["md"]["degrees_of_freedom"] == 1, result.message
        drift = result.details["md"]["drift"]
        scatter[timestep] = drift["scatter_mev_per_atom"]
        assert abs(drift["slope_mev_per_atom_ps"]) * 4.0 < scatter[timestep]
    assert scatter[4.0] / scatter[2.0] == pytest.approx(4.0, rel=0.1)


def test_momenta_are_conserved(tmp_path: Path) -> None:
    md = task("nve", timestep_fs=2.0, steps=500, save_every=10, temperature_k=1000.0)
    result = simulate(md, Morse(), cluster(), tmp_path)
    frames: Any = read(tmp_path / "md.extxyz", ":")
    assert len(frames) == 51 and result.details["md"]["degrees_of_freedom"] == 6
    for frame in frames:  # eight decimals are written
        assert np.abs(frame.get_momenta().sum(axis=0)).max() < 1e-6
        assert np.abs(frame.get_angular_momentum()).max() < 1e-6


def test_langevin_samples_the_canonical_ensemble(tmp_path: Path) -> None:
    sites = 20.0 * np.stack(np.meshgrid(*[np.arange(5)] * 3), axis=-1).reshape(-1, 3)
    system, method = System("crystal", ("Ne",) * 125, sites), Crystal(sites)
    md = task(timestep_fs=3.0, steps=3000, log_every=3, save_every=10, friction_per_ps=20.0, temperature_k=300.0)
    statistics = simulate(md, method, system, tmp_path).details["md"]
    mean, error = statistics["temperature_k"]["value"], statistics["temperature_k"]["stderr"]
    assert statistics["degrees_of_freedom"] == 372
    assert 0.3 < error < 3 and abs(mean - 300.0) < 4 * error
    table = read_table(tmp_path)
    kept = table["temperature_k"][len(table["step"]) // 5 :]
    assert kept.std() == pytest.approx(300.0 * (2 / 372) ** 0.5, rel=0.15)
    frames: Any = read(tmp_path / "md.extxyz", "60:")
    moved = np.array([frame.positions for frame in frames]) / units.Bohr - sites
    assert np.mean(moved**2) == pytest.approx(BOLTZMANN * 300.0 / method.k * 124 / 125, rel=0.03)
    # The heat that went through the thermostat accounts for the energy.
    assert np.ptp(table["total_hartree"]) > 50 * np.ptp(table["conserved_hartree"])


@pytest.mark.slow
def test_an_ideal_gas_has_the_right_volume(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """p V = N k T, up to one particle for the centre of mass and the degree of freedom of the volume."""
    monkeypatch.setattr(simulation, "CLOSEST_ANGSTROM", 0.0)  # its atoms pass through each other
    number, kelvin, bar = 100, 300.0, 2000.0
    sites = 8.0 * np.stack(np.meshgrid(*[np.arange(5)] * 3), axis=-1).reshape(-1, 3)[:number]
    system = System("gas", ("Ar",) * number, sites, cell=np.eye(3) * 40, pbc=(True, True, True))
    settings = {"pressure_bar": bar, "barostat_ps": 0.2, "friction_per_ps": 20.0, "discard": 0.3}
    md = task("npt", timestep_fs=4.0, steps=6000, log_every=20, save_every=9000, temperature_k=kelvin, **settings)
    statistics = simulate(md, Analytic(), system, tmp_path).details["md"]
    wanted, one = number * units.kB * kelvin / (bar * 1e5 * units.Pascal), 1 / number
    assert statistics["volume_angstrom3"]["stderr"] < 0.03 * wanted
    assert (
        abs(statistics["volume_angstrom3"]["value"] - wanted)
        < 4 * statistics["volume_angstrom3"]["stderr"] + one * wanted
    )
    assert abs(statistics["pressure_bar"]["value"] - bar) < 4 * statistics["pressure_bar"]["stderr"] + 2 * one * bar
    assert read_table(tmp_path)["volume_angstrom3"][0] == pytest.approx(40**3 * units.Bohr**3)


def test_a_seed_determines_the_trajectory(tmp_path: Path) -> None:
    md = task(steps=40, save_every=5)
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        simulate(md, Morse(), cluster(), tmp_path / name, seed=seed)
    a, b, c = ((tmp_path / name / "md.extxyz").read_bytes() for name in "abc")
    assert a == b != c


def test_only_the_first_process_simulates(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RANK", "1")
    simulate(task(steps=5), Morse(), cluster(), tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_files_agree_with_the_simulation(tmp_path: Path) -> None:
    result = simulate(task("nve", steps=60, log_every=20, save_every=20), Morse(), cluster(2.1), tmp_path)
    frames: Any = read(tmp_path / "md.extxyz", ":")
    table = read_table(tmp_path)
    assert list(table["step"]) == [0, 20, 40, 60] and list(table["time_fs"]) == [0, 10, 20, 30]
    for row, frame in enumerate(frames):
        energy, forces = Morse().surface(frame.positions / units.Bohr)
        assert frame.get_potential_energy() == pytest.approx(energy / HARTREE_PER_EV, abs=1e-6)
        np.testing.assert_allclose(frame.get_forces(), forces / HARTREE_PER_EV / units.Bohr, atol=1e-6)
        assert table["potential_hartree"][row] == pytest.approx(energy, abs=1e-7)
        assert table["kinetic_hartree"][row] == pytest.approx(frame.get_kinetic_energy() * HARTREE_PER_EV, abs=1e-7)
        assert frame.info["time_fs"] == table["time_fs"][row] and not frame.pbc.any()
    assert table["temperature_k"][0] == pytest.approx(298.15, abs=1e-3)
    np.testing.assert_allclose(result.system.positions, frames[-1].positions / units.Bohr, atol=1e-7)
    assert result.energy == pytest.approx(table["potential_hartree"][-1], abs=1e-9)
    statistics = result.details["md"]
    assert 0 < statistics["model_fraction"] < 1 and statistics["timed_steps"] == 60
    assert statistics["ns_per_day"] * statistics["step_ms"] == pytest.approx(86.4 * 0.5)  # 0.5 fs


def test_error_bars_of_correlated_series() -> None:
    random = np.random.default_rng(0)
    assert mean_error(random.normal(size=4096)) == pytest.approx(1 / 64, rel=0.5)
    noise, series = random.normal(size=4096), np.empty(4096)
    series[0] = noise[0]
    for i in range(1, 4096):  # correlated over 50 values
        series[i] = 0.98 * series[i - 1] + (1 - 0.98**2) ** 0.5 * noise[i]
    assert mean_error(series) == pytest.approx((99 / 4096) ** 0.5, rel=0.5)
    assert mean_error(np.ones(1)) is None


def test_a_minimum_at_zero_temperature_is_at_rest(tmp_path: Path) -> None:
    pair = System("ar2", ("Ar", "Ar"), np.array([[0, 0, 0], [0, 0, 2.0]]))
    for ensemble in ("nve", "langevin"):
        result = simulate(task(ensemble, temperature_k=0.0, steps=20), Morse(), pair, tmp_path)
        np.testing.assert_allclose(result.system.positions, pair.positions, atol=1e-12)


def test_a_single_atom_moves_straight(tmp_path: Path) -> None:
    atom = System("ar", ("Ar",), np.zeros((1, 3)))
    simulate(task("nve", steps=20, save_every=10), Morse(), atom, tmp_path)
    _, middle, end = (frame.positions[0] for frame in read(tmp_path / "md.extxyz", ":"))
    np.testing.assert_allclose(end, 2 * middle, atol=1e-7)
    assert np.linalg.norm(end) > 1e-3 and read_table(tmp_path)["temperature_k"][0] == pytest.approx(298.15)
    assert simulate(task(steps=20), Morse(), atom, tmp_path).status == "ok"


def test_forces_that_are_not_derivatives_of_the_energy_are_noticed(tmp_path: Path) -> None:
    result = simulate(task("nve", temperature_k=2000.0, timestep_fs=2.0), Morse(force=0.7), cluster(2.2), tmp_path)
    assert result.status == "not_converged" and "task.timestep_fs=1" in str(result.message)
    assert result.energy is not None


def test_a_start_far_from_equilibrium_is_noticed(tmp_path: Path) -> None:
    slow = task(friction_per_ps=0.5, steps=400, timestep_fs=2.0)
    result = simulate(slow, Morse(), cluster(2.6), tmp_path)
    assert result.status == "ok" and "not yet in equilibrium" in str(result.message)
    result = simulate(task(steps=2000, timestep_fs=2.0), Morse(), cluster(2.0), tmp_path)
    assert result.status == "ok" and result.message is None


def test_an_explosion_ends_the_run_with_the_last_good_structure(tmp_path: Path) -> None:
    light = System("h2", ("H", "H"), np.array([[0, 0, 0], [0, 0, 1.0]]))
    result = simulate(task("nve", timestep_fs=5.0, log_every=1, save_every=1), Morse(), light, tmp_path)
    assert (
        result.status == "failed"
        and "flies apart" in str(result.message)
        and "task.timestep_fs=2.5" in str(result.message)
    )
    frames: Any = read(tmp_path / "md.extxyz", ":")
    assert len(frames) == result.details["md"]["steps"] + 1 and np.isfinite(result.system.positions).all()


def test_departures_from_the_models_domain_are_recorded(tmp_path: Path) -> None:
    pair = System("ar2", ("Ar", "Ar"), np.array([[0, 0, 0], [0, 0, 2.0]]))
    md = task("nve", temperature_k=2000.0, steps=400, log_every=1, timestep_fs=2.0)
    statistics = simulate(md, Unsure(), pair, tmp_path).details["md"]
    table = read_table(tmp_path)
    inward = table["energy_std_hartree"]  # |r - 2| / 100 on both sides
    assert statistics["largest_spread"]["hartree"] == pytest.approx(inward.max(), abs=1e-9)
    assert statistics["largest_spread"]["time_fs"] == 2.0 * int(inward.argmax())
    frames: Any = read(tmp_path / "md.extxyz", ":")
    share = np.mean([frame.get_distance(0, 1) / units.Bohr > 2.1 for frame in frames])
    assert statistics["outside"]["fraction_of_steps"] == pytest.approx(share, abs=0.2) and share > 0.1
    assert table["energy_std_hartree"][int(statistics["outside"]["first_fs"] / 2)] > 1e-3


@pytest.mark.parametrize(
    ("ensemble", "more"), [("nve", {}), ("langevin", {}), ("npt", {}), ("npt", {"isotropic": False})]
)
def test_a_longer_run_begins_with_the_shorter_one(tmp_path: Path, ensemble: str, more: dict[str, Any]) -> None:
    """A run resumed from a checkpoint equals an uninterrupted one, whatever was written after the checkpoint."""
    box = {"cell": np.eye(3) * 12.0, "pbc": (True, True, True)} if ensemble == "npt" else {}
    system = System("ar4", ("Ar",) * 4, cluster().positions + 5.0, **box)  # type: ignore[arg-type]
    settings = {"log_every": 3, "save_every": 4, "checkpoint_every": 10, "temperature_k": 500.0, **more}
    simulate(task(ensemble, steps=50, **settings), Morse(), system, tmp_path / "whole")
    part = tmp_path / "part"
    simulate(task(ensemble, steps=23, **settings), Morse(), system, part)
    for name in ("md.csv", "md.extxyz"):
        with (part / name).open("a") as file:
            file.write("half a li")
    result = simulate(task(ensemble, steps=50, **settings), Morse(), system, part, part / CHECKPOINT)
    assert result.details["md"]["timed_steps"] == 27
    for name in ("md.csv", "md.extxyz"):
        assert (part / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()


def test_a_run_can_start_from_the_end_of_another(tmp_path: Path) -> None:
    simulate(task(steps=50), Morse(), cluster(), tmp_path / "hot")
    last = tmp_path / "hot" / CHECKPOINT
    simulate(task("nve", steps=10, save_every=5), Morse(), cluster(3.0), tmp_path / "free", last)
    first: Any = read(tmp_path / "free" / "md.extxyz", 0)
    with np.load(last) as state:
        assert any(
            np.allclose(first.positions, state[name], atol=1e-8) for name in state if state[name].shape == (4, 3)
        )
    np.testing.assert_allclose(first.get_angular_momentum(), 0, atol=1e-6)
    with pytest.raises(InputError, match="other atoms"):
        simulate(task(), Morse(), System("h2", ("H", "H"), np.eye(3)[:2]), tmp_path / "h2", last)
    heavier = replace(cluster(), masses=np.array([2.0, 39.948, 39.948, 39.948]))
    with pytest.raises(InputError, match="another masses"):
        simulate(task(steps=60), Morse(), heavier, tmp_path / "hot", last)
    with pytest.raises(InputError, match="another ensemble"):
        simulate(task("nve"), Morse(), cluster(), tmp_path / "hot", last)
    (tmp_path / "hot" / "md.csv").write_text("")
    with pytest.raises(InputError, match=r"md\.csv is shorter than its checkpoint expects"):
        simulate(task(steps=60), Morse(), cluster(), tmp_path / "hot", last)


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (("task.timestep_fs=0",), "task.timestep_fs must be positive, not 0"),
        (("task.temperature_k=-1",), "task.temperature_k must be zero or more, not -1"),
        (("task.temperature_k=warm",), "task.temperature_k must be zero or more, not warm"),
        (("ensemble.friction_per_ps=high",), "ensemble.friction_per_ps must be positive, not high"),
        (("task.steps=0",), "task.steps must be a whole number of at least 1, not 0"),
        (("task.save_every=1.5",), "task.save_every must be a whole number"),
        (("ensemble.friction_per_ps=0",), "ensemble=nve"),
        (("ensemble=npt",), "periodic"),
        (("+method=ferminet",), "needs exact forces, and those of ferminet have error bars"),
    ],
)
def test_wrong_settings_are_refused(program: Program, tmp_path: Path, words: tuple[str, ...], complaint: str) -> None:
    method = () if any(word.startswith("+method") for word in words) else ("+method=morse",)
    done = program(*method, "task=md", "hydra.run.dir=run", *words)
    assert done.status == 2 and complaint in done.err and done.err.count("\n") == 1
    assert not (tmp_path / "run").exists()


MD = ("+method=morse", "task=md", "system=h2", "task.log_every=3", "task.save_every=4", "task.checkpoint_every=9")


@pytest.mark.slow
def test_a_resumed_run_has_the_same_trajectory(resumes: Resumes) -> None:
    stop = Stop("toy.morse:Morse.forward", 42)
    first, _ = resumes((*MD, "task.steps=80"), stop, stop, files=("md.csv", "md.extxyz"))
    assert "resuming from step 36 of 80" in first.out


@pytest.mark.slow
def test_a_signal_loses_no_step(pictures: None, program: Program, process: Program, tmp_path: Path) -> None:
    kill = ("method.model.kill_at=100", "method.model.kill_by=SIGTERM")
    stopped = process(*MD, "task.steps=150", "task.checkpoint_every=100000", *kill, "hydra.run.dir=run")
    assert stopped.status == 128 + signal.SIGTERM and "fusion resume" in stopped.err
    rows = len(read_table(tmp_path / "run")["step"])
    assert f"last record: step {3 * rows - 3}, " in program("report", "run").out
    done = process("resume", "run")
    assert done.status == 0, done
    step = int(done.out.split("resuming from step ")[1].split()[0])
    assert step // 3 + 1 in (rows, rows - 1) and step > 90
    assert program(*MD, "task.steps=150", "hydra.run.dir=whole").status == 0
    assert_same_result(tmp_path / "run", tmp_path / "whole", ("md.csv", "md.extxyz"))
    assert (tmp_path / "run" / "md.png").is_file() and "md.extxyz" in done.out
