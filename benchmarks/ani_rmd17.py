"""ANI on a thousand conformations of one molecule (rMD17), from random weights and from ANI-2x, one command each.

    python benchmarks/ani_rmd17.py DIRECTORY [NAME ...]

runs the molecules named (default: all) that are missing below DIRECTORY, and writes ani_rmd17.md and ani_rmd17.png
beside this file. A hundred of each thousand are for the test, thirty for validation. One thread.
"""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path
from typing import Any

from runs import machine, run, write_table

HERE = Path(__file__).parent
COMMON = ["data.split.validation=30", "data.split.test=100", "method.training.validate_every=10"]
SMALL = [f"method.model.hidden.{element}=[128,96,64]" for element in "HCO"]
SCRATCH = ["weights=null", "method.model.members=3", *SMALL, "method.training.learning_rate=2e-3"]
SCRATCH += ["method.training.epochs=600", *COMMON]
RATE = ["method.training.learning_rate=3e-4"]
EPOCHS = {"benzene": 720}
"""Epochs of further training that are not 240: benzene's forces improve for longer."""
PUBLISHED = {"ethanol": (2.5, 13.4), "malonaldehyde": (4.6, 24.5), "benzene": (3.3, 10.0), "aspirin": (16.6, 40.6)}
"""Mean absolute errors of ANI on such splits in the literature: meV and meV/Angstrom."""


def tuned(molecule: str) -> list[str]:
    """Settings of further training."""
    return ["method.training.batch=16", f"method.training.epochs={EPOCHS.get(molecule, 240)}", *RATE, *COMMON]


RUNS = {f"{molecule} from ANI-2x": (molecule, tuned(molecule)) for molecule in PUBLISHED}
RUNS |= {f"{molecule} from nothing": (molecule, SCRATCH) for molecule in ("ethanol", "malonaldehyde")}
RUNS |= {
    "benzene from ANI-2x, defaults": ("benzene", []),
    "ethanol from nothing, defaults": ("ethanol", ["weights=null"]),
}
NOTE = """\
{cpu}, loaded; one thread. 870 conformations to learn from, 30 that steer the training, 100 for the test; PBE/def2-SVP.
Mean absolute errors of the test, beside published ones of ANI-2x trained further on 950 + 50 of such conformations.
From nothing: three small networks, 1.8 MB in all. CPU minutes are of the whole command; those of
benzene and of `defaults` follow from the conformations per CPU second that these runs told. `defaults` are
`+method=ani task=train data=NAME` and that with `weights=null`: 800, 100 and 100 conformations.

{commands}

![Ethanol, from nothing](ani_rmd17.png)
"""


def words(name: str) -> list[str]:
    """Arguments of `python -m fusion`."""
    molecule, more = RUNS[name]
    return ["+method=ani", "task=train", f"data=rmd17_{molecule}", *more]


def folder(name: str) -> str:
    """Directory of a run's files."""
    return name.replace(",", "").replace(" ", "-")


def cells(name: str, outcome: dict[str, Any]) -> list[Any]:
    """Format a row of the table."""
    training = outcome["result"]["training"]
    test = training["parts"]["test"]
    energy, forces = PUBLISHED[RUNS[name][0]]
    row = [f"{test['energy_mae_mev']:.1f}", f"{test['forces_mae_mev_angstrom']:.1f}"]
    return [
        name,
        training["members"],
        training["epochs"],
        *row,
        f"{energy} / {forces}",
        f"{outcome['cpu_s'] / 60:.0f}",
    ]


def main(directory: Path, names: list[str]) -> None:
    """Train, and write the table of the finished runs."""
    directory.mkdir(parents=True, exist_ok=True)
    for name in names or RUNS:
        outcome = run(words(name), directory / folder(name), threads=1)
        if outcome.status:
            sys.exit(f"{name} failed: {directory / folder(name)}.log")
    files = {name: directory / f"{folder(name)}.json" for name in RUNS}
    done = {name: json.loads(file.read_text()) for name, file in files.items() if file.is_file()}
    rows = [cells(name, outcome) for name, outcome in done.items() if not outcome["status"]]
    shutil.copy(directory / "ethanol-from-nothing" / "parity.png", HERE / "ani_rmd17.png")
    commands = "\n".join(
        f"    python -m fusion {' '.join(words(name))}" for name in ("ethanol from ANI-2x", "ethanol from nothing")
    )
    header = ["", "members", "epochs", "energy, meV", "forces, meV/Å", "published", "CPU min"]
    write_table(
        HERE / "ani_rmd17.md",
        "ANI on a thousand conformations",
        NOTE.format(cpu=machine(), commands=commands),
        header,
        rows,
    )


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2:])
