"""`data` nodes from names: entries of a mixture, and paths made absolute."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fusion.errors import InputError

_ABSENT = object()


def absolute(config: Any, start_dir: Path) -> Any:
    """Make the paths of a `data` node absolute and replace the entries of a mixture by their nodes.

    Raises InputError for an entry that names no data.
    """
    from omegaconf import DictConfig

    if not isinstance(config, DictConfig):
        return config
    if config.get("entries") is not None:
        config.entries = [absolute(node(entry), start_dir) for entry in config.entries]
    path = config.get("path")
    if isinstance(path, str):
        config.path = _full(path, start_dir)
    elif path is not None:
        config.path = [_full(entry, start_dir) for entry in path]
    if config.get("split") and config.split.get("file") is not None:
        config.split.file = _full(config.split.file, start_dir)
    return config


def _full(path: Any, start_dir: Path) -> str:
    return str(start_dir / Path(str(path)).expanduser())


def node(entry: Any) -> Any:
    """Build the `data` node of an entry: a name, a file, or these with settings, {data: FILE, energy_unit: kcal/mol}.

    Raises InputError for a name or a setting that does not exist.
    """
    from omegaconf import DictConfig, OmegaConf
    from omegaconf.errors import OmegaConfBaseException

    from fusion.config import compose as trees
    from fusion.config import messages, overrides
    from fusion.config.options import available

    if isinstance(entry, Mapping) and "split" in entry:  # already a complete node
        return OmegaConf.create(dict(entry)) if not isinstance(entry, DictConfig) else entry
    options = {} if isinstance(entry, str) else {str(k): v for k, v in entry.items() if k != "data"}
    name = entry if isinstance(entry, str) else entry.get("data")
    if not isinstance(name, str) or not name:
        raise InputError(f"{entry!r} names no data; write a name, a file, or one of them with settings, {{data: FILE}}")
    words = overrides.prepare([f"data={name}"], multirun=False)
    names = available("data")
    if words == [f"data={name}"] and name not in names:
        raise InputError(messages.no_option("data", name, names))
    with trees.composer() as compose:
        node_config = OmegaConf.create(OmegaConf.to_container(compose("config", words).data, resolve=True))
    for key, value in options.items():
        if OmegaConf.select(node_config, key, default=_ABSENT) is _ABSENT:
            raise InputError(messages.no_setting(f"data.{key}", [f"data.{setting!s}" for setting in node_config]))
        try:
            OmegaConf.update(node_config, key, value)
        except OmegaConfBaseException as error:
            raise InputError(f"data.{key}={value!r}: {messages.one_line(error)}") from error
    return node_config
