"""Hartree-Fock by PySCF: the target of pretraining, and the zero of the correlation energy."""

import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np

from fusion.chemistry.core_potentials import CorePotential, is_file
from fusion.chemistry.system import System
from fusion.errors import CalculationError, InputError
from fusion.scf.expressions import refuse_expressions
from fusion.wavefunctions.gaussian_orbitals import GaussianOrbitals
from fusion.wavefunctions.periodic.mean_field import plane_wave_energies
from fusion.wavefunctions.periodic.plane_waves import PlaneWaveDeterminant

__all__ = ["HartreeFock", "hartree_fock", "hartree_fock_limit"]

PRETRAINING = ("cc-pVDZ", "def2-SVP", "DZP", "ANO")
"""Basis sets of neutral molecules and cations: the first that has the element is used."""

DIFFUSE_PRETRAINING = ("aug-cc-pVTZ", "def2-TZVPPD", "DZP", "ANO")
"""Basis sets of anions: in cc-pVDZ the outer electron of an anion is unbound (H-: -0.449 hartree instead of -0.488)."""

LIMIT = (("cc-pVQZ", "def2-QZVP", "ANO", "DZP"), ("cc-pVTZ", "def2-TZVP", "ANO", "DZP"), PRETRAINING)
"""Choices for the energy of a complete basis, best first; the first that is small enough for the molecule is used."""

REFERENCE = ("cc-pVTZ", "def2-TZVP", "ANO", "DZP")
"""Basis sets of orbitals that a wavefunction contains: errors of the basis stay in its orbitals."""

NATURAL = ("def2-TZVPD", *REFERENCE)
"""Basis sets of natural orbitals: what they lack is missing in the trace of the density matrix."""

DIFFUSE_LIMIT = (("aug-cc-pVQZ", "def2-QZVPPD", "ANO", "DZP"), DIFFUSE_PRETRAINING)

LIMIT_FUNCTIONS = 250
"""Basis functions (under a minute on one core) above which `hartree_fock_limit` uses the next smaller basis."""

SINGLE_THREAD_FUNCTIONS = 150
"""Basis functions up to which one thread is used, so that the same run gives the same bits."""


@dataclass(frozen=True)
class HartreeFock:
    """Mean field: total energy in hartree, basis, `RHF` or `UHF`, <S^2>, and its occupied orbitals.

    That of an electron gas is exact: its orbitals are plane waves.
    """

    energy: float
    basis: str
    method: str
    converged: bool
    spin_squared: float
    orbitals: GaussianOrbitals | PlaneWaveDeterminant


def hartree_fock(system: System, basis: str | None = None) -> HartreeFock:
    """Compute the lowest mean field of `system`, with its core potentials if any: RHF for spin 0, UHF otherwise.

    `basis` is a name of PySCF's; default cc-pVDZ, for anions aug-cc-pVTZ, with replacements for elements that these
    lack or that have a core potential. Raises InputError if `basis` lacks an element, CalculationError if no attempt
    converges.
    """
    if system.is_electron_gas:
        return _plane_waves(system)
    names = _pretraining(system) if basis is None else (basis,)
    return _result(lowest_field(molecule_in(system, assigned(system, names))))


def hartree_fock_limit(system: System) -> HartreeFock:
    """Compute a mean field close to the basis-set limit: cc-pVQZ, aug-cc-pVQZ for anions, smaller for large molecules.

    The state is that of `hartree_fock`; the result names the basis. Raises the errors of `hartree_fock`.
    """
    if system.is_electron_gas:
        return _plane_waves(system)
    from pyscf.scf import addons

    small = lowest_field(molecule_in(system, assigned(system, _pretraining(system))))
    choices = [assigned(system, names) for names in (DIFFUSE_LIMIT if system.charge < 0 else LIMIT)]
    molecules = (molecule_in(system, basis) for basis in choices)
    mol = next((mol for mol in molecules if mol.nao <= LIMIT_FUNCTIONS), None)
    if mol is None:
        return _result(small)
    with single_thread(mol):
        return _result(_converge(mol, addons.project_dm_nr2nr(small.mol, small.make_rdm1(), mol)))


def reference_molecule(system: System) -> Any:
    """Build PySCF's molecule in a triple-zeta basis, diffuse for anions; raises InputError without one."""
    return molecule_in(system, assigned(system, DIFFUSE_PRETRAINING if system.charge < 0 else REFERENCE))


def natural_molecule(system: System, basis: str | None = None) -> Any:
    """Build PySCF's molecule in `basis`, by default a triple-zeta basis with diffuse functions, with replacements for
    elements that this lacks; raises InputError if `basis` lacks an element."""
    return molecule_in(system, assigned(system, NATURAL if basis is None else (basis,)))


def mean_field(system: System) -> Any:
    """Compute the lowest mean field in a triple-zeta basis, as PySCF's object; raises the errors of `hartree_fock`."""
    return lowest_field(reference_molecule(system))


def _pretraining(system: System) -> tuple[str, ...]:
    return DIFFUSE_PRETRAINING if system.charge < 0 else PRETRAINING


def assigned(system: System, names: Sequence[str]) -> dict[str, str]:
    """Choose, for each element of `system`, the first basis of `names` that has it."""
    chosen = {}
    cores = {core.symbol: core for core in system.cores}
    for symbol in dict.fromkeys(system.symbols):
        choices = [*_valence_names(cores[symbol], names), *names] if symbol in cores else names
        name = next((name for name in choices if _has_element(name, symbol, symbol not in cores)), None)
        if name is None:
            kind = "valence" if symbol in cores else "all-electron"
            raise InputError(f"no {kind} basis for {symbol} in {', '.join(names)}: choose another basis")
        chosen[symbol] = name
    return chosen


def _valence_names(core: CorePotential, names: Sequence[str]) -> list[str]:
    """Basis sets made for a core potential, as large as `names`; those of ccECP for other potentials."""
    families = dict.fromkeys(["ccecp" if is_file(core.name) else core.name, "ccecp"])
    return [f"{family}-{name}" for family in families for name in names]


def _has_element(name: str, symbol: str, all_electron: bool = True) -> bool:
    """True if PySCF has a basis `name` for the element, with `all_electron` one without a core potential."""
    from pyscf import gto

    refuse_expressions()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return bool(gto.basis.load(name, symbol)) and not (all_electron and gto.basis.load_ecp(name, symbol))
    except (RuntimeError, ValueError):  # BasisNotFoundError, and errors of load_ecp for sets with pseudopotentials
        return False


def basis_label(basis: dict[str, str]) -> str:
    """Label of the basis: `cc-pVDZ`, or with elements that have another one: `cc-pVDZ, def2-SVP for K`."""
    names = list(dict.fromkeys(basis.values()))
    elements = {name: "/".join(symbol for symbol, used in basis.items() if used == name) for name in names}
    return ", ".join([names[0]] + [f"{name} for {elements[name]}" for name in names[1:]])


def molecule_in(system: System, basis: Mapping[str, Any]) -> Any:
    """Build PySCF's molecule in a basis given by element."""
    from pyscf import gto

    mol = gto.Mole()
    mol.build(
        dump_input=False,
        parse_arg=False,
        verbose=0,
        atom=list(zip(system.symbols, system.positions.tolist(), strict=True)),
        unit="Bohr",
        charge=system.charge,
        spin=system.spin,
        basis=basis,
        ecp={core.symbol: core.as_pyscf() for core in system.cores},
        symmetry=False,
    )
    return mol


def lowest_field(mol: Any, attempts: int = 4) -> Any:
    """Converge to a minimum of the energy, not a saddle point (as happens in open-shell atoms)."""
    with single_thread(mol):
        field = _converge(mol)
        for _ in range(attempts if mol.nelectron > 1 else 0):
            orbitals, _, stable, _ = field.stability(return_status=True)
            if stable:
                break
            lower = field.newton()
            lower.kernel(orbitals, field.mo_occ)
            if not lower.converged or lower.e_tot > field.e_tot - 1e-8:
                break
            field = lower
    return field


def _converge(mol: Any, density: np.ndarray | None = None) -> Any:
    """Converge a PySCF mean field by DIIS; if that fails, with shifted virtual orbitals; then to second order."""
    from pyscf import scf

    field = (scf.RHF if mol.spin == 0 else scf.UHF)(mol)
    field.chkfile = None
    field.conv_tol = 1e-10
    field.max_cycle = 100
    field.kernel(dm0=density)
    if not field.converged:
        field.level_shift = 0.3
        field.kernel(dm0=field.make_rdm1())
        field.level_shift = 0.0
    if not field.converged:
        field = field.newton()
        field.kernel(field.mo_coeff, field.mo_occ)
    if not field.converged:
        raise CalculationError(
            f"Hartree-Fock in {basis_label(mol.basis)} did not converge; check geometry, charge and spin"
        )
    return field


def _result(field: Any) -> HartreeFock:
    mol = field.mol
    up, down = occupied(field)
    return HartreeFock(
        energy=float(field.e_tot),
        basis=basis_label(mol.basis),
        method="RHF" if mol.spin == 0 else "UHF",
        converged=bool(field.converged),
        spin_squared=float(field.spin_square()[0]),
        orbitals=GaussianOrbitals(mol, up, down),
    )


def _plane_waves(system: System) -> HartreeFock:
    total = (system.n_up - system.n_down) / 2
    return HartreeFock(
        energy=sum(plane_wave_energies(system)),
        basis="plane waves",
        method="RHF" if system.spin == 0 else "UHF",
        converged=True,
        spin_squared=total * (total + 1),
        orbitals=PlaneWaveDeterminant(system),
    )


def occupied(field: Any) -> list[np.ndarray]:
    """Coefficients (nao, n) of the occupied spin-up and spin-down orbitals of a mean field of PySCF."""
    coefficients, occupations = field.mo_coeff, field.mo_occ
    if field.mol.spin == 0:
        coefficients, occupations = [coefficients] * 2, [occupations] * 2
    return [fix_signs(c[:, n > 0]) for c, n in zip(coefficients, occupations, strict=True)]


def fix_signs(orbitals: np.ndarray) -> np.ndarray:
    """Make the largest coefficient of each orbital (nao, n) positive; among equally large ones, the first."""
    size = np.abs(orbitals)
    leading = np.argmax(size > 0.999 * size.max(axis=0, initial=0.0), axis=0)
    return orbitals * np.sign(np.take_along_axis(orbitals, leading[None], axis=0))


@contextmanager
def single_thread(mol: Any) -> Iterator[None]:
    """Restrict PySCF to one thread if the molecule is small."""
    from pyscf import lib

    with lib.with_omp_threads(1 if mol.nao <= SINGLE_THREAD_FUNCTIONS else None):
        yield
