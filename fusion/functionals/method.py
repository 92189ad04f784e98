"""A method from any functional: self-consistent Kohn-Sham energies, forces and dipoles. Atomic units."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from torch import nn

from fusion import zoo
from fusion.chemistry import energy_zeros
from fusion.chemistry.system import System
from fusion.config.checks import check_whole
from fusion.errors import InputError
from fusion.functionals.features import check_needs
from fusion.functionals.grid.response import has_response
from fusion.functionals.scf.convergence import Ladder
from fusion.functionals.scf.kohn_sham import check_options, kohn_sham, load, molecule
from fusion.functionals.scf.outcome import describe, unconverged
from fusion.runs.results import Result
from fusion.scf.basis import read as read_basis
from fusion.scf.initial_guess import LastDensity
from fusion.scf.instability import Analyses
from fusion.scf.progress import Progress, Watched
from fusion.scf.reference import RESTRICTED, UNRESTRICTED
from fusion.scf.reference import read as read_reference

FINE_GRID = 3
"""Least grid level at which the energies of learned functionals are converged."""
NARROW_GAP = 0.15
"""Gap (hartree) between occupied and empty orbitals below which a restricted solution is analysed."""
CLOSED_GAP = 0.05
"""Gap (hartree) below which a molecule too large for the analysis gets a warning."""
ANALYSED_FUNCTIONS = 60
"""Largest number of basis functions for which the analysis costs no more than the SCF."""


class FunctionalMethod(Watched):
    """`Method` of kind functional around one `Functional`, given as an `nn.Module` or a config with `_target_`.

    `weights` names a model of the zoo that replaces `model`. `basis` (one, or one per element) and
    `grid_level` (0-9) are PySCF's, `conv_tol` is the change of the energy (hartree) at convergence, `max_cycle` the
    number of SCF cycles per attempt, `damp` (0-1) and `level_shift` (hartree) the strengths of the attempts after the
    first; the others are those of `fusion.kohn_sham`, and `start` may be a checkpoint file of PySCF. The SCF starts
    from the last density if that belongs to a similar geometry of the same molecule. `training` is for task=train.
    """

    kind = "functional"

    def __init__(
        self,
        name: str,
        model: nn.Module | Mapping[str, Any],
        basis: Any = "def2-tzvp",
        reference: str | None = None,
        grid_level: int = 3,
        conv_tol: float = 1e-9,
        max_cycle: int = 50,
        damp: float = 0.5,
        level_shift: float = 0.3,
        start: str | None = "b3lyp",
        occupations: Any = None,
        dispersion: str | None = None,
        density_fit: bool = False,
        symmetrize: bool = False,
        memory_mb: float | None = None,
        weights: str | None = None,
        training: Mapping[str, Any] | None = None,
        title: str | None = None,
        summary: str = "",
        cost: str = "",
        gives: str = "",
        requires: Sequence[str] = (),
    ) -> None:
        checkpoint = start is not None and Path(start).is_file()
        try:
            check_options(grid_level, conv_tol, None if checkpoint else start, dispersion)
        except InputError as error:  # prefix the name that the command line uses
            raise InputError(f"method.{error}") from error
        _check_range("damp", damp, 0.0, 1.0)
        _check_range("level_shift", level_shift, 0.0, 100.0)
        check_whole("method.max_cycle", max_cycle)
        self.name, self.summary, self.cost, self.requires = name, summary, cost, tuple(requires)
        self.reference = read_reference(reference, (RESTRICTED, UNRESTRICTED))
        self.basis, self.grid_level, self.conv_tol, self.max_cycle = read_basis(basis), grid_level, conv_tol, max_cycle
        self._model, self._checkpoint, self._symmetrize = model, start if checkpoint else None, symmetrize
        self._ladder, self._occupations = Ladder(damp, level_shift), occupations
        self._options: dict[str, Any] = {
            "reference": self.reference,
            "grid_level": grid_level,
            "conv_tol": conv_tol,
            "start": None if checkpoint else start,
            "dispersion": dispersion,
            "density_fit": density_fit,
            "memory_mb": memory_mb,
        }
        self._card = None if weights is None else zoo.find_for(weights, self.kind, name)
        self.training = training
        self._last: LastDensity | None = None
        self._analyses = Analyses()
        self.title = title or name

    @property
    def label(self) -> str:
        """Label of runs: the model of the zoo, otherwise the method, marked as untrained."""
        if self._card is not None:
            return self._card.label
        return f"{self.title}, untrained" if any(True for _ in self.functional.parameters()) else self.title

    @property
    def weights(self) -> dict[str, Any] | None:
        """Name, version and digest of the zoo's model, or None."""
        return None if self._card is None else self._card.identity

    @property
    def energy_zero(self) -> str:
        """Zero of the energies, one of `fusion.chemistry.energy_zeros`."""
        return energy_zeros.of_card(None if self._card is None else self._card.energy_zero, self.kind)

    @cached_property
    def functional(self) -> Any:
        """Functional in float64 with constant parameters."""
        if self._card is not None:
            return load(self._card.label, self._symmetrize)[0]
        return load(self._built(), self._symmetrize)[0]

    def untrained(self, seed: int, dtype: str) -> Any:
        """Build the `model` for training, with initial parameters drawn by `seed`, in `dtype` (float32 or float64)."""
        import torch

        torch.manual_seed(seed)
        return self._built().to(getattr(torch, dtype))

    def _built(self) -> nn.Module:
        if isinstance(self._model, nn.Module):
            return self._model
        from hydra.utils import instantiate

        model: nn.Module = instantiate(self._model)
        return model

    @property
    def provides(self) -> frozenset[str]:
        """Properties that follow from a converged density."""
        return frozenset({"energy", "forces", "dipole"})

    def check(self, systems: Sequence[System], properties: Iterable[str] = ()) -> None:
        """Raise InputError for an invalid basis or system, ValueError for unknown features."""
        check_needs(self.functional.needs, self.name)
        for system in systems:
            self._mean_field(system)

    def calculate(self, systems: Sequence[System], properties: Iterable[str]) -> list[Result]:
        """One SCF per system; forces (A, 3) in hartree/bohr, dipole (3,) in e bohr."""
        wanted = frozenset(properties)
        self.check(systems, wanted)
        return [self._calculate(system, wanted) for system in systems]

    def _calculate(self, system: System, wanted: frozenset[str]) -> Result:
        mean_field = self._mean_field(system)
        density, start = self._start(mean_field, system)
        mean_field.kernel(dm0=density)
        # References of a system do not apply to another number of electrons or to an ensemble.
        if self._occupations is not None:
            system = replace(system, reference=None)
        result = Result(system, energy=float(mean_field.e_tot))
        result.details["kohn_sham"] = describe(mean_field, str(self.basis), start)
        if not mean_field.converged:
            self._last = None
            result.status, result.message = "not_converged", unconverged(mean_field)
            result.files["scf.chk"] = Path(mean_field.chkfile).read_bytes()
            return result
        self._last = LastDensity.of(mean_field, self._settings(system))
        result.message = self._remark(system, mean_field)
        result.warnings = self._warnings(system, mean_field, result.details["kohn_sham"])
        if "dipole" in wanted:
            result.properties["dipole"] = np.asarray(mean_field.dip_moment(unit="AU", verbose=0))
        if "forces" in wanted:
            result.properties["forces"] = -np.asarray(mean_field.nuc_grad_method().kernel())
        return result

    def _mean_field(self, system: System) -> Any:
        mol = molecule(system, self.basis)
        mean_field = kohn_sham(mol, self.functional, name=self.name, occupations=self._occupations, **self._options)
        mean_field.max_cycle, mean_field.ladder = self.max_cycle, self._ladder
        progress = Progress(self._watcher)
        mean_field.callback, mean_field.start_callback = progress.after_cycle, progress.after_start
        mean_field._numint.on_grid = progress.on_grid
        return mean_field

    def _start(self, mean_field: Any, system: System) -> tuple[Any, str]:
        """Starting density (None: the guess of the mean-field object), and its name."""
        if self._last is not None and self._last.suits(mean_field.mol, self._settings(system)):
            return self._last.on(mean_field.mol), "the last density"
        if self._checkpoint is not None:
            return mean_field.from_chk(self._checkpoint), self._checkpoint
        return None, mean_field.init_guess

    def _settings(self, system: System) -> tuple[Any, ...]:
        return (str(self.basis), system.charge, system.spin)

    remembers = True

    def memory(self) -> dict[str, Any]:
        """Density that the next SCF may start from, and the last stability analysis."""
        last = {} if self._last is None else {"last": self._last.packed()}
        return {**last, "analyses": self._analyses.packed()}

    def recall(self, memory: Mapping[str, Any]) -> None:
        """Restore the density and the analysis that `memory` returned."""
        self._last = LastDensity.unpacked(memory["last"]) if "last" in memory else None
        self._analyses.recall(memory.get("analyses", {}))

    def _warnings(self, system: System, mean_field: Any, details: Mapping[str, Any]) -> list[str]:
        """Reasons to doubt a converged result: a coarse grid, or an unstable restricted solution with a narrow gap.

        The second derivatives of large molecules cost more than the SCF; for these, a very narrow gap suffices.
        """
        warnings = []
        if self.grid_level < FINE_GRID:
            warnings.append(
                f"method.grid_level={self.grid_level} is coarse: learned functionals need level {FINE_GRID} or finer, "
                "otherwise energies may have errors of millihartrees"
            )
        gap = details.get("lumo_hartree", np.inf) - details.get("homo_hartree", -np.inf)
        if details["reference"] != "RKS" or gap > NARROW_GAP:
            return warnings
        if has_response(mean_field) and mean_field.mol.nao <= ANALYSED_FUNCTIONS:
            return warnings + self._analyses.warnings(mean_field, self.name, self._settings(system))
        if gap < CLOSED_GAP:
            warnings.append(
                f"the gap between occupied and empty orbitals is {gap:.3f} Ha: the restricted solution may be "
                "unstable; compare with method.reference=unrestricted"
            )
        return warnings

    def _remark(self, system: System, mean_field: Any) -> str | None:
        """Remark on a converged result in one line, or None."""
        remarks = list(mean_field.remarks)
        elements = self._card.elements if self._card is not None else ()
        outside = [symbol for symbol in dict.fromkeys(system.symbols) if elements and symbol not in elements]
        if outside:
            remarks.append(f"{self.name} was not trained on {' '.join(outside)}: the result may be far off")
        return "; ".join(remarks) or None


def _check_range(name: str, value: float, lowest: float, highest: float) -> None:
    if not lowest <= value <= highest:
        raise InputError(f"method.{name} must be from {lowest:g} to {highest:g}, not {value}")
