"""Current names of classes that configurations of earlier versions name differently."""

from __future__ import annotations

from typing import Any, Final

MOVED: Final = {
    "fusion.checkpoints.SaveLast": "fusion.runs.checkpoints.SaveLast",
    "fusion.composition.Oniom": "fusion.methods.sums.Oniom",
    "fusion.composition.SumMethod": "fusion.methods.sums.SumMethod",
    "fusion.metrics.tensorboard_logger": "fusion.runs.metrics.tensorboard_logger",
    "fusion.metrics.wandb_logger": "fusion.runs.metrics.wandb_logger",
    "fusion.progress.PhaseProgress": "fusion.console.progress.PhaseProgress",
    "fusion.tasks.accuracy.Accuracy": "fusion.tasks.evaluate.Evaluate",
    "fusion.tasks.comparing.measured.MeasuredEnergy": "fusion.tasks.compare.cost.MeasuredEnergy",
    "fusion.tasks.comparing.measured.MeasuredTraining": "fusion.tasks.compare.cost.MeasuredTraining",
    "fusion.tasks.ensembles.ConstantEnergy": "fusion.tasks.md.ensembles.ConstantEnergy",
    "fusion.tasks.ensembles.ConstantPressure": "fusion.tasks.md.ensembles.ConstantPressure",
    "fusion.tasks.ensembles.Langevin": "fusion.tasks.md.ensembles.Langevin",
    "fusion.tasks.motion.ensembles.ConstantEnergy": "fusion.tasks.md.ensembles.ConstantEnergy",
    "fusion.tasks.motion.ensembles.ConstantPressure": "fusion.tasks.md.ensembles.ConstantPressure",
    "fusion.tasks.motion.ensembles.Langevin": "fusion.tasks.md.ensembles.Langevin",
    "fusion.tasks.train.Evaluate": "fusion.tasks.evaluate.Evaluate",
}
"""`_target_` in the config.yaml of an earlier version -> its current name."""


def current(settings: Any) -> Any:
    """Return plain settings (dicts, lists and values) with the current name in every `_target_`."""
    if isinstance(settings, dict):
        return {
            key: MOVED.get(value, value) if str(key).endswith("_target_") and isinstance(value, str) else current(value)
            for key, value in settings.items()
        }
    return [current(item) for item in settings] if isinstance(settings, list) else settings
