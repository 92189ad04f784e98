"""Energies of the laptop preset of FermiNet against exact ones: `python benchmarks/vmc_accuracy.py [DIRECTORY]`.

Whole commands, start-up included, one after the other with one thread each. Writes vmc_accuracy.md.
"""

from __future__ import annotations

import statistics
import sys
import tempfile
from pathlib import Path

from runs import Outcome, machine, run_all, write_table

CASES: dict[str, tuple[tuple[str, ...], int]] = {
    "LiH": ((), 5),
    "H2": (("system=h2",), 1),
    "He": (("system=he",), 1),
    "Be": (("system=be",), 1),
    "H": (("system=h",), 1),
    "Li": (("system=li",), 1),
    "H-": (("system=h", "system.charge=-1"), 1),
    "Li+": (("system=li", "system.charge=1"), 1),
}


def row(name: str, outcome: Outcome) -> tuple[str, ...]:
    """Row of the table for a run."""
    result = outcome.result
    energy, reference = result["energy"], result["reference"]
    return (
        name,
        next((word.split("=")[1] for word in outcome.arguments if word.startswith("seed=")), "0"),
        f"{energy['value']:.5f}",
        f"{1e3 * energy['stderr']:.2f}",
        f"{reference['difference_mhartree']:+.2f}",
        f"{result['vmc']['variance_hartree2']:.4f}",
        f"{result['vmc']['spin_squared']['value']:.4f}",
        str(result["vmc"]["optimisation"]["rejected_steps"]),
        result["status"],
        f"{outcome.wall_s:.0f}",
        f"{outcome.cpu_s:.0f}",
    )


def main(directory: Path) -> None:
    """Run every case and seed that `directory` lacks, and write the table."""
    jobs = [
        (name, ("+method=ferminet", *words, f"seed={seed}"))
        for name, (words, seeds) in CASES.items()
        for seed in range(seeds)
    ]
    outcomes = run_all([words for _, words in jobs], directory, parallel=1, threads=1)
    rows = [row(name, outcome) for (name, _), outcome in zip(jobs, outcomes, strict=True)]
    errors = [abs(float(cells[4])) for cells in rows if cells[0] == "LiH"]
    notes = (
        f"`python -m fusion +method=ferminet system=... seed=...`, defaults otherwise, one thread; "
        f"{machine()}. Energies in hartree, errors in mHa, seconds of the whole command. LiH: median of |error| "
        f"{statistics.median(errors):.2f} mHa, worst {max(errors):.2f} mHa."
    )
    columns = (
        "system",
        "seed",
        "E",
        "stderr",
        "E - exact",
        "variance",
        "<S^2>",
        "rejected",
        "status",
        "wall s",
        "CPU s",
    )
    write_table(Path(__file__).with_suffix(".md"), "Accuracy of the laptop preset of FermiNet", notes, columns, rows)


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else tempfile.mkdtemp()))
