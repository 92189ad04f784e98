"""Error of density fitting, evaluated once with exact integrals at the converged density.

The fitted energy is stationary at its own density: its difference to the exact energy of this density is the whole
error, up to second order in the change of the density.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np
from pyscf import scf
from pyscf.df import df_jk

from fusion.parallel.blas_threads import one_thread
from fusion.scf.solvent import InSolvent

MOST_FUNCTIONS: Final = 500
"""Largest number of basis functions for which the exact integrals are calculated: about a minute for one density."""


def describe(mean_field: Any, only_coulomb: bool = False) -> dict[str, Any]:
    """JSON-able details of the fitting of a converged SCF, units in the key names; empty for exact integrals.

    `only_coulomb`: the Coulomb matrix alone is fitted; otherwise exchange too, if there is any.
    """
    if not isinstance(mean_field, df_jk._DFHF):
        return {}
    details: dict[str, Any] = {"density_fit": True, "auxiliary_functions": int(mean_field.with_df.get_naoaux())}
    if mean_field.mol.nao > MOST_FUNCTIONS:
        reason = f"not estimated: more than {MOST_FUNCTIONS} basis functions"
        return details | {"density_fit_error": reason}
    with one_thread():
        error = _coulomb(mean_field) if only_coulomb else _total(mean_field)
    return details | {"density_fit_error_hartree": error}


def _coulomb(mean_field: Any) -> float:
    """Fitted minus exact Coulomb energy, hartree."""
    density = np.asarray(mean_field.make_rdm1())
    total = density if density.ndim == 2 else density[0] + density[1]
    fitted, exact = mean_field.get_j(mean_field.mol, total), scf.RHF(mean_field.mol).get_j(mean_field.mol, total)
    return 0.5 * float(np.einsum("ij,ji->", fitted - exact, total))


def _total(mean_field: Any) -> float:
    """Fitted minus exact energy, hartree, of one density in the gas phase."""
    plain = mean_field.undo_solvent() if isinstance(mean_field, InSolvent) else mean_field
    density = mean_field.make_rdm1()
    fitted, exact = (each.energy_elec(density)[0] for each in (plain, plain.undo_df()))
    return float(fitted - exact)
