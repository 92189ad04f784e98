"""The transition state between HCN and HNC, and the path down both sides, with DM21 and with B3LYP.

`python benchmarks/dm21_transition_state.py DIRECTORY` (a quarter of an hour of one core); writes
dm21_transition_state.md and .png. Both by the command line, task=ts from a guess; a finished run in the directory
(dm21, b3lyp) is not repeated.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np

from fusion.chemistry import units
from fusion.plotting import BLUE, ORANGE, picture
from runs import run, write_table

BASIS = "def2-svp"
METHODS = {"dm21": ("+method=dm21",), "b3lyp": ("+method=dft", "method.xc=b3lyp")}
OPTIONS = (f"method.basis={BASIS}", "task.irc=true", "task.zero_point=false")
GUESS = "3\n\nC 0.0 0.0 0.0\nN 1.19 0.0 0.0\nH 0.25 1.15 0.0\n"
BONDS = {"r(CN), Å": (0, 1), "r(CH), Å": (0, 2), "r(NH), Å": (1, 2)}


def result_of(name: str, directory: Path) -> dict[str, Any]:
    """result.json of one method's run, which is started if there is none."""
    place, guess = directory / name, directory / "guess.xyz"
    guess.write_text(GUESS)
    if not (place / "result.json").is_file():
        outcome = run([*METHODS[name], "task=ts", f"system={guess}", *OPTIONS], place, 1)
        if outcome.status != 0:
            raise SystemExit(f"{name}: {outcome.result.get('message')}")
    return dict(json.loads((place / "result.json").read_text()))


def uphill(document: dict[str, Any]) -> tuple[float, float]:
    """Barriers (kcal/mol) from HCN and from HNC: the path may have been walked either way."""
    barriers = document["barriers"]
    sides = (barriers["forward_hartree"], barriers["reverse_hartree"])
    return units.KCAL_MOL_PER_HARTREE * max(sides), units.KCAL_MOL_PER_HARTREE * min(sides)


def path(document: dict[str, Any]) -> tuple[np.ndarray, np.ndarray]:
    """Length along the path (bohr dalton^1/2) from the transition state towards HCN, kcal/mol above it."""
    irc = document["irc"]
    lengths, energies = np.array(irc["s_bohr_sqrt_dalton"]), np.array(irc["energies_hartree"])
    towards_hcn = 1.0 if irc["forward"]["energy_hartree"] < irc["backward"]["energy_hartree"] else -1.0
    return towards_hcn * lengths, units.KCAL_MOL_PER_HARTREE * (energies - energies.max())


def column(document: dict[str, Any]) -> list[str]:
    """One method's figures, in the order of the table."""
    state, places = document["transition_state"], np.array(document["system"]["positions"])
    lengths = [np.linalg.norm(places[i] - places[j]) for i, j in BONDS.values()]
    modes = [f"{-value:.0f}i" if value < 0 else f"{value:.0f}" for value in state["frequencies_cm1"]]
    steps = f"{state['steps']}, {state['hessians']} Hessians"
    sides = " + ".join(str(document["irc"][side]["points"]) for side in ("backward", "forward"))
    numbers = [*(f"{length:.3f}" for length in lengths), ", ".join(modes), *(f"{e:.2f}" for e in uphill(document))]
    return [*numbers, steps, f"{state['largest_force_hartree_per_bohr']:.0e}", sides]


def main(directory: Path) -> None:
    """Run what is missing, write the table and draw both paths."""
    directory = directory.resolve()
    directory.mkdir(parents=True, exist_ok=True)
    documents = {name: result_of(name, directory) for name in METHODS}
    labels = [
        *BONDS, "modes, cm⁻¹", "barrier from HCN, kcal/mol", "from HNC", "steps of the search",
        "largest force, Ha/bohr", "points downhill",
    ]  # fmt: skip
    rows = zip(labels, *(column(document) for document in documents.values()), strict=True)
    notes = (
        f"`fusion +method=dm21 task=ts system=guess.xyz {' '.join(OPTIONS)}`, grid level 3, and the same with "
        "`+method=dft`; no zero-point energies. Both paths end in HCN and HNC.\n\n![](dm21_transition_state.png)"
    )
    file = Path(__file__).with_suffix(".md")
    write_table(file, "From HCN to HNC", notes, ["", "DM21", "B3LYP"], rows)
    with picture(file.with_suffix(".png")) as figure:
        axes = figure.subplots()
        for (name, document), colour in zip(documents.items(), (BLUE, ORANGE), strict=True):
            axes.plot(*path(document), "o-", color=colour, ms=3, lw=1.2, label=name.upper())
        axes.set_xlabel("path towards HCN / bohr dalton$^{1/2}$")
        axes.set_ylabel("energy from the transition state / kcal mol⁻¹")
        axes.set_title(f"HNC (left) to HCN, {BASIS}", loc="left")
        axes.legend()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
