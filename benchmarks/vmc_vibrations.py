"""Frequencies of the default wavefunction: `python benchmarks/vmc_vibrations.py DIRECTORY [CASE ...]`.

Runs `task=vibrations` without a relaxation for the named cases (`h2`, `h2-1` for seed 1) that DIRECTORY lacks, each in
one thread; then writes vmc_vibrations.md with all cases that DIRECTORY has, and the rows of others as they were.
"""

from __future__ import annotations

import sys
from pathlib import Path

from runs import Outcome, machine, run, table_rows, write_table
from vmc_accuracy import identity

OBSERVED_CM1 = {"h2": 4401.21, "lih": 1405.65}
"""Harmonic wavenumbers, Huber & Herzberg, Constants of Diatomic Molecules (1979)."""

COLUMNS = ("system", "seed", "cm⁻¹", "observed", "deviation / stderr", "status", "minutes")


def arguments(case: str) -> tuple[str, ...]:
    """Words of the command of a case."""
    system, seed = identity(case)
    return "+method=ferminet", "task=vibrations", "task.relax=false", f"system={system}", f"seed={seed}"


def row(case: str, outcome: Outcome) -> tuple[str, ...]:
    """Row of the table for a diatomic."""
    result = outcome.result
    (value,), (stderr,) = result["frequencies_cm1"], result["frequencies_stderr_cm1"]
    observed = OBSERVED_CM1[identity(case)[0]]
    deviation, minutes = f"{(value - observed) / stderr:+.1f}", f"{outcome.wall_s / 60:.1f}"
    return (*identity(case), f"{value:.0f} ± {stderr:.0f}", f"{observed:.0f}", deviation, result["status"], minutes)


def main(directory: Path, cases: list[str]) -> None:
    """Run cases and write the table."""
    directory.mkdir(parents=True, exist_ok=True)
    for case in cases:
        run(arguments(case), directory / case, threads=1)
    output = Path(__file__).with_suffix(".md")
    table = {cells[:2]: cells for cells in table_rows(output)}
    for file in directory.glob("*.json"):
        table[identity(file.stem)] = row(file.stem, run(arguments(file.stem), directory / file.stem, threads=1))
    notes = (
        "`python -m fusion +method=ferminet task=vibrations task.relax=false system=... seed=...`, defaults otherwise, "
        f"at the equilibrium geometries of `conf/system`; one thread, up to three other programs beside; {machine()}. "
        "Minutes are those of the whole command, optimisation included."
    )
    write_table(
        output, "Frequencies of the default wavefunction", notes, COLUMNS, [table[key] for key in sorted(table)]
    )


if __name__ == "__main__":
    if len(sys.argv) < 2:
        sys.exit(__doc__)
    main(Path(sys.argv[1]).absolute(), sys.argv[2:])
