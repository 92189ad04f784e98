"""task=train for a potential: data, self energies, the fit, and errors on held-out structures."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from fusion.errors import InputError
from fusion.parallel import processes
from fusion.potentials import abilities
from fusion.potentials.batch import batch_of
from fusion.potentials.training import outcome
from fusion.potentials.training.settings import Settings
from fusion.runs.layout import CHECKPOINT
from fusion.runs.results import Result
from fusion.runs.task import Plan, Title

if TYPE_CHECKING:
    from torch import nn

    from fusion.chemistry.system import System
    from fusion.datasets import Labelled, Split
    from fusion.potentials import PotentialMethod
    from fusion.potentials.training.fitting import Fitting
    from fusion.runs.run import Run

CALIBRATION_BATCH = 256


@dataclass(frozen=True)
class FittingPlan(Plan):
    """Training of `model` on the parts `split` of the `data`, from `state`, the content of a checkpoint, if any."""

    settings: Settings
    data: Labelled
    split: Split
    model: nn.Module
    state: Mapping[str, Any] | None


class PotentialTraining:
    """One training of the method's model, from random parameters or from weights of the zoo."""

    def __init__(self, name: str) -> None:
        self.name = name

    def check(self, method: PotentialMethod, system: System, run: Run) -> FittingPlan:
        """Load the data and build the model.

        Raises InputError without data or settings, for elements the model lacks, or for a checkpoint of another
        training.
        """
        from fusion import datasets
        from fusion.potentials.training.descent import trained
        from fusion.runs.checkpoints import trained_state

        if run.config.get("data") is None:
            raise InputError(f"task={self.name} of a potential needs labelled structures: data=NAME or data=FILE")
        if method.training is None:
            raise InputError(f"+method={method.name} has no method.training; conf/kind/potential.yaml gives it")
        tuned = method.weights is not None
        Settings.read(method.training, 1, tuned)  # report wrong settings before reading the data
        data = datasets.load(run.config.data, run.start_dir)
        split = datasets.split(data, run.config.data, run.seed)
        settings = Settings.read(method.training, len(split.train), tuned)
        _check_labels(settings, data, split)
        model = method.trainable(run.seed, _elements(data), settings.new_elements, settings.dipole.ever)
        _check_charges(model, method, settings)
        calibrate(model, data, split.train, run.config.dtype)
        trained(model, settings)
        plan = FittingPlan(method, system, settings, data, split, model, None)
        if run.checkpoint is None:
            return plan
        return replace(plan, state=trained_state(run.checkpoint, "fitting", "potential", _identity(plan, run)))

    def title(self, plan: FittingPlan, run: Run) -> Title:
        """Return the title of the run (method, parameters, structures) and notes on the data."""
        from fusion.console.format import count

        trained = sum(p.numel() for p in plan.model.parameters() if p.requires_grad)
        all_parameters = sum(p.numel() for p in plan.model.parameters())
        of_all = "" if trained == all_parameters else f" of {all_parameters:,}"
        members = abilities.members(plan.model)
        parts = (
            plan.method.label,
            f"{trained:,}{of_all} parameters" + (f" in {members} members" if members > 1 else ""),
            f"{count(len(plan.split.train), 'structure')} of {' + '.join(plan.data.sources)}",
            self.name,
        )
        held_out = f"{len(plan.split.validation)} structures for validation, {len(plan.split.test)} for the test"
        notes = [held_out, *plan.data.report.notes()]
        if plan.state is not None:
            done = plan.state["descent"]["done"] // -(-len(plan.split.train) // plan.settings.batch)
            notes.append(f"resuming from epoch {done} of {plan.settings.epochs} ({CHECKPOINT})")
        return parts, tuple(notes)

    def run(self, plan: FittingPlan, run: Run) -> Result:
        """Train the model; every rank returns the result, the first one writes split.json and the tables."""
        if processes.rank() == 0:
            plan.split.write(run.directory, plan.data)
        return outcome.finish(fitted(plan, run), plan.data, plan.split, run)

    @staticmethod
    def rows(document: dict[str, Any]) -> Iterator[list[str]]:
        """Yield the errors on each part of the data."""
        yield from outcome.lines(document["training"])

    @staticmethod
    def draw(directory: Path) -> None:
        """Draw `training.png` and, at the end, `parity.png`."""
        from fusion.potentials.training import plot

        plot.draw(directory)

    @staticmethod
    def stands(directory: Path) -> str | None:
        """Describe the progress of an unfinished training: its last recorded epoch."""
        from fusion.potentials.training import plot

        return plot.stands(directory)


def fitted(plan: FittingPlan, run: Run) -> Fitting:
    """Fit the model under Lightning."""
    from omegaconf import OmegaConf

    from fusion.parallel.collectives import partners
    from fusion.potentials.training.fitting import VALIDATION_BATCH, Fitting
    from fusion.potentials.training.passes import passes
    from fusion.potentials.training.predictions import predict
    from fusion.potentials.training.references import referenced
    from fusion.potentials.training.targets import Labels

    model, data, training = plan.model, plan.data, plan.split.train
    members, own = abilities.members(model), passes(model, data, plan.settings.memory_gb)
    learned = None
    if plan.method.weights is not None:
        labels = Labels(data, np.array(data.energy), next(model.parameters()).dtype)
        learned = predict(own, labels, training, members, VALIDATION_BATCH, energies_only=True).energy.mean(axis=0)
    labels = referenced(model, data, training, plan.settings, learned)
    arguments = members, plan.settings, run.seed, _identity(plan, run)
    module = Fitting(model, own, labels, training, plan.split.validation, *arguments)
    module.save_hyperparameters(OmegaConf.to_container(run.config, resolve=True))  # for the loggers
    trainer = run.trainer(max_epochs=1, num_sanity_val_steps=0, use_distributed_sampler=False)
    with partners():
        trainer.fit(module, ckpt_path=None if run.checkpoint is None else str(run.checkpoint), weights_only=True)
    return module


def _elements(data: Labelled) -> tuple[str, ...]:
    from ase.data import chemical_symbols

    return tuple(chemical_symbols[number] for number in np.unique(data.numbers).tolist())


def _identity(plan: FittingPlan, run: Run) -> dict[str, Any]:
    """Values that a checkpoint must agree with."""
    parts = [np.asarray(plan.data.ids)[part] for part in (plan.split.train, plan.split.validation)]
    digest = hashlib.sha256(b"".join(repr(part.tolist()).encode() for part in parts)).hexdigest()
    return {
        "parameters": {name: list(p.shape) for name, p in plan.model.named_parameters()},
        "structures": digest,
        "epochs and batch": [plan.settings.epochs, plan.settings.batch],
        "dtype": str(run.config.dtype),
    }


def calibrate(model: nn.Module, data: Labelled, training: np.ndarray, dtype: str) -> None:
    """Let a model that takes scales and ranges from the training data do so, on the CPU, where the data are."""
    import torch

    if not isinstance(model, abilities.Calibrating):
        return
    chosen = training[np.isfinite(np.asarray(data.energy)[training])]
    parts = [chosen[start : start + CALIBRATION_BATCH] for start in range(0, len(chosen), CALIBRATION_BATCH)]
    batches = (batch_of(data, part, getattr(torch, dtype)) for part in parts)
    device = next(tensor.device for tensor in (*model.parameters(), *model.buffers()))
    model.cpu().calibrate(batches, torch.from_numpy(np.asarray(data.energy)[chosen]))
    model.to(device)


def _check_labels(settings: Settings, data: Labelled, split: Split) -> None:
    """Raise InputError if the data have nothing to learn."""
    if not len(split.train):
        raise InputError(f"none of the {len(data)} structures remains for training; see data.split")
    wanted = {"energy": settings.energy.ever, "forces": settings.forces.ever, "stress": settings.stress.ever}
    if settings.dipole.ever and data.dipole is None:
        raise InputError("method.training.loss.dipole: the data have no dipoles; data.dipole.key names their key")
    for name in ("forces", "stress"):
        if wanted[name] and getattr(data, name) is None and not wanted["energy"]:
            raise InputError(f"method.training.loss.{name} is the only weight, but the data have no {name}")


def _check_charges(model: nn.Module, method: PotentialMethod, settings: Settings) -> None:
    """Raise InputError if charges would keep their random initial values."""
    random = method.weights is None or bool(settings.new_elements)
    if random and "dipole" in abilities.provides(model) and not settings.dipole.ever:
        raise InputError("charges are learned from dipoles: set method.training.loss.dipole=1")
