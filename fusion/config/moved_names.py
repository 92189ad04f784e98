"""Current names of classes and settings that configurations of earlier versions name differently."""

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
    "fusion.wavefunctions.hamiltonians.Coulomb": "fusion.wavefunctions.hamiltonians.coulomb",
}
"""`_target_` in the config.yaml of an earlier version -> its current name."""


ABOUT: Final = ("title", "summary", "cost", "gives", "note", "requires")
"""Settings in the node `about` of a method, which stood beside it in earlier versions."""


def current(settings: Any) -> Any:
    """Return plain settings (dicts, lists and values) with current names.

    These are the class in every `_target_`, and the place of a method's description.
    """
    if isinstance(settings, dict):
        renamed = {
            key: MOVED.get(value, value) if str(key).endswith("_target_") and isinstance(value, str) else current(value)
            for key, value in settings.items()
        }
        return {key: _described(value) if key == "method" else value for key, value in renamed.items()}
    return [current(item) for item in settings] if isinstance(settings, list) else settings


def _described(method: Any) -> Any:
    """Return the settings of a method with its description in the node `about`."""
    if not isinstance(method, dict) or "_target_" not in method or "about" in method:
        return method
    about = {key: method[key] for key in ABOUT if key in method}
    settings = {key: value for key, value in method.items() if key not in about}
    return {**settings, "about": about} if about else method
