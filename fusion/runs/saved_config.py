"""Resolved configuration of a run, as its directory holds it."""

from __future__ import annotations

import io
from pathlib import Path

from omegaconf import DictConfig, OmegaConf

from fusion.config import messages
from fusion.config.moved_names import current
from fusion.errors import InputError
from fusion.files import bounds
from fusion.runs import trust
from fusion.runs.layout import CONFIG


def load_config(directory: Path) -> DictConfig:
    """Read the resolved configuration of a run, with the current names of classes.

    Raises InputError if it is missing or unreadable.
    """
    file = directory / CONFIG
    if not file.is_file():
        raise InputError(f"{directory} is not the directory of a run: it has no {CONFIG}")
    try:
        config = OmegaConf.load(io.StringIO(bounds.checked_yaml(bounds.text(file))))
    except Exception as error:  # wrong YAML raises exceptions of many types
        raise InputError(f"{file}: {messages.one_line(error)}") from error
    if not isinstance(config, DictConfig):
        raise InputError(f"{file} is damaged: it holds a list, not settings")
    for key in ("system", "task", "trainer", "seed", "dtype", "ckpt"):
        if key not in config or (key in ("system", "task", "trainer") and not isinstance(config[key], DictConfig)):
            raise InputError(f"{file} is damaged: it has no settings of {key}")
    trust.refuse_interpolations(config, f"{file}: ")
    return OmegaConf.create(current(OmegaConf.to_container(config, resolve=False)))
