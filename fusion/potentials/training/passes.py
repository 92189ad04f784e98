"""Forward and backward passes of a potential in training: energies, forces, stress and dipoles. Atomic units.

The loss is a simple function of these four, and `loss` has its derivatives by them. A backward pass turns these into
derivatives by the parameters. `Differentiated` does so for any potential by differentiating twice. A potential whose
descriptors have no parameters can be several times faster with its own `Passes`, which it offers by a method
`passes(labelled, memory_gb) -> Passes | None`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING, Protocol

import numpy as np
import torch
from torch import Tensor, nn

from fusion.errors import CalculationError
from fusion.potentials.abilities import HasPasses
from fusion.potentials.batch import batch_of
from fusion.potentials.derivatives import deformed, derivative
from fusion.potentials.protocol import Prediction, checked

if TYPE_CHECKING:
    from fusion.datasets import Labelled

Back = Callable[["Found"], None]
"""Takes the derivatives of a loss by the predictions, and adds the loss's gradient to every trained parameter's."""


@dataclass(frozen=True)
class Found:
    """Predictions of M members for B structures with N atoms in all, or the derivatives of a loss by these."""

    energy: Tensor
    """(M, B) float64, hartree."""
    forces: Tensor | None = None
    """(M, N, 3) hartree/bohr."""
    stress: Tensor | None = None
    """(M, B, 3, 3) hartree/bohr^3."""
    dipole: Tensor | None = None
    """(M, B, 3) float64, e bohr."""


class Passes(Protocol):
    """Evaluates a potential on structures of one data set, given by their indices."""

    def __call__(
        self, indices: np.ndarray, forces: bool, stress: bool, learn: bool, dipoles: bool = False
    ) -> tuple[Found, Back | None]:
        """Return the members' predictions for structures `indices` (B,) and, with `learn`, the backward pass."""
        ...


class Differentiated:
    """`Passes` of any potential by automatic differentiation: once for the forces, again for their parameters.

    With `learn` the model is in training mode, which may draw random numbers from torch's generator.
    """

    def __init__(self, model: nn.Module, labelled: Labelled) -> None:
        self.model, self.labelled = model, labelled
        parameter = next(model.parameters())
        self.dtype = parameter.dtype

    def __call__(
        self, indices: np.ndarray, forces: bool, stress: bool, learn: bool, dipoles: bool = False
    ) -> tuple[Found, Back | None]:
        self.model.train(learn)
        device = next(self.model.parameters()).device
        batch = batch_of(self.labelled, indices, self.dtype).to(device)
        strain = batch.positions.new_zeros(len(batch), 3, 3, requires_grad=stress)
        positions = batch.positions.clone().requires_grad_(forces)
        with torch.set_grad_enabled(forces or stress or learn):
            moved = deformed(batch, positions, strain) if stress else replace(batch, positions=positions)
            prediction = checked(self.model(moved), batch)
            energy = _members(prediction)
            predicted = Found(energy=energy.double(), dipole=_dipoles(prediction) if dipoles else None)
            if forces and prediction.forces is not None:
                predicted = replace(predicted, forces=prediction.forces[None][:, batch.mask])
            elif forces:
                slopes = [derivative(member, positions, learn) for member in energy]
                predicted = replace(predicted, forces=-torch.stack(slopes)[:, batch.mask])
            if stress:
                volume = torch.linalg.det(batch.cell).abs()[:, None, None]
                virials = torch.stack([derivative(member, strain, learn) for member in energy])
                predicted = replace(predicted, stress=torch.where(volume > 0, virials / volume.clamp(min=1e-30), 0.0))
        if learn and not any(value is not None and value.requires_grad for value in vars(predicted).values()):
            raise CalculationError("the potential's energy does not depend on its parameters: is it detached?")
        return predicted, (lambda by: add_gradients(self.model, predicted, by)) if learn else None


def _members(prediction: Prediction) -> Tensor:
    """Energies (M, B), one row for a potential that is not an ensemble."""
    return prediction.energy[None] if prediction.members is None else prediction.members


def _dipoles(prediction: Prediction) -> Tensor | None:
    """Dipoles (M, B, 3), one row for a potential that is not an ensemble."""
    if prediction.dipole_members is not None:
        return prediction.dipole_members.double()
    return None if prediction.dipole is None else prediction.dipole[None].double()


def add_gradients(model: nn.Module, found: Found, by: Found) -> None:
    """Add a loss's gradient to that of every trained parameter by differentiating the predictions `found`.

    `by` holds the derivatives of the loss by the predictions.
    """
    pairs = [(getattr(found, field.name), getattr(by, field.name)) for field in fields(Found)]
    used = [(value, slope) for value, slope in pairs if value is not None and slope is not None and value.requires_grad]
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    if not used:
        return
    # Not backward(): hooks on the accumulation of gradients (data-parallel wrappers) must not see this part.
    values, slopes = [value for value, _ in used], [slope.to(value.dtype) for value, slope in used]
    for parameter, slope in zip(trained, torch.autograd.grad(values, trained, slopes, allow_unused=True), strict=True):
        if slope is not None:
            parameter.grad = slope if parameter.grad is None else parameter.grad.add_(slope)


def passes(model: nn.Module, labelled: Labelled, memory_gb: float) -> Passes:
    """Return the potential's own `Passes` for these data, or `Differentiated` if it offers none."""
    own = model.passes(labelled, memory_gb) if isinstance(model, HasPasses) else None
    return Differentiated(model, labelled) if own is None else own
