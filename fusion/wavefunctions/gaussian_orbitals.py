"""Molecular orbitals in contracted Gaussian basis sets, evaluated in torch: the target of pretraining.

Shells and coefficients are read from PySCF once; walkers never leave their device. Basis functions follow
PySCF's normalisation and order (`eval_gto`): radial parts as contracted there; s and p include the factor of their
spherical harmonic; spherical d and above are real solid harmonics, m = -l .. l; Cartesian ones are bare monomials.
"""

from collections import defaultdict
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

__all__ = ["GaussianOrbitals"]


class _Shells(nn.Module):
    """All contracted shells of one angular momentum l, evaluated together.

    `rows` are the indices of their functions in PySCF's order, listed in the order in which forward returns them.
    """

    exponents: Tensor  # (P,), one per centre and exponent
    primitive_centres: Tensor  # (P,)
    contraction: Tensor  # (P, S)
    shell_centres: Tensor  # (S,)
    harmonics: Tensor  # (monomials of degree l, functions of a shell)

    def __init__(self, mol: Any, momentum: int, shells: list[int]) -> None:
        """Collect the PySCF molecule's `shells` (numbers), which all have angular momentum `momentum`."""
        from pyscf import gto

        super().__init__()
        # General contractions share primitives: each (centre, exponent) is evaluated once.
        primitives: dict[tuple[int, float], int] = {}
        columns: list[tuple[list[int], np.ndarray]] = []
        centres: list[int] = []
        self.rows: list[int] = []
        offsets = mol.ao_loc_nr()
        for shell in shells:
            centre, exponents = int(mol.bas_atom(shell)), mol.bas_exp(shell)
            coefficients = mol.bas_ctr_coeff(shell) * gto.gto_norm(momentum, exponents)[:, None]
            numbers = [primitives.setdefault((centre, float(e)), len(primitives)) for e in exponents]
            columns += [(numbers, column) for column in coefficients.T]
            centres += [centre] * coefficients.shape[1]
            self.rows += range(int(offsets[shell]), int(offsets[shell + 1]))
        contraction = np.zeros((len(primitives), len(columns)))
        for i, (numbers, column) in enumerate(columns):
            np.add.at(contraction[:, i], numbers, column)
        _add_constant(self, "exponents", np.array([exponent for _, exponent in primitives]))
        _add_constant(self, "primitive_centres", np.array([centre for centre, _ in primitives]))
        _add_constant(self, "contraction", contraction)
        _add_constant(self, "shell_centres", np.array(centres))
        _add_constant(self, "harmonics", _harmonics(momentum, mol.cart))

    def forward(self, squared: Tensor, monomials: Tensor) -> Tensor:
        """Values (..., functions) from squared distances (..., A) and monomials of degree l (..., A, monomials)."""
        dtype = squared.dtype
        gaussians = torch.exp(-self.exponents.to(dtype) * squared.index_select(-1, self.primitive_centres))
        radial = gaussians @ self.contraction.to(dtype)
        angular = (monomials @ self.harmonics.to(dtype)).index_select(-2, self.shell_centres)
        return (radial.unsqueeze(-1) * angular).flatten(-2)


class GaussianOrbitals(nn.Module):
    """Occupied spin orbitals of a Slater determinant, expanded in the Gaussian basis of a PySCF molecule.

    Constants are float64 and used in the dtype of the electrons. They are not in the state dict: a mean field is
    computed again, not loaded.
    """

    positions: Tensor  # (A, 3) bohr
    order: Tensor  # (nao,), brings functions grouped by angular momentum into PySCF's order
    up: Tensor  # (nao, n_up), rows grouped by angular momentum
    down: Tensor  # (nao, n_down)

    def __init__(self, mol: Any, up: np.ndarray, down: np.ndarray) -> None:
        """Take basis and geometry from the PySCF molecule, orbital coefficients `up` (nao, n_up), `down` (nao, n_down).

        Raises ValueError if the coefficients do not fit the basis.
        """
        super().__init__()
        if not up.shape[0] == down.shape[0] == mol.nao:
            raise ValueError(f"coefficients of {up.shape[0]} and {down.shape[0]} functions in a basis of {mol.nao}")
        shells: dict[int, list[int]] = defaultdict(list)
        for shell in range(mol.nbas):
            shells[int(mol.bas_angular(shell))].append(shell)
        self.momenta = sorted(shells)
        groups = [_Shells(mol, momentum, shells[momentum]) for momentum in self.momenta]
        rows = np.array([row for group in groups for row in group.rows])
        self.groups = nn.ModuleList(groups)
        self.n_up, self.n_down = up.shape[1], down.shape[1]
        _add_constant(self, "positions", mol.atom_coords())
        _add_constant(self, "order", np.argsort(rows))
        _add_constant(self, "up", up[rows])
        _add_constant(self, "down", down[rows])

    def forward(self, electrons: Tensor) -> tuple[Tensor, Tensor]:
        """Orbitals [electron, orbital] of each spin, (B, n_up, n_up) and (B, n_down, n_down).

        `electrons` (B, N, 3) in bohr, spin up first. Raises ValueError if N is not n_up + n_down.
        """
        if electrons.shape[-2] != self.n_up + self.n_down:
            raise ValueError(f"{electrons.shape[-2]} electrons for {self.n_up} + {self.n_down} spin orbitals")
        up, down = self._grouped(electrons).split([self.n_up, self.n_down], dim=-2)
        return up @ self.up.to(electrons.dtype), down @ self.down.to(electrons.dtype)

    def slater_log(self, electrons: Tensor) -> tuple[Tensor, Tensor]:
        """Sign and log|psi|, each (B,), of the product of both spins' determinants at electrons (B, N, 3) in bohr.

        psi is not normalised: its square integrates to n_up! n_down!.
        """
        up, down = (torch.linalg.slogdet(orbitals) for orbitals in self(electrons))
        return up[0] * down[0], up[1] + down[1]

    def atomic_orbitals(self, points: Tensor) -> Tensor:
        """All basis functions (..., nao) at points (..., 3) in bohr, in PySCF's order."""
        return self._grouped(points).index_select(-1, self.order)

    def _grouped(self, points: Tensor) -> Tensor:
        """All basis functions (..., nao) at points (..., 3) in bohr, grouped by angular momentum."""
        displacements = points.unsqueeze(-2) - self.positions.to(points.dtype)
        squared = displacements.square().sum(-1)
        monomials = [torch.ones_like(displacements[..., :1])]
        for degree in range(1, self.momenta[-1] + 1):
            monomials.append(_raise_degree(monomials[-1], displacements, degree))
        values = [
            group(squared, monomials[momentum]) for momentum, group in zip(self.momenta, self.groups, strict=True)
        ]
        return torch.cat(values, dim=-1)


def _raise_degree(monomials: Tensor, displacements: Tensor, degree: int) -> Tensor:
    """Monomials of `degree` from those of one degree less, in PySCF's order (xx xy xz yy yz zz).

    First x times all of these, then y times those without x, then z times those without x and y.
    """
    x, y, z = displacements.split(1, dim=-1)
    return torch.cat([x * monomials, y * monomials[..., -degree:], z * monomials[..., -1:]], dim=-1)


def _harmonics(momentum: int, cartesian: bool) -> np.ndarray:
    """Coefficients (monomials, functions) of a shell's angular functions."""
    from pyscf import gto

    if not cartesian:
        return np.asarray(gto.cart2sph(momentum))
    factor = np.sqrt((2 * momentum + 1) / (4 * np.pi)) if momentum < 2 else 1.0
    return factor * np.eye((momentum + 1) * (momentum + 2) // 2)


def _add_constant(module: nn.Module, name: str, values: np.ndarray) -> None:
    """Register a buffer that follows the module's device; it keeps NumPy's dtype (float64, int64)."""
    module.register_buffer(name, torch.tensor(values), persistent=False)
