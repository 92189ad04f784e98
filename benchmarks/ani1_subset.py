"""ANI trained on ANI-1 up to two heavy atoms, each by one command: errors on held-out structures.

    python benchmarks/ani1_subset.py DIRECTORY

runs what is missing below DIRECTORY, and writes ani1_subset.md and ani1_subset.png: one network, with two molecules
held out completely, and an ensemble. A tenth of the conformations is for validation and a tenth for the test.
Conformations of high energy, which the files list separately, are left out. One thread.
"""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

from runs import Outcome, machine, run, write_table

HERE = Path(__file__).parent
EIGHT = ["+method=ani", "weights=null", "task=train", "data=ani1", "method.training.clip=100"]
ONE = ["+method=ani", "method.model.members=1", "method.training.batch=64", "method.training.epochs=60"]
ONE += ["method.training.loss={energy: 1, forces: 0}", "weights=null", "task=train", "data=ani1"]
ONE += ["data.split.unseen_molecules=2", "method.training.validate_every=5", "method.training.clip=10"]
ONE += ["method.training.final_learning_rate=1e-6"]
RUNS = {"ani": ("one member", ONE), "eight": ("eight members", EIGHT)}
PARTS = {"train": "trained on", "validation": "validation", "test": "test", "unseen": "new molecules"}
NOTE = """\
ANI-2x's architecture for the four elements of the data, energies at ωB97X/6-31G(d), kcal/mol: root mean square / mean
absolute errors. One thread, {cpu}, loaded; CPU minutes with start, tables and pictures;
of eight members they follow from the conformations per CPU second that the run told.

{commands}

With one member two of the fourteen molecules, methane and N2, are kept whole: what a bond is like can hardly be learned
from twelve such small molecules without it. The numbers in the picture, of one member, are those of validation and test
together.

![Parity](ani1_subset.png)
"""


def cells(name: str, outcome: Outcome) -> list[str]:
    """Format a row of the table."""
    training = outcome.result["training"]
    row = [name, f"{training['members']}", f"{training['epochs']}", f"{outcome.cpu_s / 60.0:.0f}"]
    for key in PARTS:
        part = training["parts"].get(key)
        rmse, mae = ("" if part is None else f"{part[f'energy_{kind}_kcal_mol']:.2f}" for kind in ("rmse", "mae"))
        row.append("" if part is None else f"{rmse} / {mae} ({part['structures']:,})")
    return row


def main(directory: Path) -> None:
    """Train, and write the table."""
    directory.mkdir(parents=True, exist_ok=True)
    rows = []
    for folder, (name, arguments) in RUNS.items():
        outcome = run(arguments, directory / folder, threads=1)
        if outcome.status:
            sys.exit(f"the training failed: {directory / folder}.log")
        rows.append(cells(name, outcome))
    shutil.copy(directory / "ani" / "parity.png", HERE / "ani1_subset.png")
    shown = (" ".join(f"'{one}'" if " " in one else one for one in arguments) for _, arguments in RUNS.values())
    note = NOTE.format(cpu=machine(), commands="\n".join(f"    python -m fusion {words}" for words in shown))
    header = ["", "members", "epochs", "CPU min", *(f"{name} (number)" for name in PARTS.values())]
    write_table(HERE / "ani1_subset.md", "ANI on ANI-1 up to two heavy atoms", note, header, rows)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
