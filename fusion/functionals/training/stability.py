"""Distance of a fixed density from the functional's own: second-order change of the energy by orbital rotations.

    dE = sum_sigma sum_ij (n_i - n_j) |F_ij|^2 / (e_i - e_j),    n_i > n_j

F is the Kohn-Sham matrix of the functional in the fixed orbitals, e their energies (from the functional that produced
them), n their occupations. For integer occupations, i is occupied and j empty. dE is never positive, and zero for the
functional's own self-consistent density. Penalised as dE^2, with gaps floored and dE clipped, this is the form of a
public re-implementation of the SCF regularisation of Kirkpatrick et al., Science 374, 1385 (2021); it has not been
compared with the supplement of that paper.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from fusion.functionals.features import DensityFeatures
from fusion.functionals.training.samples import Orbitals, xc_energy


def instability(functional: nn.Module, features: DensityFeatures, orbitals: Orbitals, gap: float) -> Tensor:
    """Return -dE in hartree, with a graph to the parameters; `gap` is the smallest denominator (hartree)."""
    potential = potential_matrix(functional, features, orbitals)
    fock = orbitals.coefficients.mT @ (orbitals.core + potential) @ orbitals.coefficients
    numbers, energies = orbitals.occupations, orbitals.energies
    flow = (numbers[:, :, None] - numbers[:, None, :]).clamp(min=0.0)
    denominators = (energies[:, None, :] - energies[:, :, None]).clamp(min=gap)
    return (2.0 / len(numbers)) * (flow * fock.square() / denominators).sum()


def potential_matrix(functional: nn.Module, features: DensityFeatures, orbitals: Orbitals) -> Tensor:
    """Potential V (S, n, n) of a functional, differentiable by its parameters; contracted as in `LearnedNumInt`."""
    variables = [tensor.detach().requires_grad_() for tensor in features.variables()]
    energy = xc_energy(functional, features.with_variables(variables))
    gradients = torch.autograd.grad(energy, variables, create_graph=True, allow_unused=True, materialize_grads=True)
    derivatives = features.with_variables(gradients)
    chi, spins = orbitals.basis, orbitals.coefficients.shape[0]
    half = 0.5 * _spins(derivatives.rho, spins)[:, None] * chi[0]
    if derivatives.grad is not None:
        half = half + torch.einsum("sxg,xng->sng", _spins(derivatives.grad, spins), chi[1:])
    if derivatives.hfx:
        exchange = torch.stack([_spins(derivatives.hfx[omega], spins) for omega in sorted(derivatives.hfx)])
        half = half - 0.5 * torch.einsum("wsg,wsng->sng", exchange, orbitals.exchange)
    matrix = half @ chi[0].T
    if derivatives.tau is not None:
        scaled = 0.25 * _spins(derivatives.tau, spins)[:, None]
        matrix = matrix + sum((scaled * chi[axis]) @ chi[axis].T for axis in (1, 2, 3))
    return matrix + matrix.mT


def _spins(values: Any, spins: int) -> Tensor:
    tensor: Tensor = values
    return tensor if spins == 2 else tensor.mean(dim=0, keepdim=True)
