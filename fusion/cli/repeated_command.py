"""Command that repeats a run, from its configuration."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from omegaconf import DictConfig

_REPEATED = ("ckpt", "method.seed", "method.weights", "method.dtype", "method.device")
"""Keys that follow from others, or do not change results."""
_BARE = re.compile(r"[A-Za-z_][\w.@-]*")
"""Text that needs no quotes on the command line."""


def repeating(config: DictConfig) -> str:
    """Return a command that repeats the run of `config`; it states what differs from the method's own settings."""
    return f"python -m fusion {shlex.join(given_words(config))}"


def given_words(config: DictConfig) -> list[str]:
    """Return the words of that command: method, system, task, and the settings that differ from their defaults."""
    from omegaconf import OmegaConf

    from fusion.config import compose as trees
    from fusion.config import overrides
    from fusion.config.options import available
    from fusion.methods.card_words import with_card
    from fusion.zoo import registry

    system = str(config.system.get("name"))
    method = config.get("method")
    trains_on_others = method is not None and "training" in method and config.task.name == "train"
    known_system = system in available("system") and not trains_on_others
    compared = ["task=compare", f"methods={_written(_plain(config.get('methods')))}"]
    words = compared if method is None else [f"+method={method.name}"]
    words += [f"system={system}"] if known_system else []
    if config.task.name != trees.compose(words)[0].task.name and config.task.name in available("task"):
        words.append(f"task={config.task.name}")
    if config.get("weights") is not None and registry.find(str(config.weights)).kind == "ansatz":
        words.append(f"weights={config.weights}")  # stands for further settings
    data = config.get("data")
    repeated = set(_REPEATED)
    if trains_on_others and data is not None and data.get("name") in available("data"):
        words.append(f"data={data.name}")
    elif trains_on_others and data is not None and isinstance(data.get("path"), str):
        words.append(f"data={_from_here(Path(data.path))}")
        repeated |= {"data.path", "data.name", "system.name"}
    defaults = _leaves(trees.compose(with_card(overrides.prepare(words, multirun=False)))[0])
    settings = _leaves(config)
    for key, value in defaults.items():  # {method: hf} in place of null
        if value is None and key not in settings and OmegaConf.is_config(node := OmegaConf.select(config, key)):
            settings[key] = OmegaConf.to_container(node, resolve=True)
    for key, value in settings.items():
        skipped = key.startswith(("callbacks.", "trainer.", "logger", "hydra.")) or key in repeated
        if key in defaults and defaults[key] != value and not skipped:
            words.append(f"{key}={_written(value)}")
    return words


def _from_here(path: Path) -> Path:
    """Return `path` relative to the working directory if it is below it; otherwise unchanged."""
    return path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path


def _plain(node: Any) -> Any:
    from omegaconf import OmegaConf

    return OmegaConf.to_container(node, resolve=True) if OmegaConf.is_config(node) else node


def _written(value: Any) -> str:
    """Format a value for the command line."""
    from fusion.config import overrides

    if isinstance(value, Mapping):
        return "{" + ",".join(f"{key}:{_written(item)}" for key, item in value.items()) + "}"
    if isinstance(value, list):
        return f"[{','.join(map(_written, value))}]"
    if isinstance(value, str):
        return value if _BARE.fullmatch(value) else overrides.quote(value)
    return json.dumps(value)


def _leaves(config: Any) -> dict[str, Any]:
    """Flatten a config to values by dotted key; lists are values."""
    from omegaconf import OmegaConf

    values: dict[str, Any] = {}

    def walk(node: Any, key: str) -> None:
        if isinstance(node, dict):
            for name, value in node.items():
                walk(value, f"{key}.{name}" if key else str(name))
        else:
            values[key] = node

    walk(OmegaConf.to_container(config, resolve=True), "")
    return values
