"""Excited states of atoms and molecules: `python benchmarks/excited_states.py DIRECTORY [CASE ...]`.

Runs the named cases that DIRECTORY lacks, one after the other, each in one thread and with the defaults; then writes
excited_states.md with all cases that DIRECTORY has, and excited_states.png with the levels of beryllium. References:
hydrogen exact; helium from variational calculations (Drake 2006, Springer Handbook of Atomic, Molecular and Optical
Physics, chapter 11); the hydrogen molecule by full CI in aug-cc-pVTZ with two further diffuse sets of functions, whose
energies are 1 to 2 mHa too high; lithium and beryllium from the levels of NIST.
"""

from __future__ import annotations

import sys
from pathlib import Path

from fusion.chemistry.units import EV_PER_HARTREE
from fusion.tasks.excited.plot import draw
from runs import Outcome, machine, run, write_table

CASES: dict[str, tuple[tuple[str, ...], list[float], float | None]] = {
    "h": (("system=h", "method.states=5"), [0.0, *4 * [0.375 * EV_PER_HARTREE]], 0.4162),
    "he": (("system=he", "method.states=3"), [0.0, 19.8234, 20.6194], None),
    "he-triplet": (("system=he", "system.spin=2", "method.states=4"), [0.0, *3 * [1.1447]], 0.5391),
    "h2": (("system=h2", "method.states=3"), [0.0, 10.59, 12.51], None),
    "h2-triplet": (("system=h2", "system.spin=2", "method.states=4"), [0.0, 1.924, 2.120, 2.120], None),
    "li": (("system=li", "method.states=4"), [0.0, *3 * [1.848]], 0.747),
    "be": (("system=be", "method.states=4"), [0.0, *3 * [2.725]], None),
}
"""Words of the command; energies above the lowest state (eV) of all states; oscillator strength of the first level."""

COLUMNS = (
    "case",
    "level",
    "states",
    "multiplicity",
    "E",
    "gap / eV",
    "reference / eV",
    "oscillator strength",
    "reference ",
    "S²",
    "status",
    "minutes",
)


def rows(case: str, outcome: Outcome) -> list[tuple[str, ...]]:
    """One row for every level."""
    _, gaps, strength = CASES[case]
    excited = outcome.result["excited"]
    strengths = {t["to"]: t for t in excited["transitions"] if t["from"] == 0}
    table, first = [], 0
    for number, level in enumerate(excited["states"]):
        own = gaps[first : first + level["states"]]
        first += level["states"]
        transition = strengths.get(number)
        table.append(
            (
                case if number == 0 else "",
                str(number + 1),
                str(level["states"]),
                str(level["multiplicity"]),
                f"{level['energy_hartree']:.5f} ± {level['stderr_hartree']:.5f}",
                "" if number == 0 else f"{level['gap_ev']:.3f} ± {level['stderr_gap_ev']:.3f}",
                "" if number == 0 else f"{sum(own) / len(own):.3f}",
                _strength(transition),
                f"{strength:.4f}" if strength is not None and number == 1 else "",
                f"{level['spin_squared']['value']:.3f}",
                outcome.result["status"] if number == 0 else "",
                f"{outcome.wall_s / 60:.0f}" if number == 0 else "",
            )
        )
    return table


def _strength(transition: dict[str, float] | None) -> str:
    if transition is None:
        return ""
    return f"{transition['oscillator_strength']:.4f} ± {transition['stderr_oscillator_strength']:.4f}"


def main(directory: Path, cases: list[str]) -> None:
    """Run cases and write the table."""
    directory.mkdir(parents=True, exist_ok=True)
    for case in cases:
        run(("+method=ferminet", "task=excited", *CASES[case][0]), directory / case, threads=1)
    done = [case for case in CASES if (directory / f"{case}.json").is_file()]
    table = []
    for case in done:
        table += rows(case, run(("+method=ferminet", "task=excited", *CASES[case][0]), directory / case, threads=1))
    commands = "; ".join(f"{case}: {' '.join(CASES[case][0])}" for case in done)
    notes = (
        "`python -m fusion +method=ferminet task=excited ...`, defaults otherwise, seed 0, one thread, other work "
        f"beside; {machine()}. Cases: {commands}.\n\n![Levels of beryllium](excited_states.png)"
    )
    draw(directory / "be", Path(__file__).with_suffix(".png"))
    write_table(Path(__file__).with_suffix(".md"), "Excited states of atoms and molecules", notes, COLUMNS, table)


if __name__ == "__main__":
    if len(sys.argv) < 2:
        sys.exit(__doc__)
    main(Path(sys.argv[1]).absolute(), sys.argv[2:])
