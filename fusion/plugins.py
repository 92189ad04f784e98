"""Discovery of plugins.

A plugin that cannot be imported is reported and does not stop the program; an option that two packages define is
refused by name.
"""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

import pluggy

from fusion import hookspecs
from fusion.errors import InputError
from fusion.parallel.processes import GLOBAL_STATE

if TYPE_CHECKING:
    import typer

GROUP = "fusion.plugins"
API = 1


@dataclass(frozen=True)
class Plugin:
    """Plugin package with its distribution and either its module and configuration directory or an `error`."""

    name: str
    distribution: str
    version: str
    module: ModuleType | None = None
    conf: Path | None = None
    error: str | None = None


@dataclass(frozen=True)
class Discovery:
    """All installed plugins, and the hook manager of those that could be loaded."""

    plugins: tuple[Plugin, ...]
    hooks: pluggy.PluginManager = field(repr=False)

    def sources(self, core: Path) -> list[tuple[str, Path]]:
        """List (package, configuration directory) of the core and of every loaded plugin, in search order."""
        return [("fusion", core), *((plugin.name, plugin.conf) for plugin in self.plugins if plugin.conf)]


_discovery: Discovery | None = None


def discover() -> Discovery:
    """Import the plugins, once per process."""
    global _discovery
    with GLOBAL_STATE:
        if _discovery is None:
            manager = pluggy.PluginManager("fusion")
            manager.add_hookspecs(hookspecs)
            _discovery = Discovery(tuple(_load(entry, manager) for entry in _entry_points()), manager)
        return _discovery


def options(sources: list[tuple[str, Path]]) -> dict[str, list[tuple[str, Path]]]:
    """Return the files of all options of all groups, `method/ferminet` -> [(package, file)]; several are a conflict."""
    claims: dict[str, list[tuple[str, Path]]] = {}
    for package, directory in sources:
        for option, file in sorted(_option_files(directory)):
            claims.setdefault(option, []).append((package, file))
    return claims


def _option_files(directory: Path) -> Iterator[tuple[str, Path]]:
    """Yield the options of one tree with their files; a run asks several times, and `Path.rglob` is slow."""
    for folder, _, names in os.walk(directory):
        group = folder.removeprefix(str(directory)).replace(os.sep, "/").strip("/")
        for name in names:
            if name.endswith(".yaml"):
                yield f"{group}/{name.removesuffix('.yaml')}".strip("/"), Path(folder, name)


def conflicts(sources: list[tuple[str, Path]]) -> list[str]:
    """Return one sentence per option that two packages define."""
    return [
        f"{option} is defined by {' and by '.join(package for package, _ in claims)}"
        for option, claims in options(sources).items()
        if len(claims) > 1
    ]


def refuse_conflicts(sources: list[tuple[str, Path]]) -> None:
    """Raise InputError that names the packages that define the same option."""
    sentences = conflicts(sources)
    if sentences:
        raise InputError(f"{'; '.join(sentences)}. Uninstall one of the packages or rename its option")


def add_commands(app: typer.Typer) -> dict[str, str]:
    """Let the plugins add their subcommands; return the failures by plugin."""
    discovery, failures = discover(), {}
    for plugin in discovery.plugins:
        if plugin.module is not None:
            try:
                _hook_of(discovery.hooks, plugin.module, "fusion_commands")(app=app)
            except Exception as error:  # a plugin's code can raise anything
                failures[plugin.name] = f"{type(error).__name__}: {error}"
    return failures


def model_cards(module: ModuleType) -> list[Any]:
    """Return the directories (Traversable) of model cards of the plugin `module`. Raises the exceptions of its hook."""
    directories: list[Any] = _hook_of(discover().hooks, module, "fusion_model_cards")()
    return directories


def _entry_points() -> Iterator[metadata.EntryPoint]:
    # The same module can have two entry points (an editable install beside a wheel).
    seen: set[str] = set()
    for entry in metadata.entry_points(group=GROUP):
        if entry.value not in seen:
            seen.add(entry.value)
            yield entry


def _load(entry: metadata.EntryPoint, manager: pluggy.PluginManager) -> Plugin:
    name = entry.value.split(":")[0]
    distribution, version = (entry.dist.name, entry.dist.version) if entry.dist else ("", "")
    try:
        module = importlib.import_module(name)
        api = getattr(module, "fusion_api", None)
        if api != API:
            raise InputError(f"states fusion_api = {api}; this fusion speaks {API}")
        manager.register(module, name)
        conf = _config_directory(manager, module)
    except (Exception, SystemExit) as error:  # a plugin may fail in any way, but must not stop the program
        if manager.has_plugin(name):
            manager.unregister(name=name)
        return Plugin(name, distribution, version, error=f"{type(error).__name__}: {error}".splitlines()[0])
    return Plugin(name, distribution, version, module, conf)


def _config_directory(manager: pluggy.PluginManager, module: ModuleType) -> Path | None:
    paths = _hook_of(manager, module, "fusion_config_path")()
    if not paths:
        return None
    directory = _resolve(paths[0])
    if not directory.is_dir():
        raise InputError(f"its fusion_config_path {paths[0]} is not a directory")
    return directory


def _hook_of(manager: pluggy.PluginManager, module: ModuleType, name: str) -> Any:
    others = [plugin for plugin in manager.get_plugins() if plugin is not module]
    return manager.subset_hook_caller(name, remove_plugins=others)


def _resolve(path: str) -> Path:
    """Return the directory of `pkg://package.folder` (without importing the folder) or `file:///path`."""
    scheme, _, rest = path.partition("://")
    if scheme == "file":
        return Path(rest)
    if scheme != "pkg":
        raise InputError(f"its fusion_config_path {path!r} is neither pkg:// nor file://")
    package, *folders = rest.split(".")
    importlib.import_module(package)
    return Path(sys.modules[package].__path__[0], *folders)
