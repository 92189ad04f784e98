"""What a learned potential is: a module from a batch of systems to their energies. Atomic units."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from torch import Tensor

from fusion.potentials.batch import Batch


@dataclass(frozen=True)
class Prediction:
    """What a potential says about B systems of at most A atoms. Only the energy is obligatory."""

    energy: Tensor
    """(B,) total energies, hartree."""
    members: Tensor | None = None
    """(M, B) total energies of an ensemble's members, hartree."""
    forces: Tensor | None = None
    """(B, A, 3) hartree/bohr, only from models that know better than minus the gradient of `energy`."""
    charges: Tensor | None = None
    """(B, A) atomic charges, e."""
    dipole: Tensor | None = None
    """(B, 3) e bohr, of an ion with respect to the origin of the coordinates; without meaning for what is periodic."""
    dipole_members: Tensor | None = None
    """(M, B, 3) e bohr, of an ensemble's members."""


class Potential(Protocol):
    """An `nn.Module` whose forward maps a `Batch` to a `Prediction`, differentiably in positions (and cell).

    Forces, stress and Hessians come from the core by differentiation. A model that also predicts an ensemble, charges
    or a dipole says so by an attribute `provides`, e.g. frozenset({"energy_std", "charges", "dipole"}). One that
    ignores the cell states `periodic = False`; one whose energies are relative to separate atoms, `single_atoms =
    False`: such systems are then refused.
    """

    def __call__(self, batch: Batch) -> Prediction:
        """Energies of the batch; each system's energy depends on that system alone."""
        ...
