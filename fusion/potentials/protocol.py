"""Protocol of a learned potential: a module that maps a batch of systems to their energies. Atomic units."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

from torch import Tensor

from fusion.errors import CalculationError
from fusion.potentials.batch import Batch


@dataclass(frozen=True)
class Prediction:
    """Prediction of a potential for B systems of at most A atoms. Only the energy is obligatory."""

    energy: Tensor
    """(B,) total energies, hartree."""
    members: Tensor | None = None
    """(M, B) total energies of an ensemble's members, hartree."""
    forces: Tensor | None = None
    """(B, A, 3) hartree/bohr, only from models whose forces are better than minus the gradient of `energy`."""
    charges: Tensor | None = None
    """(B, A) atomic charges, e."""
    dipole: Tensor | None = None
    """(B, 3) e bohr; for an ion relative to the origin of the coordinates; without meaning for a periodic system."""
    dipole_members: Tensor | None = None
    """(M, B, 3) dipoles of an ensemble's members, e bohr."""


class Potential(Protocol):
    """An `nn.Module` whose forward maps a `Batch` to a `Prediction`, differentiably in positions (and cell).

    The core derives forces, stress and Hessians by differentiation. Optional abilities, such as `provides` for a model
    that also predicts an ensemble, charges or a dipole, are in `fusion.potentials.abilities`.
    """

    def __call__(self, batch: Batch) -> Prediction:
        """Predict the energies of the batch; each system's energy depends on that system alone."""
        ...


def checked(prediction: Any, batch: Batch) -> Prediction:
    """Return `prediction`, a potential's output for `batch`, after a check of its type and shapes.

    Raises CalculationError that names the first fault. The cost does not depend on the size of the batch.
    """
    if not isinstance(prediction, Prediction):
        kind = type(prediction).__name__
        raise CalculationError(f"the potential's forward must return a fusion.potentials.Prediction, not {kind}")
    size, atoms = batch.numbers.shape
    members = prediction.members
    n_members = len(members) if isinstance(members, Tensor) and members.dim() else 0
    expected: dict[str, tuple[str, tuple[int, ...]]] = {
        "energy": ("(B,)", (size,)),
        "members": ("(M, B)", (n_members, size)),
        "forces": ("(B, A, 3)", (size, atoms, 3)),
        "charges": ("(B, A)", (size, atoms)),
        "dipole": ("(B, 3)", (size, 3)),
        "dipole_members": ("(M, B, 3)", (n_members, size, 3)),
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
