"""Settings of a run: checks, resolution, and reading from its directory."""

from __future__ import annotations

from pathlib import Path

from omegaconf import DictConfig, ListConfig, OmegaConf, open_dict
from omegaconf.errors import MissingMandatoryValue, OmegaConfBaseException

from fusion.chemistry import structure_sets
from fusion.config import messages
from fusion.config.options import available
from fusion.console import units
from fusion.errors import InputError
from fusion.runs import trust
from fusion.runs.layout import CHECKPOINT, CONFIG
from fusion.runs.run import without_ckpt
from fusion.runs.saved_config import load_config

METHODS = "methods"
"""Key of the list of methods of a task; a run with this key takes no +method=."""


def resolved(config: DictConfig, start_dir: Path) -> DictConfig:
    """Return a plain copy without interpolations and with the user's relative paths made absolute.

    Raises InputError without a method, or for a method with a task that has its own list of methods.
    """
    _check_nodes(config)
    trust.refuse_environment(config)
    try:
        config = DictConfig(OmegaConf.to_container(config, resolve=True, throw_on_missing=True))
    except MissingMandatoryValue as error:
        raise InputError(f"{error.full_key} is missing: write {error.full_key}=...") from error
    except OmegaConfBaseException as error:
        raise InputError(messages.one_line(error)) from error
    trust.refuse_interpolations(config)
    if not isinstance(config.seed, int) or isinstance(config.seed, bool):
        raise InputError(f"seed must be a whole number, not {config.seed}")
    if not -(2**63) <= config.seed < 2**63:
        raise InputError(f"seed must be a number of at most 64 bits, not {config.seed}")
    if config.dtype not in ("float32", "float64"):
        raise InputError(f"dtype must be float32 or float64, not {config.dtype}")
    config.units = units.checked(config.get("units", units.HARTREE))
    if config.system.get("path") is not None:
        config.system.path = str(start_dir / Path(str(config.system.path)).expanduser())
    if config.system.get("paths") is not None:
        if not isinstance(config.system.paths, str):
            raise InputError("systems takes one file, folder or pattern: systems='mols/*.xyz', not a list")
        config.system.paths = str(start_dir / Path(str(config.system.paths)).expanduser())
        if config.system.get("digest") is None:  # a resumed run has that of its first structures
            config.system.digest = structure_sets.digest(config.system.paths)
    if config.system.get("ecp") is not None:
        from fusion.chemistry import core_potentials

        config.system.ecp = core_potentials.absolute(config.system.ecp, start_dir)
    for key in ("frames", "product", "guess"):
        if isinstance(config.task.get(key), str):
            config.task[key] = str(start_dir / Path(config.task[key]).expanduser())
    reaction = config.task.get("reaction")
    if reaction is not None:
        from fusion.chemistry.reactions import with_full_paths
    if isinstance(reaction, str):
        config.task.reaction = with_full_paths(reaction, start_dir)
    elif isinstance(reaction, ListConfig):
        config.task.reaction = [with_full_paths(str(text), start_dir) for text in reaction]
    if config.get("data") is not None:
        from fusion.datasets.naming import absolute

        config.data = absolute(config.data, start_dir)
    if config.ckpt is not None and config.ckpt != "last":
        config.ckpt = str(start_dir / Path(str(config.ckpt)).expanduser())
    OmegaConf.set_struct(config, True)
    return config


def _check_nodes(config: DictConfig) -> None:
    """Raise InputError for a missing or unknown option. Hydra makes `+method=x` the string x if no plugin has it."""
    known = available("method")
    method = config.get("method")
    if METHODS in config and method is not None:
        task = config.task.get("name")
        raise InputError(f"task={task} takes its methods from methods=[NAME, ...]; remove +method=")
    if METHODS not in config and not isinstance(method, DictConfig):
        raise InputError(messages.no_option("method", None if method is None else str(method), known))
    for group in ("system", "task"):
        if not isinstance(config.get(group), DictConfig):
            raise InputError(messages.no_option(group, str(config.get(group)), available(group)))


def find_checkpoint(ckpt: str | None, directory: Path, start_dir: Path) -> Path | None:
    """Return the checkpoint file that `ckpt` names; `last` is that in `directory`, or None if it does not exist yet."""
    if ckpt is None:
        return None
    if ckpt == "last":
        own = directory / CHECKPOINT
        return own if own.is_file() else None
    path = start_dir / ckpt
    if path.is_dir():
        path = path / CHECKPOINT
    if not path.is_file():
        raise InputError(f"no checkpoint {path} (ckpt=FILE, ckpt=RUN_DIR or ckpt=last)")
    return path


def refuse_changes(directory: Path, config: DictConfig) -> None:
    """Raise InputError for a run that resumes with other random numbers, or from another model, than it began with."""
    if config.ckpt != "last" or not all((directory / name).is_file() for name in (CONFIG, CHECKPOINT)):
        return
    earlier = load_config(directory)
    for key in ("seed", "weights"):
        before, now = earlier.get(key), config.get(key)
        if before != now:
            stated = f"{key}={'null' if before is None else before}"
            raise InputError(
                f"{key}={'null' if now is None else now} cannot change a run that resumes: {directory} began with "
                f"{stated}. Keep {stated}, or choose another hydra.run.dir"
            )


def same_settings(directory: Path, config: DictConfig) -> bool:
    """True if the run in `directory` resumes (`ckpt=last`) with unchanged settings."""
    if config.ckpt != "last" or not (directory / CONFIG).is_file():
        return False
    before, now = (OmegaConf.to_container(each, resolve=True) for each in (load_config(directory), config))
    return without_ckpt(before) == without_ckpt(now)


def join(directory: Path, config: DictConfig) -> None:
    """Let `config` continue the calculation of many structures in `directory`; raise InputError if that is another."""
    earlier = load_config(directory)
    if "digest" not in earlier.system:  # a run of an earlier version
        with open_dict(config):
            config.system.pop("digest", None)
    before, now = (without_ckpt(OmegaConf.to_container(each, resolve=True)) for each in (earlier, config))
    if before != now:
        if before == now | {"system": now["system"] | {"digest": before["system"].get("digest")}}:
            raise InputError(structure_sets.changed(now["system"]["paths"]))
        keys = ("method", "task", "system", *before, *now)  # those of the calculation first
        changed = next(key for key in keys if before.get(key) != now.get(key))
        raise InputError(
            f"{directory} belongs to another calculation of many structures (its {changed} is different): choose "
            "another hydra.run.dir"
        )
    config.ckpt = "last"
