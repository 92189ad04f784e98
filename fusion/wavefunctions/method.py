"""Method from any ansatz: settings, Monte Carlo module and result."""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any, cast

import torch
from hydra.utils import get_object, instantiate
from omegaconf import OmegaConf
from torch import nn

from fusion import zoo
from fusion.chemistry import energy_zeros
from fusion.chemistry.system import System
from fusion.config.checks import check_whole, energy_setting
from fusion.errors import InputError
from fusion.methods.about import About
from fusion.parallel import devices
from fusion.parallel.processes import GLOBAL_STATE
from fusion.runs.results import Result
from fusion.wavefunctions.ansatz import HasNuclei, TakesCells, takes_pretraining
from fusion.wavefunctions.excited.several import several
from fusion.wavefunctions.hartree_fock import hartree_fock
from fusion.wavefunctions.resources import default_chunk
from fusion.wavefunctions.schedule import Schedule
from fusion.wavefunctions.transfer import as_memory, from_memory

if TYPE_CHECKING:
    from fusion.wavefunctions.estimators import Estimator
    from fusion.wavefunctions.excited.local_matrix import StateHamiltonian
    from fusion.wavefunctions.hamiltonians import Hamiltonian
    from fusion.wavefunctions.optimisers import Optimiser
    from fusion.wavefunctions.transfer import Start
    from fusion.wavefunctions.vmc import VariationalMonteCarlo

PRETRAINING_PER_ELECTRON = 100
OPTIMISATION_PER_ELECTRON = 500
EVALUATION_PER_ELECTRON = 150
"""Steps per electron if the settings are null."""

LARGEST_OPTIMISATION = 2000
"""Largest number of optimisation steps, which is in proportion to the states as well, if their setting is null: further
steps of 256 walkers lowered the energy of nitrogen by less than diffusion Monte Carlo in about the same time
(benchmarks/vmc_remaining_errors.md)."""

LONGER = 5
"""Factor of these steps for a phase that ends once its error is small enough."""

TRANSFER = 0.125
"""Share of the optimisation steps at a further geometry if the configuration has none, from before there was one."""

CLIP, CLIP_WITH_CORES = 5.0, 100.0
"""Width of the clipping if its setting is null. Where a core potential replaces the cusp, the kinks of a wavefunction
of distances give local energies far outside of the usual width. Clipped, they leave no trace of the core in the
gradient, and the optimisation may end with a node there."""

_MEASURED = ("forces", "dipole")
"""Properties measured by the standard estimators of the same names."""

UNIFORM = tuple({"_target_": f"fusion.wavefunctions.proposals.{name}"} for name in ("AllElectrons", "OneElectron"))
"""Proposals of runs whose configuration has none, from before there was a choice."""

_DTYPES = {"float32": torch.float32, "float64": torch.float64}


class AnsatzMethod:
    """``Method`` of kind ansatz: optimises and evaluates a trial wavefunction by variational Monte Carlo.

    The arguments are the settings of conf/kind/ansatz.yaml, which describes each. ``model`` and
    ``hamiltonian`` are configs with ``_target_``, built with ``system=`` as a keyword; without ``hamiltonian``, as in
    runs of earlier versions, it is that of a molecule.

    Raises:
        InputError: a setting is out of range.
    """

    kind = "ansatz"
    energy_zero = energy_zeros.TOTAL
    takes_cores = True
    takes_gas = True

    def __init__(
        self,
        name: str,
        model: Mapping[str, Any],
        walkers: int,
        chunk: int | None,
        pretraining: Mapping[str, Any],
        sampling: Mapping[str, Any],
        optimisation: Mapping[str, Any],
        optimiser: Mapping[str, Any],
        evaluation: Mapping[str, Any],
        hamiltonian: Mapping[str, Any] | None = None,
        weights: str | None = None,
        dtype: str = "float32",
        seed: int = 0,
        device: str = "auto",
        states: int = 1,
        penalty: float | None = None,
        spin_penalty: float | None = None,
        about: About | Mapping[str, Any] | None = None,
    ) -> None:
        self._several = several(states, penalty, spin_penalty)
        if dtype not in _DTYPES:
            raise InputError(f"dtype must be float32 or float64, not {dtype!r}")
        self.name, self.about = name, About.read(about)
        self.dtype_name, self.dtype, self.seed = dtype, _DTYPES[dtype], seed
        self._model, self._optimiser, self._hamiltonian, self._chunk = model, optimiser, hamiltonian, chunk
        self._device = None if device == "auto" else devices.device(device)
        self._card = None if weights is None else zoo.find_for(weights, self.kind, name)
        self.title, self.note = self.about.title or name, self.about.note if self._card is None else None
        self._basis, self._clip = pretraining["basis"], optimisation["clip"]
        self._proposals = sampling.get("proposals", UNIFORM)
        until = energy_setting("method.optimisation.until", optimisation.get("until"))
        stderr = energy_setting("method.evaluation.stderr", evaluation.get("stderr"))
        # Settings that are null depend on the system; all others are checked here.
        self._by_electron = {
            key: per_electron if limit is None else LONGER * per_electron
            for key, per_electron, steps, limit in (
                ("pretraining_steps", PRETRAINING_PER_ELECTRON, pretraining["steps"], None),
                ("optimisation_steps", OPTIMISATION_PER_ELECTRON, optimisation["steps"], until),
                ("evaluation_steps", EVALUATION_PER_ELECTRON, evaluation["steps"], stderr),
            )
            if steps is None
        }
        self._largest_optimisation = LARGEST_OPTIMISATION if until is None else LONGER * LARGEST_OPTIMISATION
        self._schedule = Schedule(
            walkers=walkers,
            chunk=0,
            pretraining_steps=pretraining["steps"] if pretraining["steps"] is not None else 0,
            pretraining_rate=pretraining["learning_rate"],
            burn_in=sampling["burn_in"],
            moves=sampling["moves"],
            optimisation_steps=optimisation["steps"] if optimisation["steps"] is not None else 0,
            clip=optimisation["clip"] if optimisation["clip"] is not None else CLIP,
            evaluation_steps=evaluation["steps"] if evaluation["steps"] is not None else EVALUATION_PER_ELECTRON,
            evaluation_moves=evaluation["moves"],
            transfer=_share(optimisation.get("transfer", TRANSFER)),
            until=until,
            evaluation_stderr=stderr,
        )
        _check_ranges(self._schedule, chunk)
        check_whole("method.evaluation.spin_every", evaluation["spin_every"], 1)
        self._memory: dict[str, Any] = {}
        self._spin_every, self._estimators = evaluation["spin_every"], evaluation.get("estimators") or {}

    @property
    def label(self) -> str:
        """Name shown for a run: the zoo's wavefunction that it starts at, or the method."""
        return self.name if self._card is None else self._card.label

    @property
    def weights(self) -> dict[str, Any] | None:
        """Name, version and digest of the zoo's wavefunction; None without weights."""
        return None if self._card is None else self._card.identity

    def start(self, system: System, ansatz: nn.Module) -> Start | None:
        """Return the zoo's wavefunction, to start at it with `ansatz`; None without weights.

        Raises InputError for another molecule or network.
        """
        if self._card is None:
            return None
        from fusion.wavefunctions.published import start

        return start(self._card, system, ansatz, self.settings)

    @property
    def provides(self) -> frozenset[str]:
        """Energy, and what the standard estimators measure, each with its error."""
        measured = {name for name in _MEASURED if self._estimators.get(name, name) is not None}
        return frozenset({"energy", "energy_stderr"} | measured | {f"{name}_stderr" for name in measured})

    def check(self, systems: Sequence[System], properties: Iterable[str] = ()) -> None:
        """Raise InputError for several states, for a system or a network other than those of the zoo's wavefunction,
        for forces of systems with effective core potentials, for incomplete forces, and for periodic systems as
        `check_cell` does."""
        if self.states > 1:
            raise InputError(f"method.states={self.states} is for task=excited; other tasks take the ground state")
        for system in systems:
            self.check_cell(system)
            undefined = {"forces", "forces_stderr", "stress", "dipole", "dipole_stderr"} & set(properties)
            if system.cell is not None and undefined:
                raise InputError(f"{self.name} has no {min(undefined)} of {system.name}, which is periodic")
        if self._card is not None:
            from fusion.wavefunctions.published import refuse_other_molecule

            for system in systems:
                refuse_other_molecule(self._card, system, self.settings)
        if not {"forces", "forces_stderr"} & set(properties):
            return
        for system in systems:
            if system.cores:
                raise InputError(
                    f"{self.name} has no forces with effective core potentials; remove system.ecp to calculate all "
                    "electrons"
                )
            with torch.random.fork_rng():
                complete = isinstance(self.ansatz(system), HasNuclei)
            if not complete:
                raise InputError(
                    f"the forces of {self.name} would be incomplete: its wavefunction has no "
                    "at_nuclei(electrons, nuclei), which the Pulay term needs"
                )

    def check_cell(self, system: System) -> None:
        """Raise InputError for a periodic system other than the electron gas, or an ansatz that is not periodic."""
        if not any(system.pbc):
            return
        if not system.is_electron_gas:
            raise InputError(
                f"{system.formula} is periodic; {self.name} calculates molecules and the electron gas (system=heg): "
                "remove the cell"
            )
        if not isinstance(get_object(self._model["_target_"]), TakesCells):
            raise InputError(
                f"the wavefunction of {self.name} is not periodic; {system.name} needs one that takes cells"
            )

    @property
    def states(self) -> int:
        """Number of states."""
        return 1 if self._several is None else self._several.number

    def ansatz(self, system: System) -> nn.Module:
        """Build the untrained wavefunction of ``system``, or of several states of it, in this method's dtype."""
        build = instantiate(self._model, _partial_=True, _convert_="all")
        with GLOBAL_STATE:
            before = torch.get_default_dtype()
            torch.set_default_dtype(self.dtype)  # draws initial parameters in their final dtype
            try:
                if self._several is None:
                    ansatz = build(system=system)
                else:
                    ansatz = self._several.ansatz(get_object(self._model["_target_"]), build, system)
            finally:
                torch.set_default_dtype(before)
        return cast(nn.Module, ansatz.to(self.dtype))

    def hamiltonian(self, system: System) -> Hamiltonian | StateHamiltonian:
        """Build the Hamiltonian of ``system``, or of several states of it."""
        from fusion.wavefunctions.hamiltonians import molecular

        if self._hamiltonian is None:
            hamiltonian = molecular(system)
        else:
            build = instantiate(self._hamiltonian, _partial_=True, _convert_="all")
            hamiltonian = cast("Hamiltonian", build(system=system))
        return hamiltonian if self._several is None else self._several.hamiltonian(hamiltonian, system)

    def estimators(self, system: System) -> list[Estimator]:
        """Build the estimators of an evaluation of ``system``: the standard ones and those of the settings; several
        states have none."""
        from fusion.wavefunctions.estimators import build, standard

        if self._several is not None:
            return []
        return build(system, {**standard(self._spin_every), **instantiate(self._estimators, _convert_="all")})

    def optimiser(self, ansatz: nn.Module, chunk: int) -> Optimiser:
        """Build the optimiser of the parameters of ``ansatz``; it differentiates ``chunk`` walkers at a time."""
        make = partial(instantiate, self._optimiser)
        return cast(
            "Optimiser", make(ansatz, chunk) if self._several is None else self._several.optimiser(make, ansatz, chunk)
        )

    def schedule(self, system: System, ansatz: nn.Module) -> Schedule:
        """Phases of this method for one system; only an ansatz with orbitals of its own is pretrained."""
        changes: dict[str, Any] = {key: steps * system.n_electrons for key, steps in self._by_electron.items()}
        if "optimisation_steps" in changes:
            steps = self.states * changes["optimisation_steps"]
            changes["optimisation_steps"] = min(steps, self._largest_optimisation)
        if self._clip is None and system.cores:
            changes["clip"] = CLIP_WITH_CORES
        if not takes_pretraining(ansatz):
            changes["pretraining_steps"] = 0
        chunk = self._chunk or max(1, default_chunk(system) // self.states)
        return replace(self._schedule, chunk=chunk, **changes)

    def module(self, system: System, **changes: Any) -> VariationalMonteCarlo:
        """Build the LightningModule of the run; ``changes`` replace fields of the schedule."""
        from fusion.wavefunctions.vmc import VariationalMonteCarlo

        arguments = self.arguments(system, **changes)
        if self._several is None:
            return VariationalMonteCarlo(*arguments)
        return self._several.module(arguments, self._spin_every)

    def arguments(self, system: System, **changes: Any) -> tuple[Any, ...]:
        """Arguments of the LightningModule of a run, ``VariationalMonteCarlo`` or one derived from it."""
        torch.manual_seed(self.seed)
        ansatz = self.ansatz(system)
        return (
            system,
            ansatz,
            self.hamiltonian(system),
            replace(self.schedule(system, ansatz), **changes),
            self.optimiser,
            partial(hartree_fock, system, self._basis),
            [instantiate(proposal, _partial_=True)(system) for proposal in self._proposals],
            self.seed,
            self.settings,
            self.estimators(system),
        )

    @property
    def settings(self) -> dict[str, Any]:
        """Settings of the model as plain containers."""
        model = OmegaConf.to_container(OmegaConf.create(dict(self._model)), resolve=True)
        return cast(dict[str, Any], model)

    @property
    def remembers(self) -> bool:
        """True if a further geometry starts at the wavefunction of the last one."""
        return self._schedule.transfer < 1

    def memory(self) -> dict[str, Any]:
        """The last wavefunction and its geometry; empty for a new method."""
        return self._memory

    def recall(self, memory: Mapping[str, Any]) -> None:
        """Restore the memory that `memory` returned."""
        self._memory = dict(memory)

    def calculate(self, systems: Sequence[System], properties: Iterable[str]) -> list[Result]:
        """Optimise and evaluate every system in this process, without output and files.

        A further geometry of the last molecule starts at its wavefunction, the first one at that of the zoo, if any.
        """
        from pytorch_lightning import Trainer

        from fusion.wavefunctions.outcome import outcome

        results = []
        for system in systems:
            module = self.module(system)
            start = from_memory(self._memory, system) if self.remembers else None
            start = start or self.start(system, module.ansatz)
            if start is not None:
                module.start_from(start)
            with tempfile.TemporaryDirectory() as directory:
                Trainer(
                    accelerator="auto" if self._device is None else self._device.type,
                    devices=[self._device.index or 0] if self._device and self._device.type == "cuda" else 1,
                    max_epochs=1,
                    logger=False,
                    enable_checkpointing=False,
                    enable_progress_bar=False,
                    enable_model_summary=False,
                    default_root_dir=directory,
                ).fit(module)
            self._memory = as_memory(module.end, system)
            results.append(outcome(module))
        return results


def _share(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value <= 1:
        raise InputError(f"method.optimisation.transfer must be a share above 0 and up to 1, not {value!r}")
    return float(value)


def _check_ranges(schedule: Schedule, chunk: int | None) -> None:
    at_least = {
        "method.walkers": (schedule.walkers, 2),
        "method.chunk": (1 if chunk is None else chunk, 1),
        "method.pretraining.steps": (schedule.pretraining_steps, 0),
        "method.sampling.burn_in": (schedule.burn_in, 0),
        "method.sampling.moves": (schedule.moves, 1),
        "method.optimisation.steps": (schedule.optimisation_steps, 0),
        "method.evaluation.steps": (schedule.evaluation_steps, 2),
        "method.evaluation.moves": (schedule.evaluation_moves, 1),
    }
    for key, (value, least) in at_least.items():
        check_whole(key, value, least)
    if not schedule.clip > 0:
        raise InputError(f"method.optimisation.clip must be positive, not {schedule.clip!r}")
