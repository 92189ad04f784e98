"""task=train for a functional: labels, regression, self-consistent energies of held-out systems."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fusion.errors import InputError
from fusion.functionals.training import dataset, outcome
from fusion.functionals.training.settings import Settings
from fusion.runs.layout import CHECKPOINT
from fusion.runs.results import Result

if TYPE_CHECKING:
    from fusion.chemistry.system import System
    from fusion.functionals import FunctionalMethod
    from fusion.functionals.training.regression import Regression
    from fusion.functionals.training.samples import Sample
    from fusion.runs.run import Run


class FunctionalTraining:
    """Training of the functional that the method's `model` describes. The system of the run is not used."""

    def __init__(self, name: str) -> None:
        self.name = name

    def check(self, method: FunctionalMethod, system: System, run: Run) -> None:
        """Raise InputError for invalid settings or data files, and for the checkpoint of another training."""
        from fusion.functionals.features import check_needs
        from fusion.functionals.scf.kohn_sham import molecule
        from fusion.runs.checkpoints import read

        if method.weights is not None:
            raise InputError(f"task={self.name} trains a new functional; set weights=null")
        if method.training is None:
            raise InputError(f"+method={method.name} has no method.training; include conf/kind/functional.yaml")
        self.settings = Settings.read(method.training, run.start_dir)
        self.set = dataset.read(self.settings.data)
        for entry in self.set.entries.values():
            molecule(entry.system, self.settings.level.basis)
        self.model = method.untrained(run.seed, run.config.dtype)
        if not any(True for _ in self.model.parameters()):
            raise InputError(f"{method.name} has no parameters: there is nothing to train")
        check_needs(self.model.needs, method.name)
        self.done = 0
        if run.checkpoint is not None:
            state = read(run.checkpoint).get("regression")
            if state is None:
                raise InputError(f"{run.checkpoint} is not a checkpoint of a functional's training")
            expected = self._identity(run)
            for key, value in expected.items():
                if state["identity"].get(key) != value:
                    raise InputError(f"{run.checkpoint} belongs to another training: its {key} differ")
            self.done = int(state["done"])

    def title(self, method: FunctionalMethod, system: System, run: Run) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """Describe the functional and its training data."""
        from fusion.console.format import count

        level, differences = self.settings.level, self.set.differences
        held_out = sum(difference.held_out for difference in differences)
        parts = (
            method.title,
            count(sum(p.numel() for p in self.model.parameters()), "parameter"),
            f"{count(len(differences), 'energy difference')} of {len(self.set.entries)} systems, {held_out} held out",
            self.name,
        )
        labels = f"labels: CCSD(T) or FCI, {level.basis}, densities of {level.density}, grid level {level.grid_level}"
        resuming = f"resuming from step {self.done} of {self.settings.steps} ({CHECKPOINT})" if self.done else ""
        return parts, tuple(note for note in (labels, resuming) if note)

    def run(self, method: FunctionalMethod, system: System, run: Run) -> Result:
        """Train and return the result on every rank; the first rank writes `differences.csv`."""
        from fusion.console.phases import phase
        from fusion.functionals.scf.kohn_sham import load
        from fusion.functionals.training.samples import prepare
        from fusion.parallel import processes

        with phase("labels", len(self.set.entries)) as update:
            dtype = next(self.model.parameters()).dtype
            samples = prepare(self.set, self.settings.level, self.model.needs, dtype, update)
        module = self._trained(samples, run)
        deviations = module.deviations()
        if processes.rank() != 0:
            return Result(system)
        energies: dict[str, float | None] = {}
        if self.settings.self_consistent and outcome.needed(self.set):
            with phase("SCF", len(outcome.needed(self.set))) as update:
                functional = load(module.functional.cpu())[0]
                energies = outcome.self_consistent(self.set, functional, self.settings, method.grid_level, update)
        rows = outcome.table(self.set, samples, deviations, energies)
        outcome.write(run.directory, rows)
        training = outcome.measure(rows, self.settings, energies)
        training |= {"steps": module.done, "parameters": sum(p.numel() for p in self.model.parameters())}
        result = Result(self.set.entries[outcome.worst(rows)].system, details={"training": training})
        if "not_converged" in training:
            result.status = "not_converged"
            result.message = f"the SCF does not converge for {', '.join(training['not_converged'])}"
        return result

    @staticmethod
    def rows(document: dict[str, Any]) -> Iterator[list[str]]:
        """Yield the errors by kind of energy."""
        density = document["settings"]["method"]["training"]["density"]
        yield from outcome.lines(document["training"], str(density))

    @staticmethod
    def draw(directory: Path) -> None:
        """Draw `training.png` once a step is recorded."""
        from fusion.functionals.training import plot

        plot.draw(directory)

    @staticmethod
    def stands(directory: Path) -> str | None:
        """Progress of an unfinished training: its last recorded step."""
        import csv

        path = directory / "metrics.csv"
        if not path.is_file():
            return None
        with path.open(newline="") as file:
            rows = [row for row in csv.DictReader(file) if row.get("phase") == "train" and row.get("loss")]
        return f"step {rows[-1]['step']}, loss {float(rows[-1]['loss']):.3g} (kcal/mol)²" if rows else None

    def _trained(self, samples: dict[str, Sample], run: Run) -> Regression:
        from omegaconf import OmegaConf

        from fusion.functionals.training.regression import Regression
        from fusion.parallel.collectives import partners

        module = Regression(self.model, samples, self.set.differences, self.settings, run.seed, self._identity(run))
        module.save_hyperparameters(OmegaConf.to_container(run.config, resolve=True))  # for the loggers
        trainer = run.trainer(max_epochs=1, num_sanity_val_steps=0, use_distributed_sampler=False)
        with partners():
            trainer.fit(module, ckpt_path=None if run.checkpoint is None else str(run.checkpoint), weights_only=True)
        return module

    def _identity(self, run: Run) -> dict[str, Any]:
        """Values that must agree with those of a checkpoint."""
        level = self.settings.level
        return {
            "parameters": {name: list(p.shape) for name, p in self.model.named_parameters()},
            "labels": [level.basis, level.density, level.grid_level],
            "systems": sorted(self.set.entries),
            "steps": self.settings.steps,
            "dtype": str(run.config.dtype),
        }
