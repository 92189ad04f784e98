"""Forces, stress, Hessian and dipole derivatives of any potential by automatic differentiation. Atomic units."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

import torch
from torch import Tensor

from fusion.errors import CalculationError
from fusion.potentials.batch import Batch
from fusion.potentials.protocol import Potential, Prediction, checked

_BY_POSITIONS = frozenset({"forces", "forces_members", "hessian", "hessian_members", "dipole_derivatives"})


def evaluate(model: Potential, batch: Batch, properties: Iterable[str]) -> tuple[Prediction, dict[str, Tensor]]:
    """Return the model's prediction and the requested derivatives by name.

    `properties` may name `forces` (B, A, 3) and `forces_members` (M, B, A, 3) in hartree/bohr, `stress` (B, 3, 3) in
    hartree/bohr^3, `hessian` (B, A, 3, A, 3) and `hessian_members` (M, B, A, 3, A, 3) in hartree/bohr^2, and
    `dipole_derivatives` (B, A, 3, 3) in e, whose last index is the component of the dipole. Padding gets zeros. The
    stress is dE/d(strain) / volume, as in ASE, and needs cells. Raises CalculationError if the energy is not
    differentiable.
    """
    wanted = set(properties)
    strain = batch.positions.new_zeros(len(batch), 3, 3, requires_grad="stress" in wanted)
    positions = batch.positions.clone().requires_grad_(bool(wanted & _BY_POSITIONS))
    with torch.enable_grad():
        moved = deformed(batch, positions, strain) if "stress" in wanted else replace(batch, positions=positions)
        prediction = checked(model(moved), batch)
        derivatives: dict[str, Tensor] = {}
        if "stress" in wanted:
            volume = torch.linalg.det(batch.cell).abs()
            derivatives["stress"] = derivative(prediction.energy, strain) / volume[:, None, None]
        if prediction.forces is not None:
            derivatives["forces"] = prediction.forces
        if "hessian" in wanted or ("forces" in wanted and prediction.forces is None):
            gradient = derivative(prediction.energy, positions, twice="hessian" in wanted)
            derivatives.setdefault("forces", -gradient)
            if "hessian" in wanted:
                derivatives["hessian"] = _hessian(gradient, positions)
        if "forces_members" in wanted and prediction.members is not None:
            slopes = [derivative(member, positions) for member in prediction.members]
            derivatives["forces_members"] = -torch.stack(slopes)
        if "hessian_members" in wanted and prediction.members is not None:
            slopes = [derivative(member, positions, twice=True) for member in prediction.members]
            derivatives["hessian_members"] = torch.stack([_hessian(slope, positions) for slope in slopes])
        if "dipole_derivatives" in wanted and prediction.dipole is not None:
            rows = [derivative(component, positions) for component in prediction.dipole.T]
            derivatives["dipole_derivatives"] = torch.stack(rows, dim=-1)
    return prediction, {name: value.detach() for name, value in derivatives.items() if name in wanted}


def _hessian(gradient: Tensor, positions: Tensor) -> Tensor:
    """(B, A, 3, A, 3) from the gradient (B, A, 3); one backward pass gives a row for every system of the batch."""
    size, atoms = gradient.shape[:2]
    if not gradient.requires_grad:  # an energy linear in the positions
        return gradient.new_zeros(size, atoms, 3, atoms, 3)
    rows = [derivative(column, positions) for column in gradient.reshape(size, -1).T]
    return torch.stack(rows, dim=1).reshape(size, atoms, 3, atoms, 3)


def deformed(batch: Batch, positions: Tensor, strain: Tensor) -> Batch:
    """The batch at `positions`, deformed with its cells by the symmetric part of `strain` (B, 3, 3)."""
    deform = torch.eye(3, dtype=strain.dtype, device=strain.device) + 0.5 * (strain + strain.transpose(1, 2))
    return replace(batch, positions=positions @ deform, cell=batch.cell @ deform)


def derivative(values: Tensor, variable: Tensor, twice: bool = False) -> Tensor:
    """Derivative of the sum of `values` by `variable`, zeros where none depends on it; `twice`: itself differentiable.

    Raises CalculationError where `values` are not a differentiable function.
    """
    try:
        (gradient,) = torch.autograd.grad(
            values.sum(), variable, create_graph=twice, retain_graph=True, allow_unused=True, materialize_grads=True
        )
    except RuntimeError as error:
        raise CalculationError(f"the potential's energy is not differentiable ({error})") from error
    return gradient
