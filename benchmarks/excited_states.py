"""Excited states of atoms and molecules: `python benchmarks/excited_states.py DIRECTORY [CASE ...]`.

Runs the named cases that DIRECTORY lacks, one after the other, each in one thread and with the defaults, and the
conventional methods beside them; then writes excited_states.md with all cases that DIRECTORY has, and
excited_states.png with the levels of beryllium. References:
hydrogen exact; helium from variational calculations (Drake 2006, Springer Handbook of Atomic, Molecular and Optical
Physics, chapter 11); the hydrogen molecule by full CI in aug-cc-pVTZ with two further diffuse sets of functions, whose
energies are 1 to 2 mHa too high; lithium and beryllium from the levels of NIST; boron hydride, at a fixed geometry,
from the QUEST database, and its states are singlets.
"""

from __future__ import annotations

import sys
from pathlib import Path

from fusion.chemistry.units import EV_PER_HARTREE
from fusion.tasks.excited.plot import draw
from runs import machine, run, write_table

BH = ("system=inline", "system.atoms='B 0 0 0; H 0 0 1.222874'", "method.states=3")

CASES: dict[str, tuple[tuple[str, ...], list[float] | None, float | None]] = {
    "h": (("system=h", "method.states=5"), [0.0, *4 * [0.375 * EV_PER_HARTREE]], 0.4162),
    "he": (("system=he", "method.states=3"), [0.0, 19.8234, 20.6194], None),
    "he-triplet": (("system=he", "system.spin=2", "method.states=4"), [0.0, *3 * [1.1447]], 0.5391),
    "h2": (("system=h2", "method.states=3"), [0.0, 10.59, 12.51], None),
    "h2-triplet": (("system=h2", "system.spin=2", "method.states=4"), [0.0, 1.924, 2.120, 2.120], None),
    "li": (("system=li", "method.states=4"), [0.0, *3 * [1.848]], 0.747),
    "be": (("system=be", "method.states=4"), [0.0, *3 * [2.725]], None),
    "lih": (("system=lih", "method.states=3"), None, None),
    "bh": (("method.spin_penalty=0.5", *BH, "method.optimisation.steps=1500"), [0.0, 2.89, 2.89], 0.05),
    "bh-triplet": ((*BH, "method.optimisation.steps=700", "method.evaluation.steps=400"), None, None),
}
"""Words of the command; energies above the lowest state (eV) of all states; oscillator strength of the first level."""

CONVENTIONAL = {
    "FCI": ("+method=fci", [case for case in CASES if not case.startswith("bh")]),
    "EOM-CCSD": ("+method=ccsd", ["he", "h2", "be", "lih", "bh-triplet"]),
}
"""Word of the command and cases of the methods beside. PySCF's equations of motion need electrons of both spins, and
both methods list triplets beside the singlets of BH."""

SMALL = ("li", "be", "lih")
"""Cases in aug-cc-pVDZ, as full CI takes long in aug-cc-pVTZ."""

COLUMNS = (
    "case",
    "level",
    "states",
    "multiplicity",
    "E",
    "gap / eV",
    "reference / eV",
    *(f"{name} / eV" for name in CONVENTIONAL),
    "oscillator strength",
    "reference ",
    "S²",
    "status",
    "minutes",
)


def conventional(directory: Path, case: str, name: str) -> list[float] | None:
    """Energies (eV) above the lowest of all states of a case by a conventional method; None where it has none."""
    method, cases = CONVENTIONAL[name]
    if case not in cases:
        return None
    basis = "aug-cc-pVDZ" if case in SMALL else "aug-cc-pVTZ"
    words = (
        method,
        "task=excited",
        f"method.basis={basis}",
        *(w for w in CASES[case][0] if "penalty" not in w and "steps" not in w),
    )
    outcome = run(words, directory / f"{case}-{method.removeprefix('+method=')}", threads=1)
    levels = outcome.result["excited"]["states"]
    return [level.get("gap_ev", 0.0) for level in levels for _ in range(level["states"])]


def mean_of(gaps: list[float] | None, first: int, number: int) -> str:
    """Mean of the gaps of a level's states."""
    return "" if gaps is None or first == 0 else f"{sum(gaps[first : first + number]) / number:.3f}"


def rows(directory: Path, case: str) -> list[tuple[str, ...]]:
    """One row for every level."""
    outcome = run(command(case), directory / case, threads=1)
    witnesses = [conventional(directory, case, name) for name in CONVENTIONAL]
    _, gaps, strength = CASES[case]
    excited = outcome.result["excited"]
    strengths = {t["to"]: t for t in excited["transitions"] if t["from"] == 0}
    table, first = [], 0
    for number, level in enumerate(excited["states"]):
        start, first = first, first + level["states"]
        transition = strengths.get(number)
        table.append(
            (
                case if number == 0 else "",
                str(number + 1),
                str(level["states"]),
                str(level.get("multiplicity", "mixed")),
                f"{level['energy_hartree']:.5f} ± {level['stderr_hartree']:.5f}",
                "" if number == 0 else f"{level['gap_ev']:.3f} ± {level['stderr_gap_ev']:.3f}",
                *(mean_of(other, start, level["states"]) for other in (gaps, *witnesses)),
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


def command(case: str) -> tuple[str, ...]:
    """Words of the command of a case."""
    return "+method=ferminet", "task=excited", *CASES[case][0]


def main(directory: Path, cases: list[str]) -> None:
    """Run cases and write the table."""
    directory.mkdir(parents=True, exist_ok=True)
    for case in cases:
        run(command(case), directory / case, threads=1)
    done = [case for case in CASES if (directory / f"{case}.json").is_file()]
    table = [cells for case in done for cells in rows(directory, case)]
    commands = "; ".join(f"{case}: {' '.join(CASES[case][0])}" for case in done)
    notes = (
        "`python -m fusion +method=ferminet task=excited ...`, defaults otherwise, seed 0, one thread, other work "
        f"beside; {machine()}. Cases: {commands}. FCI and EOM-CCSD: `+method=fci` and `+method=ccsd` in aug-cc-pVTZ, "
        "Li, Be and LiH in aug-cc-pVDZ, whose functions do not reach as far as Rydberg states.\n\n"
        "![Levels of beryllium](excited_states.png)"
    )
    draw(directory / "be", Path(__file__).with_suffix(".png"))
    write_table(Path(__file__).with_suffix(".md"), "Excited states of atoms and molecules", notes, COLUMNS, table)


if __name__ == "__main__":
    if len(sys.argv) < 2:
        sys.exit(__doc__)
    main(Path(sys.argv[1]).absolute(), sys.argv[2:])
