"""task=train for a potential: data, self energies, the fit, and errors on held-out structures."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from fusion.errors import InputError
from fusion.parallel import processes
from fusion.potentials.batch import batch_of
from fusion.potentials.training import outcome
from fusion.potentials.training.settings import Settings
from fusion.runs.layout import CHECKPOINT
from fusion.runs.results import Result

if TYPE_CHECKING:
    from torch import nn

    from fusion.chemistry.system import System
    from fusion.datasets import Labelled, Split
    from fusion.potentials import PotentialMethod
    from fusion.potentials.training.fitting import Fitting
    from fusion.runs.run import Run

CALIBRATION_BATCH = 256


class PotentialTraining:
    """One training of the method's model, from random parameters or from weights of the zoo."""

    def __init__(self, name: str) -> None:
        self.name = name

    def check(self, method: PotentialMethod, system: System, run: Run) -> None:
        """Load the data and build the model.

        Raises InputError without data or settings, for elements the model lacks, or for a checkpoint of another
        training.
        """
        from fusion import datasets
        from fusion.potentials.training.descent import trained
        from fusion.runs.checkpoints import read

        if run.config.get("data") is None:
            raise InputError(f"task={self.name} of a potential needs labelled structures: data=NAME or data=FILE")
        if method.training is None:
            raise InputError(f"+method={method.name} has no method.training; conf/kind/potential.yaml gives it")
        tuned = method.weights is not None
        Settings.read(method.training, 1, tuned)  # report wrong settings before reading the data
        self.data: Labelled = datasets.load(run.config.data, run.start_dir)
        self.split: Split = datasets.split(self.data, run.config.data, run.seed)
        self.settings = Settings.read(method.training, len(self.split.train), tuned)
        _check_labels(self.settings, self.data, self.split)
        new, dipoles = self.settings.new_elements, self.settings.dipole.ever
        self.model = method.trainable(run.seed, self._elements(), new, dipoles)
        _check_charges(self.model, method, self.settings)
        _calibrate(self.model, self.data, self.split.train, run.config.dtype)
        trained(self.model, self.settings)
        self.state: dict[str, Any] | None = None
        if run.checkpoint is not None:
            self.state = read(run.checkpoint).get("fitting")
            if self.state is None:
                raise InputError(f"{run.checkpoint} is not a checkpoint of a potential's training")
            for key, value in self._identity(run).items():
                if self.state["identity"].get(key) != value:
                    raise InputError(f"{run.checkpoint} belongs to another training: its {key} differ")

    def title(self, method: PotentialMethod, system: System, run: Run) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """Return the title of the run (method, parameters, structures) and notes on the data."""
        from fusion.console.format import count

        trained = sum(p.numel() for p in self.model.parameters() if p.requires_grad)
        all_parameters = sum(p.numel() for p in self.model.parameters())
        of_all = "" if trained == all_parameters else f" of {all_parameters:,}"
        members = _members(self.model)
        parts = (
            method.label,
            f"{trained:,}{of_all} parameters" + (f" in {members} members" if members > 1 else ""),
            f"{count(len(self.split.train), 'structure')} of {' + '.join(self.data.sources)}",
            self.name,
        )
        held_out = f"{len(self.split.validation)} structures for validation, {len(self.split.test)} for the test"
        notes = [held_out, *self.data.report.notes()]
        if self.state is not None:
            done = self.state["descent"]["done"] // -(-len(self.split.train) // self.settings.batch)
            notes.append(f"resuming from epoch {done} of {self.settings.epochs} ({CHECKPOINT})")
        return parts, tuple(notes)

    def run(self, method: PotentialMethod, system: System, run: Run) -> Result:
        """Train the model; every rank returns the result, the first one writes split.json and the tables."""
        if processes.rank() == 0:
            self.split.write(run.directory, self.data)
        module = self._fitted(method, run)
        return outcome.finish(module, self.data, self.split, run)

    def _fitted(self, method: PotentialMethod, run: Run) -> Fitting:
        from omegaconf import OmegaConf

        from fusion.parallel.collectives import partners
        from fusion.potentials.training.fitting import VALIDATION_BATCH, Fitting
        from fusion.potentials.training.passes import passes
        from fusion.potentials.training.predictions import predict
        from fusion.potentials.training.references import referenced
        from fusion.potentials.training.targets import Labels

        members, training = _members(self.model), self.split.train
        own = passes(self.model, self.data, self.settings.memory_gb)
        learned = None
        if method.weights is not None:
            labels = Labels(self.data, np.array(self.data.energy), next(self.model.parameters()).dtype)
            learned = predict(own, labels, training, members, VALIDATION_BATCH, energies_only=True).energy.mean(axis=0)
        labels = referenced(self.model, self.data, training, self.settings, learned)
        arguments = members, self.settings, run.seed, self._identity(run)
        module = Fitting(self.model, own, labels, training, self.split.validation, *arguments)
        module.save_hyperparameters(OmegaConf.to_container(run.config, resolve=True))  # for the loggers
        trainer = run.trainer(max_epochs=1, num_sanity_val_steps=0, use_distributed_sampler=False)
        with partners():
            trainer.fit(module, ckpt_path=None if run.checkpoint is None else str(run.checkpoint), weights_only=True)
        return module

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

    def _elements(self) -> tuple[str, ...]:
        from ase.data import chemical_symbols

        return tuple(chemical_symbols[number] for number in np.unique(self.data.numbers).tolist())

    def _identity(self, run: Run) -> dict[str, Any]:
        """Values that a checkpoint must agree with."""
        parts = [np.asarray(self.data.ids)[part] for part in (self.split.train, self.split.validation)]
        digest = hashlib.sha256(b"".join(repr(part.tolist()).encode() for part in parts)).hexdigest()
        return {
            "parameters": {name: list(p.shape) for name, p in self.model.named_parameters()},
            "structures": digest,
            "epochs and batch": [self.settings.epochs, self.settings.batch],
            "dtype": str(run.config.dtype),
        }


def _members(model: nn.Module) -> int:
    return int(getattr(model, "members", 1))


def _calibrate(model: nn.Module, data: Labelled, training: np.ndarray, dtype: str) -> None:
    """Call the model's `calibrate`, if it has one, to take scales and ranges from the training data."""
    import torch

    calibrate = getattr(model, "calibrate", None)
    if calibrate is None:
        return
    chosen = training[np.isfinite(np.asarray(data.energy)[training])]
    parts = [chosen[start : start + CALIBRATION_BATCH] for start in range(0, len(chosen), CALIBRATION_BATCH)]
    batches = (batch_of(data, part, getattr(torch, dtype)) for part in parts)
    calibrate(batches, torch.from_numpy(np.asarray(data.energy)[chosen]))


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
    if random and "dipole" in getattr(model, "provides", ()) and not settings.dipole.ever:
        raise InputError("charges are learned from dipoles: set method.training.loss.dipole=1")
