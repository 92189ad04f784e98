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
from fusion.functionals.features import check_needs
from fusion.functionals.grid.response import has_response
from fusion.functionals.scf.kohn_sham import load
from fusion.functionals.scf.outcome import describe, unconverged
from fusion.functionals.scf.settings import Settings
from fusion.methods.about import About
from fusion.runs.results import Result
from fusion.scf import fitting
from fusion.scf.initial_guess import LastDensity
from fusion.scf.instability import Analyses
from fusion.scf.populations import POPULATIONS, populations
from fusion.scf.progress import Progress, Watched
from fusion.scf.solvent import describe as describe_solvent

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

    `weights` names a model of the zoo that replaces `model`; further keywords are those of `Settings`. The SCF starts
    from the last density if that belongs to a similar geometry of the same molecule. `training` is for task=train.
    """

    kind = "functional"

    def __init__(
        self,
        name: str,
        model: nn.Module | Mapping[str, Any],
        weights: str | None = None,
        training: Mapping[str, Any] | None = None,
        about: About | Mapping[str, Any] | None = None,
        **settings: Any,
    ) -> None:
        self.name, self.about, self.settings = name, About.read(about), Settings(**settings)
        self._model, self.training = model, training
        self._card = None if weights is None else zoo.find_for(weights, self.kind, name)
        self._last: LastDensity | None = None
        self._analyses = Analyses()
        self.title = self.about.title or name

    @property
    def grid_level(self) -> int:
        """Level of PySCF's grid, 0-9."""
        return self.settings.grid_level

    @property
    def label(self) -> str:
        """Label of runs: the model of the zoo, otherwise the method, marked as untrained."""
        solvent = "" if self.settings.solvent is None else f" in {self.settings.solvent}"
        if self._card is not None:
            return f"{self._card.label}{solvent}"
        untrained = ", untrained" if any(True for _ in self.functional.parameters()) else ""
        return f"{self.title}{untrained}{solvent}"

    @property
    def weights(self) -> dict[str, Any] | None:
        """Name, version and digest of the zoo's model, or None."""
        return None if self._card is None else self._card.identity

    @property
    def energy_zero(self) -> str:
        """Zero of the energies, one of `fusion.chemistry.energy_zeros`."""
        return energy_zeros.of_card(None if self._card is None else self._card.energy_zero, self.kind)

    def memory_needed(self, system: System) -> str:
        """Describe the limit on the memory of kept integrals; fewer are kept where less suffices."""
        from fusion.console.format import memory
        from fusion.parallel.memory import available_memory

        limit = self.settings.memory_mb
        return f"at most {memory(0.5 * available_memory() if limit is None else 1e6 * limit)} for kept integrals"

    @cached_property
    def functional(self) -> Any:
        """Functional in float64 with constant parameters."""
        source = self._built() if self._card is None else self._card.label
        return load(source, self.settings.symmetrize)[0]

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
        return frozenset({"energy", "forces", "dipole"}) | POPULATIONS

    def check(self, systems: Sequence[System], properties: Iterable[str] = ()) -> None:
        """Raise InputError for an invalid basis or system, ValueError for unknown features."""
        check_needs(self.functional.needs, self.name)
        for system in systems:
            self._mean_field(system)

    def calculate(self, systems: Sequence[System], properties: Iterable[str]) -> list[Result]:
        """One SCF per system; forces (A, 3) in hartree/bohr, dipole (3,) in e bohr, charges (A,) in e."""
        wanted = frozenset(properties)
        self.check(systems, wanted)
        return [self._calculate(system, wanted) for system in systems]

    def _calculate(self, system: System, wanted: frozenset[str]) -> Result:
        mean_field = self._mean_field(system)
        density, start = self._start(mean_field, system)
        mean_field.kernel(dm0=density)
        # References of a system do not apply to another number of electrons, to an ensemble or in a solvent.
        if self.settings.occupations is not None or self.settings.solvent is not None:
            system = replace(system, reference=None)
        result = Result(system, energy=float(mean_field.e_tot))
        result.details["kohn_sham"] = describe(mean_field, str(self.settings.basis), start)
        if self.settings.solvent is not None:
            result.details["solvent"] = describe_solvent(mean_field, self.settings.solvent)
        if not mean_field.converged:
            self._last = None
            result.status, result.message = "not_converged", unconverged(mean_field)
            result.files["scf.chk"] = Path(mean_field.chkfile).read_bytes()
            return result
        self._last = LastDensity.of(mean_field, self._state(system))
        result.details["kohn_sham"] |= fitting.describe(mean_field, only_coulomb=True)
        result.message = self._remark(system, mean_field)
        result.warnings = self._warnings(system, mean_field, result.details["kohn_sham"])
        if "dipole" in wanted:
            result.properties["dipole"] = np.asarray(mean_field.dip_moment(unit="AU", verbose=0))
        result.properties |= populations(mean_field, wanted)
        if "forces" in wanted:
            nuclei = np.flatnonzero(mean_field.mol.atom_charges())
            result.properties["forces"] = -np.asarray(mean_field.nuc_grad_method().kernel())[nuclei]
        return result

    def _mean_field(self, system: System) -> Any:
        mean_field = self.settings.mean_field(system, self.functional, self.name)
        progress = Progress(self._watcher)
        mean_field.callback, mean_field.start_callback = progress.after_cycle, progress.after_start
        mean_field._numint.on_grid = progress.on_grid
        return mean_field

    def _start(self, mean_field: Any, system: System) -> tuple[Any, str]:
        """Starting density (None: the guess of the mean-field object), and its name."""
        if self._last is not None and self._last.suits(mean_field.mol, self._state(system)):
            return self._last.on(mean_field.mol), "the last density"
        if self.settings.checkpoint is not None:
            return mean_field.from_chk(self.settings.checkpoint), self.settings.checkpoint
        return None, mean_field.init_guess

    def _state(self, system: System) -> tuple[Any, ...]:
        return (str(self.settings.basis), system.charge, system.spin)

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
            return warnings + self._analyses.warnings(mean_field, self.name, self._state(system))
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
        if self._card is not None and system.charge not in self._card.charges:
            outside.append(f"systems of charge {system.charge:+d}")
        if outside:
            remarks.append(f"{self.name} was not trained on {', '.join(outside)}: the result may be far off")
        return "; ".join(remarks) or None
