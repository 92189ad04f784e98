"""Discovery of plugins.

A plugin that cannot be imported is reported, never fatal; an option that two packages claim is refused by name.
"""

from __future__ import annotations

import importlib
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
    """One plugin package: where it comes from and, unless `error` says why not, its module and configuration
    directory."""

    name: str
    distribution: str
    version: str
    module: ModuleType | None = None
    conf: Path | None = None
    error: str | None = None


@dataclass(frozen=True)
class Discovery:
    """All plugins found, and the hook caller over those that work."""

    plugins: tuple[Plugin, ...]
    hooks: pluggy.PluginManager = field(repr=False)

    def sources(self, core: Path) -> list[tuple[str, Path]]:
        """(package, configuration directory) of the core and of every working plugin, in search order."""
        return [("fusion", core), *((plugin.name, plugin.conf) for plugin in self.plugins if plugin.conf)]


_found: Discovery | None = None


def discover() -> Discovery:
    """Import the plugins, once per process."""
    global _found
    with GLOBAL_STATE:
        if _found is None:
            manager = pluggy.PluginManager("fusion")
            manager.add_hookspecs(hookspecs)
            _found = Discovery(tuple(_load(entry, manager) for entry in _entry_points()), manager)
        return _found


def options(sources: list[tuple[str, Path]]) -> dict[str, list[tuple[str, Path]]]:
    """Every option of every group, `method/ferminet` -> [(package, file)]: more than one entry is a conflict."""
    claims: dict[str, list[tuple[str, Path]]] = {}
    for package, directory in sources:
        for file in sorted(directory.rglob("*.yaml")):
            option = file.relative_to(directory).with_suffix("").as_posix()
            claims.setdefault(option, []).append((package, file))
    return claims


def conflicts(sources: list[tuple[str, Path]]) -> list[str]:
    """One sentence per option that two packages define."""
    return [
        f"{option} is defined by {' and by '.join(package for package, _ in claims)}"
        for option, claims in options(sources).items()
        if len(claims) > 1
    ]


def refuse_conflicts(sources: list[tuple[str, Path]]) -> None:
    """Raise InputError naming the packages that claim the same option: which of them would win is nobody's choice."""
    found = conflicts(sources)
    if found:
        raise InputError(f"{'; '.join(found)}. Uninstall one of the packages or rename its option")


def add_commands(app: typer.Typer) -> dict[str, str]:
    """Let the plugins add their subcommands; returns what went wrong, by plugin."""
    found, wrong = discover(), {}
    for plugin in found.plugins:
        if plugin.module is not None:
            try:
                _hook_of(found.hooks, plugin.module, "fusion_commands")(app=app)
            except Exception as error:  # as at import
                wrong[plugin.name] = f"{type(error).__name__}: {error}"
    return wrong


def model_cards(module: ModuleType) -> list[Any]:
    """Directories (Traversable) of the model cards of the plugin `module`; what its hook raises goes on."""
    found: list[Any] = _hook_of(discover().hooks, module, "fusion_model_cards")()
    return found


def _entry_points() -> Iterator[metadata.EntryPoint]:
    # The same module can be announced twice (an editable install beside a wheel).
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
    except (Exception, SystemExit) as error:  # a plugin may fail in any way, and must not take the program with it
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
    """Directory of `pkg://package.folder` (without importing the folder) or `file:///path`."""
    scheme, _, rest = path.partition("://")
    if scheme == "file":
        return Path(rest)
    if scheme != "pkg":
        raise InputError(f"its fusion_config_path {path!r} is neither pkg:// nor file://")
    package, *folders = rest.split(".")
    importlib.import_module(package)
    return Path(sys.modules[package].__path__[0], *folders)
