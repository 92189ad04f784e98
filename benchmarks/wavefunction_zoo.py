"""Energies of the zoo's wavefunctions, measured again: `python benchmarks/wavefunction_zoo.py [DIRECTORY]`.

Every card is evaluated by the command that `fusion zoo show` prints, with another seed than its own run, and walkers
that start at those of the card. Writes wavefunction_zoo.md.
"""

from __future__ import annotations

import math
import sys
import tempfile
from pathlib import Path

from fusion.zoo import card_file
from fusion.zoo.card import Card
from runs import Outcome, machine, run_all, write_table

ZOO = Path(__file__).parents[1] / "zoo"
STEPS, SEED = 300, 1


def row(model: Card, outcome: Outcome) -> tuple[str, ...]:
    """Row of the table for a card and its evaluation."""
    stated = {metric.name: metric.value for metric in model.metrics}
    before, error = stated["energy"], stated["standard error of the energy"]
    energy = outcome.result["energy"]
    sigmas = (energy["value"] - before) / math.hypot(error, energy["stderr"])
    reference = outcome.result.get("reference") or {}
    return (
        model.label,
        f"{before:.6f}",
        f"{1e3 * error:.3f}",
        f"{energy['value']:.6f}",
        f"{1e3 * energy['stderr']:.3f}",
        f"{sigmas:+.1f}",
        f"{stated['variance of the local energy']:.2g}",
        f"{outcome.result['vmc']['variance_hartree2']:.2g}",
        f"{1e3 * (before - reference['value']):+.2f}" if reference else "",
        f"{model.weights.size / 1e3:.0f}",
        f"{outcome.cpu_s:.0f}",
    )


def main(directory: Path) -> None:
    """Evaluate every wavefunction that `directory` lacks, and write the table."""
    models = [model for path in sorted(ZOO.glob("*.toml")) if (model := card_file.read(path)).kind == "ansatz"]
    words = ("task=evaluate", f"method.evaluation.steps={STEPS}", f"seed={SEED}")
    jobs = [(f"+method={model.method}", f"weights={model.label}", *words) for model in models]
    outcomes = run_all(jobs, directory, parallel=1, threads=1)
    rows = [row(model, outcome) for model, outcome in zip(models, outcomes, strict=True)]
    worst = max(abs(float(cells[5])) for cells in rows)
    notes = (
        f"`python -m fusion +method=METHOD weights=NAME {' '.join(words)}`, one thread; {machine()}. Energies in "
        f"hartree, their errors in mHa. The largest difference from a card is {worst:.1f} standard errors."
    )
    columns = (
        "wavefunction",
        "E of the card",
        "stderr",
        "E again",
        "stderr",
        "difference / σ",
        "variance of the card",
        "variance again",
        "E - reference, mHa",
        "kB",
        "CPU s",
    )
    write_table(Path(__file__).with_suffix(".md"), "Wavefunctions of the zoo, evaluated again", notes, columns, rows)


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else tempfile.mkdtemp()))
