"""Excited states as separate wavefunctions that a penalty of their overlaps keeps apart.

Every state has walkers of its own, x_k from psi_k^2. With the ratios R_ij = <psi_i / psi_j> over x_j, the squared
overlap is S_ij^2 = R_ij R_ji. The loss sum_i w_i E_i + lambda sum_{i<j} S_ij^2 has the gradient 2 <d_i O_i> with

    d_i = w_i (E_L - E_i) + lambda sum_{j != i} R_ij (psi_j / psi_i - R_ji),

which takes the place of the deviation of local energies, so that every optimiser works unchanged (Pathak, Busemeyer,
Rodrigues and Wagner 2021, J. Chem. Phys. 154, 034101; Entwistle et al. 2023, Nat. Commun. 14, 274). The weights
w_i = 1 / (1 + i) fall, as otherwise every basis of the span of the states would have the same loss. Lambda must be
larger than the gaps. None of this depends on the norms of the states.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, cast

import torch
from torch import Tensor, nn

from fusion.chemistry.system import System
from fusion.parallel.collectives import gather_rows
from fusion.wavefunctions.clipping import Clipped, clip
from fusion.wavefunctions.excited.local_matrix import StateEnergy, StateHamiltonian
from fusion.wavefunctions.excited.module import ExcitedStates
from fusion.wavefunctions.excited.state_matrix import SeparateStates, StateProduct, StateSets
from fusion.wavefunctions.optimisation import Optimisation
from fusion.wavefunctions.optimisers import Optimiser
from fusion.wavefunctions.reference_orbitals import OrbitalReference
from fusion.wavefunctions.scores import Step

RATIOS = 10.0
"""Width of the clipping of ratios of wavefunctions, in mean absolute deviations: they are unbounded near nodes."""

OVERLAP = "overlap_ratios"
"""Name of the series of R."""


class ProductHamiltonian(StateHamiltonian):
    """Local values of every state at its own set, as diagonal matrices."""

    def local(self, values: Tensor, operated: Tensor) -> Tensor:
        """(O psi_k)(x^k) / psi_k(x^k), (B, S, S), zero off the diagonal."""
        own, result = (part.diagonal(dim1=1, dim2=2) for part in (values, operated))
        return torch.diag_embed(result / own)


class EachState:
    """Optimiser of separate states: one for each, with the walkers of that state."""

    def __init__(self, make: Callable[[nn.Module, int], Optimiser], ansatz: StateProduct, chunk: int) -> None:
        states = cast(SeparateStates, ansatz.shared).own
        self.number = ansatz.number
        self.own = [make(state, chunk * self.number) for state in states]

    @property
    def caution(self) -> float:
        """Caution of all optimisers."""
        return self.own[0].caution

    @caution.setter
    def caution(self, value: float) -> None:
        for own in self.own:
            own.caution = value

    def rate(self, iteration: int, deviation: Tensor) -> float:
        """Learning rate of the first state, with deviations (B,), or (B, S) of all states."""
        return self.own[0].rate(iteration, deviation if deviation.dim() == 1 else deviation[:, 0])

    def step(self, electrons: Tensor, deviation: Tensor, iteration: int) -> Step:
        """Changes of the parameters of all states, from electrons (B, S N, 3) and deviations (B, S)."""
        sets = electrons.unflatten(1, (self.number, -1)).unbind(1)
        step: Step = {}
        for state, (own, x) in enumerate(zip(self.own, sets, strict=True)):
            changes = own.step(x.contiguous(), deviation[:, state].contiguous(), iteration)
            step |= {f"shared.own.{state}.{name}": value for name, value in changes.items()}
        return step

    def reset(self) -> None:
        """Reset all optimisers."""
        for own in self.own:
            own.reset()

    def state_dict(self) -> dict[str, Any]:
        return {"own": [own.state_dict() for own in self.own]}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        for own, saved in zip(self.own, state["own"], strict=True):
            own.load_state_dict(saved)


class PenalisedOptimisation(Optimisation):
    """Optimisation whose deviations contain the penalty; further arguments are those of ``Optimisation``.

    Args:
        penalty: lambda, hartree.
    """

    def __init__(self, *args: Any, penalty: float) -> None:
        super().__init__(*args)
        self.penalty = penalty

    def deviation(self, measured: Any, local: Clipped) -> Tensor:
        """d (B, S) for the walkers of all ranks."""
        ratios = clipped_ratios(measured.values)
        mean = ratios.mean(0)
        energies = measured.matrix.diagonal(dim1=1, dim2=2)
        columns = []
        for state in range(len(mean)):
            own = clip(energies[:, state], self.clip_width).deviation / (1 + state)
            # mean[j, i] is R_ij, <psi_i / psi_j> over the walkers of j.
            pushes = mean[:, state] * (ratios[:, state] - mean[state])
            pushes[:, state] = 0
            columns.append(own + self.penalty * pushes.sum(1))
        return torch.stack(columns, dim=1)


class PenalisedStates(ExcitedStates):
    """Optimisation and evaluation of separate states; `ansatz` is a ``StateProduct`` of ``SeparateStates``.

    The energies of both phases are sums over the states.
    """

    def __init__(self, *args: Any, spin_every: int, penalty: float) -> None:
        super().__init__(*args, spin_every=spin_every)
        self.penalty = penalty

    def new_optimisation(self, *args: Any) -> Optimisation:
        """Build the optimisation with the penalty."""
        return PenalisedOptimisation(*args, penalty=self.penalty)

    def _matrices(self, measured: StateEnergy) -> dict[str, Tensor]:
        values = measured.values / measured.values.diagonal(dim1=1, dim2=2).unsqueeze(-1)
        return super()._matrices(measured) | {OVERLAP: values}


def clipped_ratios(values: Tensor) -> Tensor:
    """psi_j / psi_i at the walkers x_i of all ranks, (B, S, S) by walker, i and j, limited to median +- RATIOS * mean
    absolute deviation."""
    ratios = gather_rows(values / values.diagonal(dim1=1, dim2=2).unsqueeze(-1))
    ratios = torch.where(torch.isfinite(ratios), ratios, 0.0)
    centre = ratios.median(0).values
    reach = RATIOS * (ratios - centre).abs().mean(0)
    return torch.minimum(torch.maximum(ratios, centre - reach), centre + reach)


def separate_states(
    build: Callable[..., nn.Module], reference: Callable[..., OrbitalReference] | None, states: int
) -> StateSets:
    """Build one ansatz per state: each starts at a state of the reference, if there is one.

    `build` takes `reference=` if it is not None.
    """

    def of_state(state: int) -> nn.Module:
        if reference is None:
            return build()

        def own(system: System) -> OrbitalReference:
            whole = reference(system, states)
            whole.weights = whole.weights[state]
            return whole

        return build(reference=own)

    return StateProduct(SeparateStates([of_state(state) for state in range(states)]), states)


def largest_overlap(ratios: Iterable[Any]) -> tuple[float, tuple[int, int]]:
    """Largest |S_ij| of two states and their numbers, from a series of R."""
    mean = torch.tensor(list(ratios), dtype=torch.float64).mean(0)
    squared = (mean * mean.T).clamp(min=0).fill_diagonal_(0)
    index = int(squared.argmax())
    return float(squared.flatten()[index]) ** 0.5, divmod(index, len(mean))
