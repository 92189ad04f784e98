"""An ANI network trained on ANI-1 up to two heavy atoms by one command: errors on what was held out.

    python benchmarks/ani1_subset.py DIRECTORY

runs the command, if its result is not yet below DIRECTORY, and writes ani1_subset.md and ani1_subset.png. Of the
molecules two are kept whole; of the conformations of the others a tenth steers the training and a tenth is for the
test. Conformations of high energy, which the files list apart, are left out. One thread.
"""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

from runs import machine, run, write_table

HERE = Path(__file__).parent
ARGUMENTS = ["+method=ani", "method.model.members=1", "method.training.batch=64", "method.training.epochs=60"]
ARGUMENTS += ["method.training.loss={energy: 1, forces: 0}", "weights=null", "task=train", "data=ani1"]
ARGUMENTS += ["data.split.unseen_molecules=2", "method.training.validate_every=5", "method.training.clip=10"]
ARGUMENTS += ["method.training.final_learning_rate=1e-6"]
PARTS = {"train": "trained on", "validation": "validation", "test": "test", "unseen": "new molecules"}
NOTE = """\
One member of ANI-2x's architecture for the four elements of the data, {parameters:,} parameters, {epochs} epochs in
{minutes:.1f} CPU minutes, start, tables and pictures included; one thread, {cpu}. Energies at
ωB97X/6-31G(d), kcal/mol.

    python -m fusion {command}

The new molecules are methane and N2, two of the fourteen, none of whose conformations was seen: what a bond is like can
hardly be learned from twelve such small molecules without it. The numbers in the picture are those of validation and
test together.

![Parity](ani1_subset.png)
"""


def main(directory: Path) -> None:
    """Train, and write the table."""
    directory.mkdir(parents=True, exist_ok=True)
    outcome = run(ARGUMENTS, directory / "ani", threads=1)
    if outcome.status:
        sys.exit(f"the training failed: {directory / 'ani.log'}")
    training = outcome.result["training"]
    rows = []
    for key, name in PARTS.items():
        part = training["parts"][key]
        errors = [f"{part[f'energy_{kind}_kcal_mol']:.2f}" for kind in ("rmse", "mae")]
        rows.append([name, f"{part['structures']:,}", *errors])
    shutil.copy(directory / "ani" / "parity.png", HERE / "ani1_subset.png")
    note = NOTE.format(
        parameters=training["parameters"],
        epochs=training["epochs"],
        minutes=outcome.cpu_s / 60.0,
        cpu=machine(),
        command=" ".join(f"'{one}'" if " " in one else one for one in ARGUMENTS),
    )
    header = ["conformations", "number", "root mean square error", "mean absolute error"]
    write_table(HERE / "ani1_subset.md", "ANI on ANI-1 up to two heavy atoms", note, header, rows)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
