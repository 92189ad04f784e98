"""PySCF mean-field objects with a learned functional; features of PySCF that do not apply raise a clear error."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from pyscf import lib
from pyscf.df import df_jk
from pyscf.dft import rks, uks
from pyscf.lib import logger
from pyscf.scf import hf
from pyscf.solvent import pcm, smd

from fusion.functionals.grid.numint import LearnedNumInt
from fusion.functionals.grid.precision import Weights
from fusion.functionals.grid.response import Response
from fusion.functionals.protocol import depends_on_origin
from fusion.functionals.scf.convergence import Ladder
from fusion.functionals.scf.orientation import Orientation
from fusion.parallel.blas_threads import one_thread
from fusion.scf import initial_guess, occupations, second_order, solvent


def _refused(feature: str) -> Callable[..., Any]:
    def refuse(self: Any, *args: Any, **kwargs: Any) -> Any:
        raise NotImplementedError(
            f"not supported with a learned functional: {feature}; supported are energies, nuclear gradients, dipoles, "
            "PCM(), SMD(), newton() and stability()"
        )

    return refuse


_NO_HESSIAN = _refused("analytic Hessians; task=vibrations takes them from differences of gradients")

_PySCF: Any = object  # the classes below supply the bases


class Learned(_PySCF):
    """Common part of restricted and unrestricted objects; precedes PySCF's class in the bases."""

    _keys = frozenset({"functional_name", "ladder", "attempts", "remarks", "dispersion", "torque", "start_callback"})
    _full = 1.0
    """Number of electrons in a full orbital."""
    mol: Any
    mo_coeff: Any
    mo_occ: Any
    mo_energy: Any
    occupations: tuple[np.ndarray, np.ndarray] | None = None
    """Occupations of spin orbitals, up and down, from the lowest; None: whole ones. Only for unrestricted objects."""

    def learn(self, numint: LearnedNumInt) -> None:
        """Use the functional of `numint` instead of one by name."""
        self.xc = ""  # PySCF then assumes neither a hybrid nor dispersion
        self._numint = numint
        self.functional_name = numint.name
        self.ladder = Ladder()
        self.attempts: list[Any] = []
        """Attempts of the last `kernel`, one per rung (`fusion.functionals.scf.convergence.Attempt`)."""
        self.remarks: list[str] = []
        """Unusual properties of the converged state, one sentence each."""
        self.start_callback: Callable[[str], Callable[..., None]] | None = None
        """Function that returns the `callback` of the starting calculation, given the name of its functional."""
        self.dispersion: str | None = None
        """Name of the dispersion correction: "d3bj" or None."""
        self.torque = 0.0
        """Torque (hartree) of the grid on the open shell of an atom or linear molecule, whose orientation is kept."""
        self._orientation: Orientation | None = None
        self._weights: Weights | None = None

    @property
    def weights_changed(self) -> bool:
        """True if the parameters of the functional are not those of the last SCF."""
        return self._weights is not None and not self._weights.are_those_of(self._numint.functional)

    def _finalize(self) -> Any:
        self._weights = Weights.of(self._numint.functional)
        return super()._finalize()

    @property
    def singlet(self) -> bool:
        """True for an unrestricted singlet with integer occupations: its start must break spin symmetry."""
        integer = not self.decorated and self.occupations is None
        return bool(self.istype("UHF") and self.mol.spin == 0 and integer)

    @property
    def decorated(self) -> bool:
        """True if the occupations come from outside: PySCF's `frac_occ`, `mom_occ`, `smearing`, or a user."""
        return getattr(self.get_occ, "__func__", None) not in (LearnedRKS.get_occ, LearnedUKS.get_occ)

    @property
    def fractional(self) -> bool:
        """True if an orbital is neither empty nor full."""
        return self.mo_occ is not None and not occupations.are_whole([np.ravel(self.mo_occ) / self._full])

    def scf(self, dm0: Any = None, **kwargs: Any) -> float:
        """Converge the SCF with `ladder`, from `dm0`, from existing orbitals or from `init_guess`.

        Returns the energy (hartree); check `converged`; `attempts` lists the attempts. Without cycles (`max_cycle` 0)
        it is the energy of the starting density.
        """
        if self.max_cycle <= 0:
            return float(super().scf(dm0, **kwargs))
        self.dump_flags()
        with one_thread():  # waiting threads of linear algebra would compete with the threads of the integrals
            self.build(self.mol)
            if dm0 is None:
                has_orbitals = self.mo_coeff is not None and self.mo_occ is not None
                dm0 = self.make_rdm1() if has_orbitals else self.get_init_guess(self.mol, self.init_guess)
            self.ladder.climb(self, dm0)
        self._finalize()
        return float(self.e_tot)

    def kernel(self, dm0: Any = None, **kwargs: Any) -> float:
        """Run `scf`."""
        return self.scf(dm0, **kwargs)

    def get_init_guess(self, mol: Any = None, key: Any = "minao", **kwargs: Any) -> Any:
        """Return one of PySCF's guesses, or the density of a conventional functional by name ("b3lyp", "hf", ...)."""
        if isinstance(key, str) and initial_guess.is_functional(key):
            return initial_guess.density(self, key)
        return super().get_init_guess(mol, key, **kwargs)

    def get_fock(
        self, h1e: Any = None, s1e: Any = None, vhf: Any = None, dm: Any = None, *args: Any, **kwargs: Any
    ) -> Any:
        """Return the Fock matrix without the part that would rotate the open shell of an atom or linear molecule."""
        dm = self.make_rdm1() if dm is None else dm
        h1e = self.get_hcore() if h1e is None else h1e
        vhf = self.get_veff(self.mol, dm) if vhf is None else vhf
        if not self.decorated and not self.fractional and not depends_on_origin(self._numint.functional):
            if self._orientation is None:
                self._orientation = Orientation(self.mol)
            fock, self.torque = self._orientation.held(np.asarray(h1e + vhf), np.asarray(dm))
            vhf = fock - h1e
        return super().get_fock(h1e, s1e, vhf, dm, *args, **kwargs)

    def dump_flags(self, verbose: Any = None) -> Any:
        log = logger.new_logger(self, verbose)
        super(rks.KohnShamDFT, self).dump_flags(verbose)
        log.info("XC functional = %s (learned)", self.functional_name)
        self.grids.dump_flags(verbose)
        return self

    def do_disp(self, *args: Any) -> bool:
        return self.dispersion is not None

    def get_dispersion(self, *args: Any, **kwargs: Any) -> float:
        """Energy of the dispersion correction, hartree."""
        from fusion.functionals.scf.dispersion import dispersion

        return dispersion(self.mol.atom_charges(), self.mol.atom_coords())[0]

    def reset(self, mol: Any = None) -> Any:
        """Discard all data of the molecule, and use another one."""
        super().reset(mol)
        self._numint.reset()
        self._orientation = None
        return self

    def density_fit(self, auxbasis: Any = None, with_df: Any = None, only_dfj: bool = True) -> Any:
        """Return the object with density fitting of the Coulomb matrix; local exchange is not fitted."""
        if isinstance(self, solvent.InSolvent):  # outside of the solvent, PySCF's gradients would lose it
            return solvent.attached(self.undo_solvent().density_fit(auxbasis, with_df, only_dfj), self.with_solvent)
        fitted = super().density_fit(auxbasis, with_df, only_dfj)
        return lib.set_class(fitted, (LearnedDF, self.__class__))

    def PCM(self, solvent_obj: Any = None) -> Any:
        """Return the object in a polarisable continuum: PySCF's, with its `method` and dielectric constant `eps`."""
        return solvent.attached(self, pcm.PCM(self.mol) if solvent_obj is None else solvent_obj)

    def SMD(self, solvent_obj: Any = None) -> Any:
        """Return the object in the SMD model: PySCF's, with the name of its `solvent`."""
        return solvent.attached(self, smd.SMD(self.mol, "water") if solvent_obj is None else solvent_obj)

    def nuc_grad_method(self) -> Any:
        """Return the object for analytic nuclear gradients, with the response of the grid."""
        from fusion.functionals.scf.gradients import gradients

        return gradients(self)

    Gradients = nuc_grad_method

    def stable(self) -> bool:
        """True if no small rotation of the orbitals lowers the energy within the restrictions of the object."""
        return second_order.lowest_curvature(self)[0] > -second_order.FLAT

    TDA = TDDFT = TDHF = CasidaTDDFT = TDDFTNoHybrid = dTDA = dRPA = _refused(
        "excited states by TDDFT, whose kernel was not trained; conventional methods have excited states"
    )
    MP2 = DFMP2 = CISD = CCSD = _refused("correlation on top of it; to_hf() gives a Hartree-Fock object")
    CPCM = DDPCM = ddPCM = DDCOSMO = ddCOSMO = PE = _refused("this solvent model")
    Hessian = _NO_HESSIAN
    NMR = NSR = SSC = EFG = Polarizability = RotationalGTensor = _refused("response properties")
    multigrid_numint = COSX = _refused("another integration grid")
    to_gks = to_ghf = _refused("non-collinear spins")
    to_gpu = _refused("a GPU, as its integrals on the grid are computed by the CPU")


class LearnedDF(df_jk._DFHF):
    """PySCF's density fitting with the gradients of the learned functional."""

    __name_mixin__ = "DF"

    nuc_grad_method = Gradients = Learned.nuc_grad_method
    Hessian = _NO_HESSIAN


class LearnedRKS(Learned, rks.RKS):
    """Restricted Kohn-Sham: spin 0."""

    _full = 2.0

    def gen_response(
        self, mo_coeff: Any = None, mo_occ: Any = None, singlet: Any = None, hermi: int = 0, **ignored: Any
    ) -> Callable[[np.ndarray], np.ndarray]:
        """Return the change of the Fock matrix (n, n) with the density matrix (n, n), as PySCF's `gen_response`.

        `singlet` False: the change of the difference between both spins' matrices.
        """
        density = self.make_rdm1(mo_coeff, mo_occ) if mo_coeff is not None else self.make_rdm1()
        half = 0.5 * np.asarray(density)
        triplet = singlet is False
        reference = np.stack([half, half]) if triplet else half[None]
        response = Response(self._numint, self.mol, self.grids, reference)

        def triplet_change(change: np.ndarray) -> np.ndarray:
            up, down = response.potential(0.5 * np.stack([change, -change]), hermi)
            return np.asarray(0.5 * (up - down))

        def change_of_fock(change: np.ndarray) -> np.ndarray:
            potential = response.potential(0.5 * change[None], hermi)[0]
            return potential if hermi == 2 else potential + self.get_j(self.mol, change, hermi)

        return _one_by_one(triplet_change if triplet else change_of_fock, 2)

    def to_uks(self, xc: Any = None) -> Any:
        """Return an unrestricted object with the same orbitals, not converged."""
        return copied(self, LearnedUKS)


class LearnedUKS(Learned, uks.UKS):
    """Unrestricted Kohn-Sham; `occupations` (up, down) may be fractional."""

    _keys = Learned._keys | {"occupations"}

    @property
    def fractional(self) -> bool:
        """True if an orbital is neither empty nor full."""
        return super().fractional if self.occupations is None else not occupations.are_whole(self.occupations)

    def get_occ(self, mo_energy: Any = None, mo_coeff: Any = None) -> np.ndarray:
        if self.occupations is None:
            return np.asarray(super().get_occ(mo_energy, mo_coeff))
        energies = self.mo_energy if mo_energy is None else mo_energy
        pairs = zip(energies, self.occupations, strict=True)
        return np.array([occupations.by_energy(values, numbers) for values, numbers in pairs])

    def get_grad(self, mo_coeff: Any, mo_occ: Any, fock: Any = None) -> np.ndarray:
        """Gradient by orbital rotations, those among fractionally occupied orbitals included."""
        if not self.fractional:
            return np.asarray(super().get_grad(mo_coeff, mo_occ, fock))
        if fock is None:
            fock = self.get_hcore() + self.get_veff(self.mol, self.make_rdm1(mo_coeff, mo_occ))
        return np.concatenate([occupations.coupling(*spin) for spin in zip(mo_coeff, mo_occ, fock, strict=True)])

    def spin_square(self, mo_coeff: Any = None, s: Any = None) -> tuple[float, float]:
        """<S^2> of the Kohn-Sham determinant, and the multiplicity that corresponds to it."""
        if self.fractional:
            raise NotImplementedError("<S^2> needs a determinant, but fractional occupations are an ensemble")
        value, multiplicity = super().spin_square(mo_coeff, s)
        return float(value), float(multiplicity)

    def _finalize(self) -> Any:
        if not self.fractional:
            return super()._finalize()
        self._weights = Weights.of(self._numint.functional)
        return hf.SCF._finalize(self)  # PySCF's for unrestricted objects needs a determinant

    def gen_response(
        self, mo_coeff: Any = None, mo_occ: Any = None, with_j: bool = True, hermi: int = 0, **ignored: Any
    ) -> Callable[[np.ndarray], np.ndarray]:
        """Return the change of the Fock matrices (2, n, n) with the density matrices (2, n, n)."""
        density = self.make_rdm1(mo_coeff, mo_occ) if mo_coeff is not None else self.make_rdm1()
        response = Response(self._numint, self.mol, self.grids, np.asarray(density))

        def change_of_fock(change: np.ndarray) -> np.ndarray:
            potential = response.potential(change, hermi)
            return (
                potential + self.get_j(self.mol, change[0] + change[1], hermi) if with_j and hermi != 2 else potential
            )

        return _one_by_one(change_of_fock, 3)

    def newton(self) -> Any:
        """Return the second-order SCF, for integer occupations."""
        if self.fractional:
            raise NotImplementedError("second-order SCF is for orbitals that are empty or full")
        return super().newton()

    def stability(self, internal: bool = True, external: bool = False, **options: Any) -> Any:
        """Run PySCF's stability analysis within unrestricted orbitals."""
        if external:
            raise NotImplementedError(
                "stability against non-collinear spins needs a functional of these; learned ones are collinear"
            )
        if self.fractional:
            raise NotImplementedError("the stability analysis is for orbitals that are empty or full")
        return super().stability(internal, False, **options)


_COPIED = (
    "grids", "conv_tol", "conv_tol_grad", "max_cycle", "max_memory", "level_shift", "damp", "init_guess", "dispersion",
    "ladder", "callback", "start_callback", "verbose",
)  # fmt: skip
"""Settings that a change of the kind of orbitals keeps."""


def copied(mean_field: Any, kind: type) -> Any:
    """Build an unrestricted object with the settings and orbitals of a restricted one."""
    result = kind(mean_field.mol)
    result.learn(mean_field._numint)
    for name in _COPIED:
        setattr(result, name, getattr(mean_field, name))
    if mean_field.mo_coeff is not None:
        result.mo_coeff = np.stack([mean_field.mo_coeff] * 2)
        result.mo_energy = np.stack([mean_field.mo_energy] * 2)
        result.mo_occ = np.stack([0.5 * mean_field.mo_occ] * 2)
    if isinstance(mean_field, df_jk._DFHF):
        result = result.density_fit(with_df=mean_field.with_df, only_dfj=mean_field.only_dfj)
    if isinstance(mean_field, solvent.InSolvent):
        return solvent.attached(result, mean_field.with_solvent.copy())
    return result


def _one_by_one(function: Callable[[np.ndarray], np.ndarray], dimensions: int) -> Callable[[Any], np.ndarray]:
    """Extend `function` of one change of the density to stacks of changes."""

    def mapped(changes: Any) -> np.ndarray:
        changes = np.asarray(changes)
        if changes.ndim == dimensions:
            return function(changes)
        if dimensions == 3:  # PySCF puts the stack after the spin: (2, K, n, n)
            return np.stack([function(changes[:, index]) for index in range(changes.shape[1])], axis=1)
        return np.stack([function(change) for change in changes])

    return mapped
