"""Coulomb energies of periodic cells with known Madelung constants."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from exact import Slater1s, molecule
from fusion.chemistry.system import System
from fusion.errors import InputError
from fusion.wavefunctions.hamiltonians import Coulomb, Ewald, Point
from fusion.wavefunctions.periodic.cell import Cell
from fusion.wavefunctions.periodic.ewald import EwaldSum

pytestmark = pytest.mark.usefixtures("double_precision")

SKEWED = Cell(torch.tensor([[3.9, 0.0, 0.0], [0.5, 3.6, 0.2], [-0.7, 0.3, 4.1]], dtype=torch.float64))
CHARGES = torch.tensor([-1.0, -1.0, 2.0, -1.0, 1.5], dtype=torch.float64)


def random_charges() -> Tensor:
    return torch.rand(3, len(CHARGES), 3) @ SKEWED.vectors


@pytest.mark.parametrize(
    ("cell", "constant"),
    [
        ([[1, 0, 0], [0, 1, 0], [0, 0, 1]], -2.837297479480619),
        # Body-centred cubic with edge a: V = a^3 / 2 = 4 pi / 3 r_s^3, -0.895929 / r_s hartree per electron.
        ([[-0.5, 0.5, 0.5], [0.5, -0.5, 0.5], [0.5, 0.5, -0.5]], -2 * 0.8959292556 / (3 / (8 * np.pi)) ** (1 / 3)),
    ],
)
def test_madelung_constants_of_wigner_crystals(cell: list[list[float]], constant: float) -> None:
    assert EwaldSum(Cell(torch.tensor(cell, dtype=torch.float64))).madelung == pytest.approx(constant, abs=1e-8)


@pytest.mark.parametrize(
    ("edges", "cation", "constant"),
    [
        ([[0, 1, 1], [1, 0, 1], [1, 1, 0]], [1, 0, 0], 1.747564594633),  # NaCl
        ([[2 / 3**0.5, 0, 0], [0, 2 / 3**0.5, 0], [0, 0, 2 / 3**0.5]], [3**-0.5] * 3, 1.762674773071),  # CsCl
    ],
)
def test_madelung_constants_of_ionic_crystals(edges: list[list[float]], cation: list[float], constant: float) -> None:
    """E = -M / d per pair of ions at the distance d."""
    d = 2.3
    crystal = EwaldSum(Cell(d * torch.tensor(edges, dtype=torch.float64)))
    ions = d * torch.tensor([[[0.0, 0.0, 0.0], cation]])
    assert float(crystal(ions, torch.tensor([-1.0, 1.0]))) * d == pytest.approx(-constant, abs=1e-9)


@pytest.mark.parametrize("splitting", [1.7, 4.0])
def test_energy_does_not_depend_on_the_splitting(splitting: float) -> None:
    r = random_charges()
    torch.testing.assert_close(EwaldSum(SKEWED, splitting)(r, CHARGES), EwaldSum(SKEWED)(r, CHARGES), atol=1e-9, rtol=0)


def test_energy_has_the_period_of_the_cell() -> None:
    r, ewald = random_charges(), EwaldSum(SKEWED)
    moved = r.clone()
    moved[:, 1] += 2 * SKEWED.vectors[0] - SKEWED.vectors[2]
    torch.testing.assert_close(ewald(moved, CHARGES), ewald(r, CHARGES), atol=1e-9, rtol=0)


def test_large_cell_of_neutral_atoms_is_a_molecule() -> None:
    """A hydrogen molecule in a large box interacts with its images by dipoles and weaker."""
    electrons = 0.3 * torch.randn(4, 2, 3)
    bare = molecule("H H", 1.4)
    box = System("box", bare.symbols, bare.positions, cell=60 * np.eye(3), pbc=(True, True, True))
    point = Point(Slater1s(1.0), electrons, 4)
    torch.testing.assert_close(Ewald(box)(point), Coulomb(bare)(point), atol=1e-4, rtol=0)


def test_each_interaction_refuses_the_other_kind_of_system() -> None:
    bare = molecule("H H", 1.4)
    with pytest.raises(InputError, match="three periodic directions"):
        Ewald(bare)
    box = System("box", bare.symbols, bare.positions, cell=60 * np.eye(3), pbc=(True, True, True))
    with pytest.raises(InputError, match="Coulomb is for molecules"):
        Coulomb(box)
