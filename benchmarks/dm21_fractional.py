"""A hydrogen atom with a fraction of an electron, and with a fraction of a spin.

`python benchmarks/dm21_fractional.py` (a few minutes); writes dm21_fractional.md and .png. The exact energy is a
straight line in the number of electrons between integers (Perdew, Parr, Levy and Balduz, Phys. Rev. Lett. 49, 1691
(1982)), and constant in the spin (Cohen, Mori-Sánchez and Yang, J. Chem. Phys. 129, 121104 (2008)).
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from pyscf import dft, gto, scf

import fusion
from fusion.plotting import BLUE, GREEN, GREY, ORANGE, picture
from runs import write_table

MODELS = {"dm21": BLUE, "dm21m": GREEN}
STEPS = np.linspace(0.0, 1.0, 11)
GRID_LEVEL = 3
ATOM = gto.M(atom="H 0 0 0", basis="cc-pvdz", spin=1, verbose=0)


def learned(name: str, up: float, down: float) -> float:
    """Energy with `up` and `down` electrons in the lowest orbitals; nan if it does not converge."""
    mean_field = fusion.kohn_sham(ATOM, name, grid_level=GRID_LEVEL, occupations=([up], [down]))
    mean_field.kernel()
    return float(mean_field.e_tot) if mean_field.converged else np.nan


def b3lyp(up: float, down: float) -> float:
    """Energy by B3LYP with these electrons."""
    mean_field = dft.UKS(ATOM, xc="b3lyp")
    mean_field.grids.level = GRID_LEVEL
    occupations = np.zeros((2, ATOM.nao))
    occupations[:, 0] = up, down
    mean_field.get_occ = lambda *_: occupations
    orbitals = scf.UHF(ATOM).run().mo_coeff
    mean_field.kernel(dm0=mean_field.make_rdm1(orbitals, occupations))
    return float(mean_field.e_tot) if mean_field.converged else np.nan


def line(pairs: Sequence[tuple[float, float]]) -> np.ndarray:
    """Energies (points, models + 1) for pairs of electrons up and down, B3LYP last."""
    return np.array([[*(learned(name, *pair) for name in MODELS), b3lyp(*pair)] for pair in pairs])


def main() -> None:
    """Compute both lines, write the table and draw them."""
    exact = float(scf.UHF(ATOM).run().e_tot)  # one electron: exact in the basis
    lines = {
        "charge": (STEPS, line([(fraction, 0.0) for fraction in STEPS[1:]])),
        "spin": (STEPS, line([(1.0 - fraction / 2.0, fraction / 2.0) for fraction in STEPS])),
    }
    lines["charge"] = (STEPS, np.vstack((np.zeros((1, len(MODELS) + 1)), lines["charge"][1])))
    straight = {"charge": STEPS * exact, "spin": np.full_like(STEPS, exact)}
    rows = []
    for name, (fractions, energies) in lines.items():
        for fraction, truth, row in zip(fractions, straight[name], energies, strict=True):
            rows.append([name, f"{fraction:.1f}", f"{truth:.4f}", *(f"{energy:.4f}" for energy in row)])
    notes = (
        f"H, cc-pVDZ, grid level {GRID_LEVEL}, hartree. Charge: so many electrons, all of one spin; exact: the "
        "straight line. Spin: (1 - x/2) electrons up and x/2 down; exact: a constant. Both from the energy of one "
        "electron in the same basis."
    )
    path = Path(__file__).with_suffix(".md")
    write_table(path, "Fractional charge and spin of hydrogen", notes, ["line", "x", "exact", *MODELS, "B3LYP"], rows)
    with picture(path.with_suffix(".png"), (9.0, 4.0)) as figure:
        for axes, (name, (fractions, energies)) in zip(figure.subplots(1, 2), lines.items(), strict=True):
            axes.axhline(0.0, color=GREY, lw=2.5, alpha=0.6, label="exact")
            deviations = 1000.0 * (energies - straight[name][:, None])
            for index, (model, colour) in enumerate([*MODELS.items(), ("B3LYP", ORANGE)]):
                axes.plot(fractions, deviations[:, index], "o-", color=colour, ms=4, lw=1.2, label=model)
            axes.set_xlabel("electrons" if name == "charge" else "x: (1 − x/2) up, (x/2) down")
            axes.set_ylabel("energy − exact / millihartree")
            axes.set_title(f"fractional {name} of H", loc="left")
            axes.legend()


if __name__ == "__main__":
    main()
