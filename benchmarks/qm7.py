"""Atomisation energies of QM7's molecules by Coulomb-matrix networks: cross-validation over the folds of the data.

    python benchmarks/qm7.py DIRECTORY [FOLD ...]

runs what is missing below DIRECTORY and writes qm7.md beside this file: for each fold (all four if none is named) the
default network trained on the other three, a tenth of which is for validation; the older descriptors on the first of
them; and as a baseline a function of the composition, by least squares on the same molecules.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from fusion import datasets
from fusion.chemistry.units import KCAL_MOL_PER_HARTREE
from fusion.datasets.inspection import compositions
from fusion.datasets.naming import node
from runs import machine, run, write_table

HERE = Path(__file__).parent
COMMON = ["+method=coulomb", "weights=null", "task=train", "data=qm7"]
OLDER = {"eigenspectrum": "eigenvalues", "sorted": "sorted by row norms"}
FEWER = "method.training.epochs=100"  # of the older ones
NOTE = """\
PBE0/def2-TZVP, {molecules:,} molecules of up to seven heavy atoms; errors on the molecules of the fold that was left
out, kcal/mol, mean absolute / root mean square. One thread, {cpu}; CPU minutes of a whole run.

    python -m fusion +method=coulomb weights=null task=train data=qm7 data.split.test=[FOLD]

`randomly sorted` (the default) draws a new order of the atoms at every step and averages 16 of them in a prediction;
the others are `descriptor=sorted` and `descriptor=eigenspectrum`, trained for fewer epochs. Published for such
networks: about 3.5 on the original QM7."""


def of_composition(data: datasets.Labelled, held: np.ndarray) -> np.ndarray:
    """Errors (kcal/mol) of constants for the elements, fitted to the other molecules, on those `held` (M,) bool."""
    counts = compositions(data, np.unique(data.numbers))
    fitted = np.linalg.lstsq(counts[~held], data.energy[~held], rcond=None)[0]
    errors: np.ndarray = (counts[held] @ fitted - data.energy[held]) * KCAL_MOL_PER_HARTREE
    return errors


def trained(descriptor: str, fold: int, directory: Path) -> tuple[dict[str, Any], float]:
    """Training part of result.json, and CPU minutes."""
    more = [] if descriptor == "randomly_sorted" else [f"descriptor={descriptor}", FEWER]
    outcome = run([*COMMON, f"data.split.test=[{fold}]", *more], directory / f"{descriptor}_{fold}", threads=1)
    if outcome.status:
        sys.exit(f"{descriptor} on fold {fold} failed: {json.dumps(outcome.arguments)}")
    return outcome.result["training"], outcome.cpu_s / 60.0


def told(errors: np.ndarray) -> str:
    """Format mean absolute and root mean square errors."""
    return f"{np.abs(errors).mean():.2f} / {np.sqrt((errors**2).mean()):.2f}"


def main(directory: Path, folds: Sequence[int]) -> None:
    """Train, and write the table."""
    directory.mkdir(parents=True, exist_ok=True)
    data = datasets.load(node("qm7"), Path.cwd())
    assert data.fold is not None
    rows: list[list[Any]] = []
    note = NOTE.format(molecules=len(data), cpu=machine())
    header = ["descriptor", "fold", "epochs", "trained on", "validation", "the fold", "composition alone", "CPU min"]
    cases = [("randomly_sorted", "randomly sorted", fold) for fold in folds]
    cases += [(name, words, folds[0]) for name, words in OLDER.items()]
    for name, words, fold in cases:
        training, minutes = trained(name, fold, directory)
        parts = training["parts"]
        cells = [
            f"{parts[part]['energy_mae_kcal_mol']:.2f} / {parts[part]['energy_rmse_kcal_mol']:.2f}"
            for part in ("train", "validation", "test")
        ]
        alone = told(of_composition(data, data.fold == fold))
        rows.append([words, fold, training["epochs"], *cells, alone, f"{minutes:.1f}"])
        write_table(HERE / "qm7.md", "Coulomb-matrix networks on QM7", note, header, rows)


if __name__ == "__main__":
    main(Path(sys.argv[1]), [int(word) for word in sys.argv[2:]] or [0, 1, 2, 3])
