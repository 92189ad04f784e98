"""Progress of a Trainer: one line per phase, which stays on the screen when the phase ends.

A LightningModule may describe its work by four attributes: `phase` ("pretraining", "optimising", "evaluating"),
`phase_step` (finished iterations), `phase_total` and `phase_text` ("E = -8.0700(4) Ha  var 0.007"). For any other
module the line shows the Trainer's own loop and the metrics logged with `prog_bar=True`.
"""

from __future__ import annotations

import math
import time
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from pytorch_lightning.callbacks import Callback, ProgressBar

from fusion.console.format import console
from fusion.console.phases import REFRESH_S, Line, State, line, note

if TYPE_CHECKING:
    from pytorch_lightning import LightningModule, Trainer

_TELL_S = 1.0
_STAGES = {"fit": "training", "validate": "validating", "test": "testing", "predict": "predicting"}


class PhaseProgress(ProgressBar):
    """One progress line per phase, on the first process only, redrawn at most eight times per second."""

    def __init__(self) -> None:
        super().__init__()
        self._enabled = True
        self._line: Line | None = None
        self._last = State("", 0, None)
        self._drawn = -math.inf

    @property
    def is_enabled(self) -> bool:
        """True if this process shows progress; Lightning's `self.print` reads it."""
        return self._enabled

    def enable(self) -> None:
        self._enabled = True

    def disable(self) -> None:
        self._enabled = False
        self.close()

    def print(self, *args: Any, sep: str = " ", **kwargs: Any) -> None:
        """Print above the current line."""
        if self._enabled:
            console().print(sep.join(str(part) for part in args), soft_wrap=True)

    def show(self, pl_module: LightningModule) -> None:
        """Draw the module's state. Called after each batch, and by modules that work outside of batches."""
        if not self._enabled:
            return
        phase, step, total = self._position(pl_module)
        if self._line is None or phase != self._last.phase:
            if self._last.total is not None and self._last.step == self._last.total - 1:
                self._last = replace(self._last, step=self._last.total)  # its last iteration also began the next phase
            self.close()
            self._last = State(phase, step, total, self._text(pl_module))
            self._line = line(self._last)
            self._drawn = time.monotonic()
            return
        due = time.monotonic() - self._drawn >= REFRESH_S
        state = State(phase, step, total, self._last.text)
        if due or state.complete:
            state = State(phase, step, total, self._text(pl_module))
            self._line.draw(state)
            self._drawn = time.monotonic()
        self._last = state

    def close(self) -> None:
        """Leave the last state of the phase on the screen."""
        if self._line is not None:
            self._line.finish(self._last)
            self._line = None

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._batches = trainer.fit_loop.total_batch_idx + 1
        self.show(pl_module)

    def on_train_batch_end(self, trainer: Trainer, pl_module: LightningModule, *args: Any) -> None:
        self._batches = trainer.fit_loop.total_batch_idx + 1
        self.show(pl_module)

    def on_validation_batch_end(self, trainer: Trainer, pl_module: LightningModule, *args: Any) -> None:
        self._evaluated(pl_module)

    def on_test_batch_end(self, trainer: Trainer, pl_module: LightningModule, *args: Any) -> None:
        self._evaluated(pl_module)

    def on_predict_batch_end(self, trainer: Trainer, pl_module: LightningModule, *args: Any) -> None:
        self._evaluated(pl_module)

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        super().setup(trainer, pl_module, stage)
        self._batches = 0

    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        self.close()

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        self.close()

    def _evaluated(self, pl_module: LightningModule) -> None:
        """Count a batch, except in a validation during training, which keeps the training line."""
        if self.trainer.state.fn != "fit":
            self._batches += 1
        elif not hasattr(pl_module, "phase"):
            return
        self.show(pl_module)

    def _position(self, pl_module: LightningModule) -> tuple[str, int, int | None]:
        if hasattr(pl_module, "phase"):
            return str(pl_module.phase), int(pl_module.phase_step), int(pl_module.phase_total)  # type: ignore[arg-type]
        stage = str(self.trainer.state.fn.value) if self.trainer.state.fn else "fit"
        return _STAGES.get(stage, stage), self._batches, _total_batches(self.trainer, stage)

    def _text(self, pl_module: LightningModule) -> str:
        if hasattr(pl_module, "phase"):
            return str(getattr(pl_module, "phase_text", ""))
        metrics = [item for item in self.get_metrics(self.trainer, pl_module).items() if item[0] != "v_num"]
        shown = [f"{name} {value:.4g}" if isinstance(value, float) else f"{name} {value}" for name, value in metrics]
        epochs = self.trainer.max_epochs or 0
        if self.trainer.state.fn == "fit" and epochs > 1:
            shown.insert(0, f"epoch {min(self.trainer.current_epoch + 1, epochs)}/{epochs}")
        return "  ".join(shown)


def _total_batches(trainer: Trainer, stage: str) -> int | None:
    """Number of batches of the stage; None if the Trainer cannot know it."""
    batches: float
    if stage == "fit":
        epochs = trainer.max_epochs if trainer.max_epochs is not None and trainer.max_epochs > 0 else math.inf
        steps = trainer.max_steps * trainer.accumulate_grad_batches if trainer.max_steps > 0 else math.inf
        batches = min(trainer.num_training_batches * epochs, steps)
    else:
        counts = {"validate": trainer.num_val_batches, "test": trainer.num_test_batches}
        batches = sum(counts.get(stage, trainer.num_predict_batches))
    return int(batches) if math.isfinite(batches) else None


class NotedProgress(Callback):
    """Progress of a Trainer within a phase of its task: the phase, steps and text of a module that has them."""

    def __init__(self) -> None:
        self._told = -math.inf

    def on_train_batch_end(self, trainer: Trainer, pl_module: LightningModule, *_: Any) -> None:
        """Tell where the module is, at most once a second: the text may cost time."""
        if time.monotonic() - self._told < _TELL_S:
            return
        self._told = time.monotonic()
        steps = f"{pl_module.phase} {pl_module.phase_step}/{pl_module.phase_total}"
        note("  ".join(part for part in (steps, str(pl_module.phase_text)) if part))
