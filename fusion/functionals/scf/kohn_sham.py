"""Kohn-Sham calculations with learned functionals: build a PySCF mean-field object for a molecule and a functional."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from pyscf import gto
from torch import nn

from fusion.chemistry.system import System
from fusion.config.checks import check_number, check_switch, is_number
from fusion.errors import InputError
from fusion.functionals.grid.numint import LearnedNumInt
from fusion.functionals.protocol import Symmetrizable
from fusion.functionals.scf.mean_field import LearnedRKS, LearnedUKS
from fusion.scf import initial_guess as starts
from fusion.scf import occupations as numbers
from fusion.scf import solvent as solvents
from fusion.scf.basis import VALENCE, Basis, of_element
from fusion.scf.expressions import refuse_expressions
from fusion.scf.ghosts import Ghost
from fusion.scf.reference import RESTRICTED, UNRESTRICTED
from fusion.scf.reference import read as read_reference

refuse_expressions()

DISPERSIONS = (None, "d3bj")
_ALL_ELECTRON = ("dzp", "3-21g", "ano-rcc")
"""Basis sets with all electrons of heavy elements, proposed in messages."""


def molecule(system: System, basis: Basis, ghosts: Sequence[Ghost] = ()) -> gto.Mole:
    """Build the PySCF molecule of a system in a basis, or in one per element; `ghosts` come after the system's atoms.

    Raises InputError for a periodic system, and for a basis that PySCF lacks or that leaves core electrons out.
    """
    if system.cell is not None:
        raise InputError(f"{system.name} is periodic; Kohn-Sham calculations here are for molecules")
    names = {symbol: of_element(basis, symbol) for symbol in (*system.symbols, *(ghost.symbol for ghost in ghosts))}
    valence = [symbol for symbol, name in names.items() if name.lower().startswith(VALENCE)]
    if valence:
        raise InputError(_no_cores(f"method.basis={names[valence[0]]}", valence))
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # PySCF suggests packages that might have a missing basis
            mol = gto.M(
                atom=[
                    *zip(system.symbols, system.positions.tolist(), strict=True),
                    *(ghost.pyscf for ghost in ghosts),
                ],
                unit="Bohr",
                basis=names | {f"ghost-{symbol}": name for symbol, name in names.items()},
                ecp={symbol: name for symbol, name in names.items() if _has_potential(name, symbol)},
                charge=system.charge,
                spin=system.spin,
                verbose=0,
            )
    except (KeyError, ValueError, gto.basis.BasisNotFoundError) as error:
        raise InputError(_no_basis(names, system)) from error
    check(mol, f"method.basis={basis}")
    return mol


def check(mol: gto.Mole, basis: str = "the molecule's basis") -> None:
    """Raise InputError for a molecule with effective core potentials or symmetry-adapted orbitals."""
    if mol.has_ecp():
        elements = dict.fromkeys(mol.atom_symbol(i) for i in range(mol.natm) if mol.atom_nelec_core(i))
        raise InputError(_no_cores(basis, list(elements)))
    if mol.symmetry:
        raise InputError(
            "learned functionals take no symmetry-adapted orbitals: build the molecule with symmetry=False"
        )


def kohn_sham(
    mol: gto.Mole,
    functional: str | nn.Module,
    *,
    reference: str | None = None,
    grid_level: int = 3,
    conv_tol: float = 1e-9,
    occupations: Any = None,
    start: str | None = "b3lyp",
    dispersion: str | None = None,
    density_fit: bool = False,
    symmetrize: bool = False,
    memory_mb: float | None = None,
    solvent: Any = None,
    name: str | None = None,
) -> Any:
    """Build a PySCF mean-field object with a learned functional: a model of the zoo ("dm21"), or a `Functional`.

    `reference` is "restricted" ("rks") or "unrestricted" ("uks"); None is restricted for spin 0, else unrestricted. An
    unrestricted singlet starts with broken symmetry. `occupations` are the numbers (up, down) of the spin orbitals of
    an unrestricted calculation from the lowest on, each from 0 to 1, which also give the number of electrons.
    `kernel()`, `e_tot` (hartree), `converged`, `grids`, `nuc_grad_method()`, `density_fit()`, `newton()`,
    `stability()`, `as_scanner()`, PySCF's decorations (`addons.frac_occ`, `mom_occ`, `smearing`, ...) and the rest
    work as in PySCF; `attempts` and `remarks` describe the course of the SCF.

    `start` is the functional of the starting density (None: PySCF's guess from atoms; `init_guess` of the object);
    `dispersion="d3bj"` adds D3(BJ) as the functional's authors do; `density_fit` is for the Coulomb matrix;
    `symmetrize` averages a functional over both orders of the spins; `memory_mb` limits the memory of kept integrals.
    `solvent` is a name, "water", or `fusion.scf.solvent.Solvent`'s fields in a mapping.
    Raises InputError for invalid arguments.
    """
    check(mol)
    check_options(grid_level, conv_tol, start, dispersion, memory_mb, density_fit=density_fit, symmetrize=symmetrize)
    module, label = load(functional, symmetrize)
    numint = LearnedNumInt(module, name or label, memory_mb)  # type: ignore[arg-type]
    mean_field: Any = (LearnedRKS if _kind(reference, mol.spin, occupations) == RESTRICTED else LearnedUKS)(mol)
    if occupations is not None:
        mean_field.occupations = numbers.checked(occupations, mol.nao)
    elif mean_field.singlet:
        mean_field.init_guess_breaksym = "mix"
    mean_field.learn(numint)
    mean_field.grids.level, mean_field.conv_tol = grid_level, conv_tol
    mean_field.init_guess = "minao" if start is None else start
    mean_field.dispersion = dispersion
    mean_field = mean_field.density_fit() if density_fit else mean_field
    continuum = solvents.read(solvent)
    return mean_field if continuum is None else solvents.attached(mean_field, continuum)


def _kind(reference: str | None, spin: int, occupations: Any) -> str:
    """Kind of determinant. Raises InputError for a restricted one of unpaired electrons or with occupations."""
    kind = read_reference(reference, (RESTRICTED, UNRESTRICTED))
    if kind == RESTRICTED and (spin or occupations is not None):
        why = f"a spin of {spin}" if spin else "occupations"
        raise InputError(f"method.reference={reference} is impossible with {why}; choose unrestricted or null")
    return kind or (UNRESTRICTED if spin or occupations is not None else RESTRICTED)


def check_options(
    grid_level: int,
    conv_tol: float,
    start: str | None,
    dispersion: str | None,
    memory_mb: float | None = None,
    **switches: bool,
) -> None:
    """Raise InputError for invalid values; `switches` are true or false."""
    for switch, value in switches.items():
        check_switch(switch, value)
    if memory_mb is not None:
        check_number("memory_mb", memory_mb, positive=True)
    if isinstance(grid_level, bool) or grid_level not in range(10):
        raise InputError(f"grid_level must be 0 ... 9, not {grid_level}")
    if not is_number(conv_tol) or conv_tol <= 0:
        raise InputError(f"conv_tol must be positive (hartree), not {conv_tol}")
    starts.check(start)
    if dispersion not in DISPERSIONS:
        raise InputError(f"dispersion={dispersion!r} is unknown; use d3bj, or null for none")


def load(functional: str | nn.Module, symmetrize: bool = False) -> tuple[nn.Module, str]:
    """Return the module in float64 with constant parameters, and its label; a module passed in is not changed.

    Raises InputError for a name that is not that of a functional.
    """
    label = "the functional"
    if isinstance(functional, str):
        from fusion import zoo

        card = zoo.find(functional)
        if card.kind != "functional":
            raise InputError(f"{card.label} is a model of kind {card.kind}, not a functional")
        functional, label = zoo.load(card.label), card.name
    if symmetrize and not isinstance(functional, Symmetrizable):
        raise InputError(f"{label} has no option symmetrize")
    if not symmetrize and _is_constant(functional):
        return functional, label
    module: Any = copy.deepcopy(functional)
    if symmetrize:
        module.symmetrize = True
    return module.to(torch.float64).eval().requires_grad_(False), label


def _is_constant(module: nn.Module) -> bool:
    constant = all(p.dtype == torch.float64 and not p.requires_grad for p in module.parameters())
    return constant and not module.training


def _has_potential(basis: str, symbol: str) -> bool:
    """True if PySCF's basis of this name has an effective core potential for the element."""
    try:
        return bool(gto.basis.load_ecp(basis, symbol))
    except (KeyError, ValueError, RuntimeError, gto.basis.BasisNotFoundError):
        return False


def _no_cores(basis: str, symbols: Sequence[str]) -> str:
    """Message about a basis that leaves core electrons of some elements to a potential."""
    others = [name for name in _ALL_ELECTRON if all(_has_basis(name, symbol) for symbol in symbols)]
    per_element = ", ".join(f"{symbol}: {others[0]}" for symbol in symbols) if others else ""
    advice = f", such as method.basis='{{{per_element}, default: def2-tzvp}}'" if others else ""
    return (
        f"{basis} leaves core electrons of {' '.join(symbols)} to an effective core potential; learned functionals see "
        f"the whole density, cores included: choose a basis for all electrons{advice}, or +method=dft"
    )


def _has_basis(name: str, symbol: str) -> bool:
    """True if PySCF has a basis of this name for the element."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # PySCF suggests packages that might have the basis
            return bool(gto.basis.load(name, symbol))
    except (KeyError, ValueError, RuntimeError, gto.basis.BasisNotFoundError):
        return False


def _no_basis(names: Mapping[str, str], system: System) -> str:
    """Message about missing bases: PySCF has no basis of the name, or the basis lacks an element."""
    missing = [symbol for symbol, name in names.items() if not _has_basis(name, symbol)]
    basis = names[missing[0]]
    missing = [symbol for symbol in missing if names[symbol] == basis]
    if set(missing) == set(system.symbols):
        return (
            f"method.basis: PySCF has no basis {basis!r} for {system.formula}; "
            "it has def2-svp, def2-tzvp, cc-pvdz and others"
        )
    return f"method.basis: {basis} has no functions for {' '.join(missing)}; def2-svp and def2-tzvp have up to Kr"
