"""tools/kernels.py [potentials] [functionals]: compile the numba kernels, also of training, into the cache.

Several processes of the tests would otherwise compile the same kernels at the same time.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms
from ase.calculators.singlepoint import SinglePointCalculator
from ase.io import write

import fusion
from fusion.chemistry.structures import from_atoms
from fusion.functionals import FunctionalMethod
from fusion.potentials import PotentialMethod

BENT = np.array([[0.0, 0.0, 0.0], [0.96, 0.0, 0.0], [-0.24, 0.93, 0.0]])
WATER, RADICAL = Atoms("OH2", BENT), Atoms("OH", BENT[:2])
BOX = Atoms("OH2", BENT, cell=[8.0, 8.0, 8.0], pbc=True)
ANI: dict[str, Any] = {
    "elements": ["H", "O"],
    "members": 2,
    "hidden": {"H": [6, 5], "O": [6, 5]},
    # Lengths of the published ANI-1x, for which the kernels are compiled.
    "radial_cutoff": 5.1,
    "radial_eta": 16.0,
    "radial_shifts": [0.9 + 0.27 * shift for shift in range(16)],
    "angular_cutoff": 3.5,
    "angular_eta": 8.0,
    "angular_shifts": [0.9, 1.55, 2.2, 2.85],
    "zeta": 32.0,
    "angle_shifts": [0.2 + 0.39 * shift for shift in range(8)],
}
TRAINING = ("task=train", "weights=null", "trainer=cpu")


def train(place: Path, words: Sequence[str]) -> None:
    """Run a training in `place`."""
    fusion.run([*words, *TRAINING, f"hydra.run.dir={place / 'run'}"])


def potentials(place: Path) -> None:
    """Calculate a molecule and a crystal, and train, in double precision; single precision: `python -m fusion_ani`."""
    from fusion_ani.network import ANI as Network

    frames = []
    for scale in np.linspace(0.95, 1.05, 12):
        frames.append(Atoms("OH2", scale * BENT))
        frames[-1].calc = SinglePointCalculator(frames[-1], energy=-2078.0 + scale, forces=np.zeros((3, 3)))
    write(place / "data.extxyz", frames)
    method = PotentialMethod("ani", Network(**ANI).eval().requires_grad_(False), dtype="float64")
    method.calculate([from_atoms(WATER)], {"energy", "forces", "hessian"})
    method.calculate([from_atoms(BOX)], {"energy", "forces", "stress"})
    model = [f"method.model.{name}={value}".replace("'", "") for name, value in ANI.items() if name != "elements"]
    words = ("dtype=float64", f"data={place / 'data.extxyz'}", "data.check=false", "method.training.epochs=1")
    train(place, ["+method=ani", *model, *words, "data.split.test=2", "data.split.validation=2"])


def functionals(place: Path) -> None:
    """Calculate closed and open shells with forces, and train."""
    from fusion_dm21.network import DM21

    method = FunctionalMethod("dm21", DM21(4, 1).double(), basis="sto-3g", grid_level=0, start=None, max_cycle=2)
    for atoms, spin in ((WATER, 0), (RADICAL, 1)):
        method.calculate([from_atoms(atoms, spin=spin)], {"energy", "forces"})
    (place / "data.toml").write_text('h = { atoms = "H 0 0 0", spin = 1 }\nh2 = { molecule = "H2" }\n')
    small = ("method.model.width=4", "method.model.depth=1", "method.grid_level=0", "method.training.grid_level=0")
    words = ("method.training.basis=sto-3g", "method.training.steps=2", "method.training.batch=1")
    train(place, ["+method=dm21", *small, *words, f"method.training.data={place / 'data.toml'}"])


if __name__ == "__main__":
    for name in sys.argv[1:] or ("potentials", "functionals"):
        with tempfile.TemporaryDirectory() as directory:
            {"potentials": potentials, "functionals": functionals}[name](Path(directory))
