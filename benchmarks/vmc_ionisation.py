"""Ionisation potentials and electron affinities of atoms: `python benchmarks/vmc_ionisation.py DIRECTORY [ATOM ...]`.

Runs `task=ionize` with the default wavefunction for the named atoms that DIRECTORY lacks, one after the other, each in
one thread; then writes vmc_ionisation.md with all atoms that DIRECTORY has, and the rows of others as they were.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from runs import Outcome, machine, run, table_rows, write_table

ATOMS = ["h", "he", "li", "be", "b", "c", "n", "o", "f", "ne"]
WITH_ANION = {"h", "li"}
COLUMNS = ("atom", "quantity", "eV", "reference / eV", "deviation / (kcal/mol)", "status", "CPU minutes")
QUANTITIES = {"ionisation_potential": "ionisation potential", "electron_affinity": "electron affinity"}


def arguments(atom: str) -> tuple[str, ...]:
    """Words of the command for an atom."""
    anion = ("task.affinity=true",) if atom in WITH_ANION else ()
    return "+method=ferminet", "task=ionize", *anion, f"system={atom}"


def rows(atom: str, outcome: Outcome) -> list[tuple[str, ...]]:
    """Rows of an atom: one for each quantity."""
    result = outcome.result
    found = {name: result["ionisation"].get(key) for key, name in QUANTITIES.items()}
    minutes = f"{outcome.cpu_s / 60:.1f}"
    return [(atom, name, *_cells(quantity), result["status"], minutes) for name, quantity in found.items() if quantity]


def _cells(quantity: dict[str, Any]) -> tuple[str, str, str]:
    value = f"{quantity['ev']:.4f} ± {quantity['stderr_ev']:.4f}"
    reference = quantity.get("reference")
    if not reference:
        return value, "", ""
    kcal = quantity["kcal_mol"] / quantity["hartree"]
    difference = 1e-3 * reference["difference_mhartree"] * kcal
    listed = reference["hartree"] * quantity["ev"] / quantity["hartree"]
    return value, f"{listed:.4f}", f"{difference:+.2f} ± {quantity['stderr_kcal_mol']:.2f}"


def main(directory: Path, atoms: list[str]) -> None:
    """Run atoms and write the table."""
    directory.mkdir(parents=True, exist_ok=True)
    for atom in atoms:
        run(arguments(atom), directory / atom, threads=1)
    output = Path(__file__).with_suffix(".md")
    table = table_rows(output)
    for atom in (atom for atom in ATOMS if (directory / f"{atom}.json").is_file()):
        table = [cells for cells in table if cells[0] != atom]
        table += rows(atom, run(arguments(atom), directory / atom, threads=1))
    notes = (
        "`python -m fusion +method=ferminet task=ionize system=...`, defaults otherwise, `task.affinity=true` for the "
        f"affinities, one thread, other programs beside; {machine()}. References: exact nonrelativistic energies of "
        "the listed systems; the affinity of lithium is 0.618 eV by experiment. CPU minutes are those of all states of "
        "the command."
    )
    write_table(
        output,
        "Ionisation potentials and electron affinities of the default wavefunction",
        notes,
        COLUMNS,
        sorted(table, key=lambda cells: ATOMS.index(cells[0])),
    )


if __name__ == "__main__":
    if len(sys.argv) < 2:
        sys.exit(__doc__)
    main(Path(sys.argv[1]).absolute(), sys.argv[2:])
