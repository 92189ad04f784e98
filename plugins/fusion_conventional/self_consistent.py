"""Hartree-Fock and Kohn-Sham determinants by PySCF: settings and convergence.

DIIS (Pulay, J. Comput. Chem. 3, 556 (1982)); second order (Sun, arXiv:1610.08423) if DIIS fails; open shells
move from saddle points to minima (Seeger and Pople, J. Chem. Phys. 66, 3045 (1977)).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Final

import numpy as np
from pyscf import dft, scf

from fusion.chemistry.system import System
from fusion.config.checks import check_switch, check_whole, is_number
from fusion.errors import InputError
from fusion.parallel.blas_threads import one_thread
from fusion.scf import initial_guess, second_order
from fusion.scf.basis import Basis
from fusion.scf.broken_symmetry import is_closed
from fusion.scf.ghosts import Ghost, check_no_solvent
from fusion.scf.progress import Watcher, after_cycle
from fusion.scf.reference import RESTRICTED, RESTRICTED_OPEN, UNRESTRICTED
from fusion.scf.reference import read as read_reference
from fusion.scf.solvent import attached
from fusion.scf.solvent import read as read_solvent
from fusion_conventional.molecules import molecule

_CLASSES: Final[dict[str, tuple[Any, Any]]] = {
    RESTRICTED: (scf.RHF, dft.RKS),
    UNRESTRICTED: (scf.UHF, dft.UKS),
    RESTRICTED_OPEN: (scf.ROHF, dft.ROKS),
}
_SHORT: Final = {RESTRICTED: "R", UNRESTRICTED: "U", RESTRICTED_OPEN: "RO"}
_LOWERED: Final = 1e-6
"""Least decrease of the energy, hartree, for a step down from a saddle point to count."""
_STEPS_DOWN: Final = 3


@dataclass(frozen=True)
class Settings:
    """Settings of determinants.

    `xc`: PySCF's name of a functional, None for Hartree-Fock. `reference`: restricted, unrestricted, restricted_open in
    any spelling of `fusion.scf.reference`; None is restricted for spin 0, else unrestricted. `cartesian`: Cartesian d
    and f functions. `density_fit`: for Coulomb and exchange. `grid_level` is PySCF's 0-9; `conv_tol` in hartree;
    `max_cycle` per attempt. `stability`: look for a lower determinant of the same kind; None does so for open shells
    and after second order. `ghosts`: more centres of basis functions. `solvent`: see `fusion.scf.solvent.read`.
    Raises InputError for invalid values.
    """

    xc: str | None = None
    reference: str | None = None
    cartesian: bool = False
    density_fit: bool = False
    grid_level: int = 3
    conv_tol: float = 1e-9
    max_cycle: int = 50
    stability: bool | None = None
    ghosts: tuple[Ghost, ...] = ()
    solvent: Any = None

    def __post_init__(self) -> None:
        if self.xc is not None and (not isinstance(self.xc, str) or not initial_guess.is_functional(self.xc)):
            raise InputError(_no_functional(self.xc))
        object.__setattr__(self, "reference", read_reference(self.reference))
        if isinstance(self.grid_level, bool) or self.grid_level not in range(10):
            raise InputError(f"method.grid_level must be 0 ... 9, not {self.grid_level}")
        if not is_number(self.conv_tol) or self.conv_tol <= 0:
            raise InputError(f"method.conv_tol must be positive (hartree), not {self.conv_tol}")
        check_whole("method.max_cycle", self.max_cycle)
        check_switch("method.cartesian", self.cartesian)
        check_switch("method.density_fit", self.density_fit)
        if self.stability is not None:
            check_switch("method.stability", self.stability)
        object.__setattr__(self, "solvent", read_solvent(self.solvent))
        check_no_solvent(self.ghosts, self.solvent)

    def reference_of(self, system: System) -> str:
        """Kind of determinant for a system. Raises InputError for a restricted one with unpaired electrons."""
        if self.reference == "restricted" and system.spin:
            raise InputError(
                f"method.reference=restricted has no unpaired electrons, but system.spin is {system.spin}; "
                "choose unrestricted or restricted_open"
            )
        return self.reference_of_spin(system.spin)

    def reference_of_spin(self, spin: int) -> str:
        """Kind of determinant for a number of unpaired electrons."""
        return self.reference or ("unrestricted" if spin else "restricted")

    def mean_field(self, system: System, basis: Basis) -> Any:
        """PySCF's mean-field object, not yet converged. Raises InputError for an invalid basis or system."""
        mol = molecule(system, basis, self.cartesian, self.ghosts)
        hartree_fock, kohn_sham = _CLASSES[self.reference_of(system)]
        mean_field = hartree_fock(mol) if self.xc is None else kohn_sham(mol, xc=self.xc)
        if self.xc is not None:
            mean_field.grids.level = self.grid_level
        mean_field.conv_tol, mean_field.max_cycle, mean_field.chkfile = self.conv_tol, self.max_cycle, None
        mean_field = mean_field.density_fit() if self.density_fit else mean_field
        return mean_field if self.solvent is None else attached(mean_field, self.solvent)


@dataclass
class Determinant:
    """Mean-field object after its SCF, with the attempts and warnings of the SCF."""

    mean_field: Any
    start: str
    attempts: list[dict[str, Any]] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)

    @property
    def converged(self) -> bool:
        return bool(self.mean_field.converged)

    def describe(self, basis: str) -> dict[str, Any]:
        """JSON-able details, units in the key names."""
        mean_field, mol = self.mean_field, self.mean_field.mol
        details: dict[str, Any] = {
            "basis": basis,
            "functions": int(mol.nao),
            "cartesian": bool(mol.cart),
            "reference": reference_title(mean_field),
            "energy_hartree": float(mean_field.e_tot),
            "conv_tol_hartree": mean_field.conv_tol,
            "density_fit": hasattr(mean_field, "with_df"),
            "start": self.start,
            "cycles": sum(attempt["cycles"] for attempt in self.attempts),
            "attempts": self.attempts,
        }
        if hasattr(mean_field, "grids"):
            details |= {"xc": mean_field.xc, "grid_level": mean_field.grids.level, "grid_points": mean_field.grids.size}
        if mol.has_ecp():
            details["core_potential_electrons"] = int(sum(mol.atom_nelec_core(atom) for atom in range(mol.natm)))
        if mean_field.istype("UHF"):
            half = 0.5 * mol.spin
            details["spin_squared"] = float(mean_field.spin_square()[0])
            details["spin_squared_of_pure_state"] = half * (half + 1.0)
        if self.warnings:
            details["warnings"] = self.warnings
        return details

    def failure(self) -> str | None:
        """Reason why there is no energy, with advice, in one line; None for a converged determinant."""
        if self.converged:
            return None
        tried = " and ".join(attempt["name"] for attempt in self.attempts)
        return (
            f"the SCF did not converge by {tried} (last energy {self.mean_field.e_tot:.6f} Ha); try a larger "
            "method.max_cycle, another system.spin or method.reference"
        )


def reference_title(mean_field: Any) -> str:
    """Short name of the reference: RHF, UKS, ROHF, ..."""
    kind = (
        "restricted_open" if mean_field.istype("ROHF") else "unrestricted" if mean_field.istype("UHF") else "restricted"
    )
    return _SHORT[kind] + ("KS" if hasattr(mean_field, "grids") else "HF")


def converge(mean_field: Any, density: Any, begun: str, check: bool | None, watcher: Watcher) -> Determinant:
    """Converge PySCF's object from a density (None: PySCF's guess, a superposition of atoms).

    `check` is `Settings.stability`; `watcher` gets the number of cycles and a text after every cycle.
    """
    determinant = Determinant(mean_field, begun)
    mean_field.callback = after_cycle(watcher)
    with one_thread():  # waiting threads of linear algebra would compete with the threads of the integrals
        _attempt(determinant, "DIIS", partial(_diis, mean_field, density))
        if not mean_field.converged:
            _attempt(determinant, "second order", partial(_second_order, mean_field, mean_field.mo_coeff))
        difficult = not mean_field.istype("RHF") or mean_field.istype("ROHF") or len(determinant.attempts) > 1
        if mean_field.converged and (difficult if check is None else check):
            _step_down(determinant)
    return determinant


def semicanonical(mean_field: Any) -> Any:
    """Unrestricted form of a restricted open-shell object, for perturbative corrections: for each spin, the Fock matrix
    is diagonal among the occupied and among the empty orbitals."""
    unrestricted = mean_field.to_uhf()
    fock = unrestricted.get_fock(dm=unrestricted.make_rdm1())
    for spin in (0, 1):
        for filled in (True, False):
            block = (unrestricted.mo_occ[spin] > 0) == filled
            orbitals = unrestricted.mo_coeff[spin][:, block]
            energies, rotation = np.linalg.eigh(orbitals.T @ fock[spin] @ orbitals)
            unrestricted.mo_coeff[spin][:, block] = orbitals @ rotation
            unrestricted.mo_energy[spin][block] = energies
    return unrestricted


def _attempt(determinant: Determinant, name: str, run: Callable[[], int]) -> None:
    cycles = run()
    mean_field = determinant.mean_field
    determinant.attempts.append(
        {
            "name": name,
            "cycles": cycles,
            "converged": bool(mean_field.converged),
            "energy_hartree": float(mean_field.e_tot),
        }
    )


def _diis(mean_field: Any, density: Any) -> int:
    try:
        mean_field.kernel(dm0=density)
    except (np.linalg.LinAlgError, AttributeError) as error:
        # PySCF 2.14 looks for numpy's LinAlgError at its place before numpy 2.
        if not isinstance(error, np.linalg.LinAlgError) and not isinstance(error.__context__, np.linalg.LinAlgError):
            raise
        mean_field.converged = False  # DIIS got the same error vector twice
    return int(mean_field.cycles)


def _second_order(mean_field: Any, orbitals: Any) -> int:
    """Converge from orbitals and store the solution in the object. Returns the number of cycles."""
    solver, cycles = second_order.solved(mean_field, orbitals, mean_field.mo_occ, most=mean_field.max_cycle)
    for name in ("converged", "e_tot", "mo_energy", "mo_coeff", "mo_occ"):
        setattr(mean_field, name, getattr(solver, name))
    return cycles


def _step_down(determinant: Determinant) -> None:
    """Move from a saddle point of the energy to a lower minimum; repeat while the result is unstable."""
    mean_field = determinant.mean_field
    numbers = np.atleast_2d(mean_field.mo_occ)
    if not any((spin > 0).any() and (spin < spin.max()).any() for spin in numbers):  # no empty orbitals to rotate into
        return
    for _ in range(_STEPS_DOWN):
        orbitals = _downhill(mean_field)
        if orbitals is None:
            return
        before = {name: getattr(mean_field, name) for name in ("converged", "e_tot", "mo_energy", "mo_coeff", "mo_occ")}
        _attempt(determinant, "down from a saddle", partial(_second_order, mean_field, orbitals))
        if not mean_field.converged or mean_field.e_tot > before["e_tot"] - _LOWERED:
            # On a grid, rotating an atom's open shell has a small curvature instead of zero.
            determinant.attempts.pop()
            for name, value in before.items():
                setattr(mean_field, name, value)
            if mean_field.istype("ROHF") or second_order.lowest_curvature(mean_field)[0] > -second_order.FLAT:
                return
            break
    determinant.warnings.append("the determinant may not be the lowest of its kind: it is not stable")


def _downhill(mean_field: Any) -> Any:
    """Return orbitals from which the energy falls; None for a minimum.

    PySCF's search starts from equal changes of both spins where their orbitals are equal. In a small basis it then
    misses that the spins separate.
    """
    orbitals, _, stable, _ = mean_field.stability(verbose=0, return_status=True)
    if not stable:
        return orbitals
    if not mean_field.istype("UHF") or mean_field.mol.spin or not is_closed(np.asarray(mean_field.make_rdm1())):
        return None
    curvature, orbitals = second_order.lowest_curvature(mean_field)
    return orbitals if curvature < -second_order.FLAT else None


def _no_functional(name: object) -> str:
    if isinstance(name, str) and name.lower().endswith(("-d3bj", "-d3", "-d4", "-d")):
        plain = name[: name.rindex("-")]
        return f"method.xc={name} includes a dispersion correction; write method.xc={plain} method.dispersion=d3bj"
    return f"method.xc={name!r} is no functional of PySCF; it has b3lyp, pbe, pbe0, wb97x, r2scan and others"
