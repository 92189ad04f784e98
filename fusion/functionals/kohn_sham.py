"""PySCF Kohn-Sham objects with a learned functional, and how they are brought to convergence."""

from __future__ import annotations

import warnings
from typing import Any

from pyscf import dft, gto
from torch import nn

from fusion.errors import InputError
from fusion.functionals.integrator import LearnedNumInt
from fusion.system import System


def molecule(system: System, basis: str) -> gto.Mole:
    """The PySCF molecule of a system. Raises InputError for a periodic one and for a basis that PySCF lacks."""
    if system.cell is not None:
        raise InputError(f"{system.name} is periodic; Kohn-Sham calculations here are for molecules")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of a missing basis PySCF also says which package might have it
            return gto.M(
                atom=list(zip(system.symbols, system.positions.tolist(), strict=True)),
                unit="Bohr",
                basis=basis,
                charge=system.charge,
                spin=system.spin,
                verbose=0,
            )
    except (KeyError, gto.basis.BasisNotFoundError) as error:
        raise InputError(f"method.basis: PySCF has no basis {basis!r} for {system.formula}") from error


def kohn_sham(
    mol: gto.Mole, functional: nn.Module, grid_level: int = 3, conv_tol: float = 1e-9, name: str = "the functional"
) -> Any:
    """A mean-field object of PySCF (RKS for spin 0, else UKS) whose exchange-correlation energy is `functional`'s.

    Energies in hartree; `kernel()`, `e_tot`, `converged` and, for pointwise functionals, `nuc_grad_method()` as usual.
    """
    mean_field = (dft.RKS if mol.spin == 0 else dft.UKS)(mol)
    mean_field.xc = ""  # so that PySCF's own questions about hybrids and dispersion are answered with no
    mean_field._numint = LearnedNumInt(functional, name)  # type: ignore[arg-type]
    mean_field.grids.level = grid_level
    mean_field.conv_tol = conv_tol
    return mean_field


def converge(mean_field: Any, max_cycle: int) -> list[str]:
    """Run the SCF: DIIS, then with damping and level shift from where it stopped. Returns the attempts made.

    The object's `converged` says how it ended; the last cycles are always without damping and shift.
    """
    mean_field.max_cycle = max_cycle
    mean_field.kernel()
    attempts = ["DIIS"]
    if not mean_field.converged:
        attempts.append("DIIS with damping and level shift")
        mean_field.damp, mean_field.level_shift = 0.3, 0.3
        mean_field.kernel(dm0=mean_field.make_rdm1())
        mean_field.damp, mean_field.level_shift = 0.0, 0.0
        mean_field.kernel(dm0=mean_field.make_rdm1())
    return attempts
