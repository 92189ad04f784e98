"""Dissociation of N2 and of a chain of ten hydrogen atoms: `python benchmarks/vmc_curves.py DIRECTORY [CASE ...]`.

Runs the named cases (`n2-3.0` and `h10-1.8`: bohr) that DIRECTORY lacks, one after the other, each in one thread, with
FermiNet and with CCSD(T)/cc-pVTZ; then writes vmc_curves.md and vmc_curves.png with all that it has. Every point
starts at a configuration interaction of its own. References: for N2 the curve of Le Roy et al., J. Chem. Phys. 125,
164310 (2006), derived from experiment, plus twice the energy of the atom (Chakravorty et al. 1993); for H10 MRCI+Q
extrapolated to the basis limit, Motta et al., Phys. Rev. X 7, 031059 (2017).
"""

from __future__ import annotations

import sys
from pathlib import Path

from fusion.plotting import BLUE, GREY, ORANGE, picture
from runs import Outcome, machine, run, write_table

REFERENCES = {
    "n2": {2.0: -109.537773, 2.0743: -109.542192, 2.4: -109.490241, 3.0: -109.329236, 4.0: -109.202043},
    "h10": {1.0: -4.43242, 1.4: -5.49255, 1.8: -5.66558, 2.8: -5.37546},
}
"""Hartree by distance in bohr."""

CASES = [f"{system}-{distance}" for system, curve in REFERENCES.items() for distance in curve]
SETTINGS = {
    "n2": ("method.optimisation.steps=700", "method.evaluation.steps=300"),
    "h10": ("method.optimisation.steps=1000", "method.evaluation.steps=300"),
}
COLUMNS = (
    "system",
    "distance / bohr",
    "start",
    "E",
    "stderr / mHa",
    "E - reference / mHa",
    "stated at most / mHa",
    "variance / Ha²",
    "<S²>",
    "status",
    "CCSD(T) - reference / mHa",
    "minutes",
)


def system_words(case: str) -> tuple[str, ...]:
    """Words that choose the molecule of a case."""
    system, distance = case.split("-")
    if system == "n2":
        return "system=n2", f"system.distance={distance}"
    atoms = "; ".join(f"H 0 0 {index * float(distance):.6g}" for index in range(10))
    return "system=inline", f"system.atoms='{atoms}'", "system.unit=bohr"


def outcomes(case: str, directory: Path) -> tuple[Outcome, Outcome]:
    """Runs of the wavefunction and of CCSD(T)."""
    words = system_words(case)
    learned = run(("+method=ferminet", *words, *SETTINGS[case.split("-")[0]]), directory / case, threads=1)
    conventional = ("+method=ccsd_t", *words, "method.basis=cc-pvtz")
    return learned, run(conventional, directory / "ccsd_t" / case, threads=1)


def row(case: str, directory: Path) -> tuple[str, ...]:
    """Row of the table for a case."""
    system, distance = case.split("-")
    learned, conventional = outcomes(case, directory)
    energy, vmc, reference = learned.result["energy"], learned.result["vmc"], REFERENCES[system][float(distance)]
    spin = vmc["spin_squared"]
    return (
        learned.result["system"]["formula"],
        distance,
        vmc["orbitals_start_at"] or "random",
        f"{energy['value']:.5f}",
        f"{1e3 * energy['stderr']:.1f}",
        f"{1e3 * (energy['value'] - reference):+.1f}",
        f"{1e3 * vmc['remaining']['error_hartree']:.0f}",
        f"{vmc['variance_hartree2']:.2g}",
        f"{spin['value']:.3f} ± {spin['stderr']:.3f}",
        learned.result["status"],
        _difference(conventional, reference),
        f"{learned.wall_s / 60:.0f}",
    )


def _difference(outcome: Outcome, reference: float) -> str:
    """Energy of CCSD(T) above the reference, mHa; its status if that is not ok."""
    if not outcome.result:
        return "failed"
    text = f"{1e3 * (outcome.result['energy']['value'] - reference):+.1f}"
    return text if outcome.result["status"] == "ok" else f"{text} ({outcome.result['status']})"


def draw(cases: list[str], directory: Path) -> None:
    """Draw the errors of both methods along each curve, relative to those at the point nearest to the minimum."""
    minima = {"n2": "n2-2.0743", "h10": "h10-1.8"}
    drawn = [system for system, case in minima.items() if case in cases]
    with picture(Path(__file__).with_suffix(".png"), (9.0, 4.0)) as figure:
        for axes, system in zip(figure.subplots(1, len(drawn), squeeze=False)[0], drawn, strict=True):
            own = [case for case in cases if case.startswith(f"{system}-")]
            distances = [float(case.split("-")[1]) for case in own]
            runs = {case: outcomes(case, directory) for case in own}
            for index, (label, colour) in enumerate((("FermiNet", BLUE), ("CCSD(T)/cc-pVTZ", ORANGE))):
                errors = [
                    1e3 * (runs[case][index].result["energy"]["value"] - REFERENCES[system][distance])
                    for case, distance in zip(own, distances, strict=True)
                ]
                shift = errors[own.index(minima[system])]
                stderr = [1e3 * (runs[case][index].result["energy"].get("stderr") or 0.0) for case in own]
                axes.errorbar(
                    distances, [e - shift for e in errors], stderr, color=colour, marker="o", capsize=3, label=label
                )
            axes.axhline(0, color=GREY, linewidth=0.8)
            axes.set(title=system.upper().replace("10", "₁₀").replace("N2", "N₂"), xlabel="distance / bohr")
            axes.set_ylabel("error relative to the minimum / mHa")
            axes.legend()


def main(directory: Path, cases: list[str]) -> None:
    """Run cases and write table and picture."""
    (directory / "ccsd_t").mkdir(parents=True, exist_ok=True)
    for case in cases:
        outcomes(case, directory)
    done = [case for case in CASES if (directory / case / "result.json").is_file()]
    notes = (
        f"`+method=ferminet` with {' '.join(SETTINGS['n2'])} for N2 and {' '.join(SETTINGS['h10'])} for H10, defaults "
        f"otherwise, seed 0, one thread, other work beside; {machine()}. `stated at most` is the remaining error that "
        "the result states. CCSD(T) has the basis cc-pVTZ: near the minima, its difference is that of the basis.\n\n"
        "![Errors along both curves, relative to those at the minima](vmc_curves.png)"
    )
    draw(done, directory)
    rows = [row(case, directory) for case in done]
    write_table(Path(__file__).with_suffix(".md"), "Dissociation of N2 and of ten hydrogen atoms", notes, COLUMNS, rows)


if __name__ == "__main__":
    if len(sys.argv) < 2:
        sys.exit(__doc__)
    main(Path(sys.argv[1]).absolute(), sys.argv[2:])
