"""Conversion of a model's files to tensors: the code that a card may name, and the converter of torch state dicts."""

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
    """Return the function, of a plugin or this module, that converts the files of `card` to tensors; None if unneeded.

    Raises InputError, before importing anything, for code of any other package.
    """
    if card.origin.converter is None:
        return None
    function = _resolve(card.origin.converter, card.label, _plugin_packages() | {__name__})
    if isinstance(function, type):
        raise InputError(f"{card.label}: {card.origin.converter} is a class; a converter is a function")
    return function


CHOICES = frozenset({"fusion.wavefunctions.references.by_size"})
"""Functions that an argument of a model may name: each chooses one of fusion's modules by the system alone."""


def module_class(path: str, label: str) -> type[nn.Module]:
    """Return the class "package.module.Class", of fusion or a plugin, that the card `label` names.

    Raises InputError, before importing anything, for code of any other package. Only subclasses of nn.Module are called
    with a card's arguments, because functions of fusion can do anything.
    """
    from torch import nn

    class_ = _resolve(path, label, _plugin_packages() | {"fusion"})
    if not isinstance(class_, type) or not issubclass(class_, nn.Module):
        raise InputError(f"{label}: {path} is not an nn.Module")
    return class_


def _resolve(path: str, label: str, packages: set[str]) -> Callable[..., Any]:
    """Import the function or class `path`. Raises InputError unless it is defined inside `packages`."""
    module, _, name = path.replace(":", ".").rpartition(".")
    if not _inside(module, packages):
        raise InputError(
            f"{label}: {path} belongs to no installed plugin, so it is not run; cards may name code of "
            f"{', '.join(sorted(packages))}"
        )
    try:
        named = getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError) as error:
        raise InputError(f"{label}: there is no {path}: {str(error).splitlines()[0]}") from error
    if not callable(named) or not _inside(str(getattr(named, "__module__", "")), packages):
        raise InputError(f"{label}: {path} is not a function or class of its own package")
    result: Callable[..., Any] = named
    return result


def built(value: Any, label: str) -> Any:
    """Build an argument of a model: a table with `_target_` becomes an object, with the same restrictions."""
    if isinstance(value, list | tuple):
        return [built(item, label) for item in value]
    if not isinstance(value, Mapping):
        return value
    arguments = {key: built(item, label) for key, item in value.items() if key not in ("_target_", "_partial_")}
    if "_target_" not in value:
        return arguments
    path = str(value["_target_"])
    class_ = _resolve(path, label, {"fusion"}) if path in CHOICES else module_class(path, label)
    return functools.partial(class_, **arguments) if value.get("_partial_") else class_(**arguments)


def torch_state_dict(directory: Path, card: Card) -> dict[str, Tensor]:
    """Read the tensors of a file from `torch.save`: a state dict, or a checkpoint that holds one as `state_dict`.

    It is read with weights_only: a file whose pickle would run code is refused. Raises CalculationError.
    """
    import torch

    if len(card.files) != 1:
        raise CalculationError(f"a torch state dict is one file; {card.label} has {len(card.files)}")
    path = directory / card.files[0].path
    try:
        with warnings.catch_warnings(action="ignore"):  # of old formats, which the error below covers
            bounds.check_torch(path)
            content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # UnpicklingError, RuntimeError, EOFError, ...: a wrong file can raise anything
        raise CalculationError(f"{path.name} holds more than plain tensors, and nothing else is read") from error
    if isinstance(content, dict) and isinstance(content.get("state_dict"), dict):
        content = content["state_dict"]
    if not isinstance(content, dict) or not content or not all(isinstance(v, torch.Tensor) for v in content.values()):
        raise CalculationError(f"{path.name} holds no state dict (tensors by name)")
    return {str(name): tensor.detach() for name, tensor in content.items()}


def _plugin_packages() -> set[str]:
    return {_package(plugin.module) for plugin in plugins.discover().plugins if plugin.module}


def _package(module: ModuleType) -> str:
    """Name of the package of a plugin: its module, or the package that contains the module."""
    return module.__name__ if hasattr(module, "__path__") else module.__package__ or module.__name__


def _inside(module: str, packages: set[str]) -> bool:
    return any(module == package or module.startswith(f"{package}.") for package in packages)
