"""Dispersion corrections to a converged energy: D3 with the damping of Becke and Johnson.

Grimme, Antony, Ehrlich, Krieg, J. Chem. Phys. 132, 154104 (2010); Grimme, Ehrlich, Goerigk, J. Comput. Chem. 32, 1456
(2011). Two-body terms only, by the library dftd3 (s-dftd3). The energies published for DM21 include D3(BJ) with
the parameters of B3LYP.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np
from ase.data import chemical_symbols

from fusion.errors import InputError

LAST: Final = 103
"""Heaviest element with parameters."""


def dispersion(
    numbers: Sequence[int] | np.ndarray, positions: np.ndarray, functional: str = "b3lyp"
) -> tuple[float, np.ndarray]:
    """Energy in hartree and its gradient (A, 3) in hartree/bohr, with the parameters of `functional`.

    `numbers` (A,) are nuclear charges, zero for atoms to ignore; `positions` (A, 3) in bohr. Raises
    InputError for elements and functionals without parameters.
    """
    from dftd3.interface import DispersionModel, RationalDampingParam

    charges, positions = np.asarray(numbers, dtype=int), np.asarray(positions, dtype=float)
    real = np.flatnonzero(charges)
    gradient = np.zeros_like(positions)
    try:
        damping = RationalDampingParam(method=functional)
    except (RuntimeError, ValueError) as error:
        raise InputError(
            f"D3(BJ) has no parameters for the functional {functional!r}; there are some for b3lyp, pbe0 and others"
        ) from error
    if not len(real):
        return 0.0, gradient
    missing = sorted(set(charges[real][charges[real] > LAST].tolist()))
    if missing:
        names = ", ".join(chemical_symbols[number] for number in missing)
        raise InputError(f"D3(BJ) has no parameters for {names}; it has them up to {chemical_symbols[LAST]}")
    result = DispersionModel(charges[real], positions[real]).get_dispersion(damping, grad=True)
    gradient[real] = result["gradient"]
    return float(result["energy"]), gradient
