"""Dry run: all checks of a run, its settings, its files and what it costs, without calculating or writing anything."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from fusion.app.directories import existing
from fusion.app.execution import announce, planned
from fusion.app.settings import METHODS, resolved, same_settings
from fusion.chemistry import structure_sets
from fusion.config import compose as trees
from fusion.config.options import groups
from fusion.console import logs
from fusion.console.format import console, line
from fusion.errors import InputError
from fusion.methods import abilities
from fusion.methods.card_words import with_card
from fusion.methods.protocol import Method
from fusion.parallel import processes
from fusion.runs import trust
from fusion.runs.directory import PREVIOUS, holder
from fusion.runs.layout import CHECKPOINT, CONFIG, RESULT
from fusion.runs.results import read_result
from fusion.runs.run import Run
from fusion.runs.task import Drawing
from fusion.zoo.files import Withheld, withholding

_NOTHING = "nothing was calculated and no run was written"
_LONGEST = 60
"""Largest length of a value that is printed."""


@processes.running()
def dry_run(words: Sequence[str]) -> None:
    """Check the run of the prepared `words` and describe it. Raises InputError as the run would."""
    words = with_card(words)
    config, directory = trees.compose(words)
    config = resolved(config, Path.cwd())
    _check_directory(directory, config)
    try:
        with withholding():
            run, task, plan = planned(config, directory, Path.cwd())
    except Withheld as download:
        _describe(words, Run(directory, config, None, config.seed, Path.cwd()), pictures=True)
        line("download", f"{download}; without it the method and the system were not checked")
        console().print(f"\ndry run: {_NOTHING}")
        return
    announce(run, task, plan)
    _describe(words, run, pictures=isinstance(task, Drawing))
    method: Method | None = plan.method
    if isinstance(method, abilities.Foretelling):
        line("memory", method.memory_needed(plan.system))
    console().print(f"\ndry run: all checks passed; {_NOTHING}")


def _describe(words: Sequence[str], run: Run, pictures: bool) -> None:
    """Print the settings of a run and the files that it would write."""
    _print_changes(words, run.config)
    names = [CONFIG, RESULT, logs.FILENAME, *(["pictures (*.png)"] if pictures else [])]
    line("directory", str(run.directory))
    line("files", f"{'  '.join(names)}, and those of the task")
    if (run.directory / CONFIG).is_file():
        line("earlier run", _fate(run))


def _check_directory(directory: Path, config: DictConfig) -> None:
    """Raise InputError for a directory that a run could not use."""
    if (directory / CONFIG).is_file():
        trust.refuse_links(directory, to_write=True)
    user = holder(directory)
    if user and not structure_sets.stated(config.system):
        raise InputError(
            f"{directory} is in use by {user}: wait until that run has ended, or choose another hydra.run.dir"
        )
    place = existing(directory)
    if not place.is_dir() or not os.access(place, os.W_OK | os.X_OK):
        reason = f"{place} is not writable" if place.is_dir() else f"{place} is not a directory"
        raise InputError(f"the directory {directory} cannot be created: {reason}")


def _print_changes(words: Sequence[str], config: DictConfig) -> None:
    """Print the settings that differ from the defaults of the chosen method, task and system."""
    chosen = [word for word in words if word.lstrip("+").partition("=")[0] in groups() and not word.startswith("~")]
    if METHODS in config or any(word.startswith("+method=") for word in chosen):
        before = dict(_leaves(OmegaConf.to_container(resolved(trees.compose(chosen)[0], Path.cwd()), resolve=True)))
    else:
        before = {}
    now = dict(_leaves(OmegaConf.to_container(config, resolve=True)))
    changed = {key: value for key, value in now.items() if before.get(key, ...) != value and not _is_own(key)}
    if not changed:
        line("settings", "all have their defaults")
    for number, (key, value) in enumerate(changed.items()):
        default = f"    default {_shown(before[key])}" if key in before else ""
        line("" if number else "settings", f"{key}={_shown(value)}{default}")


def _is_own(key: str) -> bool:
    """True for a setting that fusion makes itself."""
    return key.startswith("_") or key == "system.digest"


def _leaves(node: Any, place: str = "") -> Iterator[tuple[str, Any]]:
    if isinstance(node, dict) and (node or not place):
        for key, value in node.items():
            yield from _leaves(value, f"{place}.{key}" if place else str(key))
    else:
        yield place, node


def _shown(value: Any) -> str:
    text = "null" if value is None else str(value).lower() if isinstance(value, bool) else " ".join(str(value).split())
    return text if len(text) <= _LONGEST else f"{text[: _LONGEST - 3]}..."


def _fate(run: Run) -> str:
    """Describe what would happen to the files of an earlier run in the directory."""
    if not same_settings(run.directory, run.config):
        return f"its files would be moved to {PREVIOUS}/"
    done = (read_result(run.directory) or {}).get("status", "failed") != "failed"
    if done:
        return "finished: its result would be printed"
    return f"resumed from {CHECKPOINT}" if (run.directory / CHECKPOINT).is_file() else "started again, no checkpoint"
