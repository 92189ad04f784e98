"""Are the quoted errors the real ones? Twenty independent evaluations, or diffusions, of one fixed wavefunction.

`python benchmarks/vmc_error_bars.py DIRECTORY [CASE ...]`: runs the named cases (of h2, lih, be, lih-dmc, he-gap) that
DIRECTORY lacks and writes vmc_error_bars.md with all that it has. The scatter of the twenty energies should be the
error that each of them quotes, within what twenty samples can tell (0.67 to 1.5 times).
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from fusion.chemistry.units import EV_PER_HARTREE
from runs import Outcome, machine, run, run_all, write_table

REPEATS = 20
EVALUATION = ("task=evaluate", "method.evaluation.steps=200")
DIFFUSION = (
    "task=dmc",
    "method.evaluation.steps=20",
    "task.time_steps=[0.01]",
    "task.steps=800",
    "task.equilibration=200",
)
EXCITED = ("task=excited", "method.states=3")


@dataclass(frozen=True)
class Case:
    """System, steps of its optimisation, and words of both commands and of the repeated one."""

    system: str
    steps: int
    repeated: tuple[str, ...]
    both: tuple[str, ...] = ()

    def value(self, result: dict[str, Any]) -> tuple[float, float]:
        """Energy, or the first gap of excited states, with its error, hartree."""
        if "excited" not in result:
            return result["energy"]["value"], result["energy"]["stderr"]
        level = result["excited"]["states"][1]
        return level["gap_ev"] / EV_PER_HARTREE, level["stderr_gap_ev"] / EV_PER_HARTREE


CASES = {
    "h2": Case("h2", 300, EVALUATION),
    "lih": Case("lih", 400, EVALUATION),
    "be": Case("be", 400, EVALUATION),
    "lih-dmc": Case("lih", 400, DIFFUSION),
    "he-gap": Case("he", 400, ("method.evaluation.steps=200",), EXCITED),
}


def repeats(name: str, directory: Path) -> list[Outcome]:
    """Train the wavefunction of a case, if it is not there, and repeat its command with other seeds."""
    case = CASES[name]
    start = ("+method=ferminet", f"system={case.system}", *case.both)
    trained = directory / f"{case.system}{'-excited' if case.both else ''}-trained"
    steps = f"method.optimisation.steps={case.steps}"
    run((*start, steps, "method.evaluation.steps=20"), trained, threads=1)
    own = (steps,) if case.both else ()  # task=excited from a checkpoint optimises up to this number of steps
    jobs = [(*start, *own, *case.repeated, f"ckpt={trained}", f"seed={seed}") for seed in range(1, REPEATS + 1)]
    return run_all(jobs, directory / name, parallel=1, threads=1)


def row(name: str, outcomes: list[Outcome]) -> tuple[str, ...]:
    """Row of the table: scatter of the energies beside the errors that they quote."""
    case = CASES[name]
    energies, quoted = np.array([case.value(outcome.result) for outcome in outcomes]).T
    typical, scatter = float(np.sqrt(np.mean(quoted**2))), energies.std(ddof=1)
    within = int(np.sum(np.abs(energies - energies.mean()) < 2 * quoted))
    return (
        name,
        " ".join((*case.both, *case.repeated)),
        f"{energies.mean():.5f}",
        f"{1e3 * typical:.3f}",
        f"{1e3 * scatter:.3f}",
        f"{scatter / typical:.2f}",
        f"{within} of {REPEATS}",
    )


def main(directory: Path, cases: list[str]) -> None:
    """Run cases and write the table."""
    directory.mkdir(parents=True, exist_ok=True)
    for case in cases:
        repeats(case, directory)
    done = [case for case in CASES if (directory / case / f"{REPEATS - 1:03d}.json").is_file()]
    rows = [row(case, repeats(case, directory)) for case in done]
    notes = (
        f"{REPEATS} commands with different seeds from one wavefunction each, 256 walkers; energies in hartree, errors "
        f"in mHa; {machine()}."
    )
    columns = (
        "case",
        "command",
        "mean energy",
        "quoted error",
        "scatter",
        "scatter / quoted",
        "within 2 errors of the mean",
    )
    write_table(Path(__file__).with_suffix(".md"), "Honesty of error bars", notes, columns, rows)


if __name__ == "__main__":
    if len(sys.argv) < 2:
        sys.exit(__doc__)
    main(Path(sys.argv[1]).absolute(), sys.argv[2:])
