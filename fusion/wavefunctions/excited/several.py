"""Parts that a method builds for several states, in place of those of one."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, cast

from torch import nn

from fusion.config.checks import check_whole
from fusion.errors import InputError
from fusion.wavefunctions.ansatz import TakesStates

if TYPE_CHECKING:
    from fusion.chemistry.system import System
    from fusion.wavefunctions.excited.local_matrix import StateHamiltonian
    from fusion.wavefunctions.excited.module import ExcitedStates
    from fusion.wavefunctions.excited.state_matrix import StateSets
    from fusion.wavefunctions.hamiltonians import Hamiltonian
    from fusion.wavefunctions.optimisers import Optimiser


@dataclass(frozen=True)
class Several:
    """Number of states, and the penalty (hartree) of their overlaps; None for natural excited states."""

    number: int
    penalty: float | None

    def ansatz(self, kind: Any, build: partial[nn.Module], system: System) -> StateSets:
        """Build the states: shared by one ansatz of the class `kind`, or an ansatz for each.

        `build` takes ``system=``, and ``states=`` if `kind` has `TakesStates`.
        """
        from fusion.wavefunctions.excited.state_matrix import StateMatrix, separate

        shared = isinstance(kind, TakesStates)
        if self.penalty is not None:
            from fusion.wavefunctions.excited.penalty import separate_states

            reference = build.keywords.get("reference") if shared else None
            return separate_states(partial(build, system=system), reference, self.number)
        if shared:
            return StateMatrix(build(system=system, states=self.number), self.number)
        return StateMatrix(separate([build(system=system) for _ in range(self.number)]), self.number)

    def hamiltonian(self, hamiltonian: Hamiltonian) -> StateHamiltonian:
        """Build the Hamiltonian of all states; raises InputError for effective core potentials."""
        from fusion.wavefunctions.excited.local_matrix import StateHamiltonian
        from fusion.wavefunctions.excited.penalty import ProductHamiltonian

        return StateHamiltonian(hamiltonian) if self.penalty is None else ProductHamiltonian(hamiltonian)

    def optimiser(self, make: Callable[[nn.Module, int], Optimiser], ansatz: nn.Module, chunk: int) -> Optimiser:
        """Build the optimiser of all states with `make`, which builds that of one ansatz."""
        if self.penalty is None:
            return make(ansatz, chunk)
        from fusion.wavefunctions.excited.penalty import EachState
        from fusion.wavefunctions.excited.state_matrix import StateProduct

        return EachState(make, cast(StateProduct, ansatz), chunk)

    def module(self, arguments: Sequence[Any], spin_every: int) -> ExcitedStates:
        """Build the LightningModule from the arguments of ``VariationalMonteCarlo``."""
        from fusion.wavefunctions.excited.module import ExcitedStates
        from fusion.wavefunctions.excited.penalty import PenalisedStates

        if self.penalty is None:
            return ExcitedStates(*arguments, spin_every=spin_every)
        return PenalisedStates(*arguments, spin_every=spin_every, penalty=self.penalty)


def several(states: Any, penalty: Any) -> Several | None:
    """Read ``method.states`` and ``method.penalty``; None for one state. Raises InputError for wrong values."""
    check_whole("method.states", states, 1)
    number = isinstance(penalty, int | float) and not isinstance(penalty, bool) and penalty > 0
    if penalty is not None and not (number and states > 1):
        raise InputError(
            f"method.penalty={penalty} must be positive, in hartree and larger than the gaps, and needs "
            "method.states=2 or more"
        )
    return None if states == 1 else Several(states, penalty)
