"""Settings of self-consistent calculations with a learned functional; conf/kind/functional.yaml describes each."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import h5py

from fusion.chemistry.system import System
from fusion.config.checks import check_whole, is_number
from fusion.errors import InputError
from fusion.functionals.scf.convergence import Ladder
from fusion.functionals.scf.kohn_sham import check_options, kohn_sham, molecule
from fusion.scf.basis import Basis
from fusion.scf.basis import read as read_basis
from fusion.scf.ghosts import check_no_solvent, parsed_ghosts
from fusion.scf.reference import RESTRICTED, UNRESTRICTED
from fusion.scf.reference import read as read_reference
from fusion.scf.solvent import read as read_solvent


@dataclass(frozen=True)
class Settings:
    """Settings `method.KEY` of the SCF.

    `basis` (one, or one per element) and `grid_level` (0-9) are PySCF's, `conv_tol` is the change of the energy
    (hartree) at convergence, `max_cycle` the number of SCF cycles per attempt, `damp` (0-1) and `level_shift` (hartree)
    the strengths of the attempts after the first; the others are those of `fusion.kohn_sham`, and `start` may be a
    checkpoint file of PySCF. Raises InputError for invalid values.
    """

    basis: Any = "def2-tzvp"
    reference: str | None = None
    grid_level: int = 3
    conv_tol: float = 1e-9
    max_cycle: int = 50
    damp: float = 0.5
    level_shift: float = 0.3
    start: str | None = "b3lyp"
    occupations: Any = None
    dispersion: str | None = None
    density_fit: bool = False
    symmetrize: bool = False
    memory_mb: float | None = None
    solvent: Any = None
    ghosts: Any = None
    checkpoint: str | None = field(init=False, default=None)
    """Checkpoint file that `start` names; `start` itself is None then."""

    def __post_init__(self) -> None:
        if isinstance(self.start, str) and Path(self.start).is_file():
            _check_checkpoint(self.start)
            object.__setattr__(self, "checkpoint", self.start)
            object.__setattr__(self, "start", None)
        try:
            check_options(
                self.grid_level, self.conv_tol, self.start, self.dispersion, self.memory_mb,
                density_fit=self.density_fit, symmetrize=self.symmetrize,
            )  # fmt: skip
        except InputError as error:  # prefix the name that the command line uses
            raise InputError(f"method.{error}") from error
        _check_range("damp", self.damp, 0.0, 1.0)
        _check_range("level_shift", self.level_shift, 0.0, 100.0)
        check_whole("method.max_cycle", self.max_cycle)
        object.__setattr__(self, "reference", read_reference(self.reference, (RESTRICTED, UNRESTRICTED)))
        basis: Basis = read_basis(self.basis)
        object.__setattr__(self, "basis", basis)
        object.__setattr__(self, "solvent", read_solvent(self.solvent))
        object.__setattr__(self, "ghosts", parsed_ghosts(self.ghosts))
        check_no_solvent(self.ghosts, self.solvent)

    def mean_field(self, system: System, functional: Any, name: str) -> Any:
        """Build the object of PySCF's kind for a system, not yet converged; messages name the functional `name`."""
        mean_field = kohn_sham(
            molecule(system, self.basis, self.ghosts),
            functional,
            reference=self.reference,
            grid_level=self.grid_level,
            conv_tol=self.conv_tol,
            occupations=self.occupations,
            start=self.start,
            dispersion=self.dispersion,
            density_fit=self.density_fit,
            memory_mb=self.memory_mb,
            solvent=self.solvent,
            name=name,
        )
        mean_field.max_cycle, mean_field.ladder = self.max_cycle, Ladder(self.damp, self.level_shift)
        return mean_field


def _check_checkpoint(path: str) -> None:
    """Raise InputError for a file without the molecule and the orbitals of an SCF."""
    try:
        with h5py.File(path) as file:
            complete = "mol" in file and "scf/mo_coeff" in file and "scf/mo_occ" in file
    except OSError:
        complete = False
    if not complete:
        raise InputError(
            f"method.start={path} is a file, but not a checkpoint of an SCF by PySCF, such as the scf.chk of a run"
        )


def _check_range(name: str, value: float, lowest: float, highest: float) -> None:
    if not is_number(value) or not lowest <= value <= highest:
        raise InputError(f"method.{name} must be from {lowest:g} to {highest:g}, not {value}")
