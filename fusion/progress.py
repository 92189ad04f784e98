"""The progress bar of a run: one line per phase, which stays on the screen when the phase ends.

A LightningModule may say what it is doing through four attributes, `phase` ("pretraining", "optimising", "evaluating"),
`phase_step` (iterations done), `phase_total` and `phase_text` ("E = -8.0700(4) Ha  var 0.007"); of any other module the
bar shows the Trainer's own loop and the metrics logged with `prog_bar=True`.
"""

from __future__ import annotations

import math
import time
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from pytorch_lightning.callbacks import ProgressBar
from rich.progress import BarColumn, Progress, ProgressColumn, Task, TextColumn
from rich.text import Text

from fusion.report import LABEL_WIDTH, console

if TYPE_CHECKING:
    from pytorch_lightning import LightningModule, Trainer

_REFRESH_S = 0.125
_BAR_WIDTH = 30
_STAGES = {"fit": "training", "validate": "validating", "test": "testing", "predict": "predicting"}


@dataclass(frozen=True)
class _State:
    """Where a phase is: iterations done of `total` (None: unknown), and what there is to say about it."""

    phase: str
    step: int
    total: int | None
    text: str = ""

    @property
    def counter(self) -> str:
        return f"{self.step}/{self.total}" if self.total is not None else str(self.step)

    @property
    def complete(self) -> bool:
        return self.total is not None and self.step >= self.total


class PhaseProgress(ProgressBar):
    """One progress line per phase, on the first process only, redrawn eight times a second at most."""

    def __init__(self) -> None:
        super().__init__()
        self._enabled = True
        self._line: _BarLine | _PlainLine | None = None
        self._last = _State("", 0, None)
        self._drawn = -math.inf

    @property
    def is_enabled(self) -> bool:
        """Whether this process shows anything; Lightning's `self.print` asks."""
        return self._enabled

    def enable(self) -> None:
        self._enabled = True

    def disable(self) -> None:
        self._enabled = False
        self.close()

    def print(self, *args: Any, sep: str = " ", **kwargs: Any) -> None:
        """Print above the line in progress."""
        if self._enabled:
            console().print(sep.join(str(part) for part in args), soft_wrap=True)

    def show(self, pl_module: LightningModule) -> None:
        """Draw the module's state; called after each batch, and by a module whose work happens outside of batches."""
        if not self._enabled:
            return
        phase, step, total = self._position(pl_module)
        if self._line is None or phase != self._last.phase:
            if self._last.total is not None and self._last.step == self._last.total - 1:
                self._last = replace(self._last, step=self._last.total)  # its last iteration also began the next phase
            self.close()
            self._last = _State(phase, step, total, self._text(pl_module))
            self._line = (_BarLine if console().is_terminal else _PlainLine)(self._last)
            self._drawn = time.monotonic()
            return
        due = time.monotonic() - self._drawn >= _REFRESH_S
        state = _State(phase, step, total, self._last.text)
        if due or state.complete:
            state = _State(phase, step, total, self._text(pl_module))
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
        """Batches of a validation inside of training are not counted: the training line goes on."""
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
    """Batches of the whole stage, None where the Trainer cannot know."""
    batches: float
    if stage == "fit":
        epochs = trainer.max_epochs if trainer.max_epochs is not None and trainer.max_epochs > 0 else math.inf
        steps = trainer.max_steps * trainer.accumulate_grad_batches if trainer.max_steps > 0 else math.inf
        batches = min(trainer.num_training_batches * epochs, steps)
    else:
        counts = {"validate": trainer.num_val_batches, "test": trainer.num_test_batches}
        batches = sum(counts.get(stage, trainer.num_predict_batches))
    return int(batches) if math.isfinite(batches) else None


class _Facts(ProgressColumn):
    """What follows the bar: steps, text, time taken and, while the phase goes on, time left; cut to fit on one line."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self._width = width

    def render(self, task: Task) -> Text:
        state, taken, done = task.fields["state"], task.elapsed or 0.0, task.completed - task.fields["first"]
        parts = [state.counter, state.text, _clock(taken)]
        line = "  ".join(part for part in parts if part)
        if done > 0 and state.total is not None and not state.complete:
            left = f", {_clock(taken / done * (state.total - state.step))} left"
            line += left if len(line + left) <= self._width else ""
        text = Text(line, no_wrap=True)
        text.truncate(self._width, overflow="ellipsis")
        return text


class _BarLine:
    """The line of a phase in a terminal, redrawn on demand: a thread that redraws would take its time from the work."""

    def __init__(self, state: _State) -> None:
        label = f"{state.phase:<11}"
        bar_width = max(5, min(_BAR_WIDTH, console().width - 85))
        self._progress = Progress(
            TextColumn("{task.description}", markup=False),
            BarColumn(bar_width=bar_width),
            _Facts(max(20, console().width - len(label) - bar_width - 4)),
            console=console(),
            auto_refresh=False,
        )
        self._task = self._progress.add_task(
            label, total=state.total, completed=state.step, state=state, first=state.step
        )
        self._progress.start()
        self._progress.refresh()

    def draw(self, state: _State) -> None:
        self._progress.update(self._task, completed=state.step, total=state.total, state=state, refresh=True)

    def finish(self, state: _State) -> None:
        self.draw(state)
        self._progress.stop()


class _PlainLine:
    """The phase as lines of a log: its start, then one at each tenth or after half a minute, its end.

    Lines are at least two seconds apart, and in a long run further and further: an hour of work takes about a screen.
    """

    def __init__(self, state: _State) -> None:
        self._start = self._printed_at = time.monotonic()
        self._printed = state
        self._print(state, "")

    def draw(self, state: _State) -> None:
        now = time.monotonic()
        waited = now - self._printed_at
        tenth = state.total is not None and state.step - self._printed.step >= state.total / 10
        if (tenth and waited >= 2) or waited >= max(30.0, (now - self._start) / 20):
            self._print(state, _clock(now - self._start))

    def finish(self, state: _State) -> None:
        if state != self._printed:
            self._print(state, _clock(time.monotonic() - self._start))

    def _print(self, state: _State, clock: str) -> None:
        self._printed, self._printed_at = state, time.monotonic()
        parts = [f"{state.phase:<{LABEL_WIDTH - 2}}", f"{state.counter:<10}", state.text, clock]
        console().print("  ".join(part for part in parts if part).rstrip(), soft_wrap=True)


def _clock(seconds: float) -> str:
    whole = int(seconds)
    return f"{whole // 3600}:{whole // 60 % 60:02d}:{whole % 60:02d}"
