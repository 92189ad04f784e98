"""Checkpoint of a task without Lightning, `checkpoints/last.ckpt`: numbers, texts, lists, dicts and arrays.

The file is a numpy .npz archive with the arrays and a JSON text of everything else: reading it runs no code.
"""

from __future__ import annotations

import json
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from fusion.config.moved_names import current
from fusion.errors import InputError
from fusion.files import bounds
from fusion.files.atomic import make_folder, replacing
from fusion.runs.layout import CHECKPOINT

if TYPE_CHECKING:
    from fusion.runs.run import Run

_TEXT = "state"
_ARRAY = "__array__"


def write_state(run: Run, state: dict[str, Any]) -> None:
    """Replace the run's checkpoint by `state` so that a kill at any moment leaves the old one or the new one."""
    arrays: dict[str, np.ndarray] = {}
    text = json.dumps(_without_arrays(state, arrays))
    target = run.directory / CHECKPOINT
    make_folder(target.parent, run.directory)
    with replacing(target) as file:
        np.savez(file, **{_TEXT: np.array(text)}, **arrays)  # type: ignore[arg-type]


def read_state(run: Run, task: str) -> dict[str, Any] | None:
    """Read the state of `task` (in `state["task"]`) from the checkpoint that the run resumes from; None at the start.

    Raises InputError for any other file.
    """
    if run.checkpoint is None:
        return None
    try:
        arrays = bounds.npz(run.checkpoint)
        state = _with_arrays(current(bounds.parsed_json(str(arrays.pop(_TEXT)))), arrays)
    except (OSError, ValueError, KeyError, TypeError) as error:
        if _is_of_torch(run.checkpoint):
            raise InputError(
                f"{run.checkpoint} is a checkpoint of a wavefunction or network, not of task={task}"
            ) from error
        raise InputError(f"{run.checkpoint} is not a checkpoint of task={task} ({bounds.reason(error)})") from error
    if not isinstance(state, dict) or state.get("task") != task:
        other_task = state.get("task") if isinstance(state, dict) else None
        raise InputError(
            f"{run.checkpoint} is a checkpoint of task={bounds.reason(str(other_task))}, not of task={task}"
        )
    return state


def task_of(path: Path) -> str | None:
    """Name of the task that wrote a checkpoint by `write_state`; None for any other file."""
    try:
        state = bounds.parsed_json(str(bounds.npz(path, (_TEXT,))[_TEXT]))
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return bounds.reason(str(state.get("task"))) if isinstance(state, dict) else None


def _is_of_torch(path: Path) -> bool:
    """True for a file that PyTorch wrote."""
    try:
        with zipfile.ZipFile(path) as archive:
            return any(name.endswith("/data.pkl") for name in archive.namelist())
    except (OSError, ValueError, zipfile.BadZipFile):
        return False


def is_own(run: Run) -> bool:
    """True if the run resumes from its own checkpoint, not from that of another run."""
    return run.checkpoint is not None and run.checkpoint.resolve() == Path(run.directory / CHECKPOINT).resolve()


def _without_arrays(value: Any, arrays: dict[str, np.ndarray]) -> Any:
    if isinstance(value, np.ndarray):
        name = f"array{len(arrays)}"
        arrays[name] = value
        return {_ARRAY: name}
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, dict):
        return {str(key): _without_arrays(item, arrays) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_without_arrays(item, arrays) for item in value]
    return value


def _with_arrays(value: Any, arrays: dict[str, np.ndarray]) -> Any:
    if isinstance(value, dict):
        return arrays[value[_ARRAY]] if _ARRAY in value else {k: _with_arrays(v, arrays) for k, v in value.items()}
    return [_with_arrays(item, arrays) for item in value] if isinstance(value, list) else value
