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
from fusion.errors import InputError
from fusion.methods.about import About
from fusion.parallel import devices
from fusion.parallel.default_dtype import default_dtype
from fusion.parallel.processes import GLOBAL_STATE
from fusion.runs.results import Result
from fusion.wavefunctions.ansatz import HasNuclei, TakesCells
from fusion.wavefunctions.excited.several import several
from fusion.wavefunctions.hartree_fock import hartree_fock
from fusion.wavefunctions.planning import Planning
from fusion.wavefunctions.schedule import Schedule
from fusion.wavefunctions.transfer import as_memory, from_memory

if TYPE_CHECKING:
    from fusion.wavefunctions.estimators import Estimator
    from fusion.wavefunctions.excited.local_matrix import StateHamiltonian
    from fusion.wavefunctions.hamiltonians import Hamiltonian
    from fusion.wavefunctions.optimisers import Optimiser
    from fusion.wavefunctions.transfer import Start
    from fusion.wavefunctions.vmc import VariationalMonteCarlo

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
        self._model, self._optimiser, self._hamiltonian = model, optimiser, hamiltonian
        self._device = None if device == "auto" else devices.device(device)
        self._card = None if weights is None else zoo.find_for(weights, self.kind, name)
        if self._card is not None:  # the note is about the settings, which the model replaces
            self.about = replace(self.about, note=None)
        self.title, self.note = self.about.title or name, self.about.note
        self._basis = pretraining["basis"]
        self._proposals = sampling.get("proposals", UNIFORM)
        if not self._proposals:
            raise InputError(
                "method.sampling.proposals is empty; proposals=scaled and proposals=uniform are lists of them"
            )
        self._planning = Planning(walkers, chunk, pretraining, sampling, optimisation, evaluation)
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
        with GLOBAL_STATE, default_dtype(self.dtype):  # initial parameters are drawn in their final dtype
            if self._several is None:
                ansatz = build(system=system)
            else:
                ansatz = self._several.ansatz(get_object(self._model["_target_"]), build, system)
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
        """Phases of this method for one system and wavefunction."""
        return self._planning.schedule(system, ansatz)

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
        return self._planning.settings.transfer < 1

    def memory(self) -> dict[str, Any]:
        """The last wavefunction and its geometry; empty for a new method."""
        return self._memory

    def recall(self, memory: Mapping[str, Any]) -> None:
        """Restore the memory that `memory` returned."""
        self._memory = dict(memory)

    def calculate(self, systems: Sequence[System], properties: Iterable[str]) -> list[Result]:
        """Optimise and evaluate every system in this process, without files; a phase of the task shows the progress.

        A further geometry of the last molecule starts at its wavefunction, the first one at that of the zoo, if any.
        """
        from pytorch_lightning import Trainer

        from fusion.console.progress import NotedProgress
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
                    callbacks=[NotedProgress()],
                    enable_progress_bar=False,
                    enable_model_summary=False,
                    default_root_dir=directory,
                ).fit(module)
            self._memory = as_memory(module.end, system)
            results.append(outcome(module))
        return results
