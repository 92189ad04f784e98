"""Energies of atoms and molecules up to ten electrons: `python benchmarks/vmc_accuracy.py DIRECTORY [CASE ...]`.

Runs the named cases (`be`, `be-1` for seed 1) that DIRECTORY lacks, one after the other, each in one thread and with
the defaults; then writes vmc_accuracy.md with all cases that DIRECTORY has, and the rows of others as they were; the
picture has the cases of DIRECTORY only. Processes with other cases may share it.
"""

from __future__ import annotations

import csv
import sys
from pathlib import Path

from runs import Outcome, machine, run, table_rows, write_table

ATOMS = ["h", "he", "li", "be", "b", "c", "n", "o", "f", "ne"]
CASES = [*ATOMS, "h2", "lih", "li2", "h4", "hf", "h2o", "nh3", "ch4", "n2", "f2"]
"""Names in conf/system, in the order of the table."""

COLUMNS = (
    "system",
    "seed",
    "start",
    "steps",
    "E",
    "stderr / mHa",
    "E - reference / mHa",
    "stated at most / mHa",
    "variance / Ha²",
    "% of correlation",
    "status",
    "minutes",
    "CPU minutes",
)


def arguments(case: str) -> tuple[str, ...]:
    """Words of the command of a case."""
    system, seed = identity(case)
    return "+method=ferminet", f"system={system}", f"seed={seed}"


def identity(case: str) -> tuple[str, str]:
    """Name of the system and seed: the first two cells of the row."""
    system, _, seed = case.partition("-")
    return system, seed or "0"


def row(case: str, outcome: Outcome) -> tuple[str, ...]:
    """Row of the table for a run."""
    result = outcome.result
    energy, reference, vmc = result["energy"], result.get("reference"), result["vmc"]
    share = vmc.get("correlation_percent")
    return (
        *identity(case),
        vmc["orbitals_start_at"] or "random",
        str(vmc["optimisation"]["iterations"]),
        f"{energy['value']:.6f}",
        f"{1e3 * energy['stderr']:.2f}",
        f"{reference['difference_mhartree']:+.2f}" if reference else "",
        f"{1e3 * vmc['remaining']['error_hartree']:.1f}",
        f"{vmc['variance_hartree2']:.2g}",
        f"{share['value']:.1f} ± {share['stderr']:.1f}" if share else "",
        result["status"],
        f"{outcome.wall_s / 60:.1f}",
        f"{outcome.cpu_s / 60:.1f}",
    )


def main(directory: Path, cases: list[str]) -> None:
    """Run cases and write the table."""
    directory.mkdir(parents=True, exist_ok=True)
    for case in cases:
        run(arguments(case), directory / case, threads=1)
    done = [case for case in ordered(directory) if (directory / case / "result.json").is_file()]
    output = Path(__file__).with_suffix(".md")
    table = {cells[:2]: cells for cells in table_rows(output)}
    table |= {identity(case): row(case, run(arguments(case), directory / case, threads=1)) for case in done}
    rows = sorted(table.values(), key=lambda cells: (CASES.index(cells[0]), int(cells[1])))
    known = [cells for cells in rows if cells[-3] == "ok" and cells[6]]
    worse, ok = sum(float(cells[6]) > float(cells[7]) for cells in known), len(known)
    notes = (
        "`python -m fusion +method=ferminet system=... seed=...`, defaults otherwise, one thread, two runs beside each "
        f"other; seeds 0 but that of Li2 on two cores of an AMD EPYC, the others on {machine()}, beside more programs. "
        "Minutes are those of the whole command. `stated at most` is the remaining error that the result states, two "
        f"standard errors included. Of the {ok} runs that end `ok` and have a reference, {worse} lie above it. Water "
        "and neon ran before runs without a line of energy and variance took the usual one: they stated 13.2 and 14.4 "
        "mHa; the table has what today's estimate makes of the same steps. The picture has the first seeds but those "
        "of Li2, water and neon.\n\n"
        "![Errors of the last tenth of the steps, against time in proportion to iterations](vmc_accuracy.png)"
    )
    draw(directory, done)
    write_table(output, "Energies of the default wavefunction", notes, COLUMNS, rows)


def draw(directory: Path, cases: list[str]) -> None:
    """Draw the error of the mean energy of the last tenth of the iterations against time, for seeds 0."""
    import matplotlib.pyplot as plt
    import numpy as np

    figure, axes = plt.subplots(figsize=(7, 4.5), constrained_layout=True)
    for case in (case for case in cases if "-" not in case):
        outcome = run(arguments(case), directory / case, threads=1)
        if not outcome.result.get("reference"):
            continue
        reference = outcome.result["reference"]["value"]
        with (directory / case / "metrics.csv").open() as file:
            rows = [row for row in csv.DictReader(file) if row["phase"] == "optimise" and row["energy"]]
        energy = np.array([float(row["energy"]) for row in rows])
        sums = np.concatenate(([0.0], np.cumsum(energy - reference)))
        steps = np.arange(10, len(energy) + 1)
        first = (0.9 * steps).astype(int)
        mean = 1e3 * (sums[steps] - sums[first]) / (steps - first)
        iterations = len(rows) + outcome.result["vmc"]["evaluation"]["iterations"]
        axes.plot(steps * outcome.wall_s / iterations / 60, mean, label=outcome.result["system"]["formula"])
    axes.axhline(0, color="0.7", linewidth=0.8)
    axes.set(xscale="log", xlabel="minutes", ylabel="energy - reference / mHa", ylim=(-3, 300))
    axes.set_yscale("symlog", linthresh=1)
    axes.legend(ncols=2, frameon=False)
    figure.savefig(Path(__file__).with_suffix(".png"), dpi=150)


def ordered(directory: Path) -> list[str]:
    """Cases in DIRECTORY that have ended, in the order of `CASES` and of their seeds."""
    ended = [file.stem for file in directory.glob("*.json")]
    return sorted(ended, key=lambda case: (CASES.index(case.partition("-")[0]), case))


if __name__ == "__main__":
    if len(sys.argv) < 2:
        sys.exit(__doc__)
    main(Path(sys.argv[1]).absolute(), sys.argv[2:])
