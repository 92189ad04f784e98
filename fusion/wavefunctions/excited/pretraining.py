"""Pretraining of several states: a fit of their orbitals to leading configurations of a configuration interaction."""

from __future__ import annotations

from typing import Any, cast

import numpy as np
import torch
from torch import Tensor, nn

from fusion.chemistry.system import System
from fusion.errors import InputError
from fusion.parallel.collectives import from_first_rank
from fusion.wavefunctions.ansatz import HasOrbitals
from fusion.wavefunctions.determinants import states_of_determinants
from fusion.wavefunctions.excited.state_matrix import StateSets
from fusion.wavefunctions.features import nuclear_vectors, sites
from fusion.wavefunctions.pretraining import Pretraining, block_diagonal
from fusion.wavefunctions.reference_orbitals import OrbitalReference
from fusion.wavefunctions.references import ConfigurationInteraction
from fusion.wavefunctions.states import States

LEAST = 0.1
"""Configurations of a state with a smaller coefficient, relative to its largest, are left out."""

INDEPENDENT = 1e-3
"""Smallest singular value of the kept coefficients, with normalised states, at which the states are independent."""


class LeadingConfigurations(nn.Module):
    """K determinants for each of S states, the leading configurations of a reference in turn.

    A determinant has the coefficient of its configuration, divided by the number of its copies, as a factor of its
    orbitals.

    Args:
        system: nuclei and electrons.
        reference: configurations of S states.
        determinants: K.

    Raises:
        InputError: K configurations do not tell the states apart.
    """

    nuclei: Tensor
    factors: Tensor

    def __init__(self, system: System, reference: OrbitalReference, determinants: int) -> None:
        super().__init__()
        self.reference, self.number = reference, len(reference.weights)
        self.register_buffer("nuclei", sites(system))
        chosen, coefficients = leading(reference.weights, determinants)
        rows = np.unravel_index(chosen.ravel(), reference.weights.shape[1:])
        for spin, (own, row) in enumerate(zip(reference.strings, rows, strict=False)):
            self.register_buffer(f"occupied_{spin}", torch.tensor(own[row]))
        size = np.abs(coefficients.ravel()) ** (1 / sum(reference.spins))
        # The sign of a determinant is that of its first column.
        columns = np.repeat(size[:, None], sum(reference.spins), axis=1)
        columns[:, 0] *= np.sign(coefficients.ravel())
        self.register_buffer("factors", torch.tensor(columns, dtype=torch.get_default_dtype()))

    def orbitals(self, electrons: Tensor) -> list[Tensor]:
        """Matrices (B, S K, n_s, n_s) of every spin at electrons (B, N, 3), rows electrons."""
        chi = cast(nn.Module, self.reference)(*nuclear_vectors(electrons, self.nuclei))
        blocks, first = [], 0
        for spin, number in enumerate(self.reference.spins):
            own = slice(first, first + number)
            matrices = chi[:, own][..., self.get_buffer(f"occupied_{spin}")].transpose(1, 2)
            blocks.append(matrices * self.factors[:, None, own])
            first += number
        return blocks

    def states(self, electrons: Tensor) -> States:
        """All states at electrons (B, N, 3)."""
        return states_of_determinants(self.orbitals(electrons), self.number)


class StatePretraining(Pretraining):
    """Mean-square fit of the orbitals of all states to those of `LeadingConfigurations`, at all electron sets.

    Walkers are drawn from the density of the target: |det M|^2 of its states for natural excited states (Pfau et al.
    2024, Science 385, eadn0137, supplement).

    Args:
        matrix: the states; ``matrix.shared`` has ``orbitals``.
        system: nuclei and electrons.
        learning_rate: initial rate of Adam.
        pure_spin: take only states with the spin of the system's unpaired electrons.

    Attributes:
        levels: energies (hartree) of the states of the configuration interaction, and of a few more.

    Raises:
        InputError: the determinants of the states are too few, or their system has too few states.
        CalculationError: the configuration interaction does not converge.
    """

    def __init__(self, matrix: StateSets, system: System, learning_rate: float, pure_spin: bool = False) -> None:
        self.ansatz, self.learning_rate = matrix.shared, learning_rate
        self.like = next(matrix.parameters())
        example = torch.zeros(1, system.n_electrons, 3, dtype=self.like.dtype, device=self.like.device)
        with torch.no_grad():
            blocks = cast(HasOrbitals, matrix.shared).orbitals(example)
        self.sizes = [block.shape[-1] for block in blocks]
        reference = ConfigurationInteraction(system, matrix.number, pure_spin)
        self.levels = reference.levels
        target = LeadingConfigurations(system, reference, blocks[0].shape[1] // matrix.number)
        self.target = type(matrix)(target.to(self.like.device, self.like.dtype), matrix.number)
        # Every rank has its own choice of degenerate orbitals and states.
        for buffer in target.buffers():
            buffer.copy_(from_first_rank(buffer))
        self.parameters = [p for p in matrix.parameters() if p.requires_grad]
        self.adam = torch.optim.Adam(self.parameters, lr=learning_rate)

    def log_density(self, electrons: Tensor) -> Tensor:
        """2 log|Psi| of the target, (B,)."""
        return 2 * self.target(electrons)[1]

    def state_dict(self) -> dict[str, Any]:
        return {"adam": self.adam.state_dict(), "target": self.target.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.adam.load_state_dict(state["adam"])
        self.target.load_state_dict(state["target"])

    def _points(self, electrons: Tensor) -> Tensor:
        return self.target.sets(electrons)

    def _targets(self, electrons: Tensor) -> list[Tensor]:
        blocks = cast(LeadingConfigurations, self.target.shared).orbitals(electrons)
        return [block_diagonal(blocks)] if self.sizes == [electrons.shape[1]] else blocks


def leading(weights: np.ndarray, determinants: int) -> tuple[np.ndarray, np.ndarray]:
    """Choose configurations (S, K) of coefficients (S, S_up, S_down) by their flat index, and coefficients (S, K).

    Raises InputError if the states are not independent with these configurations alone.
    """
    flat = weights.reshape(len(weights), -1)
    chosen = np.zeros((len(flat), determinants), dtype=int)
    coefficients = np.zeros((len(flat), determinants))
    kept = np.zeros_like(flat)
    for state, own in enumerate(flat):
        order = np.argsort(-np.abs(own), kind="stable")[:determinants]
        order = order[np.abs(own[order]) > LEAST * np.abs(own).max()]
        chosen[state] = np.resize(order, determinants)
        copies = np.bincount(np.resize(np.arange(len(order)), determinants))
        coefficients[state] = np.resize(own[order] / copies, determinants)
        kept[state, order] = own[order] / np.linalg.norm(own[order])
    if np.linalg.svd(kept, compute_uv=False).min() < INDEPENDENT:
        raise InputError(
            f"method.states={len(flat)}: {determinants} determinants for each are too few to tell them apart: raise "
            "method.model.determinants"
        )
    return chosen, coefficients
