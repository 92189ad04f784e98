"""Diffusion Monte Carlo from the runs of vmc_accuracy.py: `python benchmarks/vmc_diffusion.py DIRECTORY [CASE ...]`.

Runs `task=dmc` for the named cases from DIRECTORY/CASE, where vmc_accuracy.py left them, one after the other, each in
one thread and with the defaults; then writes vmc_diffusion.md with all diffusions that DIRECTORY has, and the rows of
other systems as they were.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from runs import Outcome, machine, run, table_rows, write_table
from vmc_accuracy import arguments, ordered

COLUMNS = (
    "system",
    "time step",
    "E",
    "stderr / mHa",
    "E - reference / mHa",
    "population bias / mHa",
    "% of correlation",
    "status",
    "minutes",
)


def words(case: str, directory: Path) -> tuple[str, ...]:
    """Words of the command of a case; its wavefunction has been evaluated in the run that trained it."""
    return *arguments(case), "task=dmc", f"ckpt={directory / case}"


def rows(outcome: Outcome) -> list[tuple[str, ...]]:
    """Rows of one diffusion: variational, each time step, and the extrapolation to none."""
    result = outcome.result
    dmc, vmc, reference = result["dmc"], result["vmc"], result["reference"]["value"]
    correlation = reference - vmc["hartree_fock"]["energy_hartree"]
    first = dmc["variational"]
    ends = (result["status"], f"{outcome.wall_s / 60:.0f}")
    states: list[tuple[str, dict[str, Any], tuple[str, str]]] = [("variational", first, ("", ""))]
    states += [(f"{step['time_step_per_hartree']:.4f}", step, ends) for step in dmc["time_steps"]]
    states += [("extrapolated to 0", dmc["extrapolated"], ("", ""))] if "extrapolated" in dmc else []
    table: list[tuple[str, ...]] = []
    for name, state, last in states:
        energy, stderr = state["energy_hartree"], state["stderr_hartree"]
        share = 100 * (1 - (reference - energy) / correlation)
        bias = state.get("population_bias_hartree")
        table.append(
            (
                result["system"]["formula"],
                name,
                f"{energy:.5f}",
                f"{1e3 * stderr:.2f}",
                f"{1e3 * (energy - reference):+.2f}",
                "" if bias is None else f"{1e3 * bias:+.2f} ± {1e3 * state['population_bias_stderr_hartree']:.2f}",
                f"{share:.1f} ± {100 * stderr / abs(correlation):.1f}",
                *last,
            )
        )
    return table


def main(directory: Path, cases: list[str]) -> None:
    """Run cases and write the table."""
    for case in cases:
        run(words(case, directory), directory / "dmc" / case, threads=1)
    done = ordered(directory / "dmc")
    outcomes = [run(words(case, directory), directory / "dmc" / case, threads=1) for case in done]
    notes = (
        "`python -m fusion +method=ferminet system=... task=dmc ckpt=RUN`, defaults otherwise, where RUN is the run of "
        f"seed 0 in [vmc_accuracy](vmc_accuracy.md); one thread, two runs beside each other; {machine()}. Minutes are "
        "those of the evaluation and of the diffusion, without the training."
    )
    output = Path(__file__).with_suffix(".md")
    table = [line for outcome in outcomes for line in rows(outcome)]
    systems = {line[0] for line in table}
    table = [line for line in table_rows(output) if line[0] not in systems] + table
    write_table(output, "Fixed-node diffusion of the default wavefunction", notes, COLUMNS, table)


if __name__ == "__main__":
    if len(sys.argv) < 2:
        sys.exit(__doc__)
    (Path(sys.argv[1]) / "dmc").mkdir(parents=True, exist_ok=True)
    main(Path(sys.argv[1]).absolute(), sys.argv[2:])
