"""Are the quoted errors the real ones? Twenty independent evaluations of one fixed wavefunction.

`python benchmarks/vmc_error_bars.py [DIRECTORY]`; writes vmc_error_bars.md. The scatter of the twenty energies should
be the error that each of them quotes, within what twenty samples can tell (0.67 to 1.5 times).
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

import numpy as np

from runs import machine, run, run_all, write_table

REPEATS = 20
STEPS = 200


def main(directory: Path) -> None:
    """Train once per system, evaluate with many seeds, and write the table."""
    directory.mkdir(parents=True, exist_ok=True)
    rows = []
    for system, steps in (("h2", 300), ("lih", 400)):
        trained = directory / f"{system}-trained"
        words = ("+method=ferminet", f"system={system}")
        run((*words, f"method.optimisation.steps={steps}", "method.evaluation.steps=20"), trained, threads=2)
        jobs = [
            (*words, "task=evaluate", f"ckpt={trained}", f"seed={seed}", f"method.evaluation.steps={STEPS}")
            for seed in range(1, REPEATS + 1)
        ]
        outcomes = run_all(jobs, directory / system, parallel=1, threads=1)
        energies = np.array([outcome.result["energy"]["value"] for outcome in outcomes])
        quoted = np.array([outcome.result["energy"]["stderr"] for outcome in outcomes])
        typical = float(np.sqrt(np.mean(quoted**2)))
        ratio = energies.std(ddof=1) / typical
        within = int(np.sum(np.abs(energies - energies.mean()) < 2 * quoted))
        rows.append(
            (
                system,
                f"{energies.mean():.5f}",
                f"{1e3 * typical:.3f}",
                f"{1e3 * energies.std(ddof=1):.3f}",
                f"{ratio:.2f}",
                f"{within} of {REPEATS}",
            )
        )
    notes = (
        f"{REPEATS} evaluations of {STEPS} iterations with 256 walkers and different seeds each; energies in hartree, "
        f"errors in mHa; {machine()}."
    )
    columns = ("system", "mean energy", "quoted error", "scatter", "scatter / quoted", "within 2 errors of the mean")
    write_table(Path(__file__).with_suffix(".md"), "Honesty of error bars", notes, columns, rows)


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else tempfile.mkdtemp()))
