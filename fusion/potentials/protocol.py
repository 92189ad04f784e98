"""What a learned potential is: a module from a batch of systems to their energies. Atomic units."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

from torch import Tensor

from fusion.errors import CalculationError
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


def checked(prediction: Any, batch: Batch) -> Prediction:
    """Return what a potential's forward gave for `batch`, if its type and shapes are those of a `Prediction`.

    Raises CalculationError naming the first fault; the cost does not depend on the size of the batch.
    """
    if not isinstance(prediction, Prediction):
        kind = type(prediction).__name__
        raise CalculationError(f"the potential's forward must return a fusion.potentials.Prediction, not {kind}")
    size, atoms = batch.numbers.shape
    members = prediction.members
    many = len(members) if isinstance(members, Tensor) and members.dim() else 0
    expected: dict[str, tuple[str, tuple[int, ...]]] = {
        "energy": ("(B,)", (size,)),
        "members": ("(M, B)", (many, size)),
        "forces": ("(B, A, 3)", (size, atoms, 3)),
        "charges": ("(B, A)", (size, atoms)),
        "dipole": ("(B, 3)", (size, 3)),
        "dipole_members": ("(M, B, 3)", (many, size, 3)),
    }
    for name, (meaning, shape) in expected.items():
        value = getattr(prediction, name)
        if value is None and name != "energy":
            continue
        if not isinstance(value, Tensor) or not value.is_floating_point():
            kind = f"a tensor of {value.dtype}" if isinstance(value, Tensor) else type(value).__name__
            raise CalculationError(f"the potential's {name} must be a tensor of floating-point numbers, not {kind}")
        if tuple(value.shape) != shape:
            raise CalculationError(
                f"the potential's {name} must have the shape {meaning} = {shape}, not {tuple(value.shape)}"
            )
    return prediction
