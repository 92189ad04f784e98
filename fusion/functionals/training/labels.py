"""Labelled densities: features of a fixed density, and the exchange-correlation energy to learn for it.

    E_xc[n] = E_ref - (T_s + V_ext + J + E_nn)[n]

Here n is the density of a conventional functional, and E_ref the energy of a correlated wavefunction of all electrons
in the same basis. For fractional electrons E_ref is the exact combination of energies with integer ones (`Entry.line`).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any, Final

import numpy as np
from pyscf import cc, dft, fci, gto, scf

from fusion.errors import CalculationError, InputError
from fusion.functionals.grid.numint import LearnedNumInt
from fusion.functionals.grid.working_grid import nuclei
from fusion.functionals.scf.kohn_sham import molecule
from fusion.functionals.training.dataset import Entry
from fusion.scf import occupations as numbers
from fusion.scf.initial_guess import is_functional

NEGLIGIBLE: Final = 1e-8
"""Electrons at a grid point (density times weight) below which the point is left out: about 1e-6 hartree in total."""
FEW_DETERMINANTS: Final = 100_000
"""Largest number of determinants for full configuration interaction as reference; CCSD(T) above it."""
_PENALTY: Final = 0.5
"""Shift (hartree) of other spins in configuration interaction."""
_SPIN_ERROR: Final = 1e-3
"""Largest deviation of S^2 of a state that has the spin of its molecule."""
DENSITY_GRID: Final = 3
"""Lowest grid level of the conventional calculation."""


@dataclass(frozen=True)
class Level:
    """Settings of labels: `basis`, the conventional functional of the `density`, and the grid of the features."""

    basis: str = "def2-svp"
    density: str = "b3lyp"
    grid_level: int = 1

    def check(self) -> None:
        """Raise InputError for invalid settings."""
        if not is_functional(str(self.density)):
            raise InputError(
                f"method.training.density={self.density}: PySCF has no such functional; b3lyp, for example, is one"
            )
        if self.grid_level not in range(10):
            raise InputError(f"method.training.grid_level must be 0 ... 9, not {self.grid_level}")


def label(entry: Entry, level: Level, needs: frozenset[str], energies: Mapping[str, float]) -> dict[str, np.ndarray]:
    """Arrays of one labelled density, as in `samples.Sample`; `energies` are the reference energies by entry.

    Raises CalculationError if a calculation does not converge.
    """
    mol = molecule(entry.system, level.basis)
    mean_field = conventional(mol, entry, level)
    density = np.asarray(mean_field.make_rdm1())
    if entry.line:
        energy, source = sum(energies[name] * factor for name, factor in entry.line.items()), "line"
    else:
        energy, source = reference(mol, density, entry.name)
    restricted = density.ndim == 2
    total = density if restricted else density.sum(axis=0)
    one_electron, coulomb = mean_field.get_hcore(), mean_field.get_j(mol, total)
    classical = float(np.einsum("ij,ji", one_electron + 0.5 * coulomb, total)) + mol.energy_nuc()
    orbitals = {
        "core": one_electron + coulomb,
        "coefficients": np.asarray(mean_field.mo_coeff).reshape(-1, mol.nao, mean_field.mo_coeff.shape[-1]),
        "orbital_energies": np.atleast_2d(mean_field.mo_energy),
        "occupations": np.atleast_2d(mean_field.mo_occ) * (0.5 if restricted else 1.0),
    }
    points = features(mol, 0.5 * density[None] if restricted else density, level.grid_level, needs)
    return {
        "reference": np.array(energy),
        "source": np.array(source),
        "classical": np.array(classical),
        "conventional": np.array(mean_field.e_tot),
        **orbitals,
        **points,
    }


def conventional(mol: gto.Mole, entry: Entry, level: Level) -> Any:
    """Converge a calculation with the conventional functional and the entry's occupations."""
    restricted = mol.spin == 0 and entry.occupations is None
    mean_field = (dft.RKS if restricted else dft.UKS)(mol, xc=level.density)
    mean_field.grids.level = max(DENSITY_GRID, level.grid_level)
    mean_field.conv_tol, mean_field.chkfile = 1e-9, None
    if entry.occupations is not None:
        up_down = numbers.checked(entry.occupations, mol.nao)

        def occupied(energies: Any = None, coefficients: Any = None) -> np.ndarray:
            energies = mean_field.mo_energy if energies is None else energies
            return np.array([numbers.by_energy(e, n) for e, n in zip(energies, up_down, strict=True)])

        def gradient(coefficients: Any, occupation: Any, fock: Any = None) -> np.ndarray:
            spins = zip(coefficients, occupation, fock, strict=True)
            return np.concatenate([numbers.coupling(*spin) for spin in spins])

        mean_field.get_occ, mean_field.get_grad = occupied, gradient
        mean_field.conv_check = False
    mean_field.kernel()
    if not mean_field.converged and entry.occupations is None:
        mean_field = mean_field.newton().run()
    if not mean_field.converged:
        raise CalculationError(
            f"{level.density} does not converge for {entry.name} (charge {mol.charge}, spin {mol.spin})"
        )
    return mean_field


def reference(mol: gto.Mole, density: np.ndarray, name: str) -> tuple[float, str]:
    """Energy (hartree) of full configuration interaction, or of all-electron CCSD(T), and which; from this density."""
    mean_field = (scf.RHF if mol.spin == 0 else scf.UHF)(mol)
    mean_field.conv_tol, mean_field.chkfile = 1e-11, None
    mean_field.kernel(dm0=density)
    if not mean_field.converged:
        mean_field = mean_field.newton().run()
    if not mean_field.converged:
        raise CalculationError(f"Hartree-Fock theory does not converge for {name}")
    up, down = mol.nelec
    if mol.nelectron == 1:
        return float(mean_field.e_tot), "FCI"
    if math.comb(mol.nao, up) * math.comb(mol.nao, down) <= FEW_DETERMINANTS:
        orbitals = np.asarray(mean_field.mo_coeff)
        return _full_interaction(mol, orbitals if orbitals.ndim == 2 else orbitals[0], name), "FCI"
    cluster = cc.CCSD(mean_field)
    cluster.conv_tol, cluster.max_cycle = 1e-9, 200
    cluster.kernel()
    if not cluster.converged:
        raise CalculationError(f"CCSD does not converge for {name}")
    return float(cluster.e_tot + cluster.ccsd_t()), "CCSD(T)"


def _full_interaction(mol: gto.Mole, orbitals: np.ndarray, name: str) -> float:
    """Energy (hartree) of the lowest state with the spin of the molecule, in `orbitals` (nao, k) for both spins.

    Without the penalty, a singlet would become the triplet with as many electrons of either spin where that is lower.
    """
    spin = 0.5 * mol.spin
    solver = fci.addons.fix_spin_(fci.FCI(mol, orbitals, singlet=False), _PENALTY, ss=spin * (spin + 1.0))
    energy, state = solver.kernel()
    squared = fci.spin_op.spin_square(state, orbitals.shape[1], mol.nelec)[0]
    if not solver.converged or abs(squared - spin * (spin + 1.0)) > _SPIN_ERROR:
        raise CalculationError(f"configuration interaction of spin {spin:g} does not converge for {name}")
    return float(energy)


def features(mol: gto.Mole, density: np.ndarray, grid_level: int, needs: frozenset[str]) -> dict[str, np.ndarray]:
    """Density features at the relevant points, with the basis functions and F that contract their potential.

    `density` (S, n, n) as in `LearnedNumInt.density`; arrays as in `samples.Sample`.
    """
    numint = LearnedNumInt(SimpleNamespace(needs=needs))
    grids = dft.Grids(mol)
    grids.level = grid_level
    grids.build(sort_grids=True)
    parts: dict[str, list[np.ndarray]] = {}
    for block in numint.blocks(mol, grids):
        block_density = numint.density(mol, block, density)
        block_features = block_density.features
        relevant = (block_features.rho.sum(dim=0).numpy() * np.abs(block.weights)) > NEGLIGIBLE
        arrays = {
            "weights": block.weights,
            "coords": block.coords.T,
            "rho": block_features.rho.numpy(),
            "basis": block.orbitals.astype(np.float32),
            "exchange": block_density.exchange.astype(np.float32),
            **{f"hfx:{omega:g}": values.numpy() for omega, values in block_features.hfx.items()},
        }
        arrays |= {key: value.numpy() for key in ("grad", "tau") if (value := getattr(block_features, key)) is not None}
        for key, array in arrays.items():
            parts.setdefault(key, []).append(array[..., relevant])
    of_nuclei = {"nuclei": nuclei(mol)} if "nuclei" in needs else {}
    return of_nuclei | {key: np.concatenate(arrays, axis=-1) for key, arrays in parts.items()}
