"""Hartree-Fock of the electron gas: plane waves, whose energy is a finite sum."""

from __future__ import annotations

import torch

from fusion.chemistry.system import System
from fusion.wavefunctions.periodic.cell import cell_of
from fusion.wavefunctions.periodic.ewald import EwaldSum
from fusion.wavefunctions.periodic.plane_waves import wave_vectors


def plane_wave_energies(system: System) -> tuple[float, float]:
    """Kinetic and Coulomb energy (hartree) of the determinant of the lowest plane waves.

    T = sum_k k^2 / 2 and V = N v_M / 2 - 2 pi / V sum_spins sum_{k != k'} 1 / |k - k'|^2 over occupied k; there is no
    Hartree energy, since the density is uniform like the background.
    """
    cell = cell_of(system)
    assert cell is not None
    kinetic, coulomb = 0.0, 0.5 * system.n_electrons * EwaldSum(cell).madelung
    for n in (system.n_up, system.n_down):
        if n == 0:
            continue
        half = wave_vectors(cell, n)
        k = torch.cat((torch.zeros(1, 3, dtype=torch.float64), half, -half))
        kinetic += 0.5 * float(k.square().sum())
        squared = (k.unsqueeze(1) - k).square().sum(-1).fill_diagonal_(torch.inf)
        coulomb -= 2 * torch.pi / cell.volume * float((1 / squared).sum())
    return kinetic, coulomb
