"""Local energy as a sum of terms."""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import reduce
from typing import NamedTuple, Protocol, cast

import torch
from torch import Tensor, nn

from fusion.chemistry.system import System
from fusion.errors import CalculationError, InputError
from fusion.wavefunctions.hamiltonians.effective_core import EffectiveCore, effective_core
from fusion.wavefunctions.hamiltonians.ewald import Ewald
from fusion.wavefunctions.hamiltonians.point import Point
from fusion.wavefunctions.hamiltonians.terms import Coulomb, Kinetic
from fusion.wavefunctions.jets import LogPsi


class Term(Protocol):
    """One operator of the Hamiltonian, an ``nn.Module``."""

    name: str

    def __call__(self, point: Point) -> Tensor:
        """(O psi) / psi at the walkers of ``point``, (B,), hartree, float64."""
        ...


class LocalEnergy(NamedTuple):
    """Local energies (B,) in hartree, float64: their sum and every term by its name; and psi with its derivatives."""

    total: Tensor
    terms: dict[str, Tensor]
    psi: LogPsi


class Hamiltonian(nn.Module):
    """Sum of terms with different names, of which one is called ``kinetic``."""

    def __init__(self, terms: Sequence[Term]) -> None:
        super().__init__()
        names = [term.name for term in terms]
        if len({*names}) < len(names) or Kinetic.name not in names:
            raise InputError(f"method.hamiltonian: terms must have different names, one of them kinetic; got {names}")
        self.terms = nn.ModuleList(cast(Iterable[nn.Module], terms))

    @property
    def names(self) -> list[str]:
        """Names of the terms in order."""
        return [term.name for term in cast(Iterable[Term], self.terms)]

    @torch.no_grad()
    def evaluate(
        self, ansatz: nn.Module, electrons: Tensor, chunk: int, stream: torch.Generator | None = None
    ) -> LocalEnergy:
        """E_L = (H psi) / psi at electrons (B, N, 3); not finite where psi vanishes.

        ``stream`` is the random stream of terms that need one.
        """
        return self.at(Point(ansatz, electrons, chunk, stream))

    @torch.no_grad()
    def at(self, point: Point) -> LocalEnergy:
        """``evaluate`` at the walkers of ``point``."""
        values = {term.name: self._value(term, point) for term in cast(Iterable[Term], self.terms)}
        return LocalEnergy(reduce(operator.add, values.values()), values, point.psi)

    def local_energy(
        self, ansatz: nn.Module, electrons: Tensor, chunk: int, stream: torch.Generator | None = None
    ) -> Tensor:
        """Total of ``evaluate``, (B,)."""
        return self.evaluate(ansatz, electrons, chunk, stream).total

    @staticmethod
    def _value(term: Term, point: Point) -> Tensor:
        value = term(point)
        if value.shape != point.electrons.shape[:1]:
            raise CalculationError(
                f"the term {term.name} of the Hamiltonian must return one energy per walker, "
                f"({len(point.electrons)},), not {tuple(value.shape)}"
            )
        return value


def build(system: System, terms: Mapping[str, Callable[..., Term | None]]) -> Hamiltonian:
    """Build the Hamiltonian of ``system`` from the builders of its terms, called with ``system=``, in their order.

    A builder returns None for a system on which its term does not act. Raises InputError if a system with effective
    core potentials has no such term.
    """
    hamiltonian = Hamiltonian([term for make in terms.values() if (term := make(system=system)) is not None])
    if system.cores and EffectiveCore.name not in hamiltonian.names:
        raise InputError("system.ecp needs the term effective_core in method.hamiltonian; use hamiltonian=molecule")
    return hamiltonian


def coulomb(system: System) -> Coulomb | Ewald:
    """Build the Coulomb interaction of all charges: in open space, or with the periodic images of a cell."""
    return Coulomb(system) if system.cell is None else Ewald(system)


def molecular(system: System) -> Hamiltonian:
    """H = -1/2 sum_i lap_i - sum_iA Z_A/r_iA + sum_{i<j} 1/r_ij + sum_{A<B} Z_A Z_B/R_AB, and core potentials.

    In a cell, the Coulomb terms are an Ewald sum.
    """
    return build(system, {"kinetic": Kinetic, "coulomb": coulomb, "effective_core": effective_core})
