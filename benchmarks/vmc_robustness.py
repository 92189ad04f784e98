"""Does the optimiser ever diverge? SPRING and KFAC on seven systems and three seeds each, short runs.

`python benchmarks/vmc_robustness.py [DIRECTORY]`; writes vmc_robustness.md. A run has diverged when it failed, or when
in its last quarter the median energy lies more than three standard errors of one iteration above that of the second
quarter, or the median variance above three times the second quarter's.
"""

from __future__ import annotations

import csv
import sys
import tempfile
from pathlib import Path

import numpy as np

from runs import Outcome, machine, run_all, write_table

STEPS = {"h": 300, "he": 300, "h2": 300, "li": 300, "lih": 300, "be": 300, "h2o": 150}
OPTIMISERS = ("spring", "kfac")
SEEDS = 3


def row(outcome: Outcome, directory: Path) -> tuple[str, ...]:
    """Row of the table for a run."""
    words = dict(word.lstrip("+").split("=", 1) for word in outcome.arguments)
    series = [float(line["energy"]) for line in _rows(directory) if line["phase"] == "optimise"]
    variances = [float(line["variance"]) for line in _rows(directory) if line["phase"] == "optimise"]
    quarter = max(1, len(series) // 4)
    vmc = outcome.result.get("vmc", {})
    reference = outcome.result.get("reference") or {}
    last, second = slice(-quarter, None), slice(quarter, 2 * quarter)
    allowed = 3 * (np.median(variances[second]) / 256) ** 0.5
    rises = np.median(series[last]) > np.median(series[second]) + allowed
    spreads = np.median(variances[last]) > 3 * np.median(variances[second])
    diverged = not vmc or rises or spreads
    return (
        words["system"],
        words["optimiser"],
        words["seed"],
        f"{1e3 * (np.mean(series[-quarter:]) - reference['value']):+.1f}" if reference else "",
        f"{np.median(variances[-quarter:]):.4f}",
        str(vmc.get("optimisation", {}).get("rejected_steps", "")),
        "DIVERGED" if diverged else "no",
        f"{outcome.cpu_s:.0f}",
    )


def _rows(directory: Path) -> list[dict[str, str]]:
    with (directory / "metrics.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def main(directory: Path) -> None:
    """Run every system, optimiser and seed, and write the table."""
    jobs = [
        (
            "+method=ferminet",
            f"system={system}",
            f"optimiser={optimiser}",
            f"seed={seed}",
            f"method.optimisation.steps={steps}",
            "method.evaluation.steps=20",
        )
        for system, steps in STEPS.items()
        for optimiser in OPTIMISERS
        for seed in range(SEEDS)
    ]
    outcomes = run_all(jobs, directory, parallel=1, threads=1)
    rows = [row(outcome, directory / f"{i:03d}") for i, outcome in enumerate(outcomes)]
    diverged = {name: sum(cells[6] == "DIVERGED" for cells in rows if cells[1] == name) for name in OPTIMISERS}
    notes = (
        f"Laptop preset of FermiNet, {STEPS['lih']} optimisation steps ({STEPS['h2o']} for H2O), 256 walkers; "
        f"{machine()}. Energy (mHa, above the reference) and variance are those of the last quarter of the "
        f"optimisation. Diverged: "
        + ", ".join(f"{name} {number} of {len(rows) // len(OPTIMISERS)}" for name, number in diverged.items())
        + "."
    )
    columns = ("system", "optimiser", "seed", "E - reference", "variance", "rejected", "diverged", "CPU s")
    write_table(Path(__file__).with_suffix(".md"), "Robustness of the optimisers", notes, columns, rows)


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else tempfile.mkdtemp()))
