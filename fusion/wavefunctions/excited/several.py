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
    """Number of states; the penalty (hartree) of their overlaps, None for natural excited states; and that of their
    spins, None for all spins."""

    number: int
    penalty: float | None
    spin_penalty: float | None = None

    def ansatz(self, kind: Any, build: partial[nn.Module], system: System) -> StateSets:
        """Build the states: shared by one ansatz of the class `kind`, or an ansatz for each.

        `build` takes ``system=``, and ``states=`` if `kind` has `TakesStates`.
        """
        from fusion.wavefunctions.excited.state_matrix import StateMatrix, separate

        shared = isinstance(kind, TakesStates)
        reference = build.keywords.get("reference")
        if reference is not None and self.spin_penalty is not None:
            reference = partial(reference, pure_spin=True)
            build = partial(build, reference=reference)
        if self.penalty is not None:
            from fusion.wavefunctions.excited.penalty import separate_states

            return separate_states(partial(build, system=system), reference if shared else None, self.number)
        if shared:
            return StateMatrix(build(system=system, states=self.number), self.number)
        return StateMatrix(separate([build(system=system) for _ in range(self.number)]), self.number)

    def hamiltonian(self, hamiltonian: Hamiltonian, system: System) -> StateHamiltonian:
        """Build the Hamiltonian of all states; raises InputError for effective core potentials, and for a penalty of
        spins where all are the same."""
        if self.spin_penalty is not None and not system.n_down:
            raise InputError(
                f"method.spin_penalty: {system.formula} with {system.spin} unpaired electrons has one spin; remove it"
            )
        from fusion.wavefunctions.excited.local_matrix import StateHamiltonian
        from fusion.wavefunctions.excited.penalty import ProductHamiltonian

        kind = StateHamiltonian if self.penalty is None else ProductHamiltonian
        return kind(hamiltonian, (system.n_up, system.n_down), self.spin_penalty)

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


def several(states: Any, penalty: Any, spin_penalty: Any = None) -> Several | None:
    """Read the settings ``method.states``, ``method.penalty`` and ``method.spin_penalty``; None for one state.

    Raises InputError for wrong values.
    """
    check_whole("method.states", states, 1)
    needs = {"penalty": "larger than the gaps", "spin_penalty": "larger than the gaps to states of higher spin"}
    for (name, size), value in zip(needs.items(), (penalty, spin_penalty), strict=True):
        number = isinstance(value, int | float) and not isinstance(value, bool) and value > 0
        if value is not None and not (number and states > 1):
            raise InputError(
                f"method.{name}={value} must be positive, in hartree and {size}, and needs method.states=2 or more"
            )
    return None if states == 1 else Several(states, penalty, spin_penalty)
