"""Analytic nuclear gradients of Kohn-Sham energies with learned functionals, through PySCF's gradient objects.

With D and the grid fixed, the exchange-correlation energy changes with the centre of basis function a by

    dE/dR_a = - sum_g [ grad chi_a . (2 v_rho E_a + 2 v_grad . E'_a) + grad grad chi_a . (2 v_grad E_a + v_tau E'_a) ]
              + sum_g sum_o v_hfx^o [ grad chi_a (D F^o)_a + E_a sum_d <grad a| erf(o r)/r |d> E_d ]

summed over spins, where E = D chi, E' = D grad chi, F_b = sum_d nu_bd E_d and v are derivatives by the features, times
weights (first line: Pople, Gill and Johnson, Chem. Phys. Lett. 199, 557 (1992)). The grid moves with the atoms:
features depend on differences of positions only, so that moving a point equals moving all centres the other way. The
weights change with Becke's partition of space (Johnson, Gill and Pople, J. Chem. Phys. 98, 5612 (1993)).
"""

from __future__ import annotations

from typing import Any

import numpy as np
from pyscf import gto, lib
from pyscf.df.df_jk import _DFHF
from pyscf.df.grad import rks as df_rks
from pyscf.df.grad import uks as df_uks
from pyscf.grad import rks, uks
from pyscf.scf.uhf import UHF

from fusion.errors import CalculationError
from fusion.functionals.grid.gradients import exchange_correlation_gradient
from fusion.parallel.blas_threads import one_thread

_PySCF: Any = object  # the classes below supply the bases


class LearnedGradients(_PySCF):
    """Common part of the gradients of all mean-field objects; precedes PySCF's class in the bases."""

    grid_response = True
    """True if points and weights of the grid move with the atoms, as in the energies. Otherwise the gradient
    differs from the derivative of the energy by the error of the grid."""

    def kernel(self, *args: Any, **kwargs: Any) -> np.ndarray:
        """Return the gradient (A, 3), hartree/bohr.

        Raises CalculationError for an SCF that did not converge, and if the parameters have changed since.
        """
        if self.base.e_tot and not self.base.converged:
            raise CalculationError("no nuclear gradient: the SCF did not converge")
        if self.base.weights_changed:
            raise CalculationError(
                f"no nuclear gradient: the weights of {self.base.functional_name} have changed since the SCF; run it "
                "again by kernel()"
            )
        with one_thread():
            return np.asarray(super().kernel(*args, **kwargs))

    def get_veff(self, mol: gto.Mole | None = None, dm: Any = None) -> Any:
        """PySCF's derivative of the Coulomb matrix; the tag `xc` is the gradient of the exchange-correlation energy."""
        mol = self.mol if mol is None else mol
        dm = self.base.make_rdm1() if dm is None else dm
        grids = self.base.grids if self.grids is None else self.grids
        if grids.coords is None:
            grids.build(with_non0tab=True)
        density = np.asarray(dm)
        spins = 0.5 * density[None] if density.ndim == 2 else density
        gradient = exchange_correlation_gradient(self.base._numint, mol, grids, spins, self.grid_response)
        coulomb = self.get_j(mol, dm)
        if getattr(self, "auxbasis_response", False):
            gradient = gradient + coulomb.aux.sum((0, 1))
        if density.ndim == 3:
            coulomb = np.stack([coulomb[0] + coulomb[1]] * 2)
        return lib.tag_array(np.asarray(coulomb), xc=gradient)

    def extra_force(self, atom_id: int, envs: dict[str, Any]) -> np.ndarray:
        """Exchange-correlation gradient of one atom, from `get_veff`."""
        return np.asarray(envs["vhf"].xc[atom_id])

    def get_dispersion(self, *args: Any, **kwargs: Any) -> np.ndarray:
        """Gradient of the dispersion correction, (A, 3)."""
        from fusion.functionals.scf.dispersion import dispersion

        return np.asarray(dispersion(self.mol.atom_charges(), self.mol.atom_coords())[1])


class RestrictedGradients(LearnedGradients, rks.Gradients):
    """Gradients for spin 0."""


class UnrestrictedGradients(LearnedGradients, uks.Gradients):
    """Gradients for both spins, fractional occupations included."""


class FittedRestrictedGradients(LearnedGradients, df_rks.Gradients):
    """Gradients for spin 0 with density fitting of the Coulomb matrix."""


class FittedUnrestrictedGradients(LearnedGradients, df_uks.Gradients):
    """Gradients for both spins with density fitting of the Coulomb matrix."""


def gradients(mean_field: Any) -> LearnedGradients:
    """Object for the gradients of a converged mean-field object, as `mean_field.nuc_grad_method()` returns it."""
    if isinstance(mean_field, _DFHF):
        return (FittedUnrestrictedGradients if isinstance(mean_field, UHF) else FittedRestrictedGradients)(mean_field)
    return (UnrestrictedGradients if isinstance(mean_field, UHF) else RestrictedGradients)(mean_field)
