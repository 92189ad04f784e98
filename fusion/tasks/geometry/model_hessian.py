"""Model of the Hessian of a molecule, for steps and error bars where the method has no Hessian.

Force constants of bonds, angles and torsions after Schlegel (1984), Theor. Chim. Acta 66, 333; that of a bond is
A / (r - B)^3, B by the periods of its atoms. They are right within about a factor of two.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np
from ase.data import atomic_numbers
from geometric import internal
from scipy.linalg import null_space

from fusion.chemistry import constraints
from fusion.chemistry.system import System
from fusion.tasks.geometry.geometric import molecule_of

SOFTEST: Final[float] = 0.02
"""Smallest curvature (hartree/bohr^2), that of a torsion."""

PLAIN: Final[float] = 0.2
"""Curvature of all directions of a periodic system, whose bonds cross the border of the cell."""

_A: Final[float] = 1.734
_B: Final = {(1, 1): -0.244, (1, 2): 0.352, (1, 3): 0.660, (2, 2): 1.085, (2, 3): 1.522, (3, 3): 2.068}
"""Parameters of bonds: hartree bohr, and bohr by the periods of the atoms (3: the third and all later ones)."""

_SHORTEST: Final[float] = 0.5
"""Least r - B (bohr): a shorter bond is as stiff."""

_ANGLE, _ANGLE_WITH_HYDROGEN, _TORSION = 0.25, 0.16, 0.023
"""Force constants of angles and of all that twists, hartree/radian^2."""


def motions(system: System) -> np.ndarray:
    """Orthonormal displacements (3A, m) of a relaxation: the free coordinates, or if none are held, all displacements
    without translations and, for a molecule, without rotations."""
    if system.fixed is not None:
        return np.eye(system.positions.size)[:, constraints.free(system).ravel()]
    axes, centred = np.eye(3), system.positions - system.positions.mean(axis=0)
    rigid = [np.tile(axis, len(centred)) for axis in axes]
    if not any(system.pbc):
        rigid += [np.cross(axis, centred).ravel() for axis in axes]
    return np.asarray(null_space(np.stack(rigid), rcond=1e-6))


def scaled_modes(system: System) -> tuple[np.ndarray, np.ndarray]:
    """Displacements W (3A, m), bohr/hartree^1/2, along the eigenvectors of the model Hessian within the `motions`, over
    the roots of its eigenvalues, and their pseudoinverse (m, 3A): W W^T is the inverse of the model Hessian."""
    basis = motions(system)
    values, vectors = np.linalg.eigh(basis.T @ _hessian(system) @ basis)
    modes, roots = basis @ vectors, np.sqrt(np.maximum(values, SOFTEST))
    return modes / roots, roots[:, None] * modes.T


def _hessian(system: System) -> np.ndarray:
    """Model Hessian (3A, 3A), hartree/bohr^2."""
    if any(system.pbc) or len(system.symbols) == 1:
        return PLAIN * np.eye(system.positions.size)
    coordinates = internal.PrimitiveInternalCoordinates(molecule_of(system), connect=True)
    derivatives = np.asarray(coordinates.wilsonB(system.positions.ravel()))
    constants = np.array([_constant(coordinate, system) for coordinate in coordinates.Internals])
    return np.asarray(derivatives.T @ (constants[:, None] * derivatives))


def _constant(coordinate: Any, system: System) -> float:
    """Force constant of one of geomeTRIC's coordinates: hartree/bohr^2 or hartree/radian^2."""
    if isinstance(coordinate, internal.Distance):
        pair = [coordinate.a, coordinate.b]
        distance = float(np.linalg.norm(np.subtract(*system.positions[pair])))
        first, second = sorted(_period(system.symbols[atom]) for atom in pair)
        return _A / max(distance - _B[first, second], _SHORTEST) ** 3
    if isinstance(coordinate, internal.Angle | internal.LinearAngle):
        symbols = {system.symbols[atom] for atom in (coordinate.a, coordinate.b, coordinate.c)}
        return _ANGLE_WITH_HYDROGEN if symbols & {"H", "He"} else _ANGLE
    return _TORSION


def _period(symbol: str) -> int:
    number = atomic_numbers[symbol]
    return 1 if number < 3 else 2 if number < 11 else 3
