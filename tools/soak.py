"""Kill runs of every task at random moments, resume them, and compare their files with those of an uninterrupted run.

python tools/soak.py relax-ani md --kills 20 --seed 1      default: every task; --table writes docs/reliability.md

A run is killed (SIGKILL) after a random fraction of the time of the uninterrupted run, and resumed with `fusion resume`
until it ends; then the next run starts, until all kills are used. result.json and config.yaml (without times), tables,
trajectories, plots, arrays and checkpoints are compared bit for bit. Models and labels come from FUSION_CACHE and
FUSION_MIRROR, as in any run.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import random
import re
import shutil
import signal
import sys
import tempfile
import time
import zipfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

RUN, OUTPUT = "run", "output.txt"
# A fork server imports the modules once, so that a kill hits the calculation and not the imports.
_SERVER = multiprocessing.get_context("forkserver")
_PRELOADED = [
    "fusion.cli.main",
    "fusion.cli.launch",
    "fusion.runs.checkpoints",
    "fusion.wavefunctions",
    "ase.io",
    "pyscf",
]
PAGE = Path(__file__).parents[1] / "docs" / "reliability.md"
HEADER = "| task | what runs | uninterrupted, s | kills | runs | resumes | identical |"
_TIMES = {"timing", "cost", "wall_s", "cpu_s", "step_ms", "ns_per_day", "timed_steps", "model_fraction", "memory_mb"}
_TIMES |= {"peak_memory_bytes", "memory_bytes", "since_interruption", "ckpt", "jobs", "threads"}
_TIMES |= {"throughput", "conformations_per_cpu_s"}
_TIMES |= {"loops"}  # Lightning's count of the batches of this process
_LOGS = {"log.txt", OUTPUT, "geometric.log"}
_WITH_TIMES = re.compile(r"comparison\.(md|csv|png)")  # these show the cost of each method

HCN = "3\n\nH 0 0 -1.07\nC 0 0 0\nN 0 0 1.15\n"
HNC = "3\n\nH 0 0 2.16\nC 0 0 0\nN 0 0 1.17\n"
LABELS = """
h = { atoms = "H 0 0 0", spin = 1 }
h2 = { molecule = "H2" }
h2-2_0 = { atoms = "H 0 0 0; H 0 0 2.0", held_out = true }
h-50 = { atoms = "H 0 0 0", spin = 1, occupations = [[0.5], []], line = { h = 0.5 } }
"""
_SMALL = "{{method: {}, basis: sto-3g}}".format
TASKS: dict[str, tuple[str, ...]] = {
    "relax-ani": (
        *("+method=ani", "system=ethanol", "task=relax", "task.steps=2000"),
        "task.optimiser._target_=ase.optimize.FIRE",
    ),
    "relax-hf": ("+method=hf", "method.basis=sto-3g", "system=methanol", "task=relax"),
    "md": (
        *("+method=ani", "system=ethanol", "task=md", "task.steps=300"),
        *("task.checkpoint_every=20", "task.log_every=2", "task.save_every=10"),
    ),
    "vibrations": ("+method=mp2", "method.basis=sto-3g", "system=nh3", "task=vibrations"),
    "scan": ("+method=ani", "system=butane", "task=scan", "task.atoms=[1,2,3,4]", "task.points=13"),
    "ts": ("+method=ani", "system=hcn.xyz", "task=ts", "task.product=hnc.xyz"),
    "compare": ("task=compare", f"methods=[{_SMALL('hf')},{_SMALL('mp2')}]", "task.reaction='c2h4 + h2 -> c2h6'"),
    "thermochemistry": (
        *("+method=hf", "method.basis=sto-3g", "task=thermochemistry"),
        "task.molecules=[H2O,NH3,CH4]",
    ),
    "train-ani": (
        *("+method=ani", "weights=null", "task=train", "data=labels.extxyz", "data.check=false", "trainer=cpu"),
        *("method.training.epochs=12", "callbacks.checkpoint.every_n_steps=3"),
    ),
    "train-functional": (
        *("+method=dm21", "weights=null", "task=train", "trainer=cpu", "method.model.width=4"),
        *("method.model.depth=1", "method.grid_level=0", "method.training.basis=sto-3g"),
        *("method.training.grid_level=0", "method.training.steps=60", "method.training.batch=1"),
        *("method.training.validate_every=5", "callbacks.checkpoint.every_n_steps=4", "method.training.data=data.toml"),
    ),
    "ferminet": (
        *("+method=ferminet", "system=h2", "method.walkers=64", "method.model.one_electron=16"),
        *("method.model.two_electron=8", "method.model.layers=2", "method.model.determinants=2"),
        *("method.pretraining.steps=100", "method.sampling.burn_in=50", "method.optimisation.steps=200"),
        *("method.evaluation.steps=100", "callbacks.checkpoint.every_n_steps=10"),
    ),
}


@dataclass
class Soak:
    """Outcome of the kills of a task; `differences` names files, or places in them, unlike the uninterrupted run."""

    task: str
    seconds: float
    kills: int = 0
    runs: int = 0
    resumes: int = 0
    differences: list[str] = field(default_factory=list)

    @property
    def row(self) -> str:
        """Row of the table."""
        words = " ".join(word for word in TASKS[self.task] if not word.startswith("callbacks"))
        words = words if len(words) <= 100 else f"{words[:100].rsplit(' ', 1)[0]} …"
        same = "no" if self.differences else "yes"
        numbers = f"{self.seconds:.0f} | {self.kills} | {self.runs} | {self.resumes}"
        return f"| {self.task} | `{words}` | {numbers} | {same} |"


class Program:
    """Runs the program on one thread, in a directory with the input files of all tasks."""

    def __init__(self, home: Path) -> None:
        self.home = home
        home.mkdir(parents=True, exist_ok=True)
        (home / "hcn.xyz").write_text(HCN)
        (home / "hnc.xyz").write_text(HNC)
        (home / "data.toml").write_text(LABELS)
        if not (home / "labels.extxyz").exists():
            _write_labels(home / "labels.extxyz")

    def run(self, words: tuple[str, ...], limit: float | None = None) -> tuple[int | None, float, str]:
        """Run the program; return its exit status (None: killed after `limit` seconds), its time and its last line."""
        process = _SERVER.Process(target=_main, args=(self.home, words), daemon=True)
        began = time.monotonic()
        process.start()
        process.join(limit)
        if process.is_alive():
            process.kill()
        process.join()
        seconds, status = time.monotonic() - began, process.exitcode
        lines = (self.home / OUTPUT).read_text(errors="replace").splitlines()
        last = next((line for line in reversed(lines) if line.strip()), "")
        return (None if status == -signal.SIGKILL else status), seconds, last


def _main(home: Path, words: tuple[str, ...]) -> None:
    """Run the program in a process that the server forked."""
    output = os.open(home / OUTPUT, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    for stream in (1, 2):
        os.dup2(output, stream)
    os.chdir(home)
    sys.argv[:] = ["fusion", *words]
    from fusion.cli import main as cli

    cli.main()


def soak(task: str, kills: int, seed: int, home: Path) -> Soak:
    """Run `task` once without and then with kills. Raises RuntimeError if the uninterrupted run fails."""
    words, chance = (*TASKS[task], f"hydra.run.dir={RUN}"), random.Random(f"{task} {seed}")
    program, run, reference = Program(home), home / RUN, home / "whole"
    for directory in (run, reference):
        shutil.rmtree(directory, ignore_errors=True)
    status, seconds, last = program.run(words)
    if "kernels for this processor" in (home / OUTPUT).read_text():  # numba's own code and that of its cache may differ
        shutil.rmtree(run)
        status, seconds, last = program.run(words)
    if status not in (0, 1) or not (run / "result.json").is_file():
        raise RuntimeError(f"{task}: the uninterrupted run ends with status {status}: {last}")
    run.rename(reference)  # the other runs have the same paths
    soaked = Soak(task, seconds)
    while soaked.kills < kills:
        shutil.rmtree(run, ignore_errors=True)
        soaked.runs += 1
        ended, last = _run_with_kills(program, words, kills, soaked, chance)
        if ended != status:
            soaked.differences.append(f"status {ended}, not {status}: {last}")
            break
        soaked.differences += compare(reference, run)
        if soaked.differences:
            break
    return soaked


def _run_with_kills(
    program: Program, words: tuple[str, ...], kills: int, soaked: Soak, chance: random.Random
) -> tuple[int | None, str]:
    """Start a run and resume it after each kill; return its final status and last line."""
    while True:
        begun = (program.home / RUN / "config.yaml").is_file()
        soaked.resumes += begun
        limit = chance.uniform(0.0, soaked.seconds) if soaked.kills < kills else 20.0 * soaked.seconds + 600.0
        status, _, last = program.run(("resume", RUN) if begun else words, limit)
        if status is not None or soaked.kills == kills:
            return status, last
        soaked.kills += 1


def compare(reference: Path, other: Path) -> list[str]:
    """Return the files, or places in them, at which two run directories differ."""
    names = sorted(_names(reference) | _names(other))
    return [place for name in names for place in _differences(reference / name, other / name, name)]


def _names(directory: Path) -> set[str]:
    """Names of the files to compare, without hidden files, logs and files with times."""
    names = {path.relative_to(directory).as_posix() for path in directory.rglob("*") if path.is_file()}
    hidden = re.compile(r"(^|/)\.|^previous/")
    return {n for n in names if not hidden.search(n) and Path(n).name not in _LOGS and not _WITH_TIMES.match(n)}


def _differences(left: Path, right: Path, name: str) -> list[str]:
    if not (left.is_file() and right.is_file()):
        return [f"{name} (only in one)"]
    if left.suffix in (".json", ".yaml"):
        return unequal(*(_settings(path) for path in (left, right)), name)
    if left.suffix in (".ckpt", ".npz", ".npy"):
        return unequal(*(_arrays(path) for path in (left, right)), name)
    return [] if left.read_bytes() == right.read_bytes() else [name]


def unequal(left: Any, right: Any, place: str) -> list[str]:
    """Return the places at which nested containers of numbers, arrays and tensors differ in any bit; ignore times."""
    if isinstance(left, dict) and isinstance(right, dict):
        keys = sorted({*left, *right} - _TIMES, key=str)
        return [difference for key in keys for difference in unequal(left.get(key), right.get(key), f"{place}/{key}")]
    if isinstance(left, (list, tuple)) and isinstance(right, (list, tuple)) and len(left) == len(right):
        pairs = enumerate(zip(left, right, strict=True))
        return [difference for number, pair in pairs for difference in unequal(*pair, f"{place}/{number}")]
    if hasattr(left, "numpy") and hasattr(right, "numpy"):
        left, right = left.numpy(), right.numpy()
    if isinstance(left, np.ndarray) and isinstance(right, np.ndarray):
        same = left.dtype == right.dtype and left.shape == right.shape and left.tobytes() == right.tobytes()
        return [] if same else [place]
    return [] if repr(left) == repr(right) else [f"{place} ({left!r:.40} {right!r:.40})"]


def _settings(path: Path) -> Any:
    if path.suffix == ".json":
        return json.loads(path.read_text())
    import yaml

    return yaml.safe_load(path.read_text())


def _arrays(path: Path) -> Any:
    """Read the contents of numpy files and of checkpoints of tasks and of Lightning."""
    if path.suffix == ".npy":
        return np.load(path)
    if any(name.endswith("/data.pkl") for name in zipfile.ZipFile(path).namelist()):
        import torch

        return torch.load(path, weights_only=True, map_location="cpu")
    with np.load(path, allow_pickle=False) as content:
        arrays: dict[str, Any] = dict(content)
    if "state" in arrays:
        arrays["state"] = json.loads(str(arrays["state"]))
    return arrays


def _write_labels(path: Path) -> None:
    """Write distorted molecules with energies and forces of ASE's EMT, a fast model."""
    from ase.build import molecule
    from ase.calculators.emt import EMT
    from ase.calculators.singlepoint import SinglePointCalculator
    from ase.io import write

    random_numbers, frames = np.random.default_rng(0), []
    for name in ("CH4", "H2O", "NH3") * 40:
        atoms = molecule(name)
        atoms.positions += random_numbers.normal(scale=0.05, size=atoms.positions.shape)
        atoms.calc = EMT()
        results = {"energy": atoms.get_potential_energy(), "forces": atoms.get_forces()}
        atoms.calc = SinglePointCalculator(atoms, **results)
        frames.append(atoms)
    write(path, frames)


def write_table(page: Path, soaks: list[Soak]) -> None:
    """Replace the tasks' rows in the table of `page`; rows of other tasks stay."""
    lines = page.read_text().splitlines()
    first = lines.index(HEADER) + 2
    last = first
    while last < len(lines) and lines[last].startswith("|"):
        last += 1
    rows = {line.split("|")[1].strip(): line for line in lines[first:last]} | {
        soaked.task: soaked.row for soaked in soaks
    }
    lines[first:last] = [rows[task] for task in TASKS if task in rows]
    page.write_text("\n".join(lines) + "\n")


def main() -> int:
    """Soak the chosen tasks; return 1 if one of them differs."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("tasks", nargs="*", metavar="TASK", help=f"any of {', '.join(TASKS)}; default: all")
    parser.add_argument("--kills", type=int, default=20, help="kills of each task")
    parser.add_argument("--seed", type=int, default=1, help="seed of the moments of the kills")
    parser.add_argument("--table", action="store_true", help=f"write the rows into {PAGE.relative_to(PAGE.parents[1])}")
    parser.add_argument("--keep", type=Path, help="directory for the runs, which stay there")
    options = parser.parse_args()
    unknown = set(options.tasks) - set(TASKS)
    if unknown:
        parser.error(f"no task {', '.join(sorted(unknown))}; tasks are {', '.join(TASKS)}")
    os.environ |= {"OMP_NUM_THREADS": "1", "MPLBACKEND": "Agg"}
    _SERVER.set_forkserver_preload(_PRELOADED)
    failed = False
    with tempfile.TemporaryDirectory() as temporary:
        for task in options.tasks or TASKS:
            soaked = soak(task, options.kills, options.seed, (options.keep or Path(temporary)).absolute() / task)
            verdict = "DIFFERENT: " + "; ".join(soaked.differences[:5]) if soaked.differences else "identical"
            counts = f"{soaked.kills} kills, {soaked.resumes} resumes in {soaked.runs} runs of {soaked.seconds:.0f} s"
            print(f"{task:<17}{counts}: {verdict}", flush=True)
            failed |= bool(soaked.differences)
            if options.table:
                write_table(PAGE, [soaked])
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
