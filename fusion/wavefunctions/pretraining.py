"""Pretraining: a fit of the orbitals of an ansatz to Hartree-Fock orbitals before the energy is minimised."""

from __future__ import annotations

from typing import Any, cast

import torch
from torch import Tensor, nn

from fusion.parallel.collectives import from_first_rank, mean_over_ranks
from fusion.wavefunctions.ansatz import HasOrbitals
from fusion.wavefunctions.gaussian_orbitals import GaussianOrbitals
from fusion.wavefunctions.periodic.plane_waves import PlaneWaveDeterminant
from fusion.wavefunctions.sampler import Metropolis


class Pretraining:
    """Mean-square fit of every determinant's orbitals to the Hartree-Fock ones (Pfau et al. 2020, section III C).

    The target of a full determinant is the block-diagonal matrix of spin-up and spin-down orbitals. Walkers are drawn
    from the Hartree-Fock density.

    Args:
        ansatz: wavefunction with ``orbitals``.
        orbitals: the Hartree-Fock orbitals.
        learning_rate: initial rate of Adam.
    """

    def __init__(
        self, ansatz: nn.Module, orbitals: GaussianOrbitals | PlaneWaveDeterminant, learning_rate: float
    ) -> None:
        self.ansatz, self.orbitals, self.learning_rate = ansatz, orbitals, learning_rate
        # Every rank has its own mean field, and its own choice of degenerate orbitals.
        orbitals.up, orbitals.down = from_first_rank(orbitals.up), from_first_rank(orbitals.down)
        self.parameters = [p for p in ansatz.parameters() if p.requires_grad]
        self.adam = torch.optim.Adam(self.parameters, lr=learning_rate)

    def step(self, sampler: Metropolis, remaining: float = 1.0) -> float:
        """Do one Adam step on this rank's share of walkers, and one move of each kind; return the loss.

        ``remaining``, the remaining share of pretraining, scales the rate, so that the fit ends without Adam's noise.
        """
        self.adam.param_groups[0]["lr"] = self.learning_rate * remaining
        points = self._points(sampler.electrons)
        with torch.no_grad():
            targets = self._targets(points)
        with torch.enable_grad():
            blocks = cast(HasOrbitals, self.ansatz).orbitals(points)
            errors = [(b - target).square().sum() for b, target in zip(blocks, targets, strict=True)]
            loss = torch.stack(errors).sum() / sum(block.numel() for block in blocks)
            grads = torch.autograd.grad(loss, self.parameters, allow_unused=True)
        for p, grad in zip(self.parameters, grads, strict=True):
            p.grad = None if grad is None else mean_over_ranks(grad)
        self.adam.step()
        self.adam.zero_grad(set_to_none=True)
        sampler.run(self.log_density, 2)
        return float(mean_over_ranks(loss.detach()))

    def log_density(self, electrons: Tensor) -> Tensor:
        """2 log|psi_HF|, (B,)."""
        return 2 * self.orbitals.slater_log(electrons)[1]

    def state_dict(self) -> dict[str, Any]:
        return {"adam": self.adam.state_dict(), "up": self.orbitals.up, "down": self.orbitals.down}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.adam.load_state_dict(state["adam"])
        self.orbitals.up, self.orbitals.down = state["up"], state["down"]

    def _points(self, electrons: Tensor) -> Tensor:
        """Electrons (B, N, 3) at which orbitals are compared."""
        return electrons

    def _targets(self, electrons: Tensor) -> list[Tensor]:
        """Target matrices, one (B, 1, n, n) per block of the ansatz."""
        up, down = self.orbitals(electrons)
        blocks = [block.unsqueeze(1) for block in (up, down) if block.shape[-1] > 0]
        sizes = [block.shape[-1] for block in cast(HasOrbitals, self.ansatz).orbitals(electrons[:1])]
        return [block_diagonal(blocks)] if sizes == [electrons.shape[1]] else blocks


def block_diagonal(blocks: list[Tensor]) -> Tensor:
    """Join matrices (..., n_b, n_b) to one (..., n, n)."""
    n = sum(block.shape[-1] for block in blocks)
    out = blocks[0].new_zeros(*blocks[0].shape[:-2], n, n)
    start = 0
    for block in blocks:
        stop = start + block.shape[-1]
        out[..., start:stop, start:stop] = block
        start = stop
    return out
