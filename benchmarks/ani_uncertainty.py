"""Uncertainties of a trained ensemble against its errors, also for structures unlike its training set.

    python benchmarks/ani_uncertainty.py DIRECTORY      (two minutes on one core; reuses finished parts in DIRECTORY)

Four small ANI networks learn rMD17's ethanol (PBE/def2-SVP); 100 conformations calibrate their spread, 200 test it.
Then the published model predicts ethanol with a stretched bond, and other molecules; its errors are taken against
PBE/def2-SVP. Writes ani_uncertainty.md and ani_uncertainty.png beside this file.
"""

from __future__ import annotations

import csv
import os
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms
from ase.build import molecule

from runs import machine, run, write_table

HERE = Path(__file__)
TRAINING = (
    *("+method=ani", "weights=null", "task=train", "data=rmd17_ethanol", "method.model.members=4"),
    *("data.split.validation=100", "data.split.test=200", "method.training.epochs=120", "method.training.batch=16"),
    "method.model.hidden={H: [64, 48], C: [64, 48], O: [64, 48]}",
)
OXYGEN_HYDROGEN = (0.9, 0.97, 1.1, 1.3, 1.6)
CARBON_CARBON = (1.4, 1.51, 1.7, 2.0, 2.5)
OTHERS = {"dimethyl ether": "CH3OCH3", "methanol": "CH3OH", "ethane": "C2H6", "acetaldehyde": "CH3CHO", "water": "H2O"}
MILLI, KCAL = 1000.0, 627.5094740631


@dataclass(frozen=True)
class Asked:
    """Structure to predict; `length` is that of the stretched bond, Angstrom."""

    name: str
    atoms: Atoms
    length: float | None = None


def stretched(first: int, second: int, length: float) -> Atoms:
    """Ethanol with the bond between two atoms at this length; atoms attached to the second move along."""
    atoms = molecule("CH3CH2OH")
    bonded = np.asarray(atoms.get_all_distances() < 1.7)
    bonded[first, second] = bonded[second, first] = False
    group = {second}
    while (more := {int(i) for one in group for i in np.flatnonzero(bonded[one])}) - group:
        group |= more
    atoms.set_distance(first, second, length, fix=0, indices=sorted(group))
    return atoms


def structures() -> list[Asked]:
    """Ethanol's O-H and C-C bonds from short to long, then other molecules of its elements."""
    requests = [Asked(f"ethanol, O–H {length} Å", stretched(2, 3, length), length) for length in OXYGEN_HYDROGEN]
    requests += [Asked(f"ethanol, C–C {length} Å", stretched(0, 1, length), length) for length in CARBON_CARBON]
    return requests + [Asked(name, molecule(formula)) for name, formula in OTHERS.items()]


def main(directory: Path) -> None:
    """Train, publish, predict, and write the table and the picture."""
    directory.mkdir(parents=True, exist_ok=True)
    os.environ["FUSION_ZOO"] = str(directory / "zoo")
    trained = run(TRAINING, directory / "train", 1)
    uncertainty = trained.result["training"]["uncertainty"]
    published(directory)
    asked = structures()
    model = answers([one.atoms for one in asked])
    truth = references(directory / "references.npy", directory / "train", [one.atoms for one in asked])
    errors = KCAL * (np.array([energy for energy, *_ in model]) - truth)
    limit = uncertainty["limit_hartree_per_sqrt_atom"]
    test = uncertainty["test"]
    rows: list[tuple[Any, ...]] = [
        (
            f"{test['calibrated']['structures']} conformations, 500 K",
            f"{test['calibrated']['rmse_kcal_mol']:.2f}",
            f"{test['calibrated']['rms_spread_kcal_mol']:.2f}",
            "",
            f"{test['outside']} of {test['calibrated']['structures']}",
        )
    ]
    for one, (_, std, scaled, outside), error in zip(asked, model, errors, strict=True):
        far = f"{scaled / limit:.3g}"
        rows.append((one.name, f"{abs(error):.2f}", f"{KCAL * std:.2f}", far, "yes" if outside else "no"))
    columns = ("structure", "error / kcal/mol", "± / kcal/mol", "of the limit", "outside")
    write_table(HERE.with_suffix(".md"), "What a trained ensemble knows of its errors", notes(trained), columns, rows)
    draw(directory / "train", uncertainty, asked, model, errors)


def published(directory: Path) -> None:
    """The trained model as `ethanol-4` in the zoo of the directory, once."""
    from fusion.cli import publish

    if not list((directory / "zoo").glob("*.toml")):
        words = ("ethanol-4", "four small networks for ethanol", "MIT", "benchmarks/ani_uncertainty.py", "")
        about = publish.About(*words, data="rMD17", level_of_theory="PBE/def2-SVP")
        publish.add(directory / "train", about, directory / "zoo")


def answers(atoms: list[Atoms]) -> list[tuple[float, float, float, bool]]:
    """Predictions of the published model: energy, uncertainty (hartree), that per sqrt(atom), and if it is outside."""
    from hydra.utils import instantiate

    from fusion.config import compose

    method = instantiate(compose.compose(["+method=ani", "weights=ethanol-4"])[0].method)
    rows = []
    for result in method.calculate([system(one) for one in atoms], {"energy"}):
        domain = result.details["domain"]
        rows.append((result.energy, result.energy_std, domain["spread_hartree_per_sqrt_atom"], domain["outside"]))
    return rows


def system(atoms: Atoms) -> Any:
    """System in atomic units."""
    from fusion.chemistry.system import System
    from fusion.chemistry.units import BOHR_PER_ANGSTROM

    return System(str(atoms.symbols), tuple(atoms.get_chemical_symbols()), atoms.positions * BOHR_PER_ANGSTROM)


def references(file: Path, training: Path, atoms: list[Atoms]) -> np.ndarray:
    """PBE/def2-SVP energies (hartree), on the scale of the labels: PySCF differs from the program that made these."""
    if not file.is_file():
        data, rows = labelled(training)
        chosen = rows[:: len(rows) // 5]
        same = [data.system(int(row["structure"])) for row in chosen]
        shift = np.array([float(row["label_hartree"]) for row in chosen]) - [pbe(one) for one in same]
        print(f"labels less PySCF: {MILLI * shift.mean():.2f} ± {MILLI * shift.std(ddof=1):.2f} mHa")
        np.save(file, np.array([pbe(system(one)) for one in atoms]) + shift.mean())
    return np.load(file)


def labelled(training: Path) -> tuple[Any, list[dict[str, str]]]:
    """Labelled data, and the rows of the test."""
    from fusion import app, datasets

    with (training / "structures.csv").open(newline="") as text:
        rows = [row for row in csv.DictReader(text) if row["part"] == "test"]
    return datasets.load(app.load_config(training).data, training), rows


def pbe(one: Any) -> float:
    """PBE energy in hartree."""
    from pyscf import dft, gto

    atoms = list(zip(one.symbols, one.positions.tolist(), strict=True))
    field = dft.RKS(gto.M(atom=atoms, unit="bohr", basis="def2-svp", verbose=0), xc="pbe").density_fit()
    field.grids.level = 2
    energy = float(field.kernel())
    assert field.converged
    return energy


def notes(trained: Any) -> str:
    """Notes below the table: procedure and findings."""
    uncertainty, part = trained.result["training"]["uncertainty"], trained.result["training"]["parts"]["test"]
    before, after = uncertainty["test"]["members"], uncertainty["test"]["calibrated"]
    one, two = (f"{100 * before[key]:.0f} → {100 * after[key]:.0f} %" for key in ("within_1", "within_2"))
    factor = f"{uncertainty['factor']:.2f} ({uncertainty['low']:.2f} to {uncertainty['high']:.2f})"
    limit = f"{MILLI * uncertainty['limit_hartree_per_sqrt_atom']:.3f} mHa per √atom"
    mae = f"{part['energy_mae_mev']:.1f} meV and {part['forces_mae_mev_angstrom']:.1f} meV/Å"
    return f"""\
`python benchmarks/ani_uncertainty.py DIRECTORY` on {machine()}; training: {trained.cpu_s:.0f} s of one core.

Four small ANI networks, trained together on 700 conformations of ethanol (rMD17, PBE/def2-SVP); mean absolute errors of
the test {mae}. On 100 further conformations, for validation, their standard deviation has to be
multiplied by {factor} to have 68.3 % of the errors within it, and none is beyond {limit}.
This is the limit of what the model was trained on; of structures like these 1 in 101 lies beyond it on average. Of the
errors of 200 other conformations {one} are within one (so scaled) standard deviation, {two} within two (normal
distribution: 68 and 95): the factor is of the size it should be, and errors of small ensembles have longer tails.

Below, the published model is asked about other things; it is wrong as PBE/def2-SVP says (PySCF, on the labels' scale).
The first row has root mean squares. The ± of what is outside is a warning: it is no standard deviation out there, where
nothing was calibrated. Of other molecules the model knows least of all: one composition does not tell the energies of
its elements apart, so that errors of hundreds of kcal/mol are shared by the members.

![Calibration, and two bonds stretched]({HERE.with_suffix(".png").name})"""


def draw(training: Path, uncertainty: dict[str, Any], asked: list[Asked], model: list[Any], errors: np.ndarray) -> None:
    """Draw the share of errors within a number of deviations, and error, uncertainty and limit along the two bonds."""
    from scipy.special import erf

    from fusion.plotting import BLUE, GREY, ORANGE, picture

    _, rows = labelled(training)
    values = np.array([[float(row[f"{key}_hartree"]) for key in ("energy", "label", "energy_std")] for row in rows])
    ratio, sigmas = np.abs(values[:, 0] - values[:, 1]) / values[:, 2], np.linspace(0.0, 4.0, 161)
    with picture(HERE.with_suffix(".png"), (10.0, 3.6)) as figure:
        fractions, *bonds = figure.subplots(1, 3)
        curves = ((ratio * uncertainty["factor"], ORANGE, "members"), (ratio, BLUE, "calibrated"))
        for numbers, colour, label in curves:
            within = [100.0 * np.mean(numbers <= sigma) for sigma in sigmas]
            fractions.plot(sigmas, within, color=colour, label=label)
        fractions.plot(sigmas, 100.0 * erf(sigmas / np.sqrt(2.0)), color="black", lw=0.8, ls="--", label="normal")
        fractions.set(xlabel="standard deviations", ylabel="errors within / %", title="200 conformations of ethanol")
        fractions.legend(loc="lower right")
        limit = KCAL * uncertainty["limit_hartree_per_sqrt_atom"] * 3.0  # of nine atoms
        for axes, bond in zip(bonds, ("O–H", "C–C"), strict=True):
            places = [place for place, one in enumerate(asked) if bond in one.name]
            lengths = [asked[place].length for place in places]
            axes.plot(lengths, np.abs(errors[places]), "o-", color=GREY, ms=4, label="error")
            axes.plot(
                lengths, [KCAL * model[place][1] for place in places], "o-", color=BLUE, ms=4, label="uncertainty"
            )
            axes.axhline(limit, color=ORANGE, ls="--", lw=1.0, label="limit")
            axes.set(yscale="log", xlabel=f"length of the {bond} bond / Å", title=f"ethanol, {bond} stretched")
            axes.set_ylabel("energy / kcal mol$^{-1}$")
            axes.legend(loc="lower right")


if __name__ == "__main__":
    main(Path(sys.argv[1]).absolute())
