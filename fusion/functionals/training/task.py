"""task=train for a functional: labels, regression, self-consistent energies of held-out systems."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fusion.errors import InputError
from fusion.functionals.training import dataset, outcome
from fusion.functionals.training.settings import Settings
from fusion.runs.layout import CHECKPOINT
from fusion.runs.results import Result
from fusion.runs.task import Plan, Title

if TYPE_CHECKING:
    from fusion.chemistry.system import System
    from fusion.functionals import FunctionalMethod
    from fusion.functionals.training.regression import Regression
    from fusion.functionals.training.samples import Sample
    from fusion.runs.run import Run


@dataclass(frozen=True)
class RegressionPlan(Plan):
    """Training of `model` on the systems of `data`, of whose steps `done` are finished."""

    settings: Settings
    data: dataset.Set
    model: Any
    done: int


class FunctionalTraining:
    """Training of the functional that the method's `model` describes. The system of the run is not used."""

    def __init__(self, name: str) -> None:
        self.name = name

    def check(self, method: FunctionalMethod, system: System, run: Run) -> RegressionPlan:
        """Raise InputError for invalid settings or data files, and for the checkpoint of another training."""
        from fusion.functionals.features import check_needs
        from fusion.functionals.scf.kohn_sham import molecule
        from fusion.runs.checkpoints import trained_state

        if method.weights is not None:
            raise InputError(f"task={self.name} trains a new functional; set weights=null")
        if method.training is None:
            raise InputError(f"+method={method.name} has no method.training; include conf/kind/functional.yaml")
        settings = Settings.read(method.training, run.start_dir)
        data = dataset.read(settings.data)
        for entry in data.entries.values():
            molecule(entry.system, settings.level.basis)
        model = method.untrained(run.seed, run.config.dtype)
        if not any(True for _ in model.parameters()):
            raise InputError(f"{method.name} has no parameters: there is nothing to train")
        check_needs(model.needs, method.name)
        plan = RegressionPlan(method, system, settings, data, model, 0)
        if run.checkpoint is not None:
            state = trained_state(run.checkpoint, "regression", "functional", _identity(plan, run))
            plan = replace(plan, done=int(state["done"]))
        return plan

    def title(self, plan: RegressionPlan, run: Run) -> Title:
        """Describe the functional and its training data."""
        from fusion.console.format import count

        level, differences = plan.settings.level, plan.data.differences
        held_out = sum(difference.held_out for difference in differences)
        parts = (
            plan.method.title,
            count(sum(p.numel() for p in plan.model.parameters()), "parameter"),
            f"{count(len(differences), 'energy difference')} of {len(plan.data.entries)} systems, {held_out} held out",
            self.name,
        )
        labels = f"labels: CCSD(T) or FCI, {level.basis}, densities of {level.density}, grid level {level.grid_level}"
        resuming = f"resuming from step {plan.done} of {plan.settings.steps} ({CHECKPOINT})" if plan.done else ""
        return parts, tuple(note for note in (labels, resuming) if note)

    def run(self, plan: RegressionPlan, run: Run) -> Result:
        """Train and return the result on every rank; the first rank writes `differences.csv`."""
        from fusion.console.phases import phase
        from fusion.functionals.scf.kohn_sham import load
        from fusion.functionals.training.samples import prepare
        from fusion.parallel import processes

        settings, data = plan.settings, plan.data
        with phase("labels", len(data.entries)) as update:
            dtype = next(plan.model.parameters()).dtype
            samples = prepare(data, settings.level, plan.model.needs, dtype, update)
        module = _regression(plan, samples, run)
        before = module.deviations()
        _train(module, run)
        deviations = module.deviations()
        if processes.rank() != 0:
            return Result(plan.system)
        energies: dict[str, float | None] = {}
        if settings.self_consistent and outcome.needed(data):
            with phase("SCF", len(outcome.needed(data))) as update:
                functional = load(module.functional.cpu())[0]
                energies = outcome.self_consistent(data, functional, settings, plan.method.grid_level, update)
        rows = outcome.table(data, samples, before, deviations, energies)
        outcome.write(run.directory, rows)
        training = outcome.measure(rows, settings, energies)
        training |= {"steps": module.done, "parameters": sum(p.numel() for p in plan.model.parameters())}
        training["elements"] = sorted({symbol for entry in data.entries.values() for symbol in entry.system.symbols})
        result = Result(data.entries[outcome.worst(rows)].system, details={"training": training})
        reason = outcome.judged(training)
        if reason is not None:
            result.status, result.message = "not_converged", reason
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


def _regression(plan: RegressionPlan, samples: dict[str, Sample], run: Run) -> Regression:
    from fusion.functionals.training.regression import Regression

    return Regression(plan.model, samples, plan.data.differences, plan.settings, run.seed, _identity(plan, run))


def _train(module: Regression, run: Run) -> None:
    from omegaconf import OmegaConf

    from fusion.parallel.collectives import partners

    module.save_hyperparameters(OmegaConf.to_container(run.config, resolve=True))  # for the loggers
    trainer = run.trainer(max_epochs=1, num_sanity_val_steps=0, use_distributed_sampler=False)
    with partners():
        trainer.fit(module, ckpt_path=None if run.checkpoint is None else str(run.checkpoint), weights_only=True)


def _identity(plan: RegressionPlan, run: Run) -> dict[str, Any]:
    """Values that must agree with those of a checkpoint."""
    level = plan.settings.level
    return {
        "parameters": {name: list(p.shape) for name, p in plan.model.named_parameters()},
        "labels": [level.basis, level.density, level.grid_level],
        "systems": sorted(plan.data.entries),
        "steps": plan.settings.steps,
        "dtype": str(run.config.dtype),
    }
