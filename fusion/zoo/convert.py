"""From the files of a model to its tensors: which code a card may name, and the converter of torch's state dicts."""

from __future__ import annotations

import functools
import importlib
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

from fusion import plugins
from fusion.errors import CalculationError, InputError
from fusion.files import bounds

if TYPE_CHECKING:
    from torch import Tensor, nn

    from fusion.zoo.card import Card


def converter(card: Card) -> Callable[[Path, Card], dict[str, Tensor]] | None:
    """The function that turns the files of `card` into tensors: of a plugin or of this module. None: not needed.

    Raises InputError, before anything is imported, for code of any other package.
    """
    if card.origin.converter is None:
        return None
    found = _resolve(card.origin.converter, card.label, _plugin_packages() | {__name__})
    if isinstance(found, type):
        raise InputError(f"{card.label}: {card.origin.converter} is a class; a converter is a function")
    return found


def module_class(path: str, label: str) -> type[nn.Module]:
    """The nn.Module "package.module.Class", of fusion or of a plugin, that the card `label` names.

    Raises InputError, before anything is imported, for code of any other package. Only such classes are called with a
    card's arguments: functions of fusion can do anything.
    """
    from torch import nn

    found = _resolve(path, label, _plugin_packages() | {"fusion"})
    if not isinstance(found, type) or not issubclass(found, nn.Module):
        raise InputError(f"{label}: {path} is not an nn.Module")
    return found


def _resolve(path: str, label: str, packages: set[str]) -> Callable[..., Any]:
    """What `path` names; InputError unless it is defined inside `packages`."""
    module, _, name = path.replace(":", ".").rpartition(".")
    if not _inside(module, packages):
        raise InputError(
            f"{label}: {path} belongs to no plugin that is installed, so it is not run; cards may name code of "
            f"{', '.join(sorted(packages))}"
        )
    try:
        found = getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError) as error:
        raise InputError(f"{label}: there is no {path}: {str(error).splitlines()[0]}") from error
    if not callable(found) or not _inside(str(getattr(found, "__module__", "")), packages):
        raise InputError(f"{label}: {path} is no function or class of its own package")
    result: Callable[..., Any] = found
    return result


def built(value: Any, label: str) -> Any:
    """An argument of a model: tables with `_target_` become what they name, with the same restrictions."""
    if isinstance(value, list | tuple):
        return [built(item, label) for item in value]
    if not isinstance(value, Mapping):
        return value
    arguments = {key: built(item, label) for key, item in value.items() if key not in ("_target_", "_partial_")}
    if "_target_" not in value:
        return arguments
    found = module_class(str(value["_target_"]), label)
    return functools.partial(found, **arguments) if value.get("_partial_") else found(**arguments)


def torch_state_dict(directory: Path, card: Card) -> dict[str, Tensor]:
    """The tensors of one file that `torch.save` wrote: a state dict, or a checkpoint that holds one as `state_dict`.

    Read with weights_only: a file that needs pickle's power to run code is refused. Raises CalculationError.
    """
    import torch

    if len(card.files) != 1:
        raise CalculationError(f"a torch state dict is one file; {card.label} has {len(card.files)}")
    path = directory / card.files[0].path
    try:
        with warnings.catch_warnings(action="ignore"):  # of old formats, which the error below covers
            bounds.check_torch(path)
            content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # UnpicklingError, RuntimeError, EOFError, ...: whatever a wrong file leads to
        raise CalculationError(f"{path.name} is no file of tensors alone, and nothing else is read") from error
    if isinstance(content, dict) and isinstance(content.get("state_dict"), dict):
        content = content["state_dict"]
    if not isinstance(content, dict) or not content or not all(isinstance(v, torch.Tensor) for v in content.values()):
        raise CalculationError(f"{path.name} holds no state dict (tensors by name)")
    return {str(name): tensor.detach() for name, tensor in content.items()}


def _plugin_packages() -> set[str]:
    return {_package(plugin.module) for plugin in plugins.discover().plugins if plugin.module}


def _package(module: ModuleType) -> str:
    """The package whose code belongs to a plugin: its module, or the package that module is in."""
    return module.__name__ if hasattr(module, "__path__") else module.__package__ or module.__name__


def _inside(module: str, packages: set[str]) -> bool:
    return any(module == package or module.startswith(f"{package}.") for package in packages)
