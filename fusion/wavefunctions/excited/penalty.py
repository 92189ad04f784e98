"""Excited states as separate wavefunctions that a penalty of their overlaps keeps apart.

Every state has walkers of its own, x_i from psi_i^2, and minimises its energy with a penalty for its overlaps S_ij with
the states below it, E_i + lambda sum_{j < i} S_ij^2, whose gradient is 2 <d_i O_i>_i with

    d_i = E_L - E_i + lambda sum_{j < i} S_ij (r_ji - S_ij),    r_ji = (psi_j / |psi_j|) / (psi_i / |psi_i|).

It takes the place of the deviation of local energies, so that every optimiser works unchanged (Pathak, Busemeyer,
Rodrigues and Wagner 2021, J. Chem. Phys. 154, 034101; Entwistle et al. 2023, Nat. Commun. 14, 274). Lambda must be
larger than the gaps. A lower state does not feel the higher ones: otherwise every basis of the span of the states would
have almost the same loss, and states of one symmetry end as mixtures.

Overlaps are means over the walkers of all states together, which have the density sum_k psi_k^2 / |psi_k|^2:

    S_ij = S < c_i c_j psi_i psi_j / sum_k (c_k psi_k)^2 >,    c_k = 1 / |psi_k|,

a bounded function, where psi_i / psi_j over the walkers of j alone has its largest values where there are none. The
norms follow from S_ii = 1 (Shirts and Chodera 2008, J. Chem. Phys. 129, 124105, eq. 11, for equal numbers of samples;
Gao et al. 2026, arXiv 2603.14515, use the samples of all states in the same way).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial
from typing import Any, NamedTuple, cast

import torch
from torch import Tensor, nn

from fusion.parallel.collectives import gather_rows
from fusion.wavefunctions.clipping import Clipped, clip
from fusion.wavefunctions.excited.local_matrix import StateEnergy, StateHamiltonian
from fusion.wavefunctions.excited.module import ExcitedStates
from fusion.wavefunctions.excited.state_matrix import SeparateStates, StateProduct, StateSets, separate
from fusion.wavefunctions.optimisation import Optimisation
from fusion.wavefunctions.optimisers import Optimiser
from fusion.wavefunctions.reference_orbitals import OrbitalReference
from fusion.wavefunctions.scores import Step

LARGEST_RATIO = 100.0
"""Bound of ratios of normalised wavefunctions. The mean square of r_ji is 1; as psi_i vanishes at its nodes, the share
of it beyond a bound R is about 1 / R. A bound of ten mean deviations would take away half of the push of a compact
state on a diffuse one."""

NORM_ITERATIONS = 50
"""Iterations of the norms, more than their convergence to the noise takes."""

TINY = 1e-300
"""Smallest denominator."""

OVERLAP = "overlaps"
"""Name of the series of S."""


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

    The overlaps that multiply the ratios are running means over some twenty iterations, whose noise is several times
    smaller than that of one iteration.

    Args:
        penalty: lambda, hartree.
    """

    OVERLAP_MEMORY = 0.95  # weight of the past

    def __init__(self, *args: Any, penalty: float) -> None:
        super().__init__(*args)
        self.penalty = penalty
        self.running_overlaps: Tensor | None = None  # running means of both halves of the walkers, (2, S, S)

    def deviation(self, measured: Any, local: Clipped) -> Tensor:
        """d (B, S) for the walkers of all ranks."""
        energies = measured.matrix.diagonal(dim1=1, dim2=2)
        own = [clip(energies[:, state], self.clip_width).deviation for state in range(energies.shape[1])]
        values = gather_rows(measured.values)
        norms, new = half_overlaps(values)
        before = new if self.running_overlaps is None else self.running_overlaps
        self.running_overlaps = new.lerp(before, self.OVERLAP_MEMORY)
        return torch.stack(own, dim=1) + self.penalty * pushes(values, norms, self.running_overlaps)

    def state_dict(self) -> dict[str, Any]:
        return super().state_dict() | {"running_overlaps": self.running_overlaps}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        super().load_state_dict({"running_overlaps": None, **state})  # runs of an earlier version start the means anew


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

    def _means(self, measured: StateEnergy, kept: Clipped) -> dict[str, Tensor]:
        return super()._means(measured, kept) | {OVERLAP: overlaps(gather_rows(measured.values))[1]}


def half_overlaps(values: Tensor) -> tuple[Tensor, Tensor]:
    """Norms (2, S) and overlaps (2, S, S), see `overlaps`, by the walkers of even and by those of odd numbers."""
    norms, measured = zip(*(overlaps(values[first::2]) for first in (0, 1)), strict=True)
    return torch.stack(norms), torch.stack(measured)


def pushes(values: Tensor, norms: Tensor, measured: Tensor) -> Tensor:
    """Sums over j < i of S_ij (r_ji - <r_ji>), (B, S) by walker and i.

    The overlaps of one half of the walkers multiply the ratios of the other half. From the same walkers, the product
    would be the derivative of S^2 plus the variance of its estimate, some millihartree for a thousand walkers, and
    states would deform until their overlaps have little noise.

    Args:
        values: as for `overlaps`.
        norms: norms by each half, (2, S).
        measured: overlaps by each half, (2, S, S).
    """
    result = torch.zeros(values.shape[:2], dtype=values.dtype, device=values.device)
    for first, other in enumerate(measured.flip(0)):
        ratios = ratios_of(values[first::2] / norms[first]).clamp(-LARGEST_RATIO, LARGEST_RATIO)
        result[first::2] = ((ratios - ratios.mean(0)) * other.tril(diagonal=-1)).sum(2)
    return result


def overlaps(values: Tensor) -> tuple[Tensor, Tensor]:
    """Norms (S,) of the states, up to a common factor, and their overlaps (S, S).

    Args:
        values: psi_k at the walkers x_i, (B, S, S) by walker, i and k, with rows divided by any numbers.
    """
    usable = torch.isfinite(values).all(-1, keepdim=True)
    squares = torch.where(usable, values, 0.0).square().flatten(0, 1)
    counted, states = usable.sum(), values.shape[-1]
    weights = torch.ones_like(squares[0])
    for _ in range(NORM_ITERATIONS):
        shares = squares / (squares @ weights).clamp(min=TINY).unsqueeze(1)
        weights = weights * counted / (states * (weights * shares.sum(0)).clamp(min=TINY))
    norms = weights.rsqrt()
    unit = torch.where(usable, values, 0.0).flatten(0, 1) / norms
    unit = unit / unit.norm(dim=1, keepdim=True).clamp(min=TINY)
    return norms, states * unit.T @ unit / counted


def ratios_of(values: Tensor) -> Tensor:
    """psi_j / psi_i at the walkers x_i, (B, S, S) by walker, i and j; 0 where it is not finite."""
    ratios = values / values.diagonal(dim1=1, dim2=2).unsqueeze(-1)
    return torch.where(torch.isfinite(ratios), ratios, 0.0)


def separate_states(
    build: Callable[..., nn.Module], reference: Callable[..., OrbitalReference] | None, states: int
) -> StateSets:
    """Build one ansatz per state: each starts at a state of the reference, if there is one.

    `build` takes `reference=` if it is not None.
    """

    def of_state(state: int) -> nn.Module:
        if reference is None:
            return build()
        return build(reference=partial(reference, states=states, state=state))

    return StateProduct(separate([of_state(state) for state in range(states)]), states)


class Overlap(NamedTuple):
    """|S_ij| of two states, and their numbers."""

    size: float
    first: int
    second: int


def largest_overlap(series: Iterable[Any]) -> Overlap:
    """Find the largest overlap of two states in the mean of a series of overlaps."""
    size = torch.tensor(list(series), dtype=torch.float64).mean(0).abs().fill_diagonal_(0)
    index = int(size.argmax())
    return Overlap(float(size.flatten()[index]), *divmod(index, len(size)))
