"""One-body reduced density matrix in a Gaussian basis, and natural orbitals.

For the electrons of one spin, with x from psi^2, r' from any density p, and psi(r' -> e) the wavefunction with electron
e at r',

    rho_ij = < sum_e phi_i(r_e) phi_j(r') psi(r' -> e) / (psi(x) p(r')) >,

symmetrised (McMillan 1965, Phys. Rev. 138, A442). The second moment of every electron's term is the integral of
n phi_j^2 / (N p), n: density, that is 1 for p = n / N. The variance is reduced further by a function whose integral
over r' is known: the ratio loses that of the Hartree-Fock determinant, a psi_HF(r' -> e) / psi(x), and the sum gains
its projections on the orbitals. The factor a, a least-squares fit of psi by psi_HF over the walkers, does not depend on
r', so that the mean is unchanged.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from fusion.chemistry.system import System
from fusion.config.checks import check_whole
from fusion.errors import InputError
from fusion.parallel.collectives import sum_over_ranks
from fusion.wavefunctions.block_means import BlockMeans
from fusion.wavefunctions.estimators.natural_orbitals import natural_orbitals
from fusion.wavefunctions.estimators.protocol import Estimates, refuse_cell
from fusion.wavefunctions.gaussian_orbitals import GaussianOrbitals
from fusion.wavefunctions.hamiltonians import LocalEnergy, Point
from fusion.wavefunctions.hartree_fock import basis_label, lowest_field, natural_molecule, occupied
from fusion.wavefunctions.slater_mixture import SlaterMixture, fit_density

_KEY = "method.evaluation.estimators.density_matrix"
_CHUNK = 10_000  # positions whose orbitals are computed at a time, for the memory
_LARGEST = 300  # orbitals; the sums take 90 MB
_DEPENDENT = 1e-8  # smallest eigenvalue of the overlap of basis functions
_HIGHEST = 4  # angular momentum in Molden files


class _MeanField(NamedTuple):
    """Occupied orbitals (M, n_s) of both spins in the estimator's orbitals, and positions with nearly their density."""

    occupied: tuple[Tensor, Tensor]
    positions: SlaterMixture


class DensityMatrix(nn.Module):
    """Density matrices of both spins, natural orbitals and their occupations.

    The orbitals phi are the symmetrically orthonormalised basis functions. They span the same space as all
    Hartree-Fock orbitals of the basis, thus have the same natural orbitals, but do not depend on a calculation that
    may rotate degenerate orbitals when a run is resumed. All ranks have the matrices of all ranks. Walkers without a
    finite local energy are left out.

    Args:
        system: nuclei and electrons.
        basis: PySCF's name of the basis; None: `hartree_fock.NATURAL`.
        every: iterations between two measurements.
        points: random positions r' per walker and measurement; each takes one wavefunction per electron.

    Raises:
        InputError: a setting is out of range, or the basis lacks an element, is too large or linearly dependent.
    """

    name = "density_matrix"
    measures: tuple[str, ...] = ()
    lowdin: Tensor  # (nao, M)

    def __init__(self, system: System, basis: str | None = None, every: int = 5, points: int = 8) -> None:
        super().__init__()
        refuse_cell(system, self.name, "a density matrix in a basis of Gaussians is not defined")
        check_whole(f"{_KEY}.every", every)
        check_whole(f"{_KEY}.points", points)
        if basis is not None and not isinstance(basis, str):
            raise InputError(f"{_KEY}.basis must be a name of a basis such as def2-SVP, or null, not {basis!r}")
        self.system, self.every, self.points = system, every, points
        try:
            self.mol = natural_molecule(system, basis)
        except InputError as error:
            raise InputError(f"{_KEY}.basis: {error}") from None
        self.functions = GaussianOrbitals(self.mol, *[np.zeros((self.mol.nao, 0))] * 2)
        self.register_buffer("lowdin", torch.tensor(_orthonormal(self.mol)), persistent=False)
        self.matrices = BlockMeans(2, self.mol.nao, self.mol.nao)

    def forward(self, point: Point, local: LocalEnergy) -> Mapping[str, Tensor]:
        """Add the mean matrices of the walkers with a finite local energy; there are no series."""
        kept = torch.isfinite(local.total).nonzero().squeeze(-1)
        number = int(sum_over_ranks(torch.tensor(len(kept), device=kept.device)))
        total = sum_over_ranks(self._sums(point, kept) if len(kept) else torch.zeros_like(self.matrices.sums[0]))
        if number:
            self.matrices.add((total + total.mT) / (2 * number))
        return {}

    def finish(self, series: Mapping[str, np.ndarray]) -> Estimates:
        """Natural occupations with errors beside those of Hartree-Fock, the trace, and both files."""
        if not int(self.matrices.number):
            return Estimates()
        orbitals = natural_orbitals(self.matrices.mean(), self.matrices.series())
        field = torch.cat(self._mean_field.occupied, dim=-1).cpu().numpy()
        details: dict[str, Any] = {
            "basis": basis_label(self.mol.basis),
            "orbitals": self.mol.nao,
            "points": self.points,
            "measurements": int(self.matrices.number),
            **orbitals.details(self.system.n_electrons),
            # adding zero makes -0.0 positive
            "hartree_fock_occupations": (np.linalg.eigvalsh(field @ field.T)[::-1].round(9) + 0.0).tolist(),
        }
        return Estimates(details={"density_matrix": details}, files=orbitals.files(self.mol, self.lowdin.cpu().numpy()))

    def get_extra_state(self) -> dict[str, Any]:
        """Return the settings that the sums belong to."""
        return {"basis": basis_label(self.mol.basis), "every": self.every, "points": self.points}

    def set_extra_state(self, state: Any) -> None:
        """Raise InputError if the sums of a checkpoint were made with other settings."""
        for name, value in self.get_extra_state().items():
            if state[name] != value:
                raise InputError(
                    f"{_KEY}.{name}={value}: the evaluation in the checkpoint began with {state[name]}; "
                    "keep it, or evaluate anew with task=evaluate"
                )

    @cached_property
    def _mean_field(self) -> _MeanField:
        field, lowdin = lowest_field(self.mol), self.lowdin
        matrix = sum(own @ own.T for own in occupied(field))
        inverse = lowdin.T @ torch.tensor(self.mol.intor("int1e_ovlp")).to(lowdin.device)
        up, down = (inverse @ torch.tensor(own).to(lowdin.device) for own in occupied(field))
        return _MeanField((up, down), fit_density(self.mol, matrix).to(lowdin.device))

    def _orbitals(self, places: Tensor) -> Tensor:
        """Orbitals phi (..., M) at places (..., 3)."""
        parts = places.flatten(0, -2).split(_CHUNK)
        return torch.cat([self.functions.atomic_orbitals(part) @ self.lowdin for part in parts]).view(
            *places.shape[:-1], -1
        )

    def _sums(self, point: Point, kept: Tensor) -> Tensor:
        """Sums of the local matrices (2, M, M) over the kept walkers (B,)."""
        electrons, n_up, p = point.electrons[kept], self.system.n_up, self._mean_field.positions
        places = p.sample(len(kept) * self.points, point.stream).to(electrons.dtype)  # as the wavefunction sees them
        weights = 1 / p(places.double())
        drawn, own = self._orbitals(places.double()), self._orbitals(electrons.double())
        controls = self._controls(point, kept, own)
        repeated = kept.repeat_interleave(self.points)
        sums = torch.zeros_like(self.matrices.sums[0])
        for e in range(electrons.shape[1]):
            moved = point.electrons[repeated]
            moved[:, e] = places
            control = controls[:, e]
            expected = (drawn.view(len(kept), self.points, -1) @ control.unsqueeze(-1)).flatten()
            residual = (point.ratios(repeated, moved) - expected) * weights
            projections = (residual.unsqueeze(-1) * drawn).view(len(kept), self.points, -1).mean(1) + control
            sums[0 if e < n_up else 1] += own[:, e].T @ projections
        return sums

    def _controls(self, point: Point, kept: Tensor, own: Tensor) -> Tensor:
        """Coefficients (B, N, M) of a psi_HF(r' -> e) / psi(x) in the orbitals of r', from orbitals ``own`` (B, N, M).

        They are zero for walkers at which they are not finite.
        """
        n_up = self.system.n_up
        sign, log = (values[kept].double() for values in point.signs_and_logs)
        log, coefficients = -log, []
        for occupations, rows in zip(self._mean_field.occupied, (own[:, :n_up], own[:, n_up:]), strict=True):
            determinant = rows @ occupations
            own_sign, own_log = torch.linalg.slogdet(determinant)
            sign, log = sign * own_sign, log + own_log
            coefficients.append((occupations @ torch.linalg.inv_ex(determinant).inverse).mT)
        ratio = sign * torch.exp(log - log.max())
        fitted = ratio * ratio.mean() / ratio.square().mean()
        controls = fitted[:, None, None] * torch.cat(coefficients, dim=1)
        return torch.where(torch.isfinite(controls).all(-1, keepdim=True), controls, 0.0)


def _orthonormal(mol: Any) -> np.ndarray:
    """Symmetrically orthonormalised basis functions (nao, nao) of PySCF's molecule."""
    label = basis_label(mol.basis)
    if mol.nao > _LARGEST:
        raise InputError(f"{_KEY}.basis: {label} has {mol.nao} functions; at most {_LARGEST}: choose a smaller basis")
    if max(mol.bas_angular(shell) for shell in range(mol.nbas)) > _HIGHEST:
        raise InputError(f"{_KEY}.basis: {label} has h functions, which Molden files lack: choose a smaller basis")
    values, vectors = np.linalg.eigh(mol.intor("int1e_ovlp"))
    if values[0] < _DEPENDENT:
        raise InputError(f"{_KEY}.basis: {label} is linearly dependent for this geometry: choose a smaller basis")
    return np.asarray(vectors / np.sqrt(values) @ vectors.T)
