"""Infrared and Raman spectra of water and ethanol against references, of a molecule of 30 atoms, and their cost.

`python benchmarks/spectra_infrared.py [--reference vib_wb97x_dev.json]`: the reference is water at the level of ANI's
data, harmonic frequencies by an analytic Hessian, intensities by differences of the dipole, calculated elsewhere. The
30 atoms are the extended chain of nonanamide, C9H19NO.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms

from fusion.plotting import BLUE, GREY, ORANGE, picture
from fusion.tasks.vibrations.spectrum import axis, broadened, lines
from runs import Outcome, machine, run

LEVEL = ["method.xc=wb97x", "method.basis=6-31g(d)", "method.cartesian=true"]
DIPOLES = "task.dipoles={method: dft, xc: wb97x, basis: '6-31g(d)', cartesian: true}"
SMALL = "task.dipoles={method: dft, xc: pbe, basis: 3-21g, density_fit: true, grid_level: 1}"
NITROGEN_CM2_SR = 4.3e-31
"""At 514.5 nm: 5.05e-48 cm^6/sr times the fourth power of the scattered wavenumber, Schroetter and Kloeckner 1979."""
JOBS: dict[str, list[str]] = {
    "water": ["+method=dft", *LEVEL, "task=vibrations", "system=h2o"],
    "nitrogen": [
        "+method=dft", "method.basis=aug-cc-pvdz", "task=vibrations", "system=n2", "task.raman=true",
        "task.spectrum.laser_nm=514.5",
    ],
    "ethanol_ani": ["+method=ani", "dtype=float64", "task=vibrations", "system=ethanol", DIPOLES],
    "ethanol_dft": ["+method=dft", *LEVEL, "task=vibrations", "system=ethanol"],
    "nonanamide": [
        "+method=ani", "dtype=float64", "task=vibrations", "task.spread=false", "system=file",
        "system.path=nonanamide.xyz", SMALL,
    ],
}  # fmt: skip
INTENSITIES = "ir_intensities_km_per_mol"


def placed(others: Sequence[np.ndarray], length: float, angle: float, turn: float) -> np.ndarray:
    """Position of an atom from bond length (Angstrom), angle and dihedral (degrees) with three others, each (3,)."""
    bonded, second, third = others
    angle, turn = np.radians(angle), np.radians(turn)
    along = (bonded - second) / np.linalg.norm(bonded - second)
    across = np.cross(second - third, along)
    across = across / np.linalg.norm(across)
    sideways = np.cos(turn) * np.cross(across, along) + np.sin(turn) * across
    return np.asarray(bonded + length * (np.sin(angle) * sideways - np.cos(angle) * along))


def nonanamide() -> Atoms:
    """The extended chain of C9H19NO; its amino group is not quite flat."""
    chain = [np.zeros(3), np.array([1.53, 0.0, 0.0])]
    chain.append(placed([*chain[::-1], np.array([0.0, 1.0, 0.3])], 1.53, 112.0, 180.0))
    while len(chain) < 9:
        chain.append(placed(chain[:-4:-1], 1.53, 112.5, 180.0))
    oxygen, nitrogen = placed(chain[:3], 1.22, 122.0, 0.0), placed(chain[:3], 1.36, 115.0, 180.0)
    hydrogens = [placed([nitrogen, *chain[:2]], 1.01, 119.0, turn) for turn in (12.0, 168.0)]
    for last, here, following in zip(chain, chain[1:], chain[2:], strict=False):
        hydrogens += [placed([here, last, following], 1.09, 109.0, turn) for turn in (121.0, -121.0)]
    hydrogens += [placed(chain[:-4:-1], 1.09, 111.0, turn) for turn in (60.0, 180.0, -60.0)]
    return Atoms(f"C9ONH{len(hydrogens)}", [*chain, oxygen, nitrogen, *hydrogens])


def done(name: str, directory: Path) -> Outcome:
    """Run of this name, which is started if it is not finished."""
    words = [word.replace("nonanamide.xyz", str(directory / "nonanamide.xyz")) for word in JOBS[name]]
    outcome = run(words, directory / name, 1)
    print(f"{name}: exit {outcome.status}, {outcome.cpu_s:.0f} CPU s, {outcome.wall_s:.0f} s", flush=True)
    return outcome


def lines_of(document: dict[str, Any]) -> list[tuple[float, float]]:
    """Table lines with wavenumber and intensity of every mode."""
    return list(zip(document["frequencies_cm1"], document[INTENSITIES], strict=True))


def table(columns: list[str], rows: list[list[str]]) -> list[str]:
    """Lines of a Markdown table."""
    return ["| " + " | ".join(row) + " |" for row in (columns, ["---"] * len(columns), *rows)] + [""]


def water(document: dict[str, Any], reference: Path | None) -> list[str]:
    """Lines on water, with reference values if given and experiment."""
    columns, rows = (
        ["", "mode 1", "mode 2", "mode 3"],
        [["fusion, ωB97X/6-31G(d), Cartesian d", *map(line, lines_of(document))]],
    )
    if reference is not None:
        known = json.loads(reference.read_text())["data"]["H2O"]
        pairs = zip(known["freq_cm1"], known["ir_kmmol"], strict=True)
        rows.append(["reference at the same level", *map(line, pairs)])
    rows.append(["observed fundamentals", *(f"{value:.0f}" for value in document["experiment"]["fundamentals_cm1"])])
    return ["## Water", "", "Wavenumber in cm⁻¹, infrared intensity in km/mol in brackets.", "", *table(columns, rows)]


def nitrogen(document: dict[str, Any]) -> list[str]:
    """Lines on the Raman scattering of nitrogen."""
    (cross_section,), (activity,), (ratio,) = (
        document[key]
        for key in (
            "raman_cross_sections_cm2_per_sr",
            "raman_activities_angstrom4_per_dalton",
            "depolarization_ratios",
        )
    )
    text = (
        f"B3LYP/aug-cc-pVDZ: activity {activity:.1f} Å⁴/amu, depolarisation {ratio:.3f}, differential cross-section at "
        f"514.5 nm {1e31 * cross_section:.2f}e-31 cm²/sr; measured {1e31 * NITROGEN_CM2_SR:.1f}e-31 cm²/sr (Schrötter "
        "and Klöckner 1979). The polarizability is the static one."
    )
    return ["## Nitrogen, Raman", "", text, ""]


def line(pair: tuple[float, float]) -> str:
    """Frequency and intensity as text."""
    return f"{pair[0]:.1f} ({pair[1]:.1f})"


def ethanol(learned: dict[str, Any], full: dict[str, Any]) -> list[str]:
    """Lines that compare ethanol by ANI with DFT."""
    pairs = list(zip(lines_of(learned), lines_of(full), strict=True))
    rows = [[str(number), line(one), line(other)] for number, (one, other) in enumerate(pairs, 1)]
    places = np.array([[one[0], other[0]] for one, other in pairs])
    deviation = places[:, 0] - places[:, 1]
    totals = [sum(pair[side][1] for pair in pairs) for side in (0, 1)]
    text = (
        "ANI-2x modes with ωB97X/6-31G(d) dipoles, beside ωB97X/6-31G(d) throughout, modes by rising wavenumber. "
        f"Mean absolute deviation {np.abs(deviation).mean():.1f} cm⁻¹, largest {np.abs(deviation).max():.1f} cm⁻¹; "
        f"all intensities together {totals[0]:.0f} and {totals[1]:.0f} km/mol. The two lowest are the torsions of OH "
        "and CH₃, which mix."
    )
    return ["## Ethanol", "", text, "", *table(["", "ANI-2x + DFT dipoles", "DFT"], rows)]


def costs(outcomes: dict[str, Outcome]) -> list[str]:
    """Lines on the CPU time of every run."""
    rows = [[name, str(len(one.result["system"]["symbols"])), f"{one.cpu_s:.0f}"] for name, one in outcomes.items()]
    columns = ["run", "atoms", "CPU s"]
    remark = (
        "\n\nNonanamide's dipoles are PBE/3-21G's with density fitting: derivatives of the dipole from forces in six "
        "weak electric fields, so that the cost is that of seven SCFs and six gradients, where displacing along its 84 "
        "modes would take 168 SCFs more."
    )
    text = f"CPU seconds of the whole command, one thread, the machine shared with other work: {machine()}."
    text += remark if "nonanamide" in outcomes else ""
    return ["## Cost", "", text, "", *table(columns, rows)]


def draw(path: Path, documents: dict[str, dict[str, Any]]) -> None:
    """Draw both spectra of ethanol, mirrored, and the large molecule if it was run."""
    both = "nonanamide" in documents
    with picture(path, (8.0, 6.0 if both else 3.4)) as figure:
        panels = np.atleast_1d(figure.subplots(1 + both, 1))
        for name, colour, label, sign in (
            ("ethanol_ani", BLUE, "ANI-2x modes, ωB97X/6-31G(d) dipoles", 1.0),
            ("ethanol_dft", ORANGE, "ωB97X/6-31G(d) throughout (downwards)", -1.0),
        ):
            curve(panels[0], documents[name], colour, label, sign)
        known = documents["ethanol_ani"]["experiment"]["fundamentals_cm1"]
        panels[0].plot(known, np.zeros(len(known)), "|", color=GREY, ms=14, label="observed fundamentals")
        panels[0].set_title("ethanol, harmonic, half width 10 cm⁻¹", loc="left")
        if both:
            curve(panels[1], documents["nonanamide"], BLUE, "ANI-2x modes, PBE/3-21G dipoles")
            panels[1].set_title("nonanamide C₉H₁₉NO, 30 atoms", loc="left")
        for axes in panels:
            axes.set_xlim(4100.0, 0.0)
            axes.set_ylabel("absorption / km mol⁻¹ cm")
            axes.legend(loc="upper center")
        panels[-1].set_xlabel("wavenumber / cm⁻¹")


def curve(axes: Any, document: dict[str, Any], colour: str, label: str, sign: float = 1.0) -> None:
    """Draw a broadened spectrum, downwards for `sign` -1."""
    places = axis(document, 10.0)
    axes.plot(places, sign * broadened(places, *lines(document, INTENSITIES), 10.0), color=colour, lw=1.2, label=label)


def main(reference: Path | None, directory: Path, only_done: bool) -> None:
    """Run all jobs, or read those that are done, and write the page."""
    directory.mkdir(parents=True, exist_ok=True)
    nonanamide().write(directory / "nonanamide.xyz")
    names = [name for name in JOBS if not only_done or (directory / f"{name}.json").is_file()]
    outcomes = {name: done(name, directory) for name in names}
    documents = {name: outcome.result for name, outcome in outcomes.items()}
    text = ["# Infrared and Raman spectra", "", *water(documents["water"], reference), *nitrogen(documents["nitrogen"])]
    text += [
        *ethanol(documents["ethanol_ani"], documents["ethanol_dft"]),
        *costs(outcomes),
        "![spectra](spectra_infrared.png)",
    ]
    path = Path(__file__).with_suffix(".md")
    path.write_text("\n".join(text) + "\n")
    print(path.read_text())
    draw(path.with_suffix(".png"), documents)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--reference", type=Path, help="JSON with frequencies and intensities of water")
    parser.add_argument(
        "--directory", type=Path, default=Path("runs/spectra_infrared"), help="what is done is kept here"
    )
    parser.add_argument("--only-done", action="store_true", help="start nothing: the table of what there is")
    given = parser.parse_args()
    main(given.reference, given.directory.absolute(), given.only_done)
