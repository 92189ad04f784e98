"""Composition of configurations by Hydra from the trees of the core and of the plugins."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fusion.config.options import available, core_directory, groups, read_yaml, sources
from fusion.errors import InputError
from fusion.parallel.processes import GLOBAL_STATE

if TYPE_CHECKING:
    from omegaconf import DictConfig

VERSION_BASE = "1.3"


def register_search_path() -> None:
    """Add the plugins' trees to Hydra's search path, in this process only.

    A hydra_plugins namespace would affect every Hydra program.
    """
    from hydra.core.config_search_path import ConfigSearchPath
    from hydra.core.plugins import Plugins
    from hydra.plugins.search_path_plugin import SearchPathPlugin

    class FusionSearchPath(SearchPathPlugin):
        def manipulate_search_path(self, search_path: ConfigSearchPath) -> None:
            for package, directory in sources()[1:]:
                search_path.append(provider=package, path=f"file://{directory}")

    registry = Plugins.instance()
    if not any(cls.__name__ == FusionSearchPath.__name__ for cls in registry.discover(SearchPathPlugin)):
        registry.register(FusionSearchPath)


def compose(words: Sequence[str]) -> tuple[DictConfig, Path]:
    """Compose the configuration of the prepared `words` and the run's directory, outside of any Hydra job.

    Raises InputError.
    """
    from omegaconf import OmegaConf, open_dict

    from fusion.config.messages import HYDRA_ERRORS, of_hydra

    refuse_empty_choices(words)
    refuse_unknown_additions(words)
    try:
        with composer() as hydra_compose:
            config = hydra_compose("config", list(words), return_hydra_config=True)
            directory = Path(OmegaConf.select(config, "hydra.run.dir")).absolute()
    except HYDRA_ERRORS as error:
        raise InputError(of_hydra(error, known_settings(words), groups())) from error
    with open_dict(config):
        del config["hydra"]
    return config, directory


@contextmanager
def composer() -> Iterator[Callable[..., DictConfig]]:
    """Provide Hydra's `compose` over all configuration trees, for one thread at a time.

    The state of a surrounding job is restored afterwards. Raises Hydra's exceptions.
    """
    from hydra import compose as hydra_compose
    from hydra import initialize_config_dir
    from hydra.core.global_hydra import GlobalHydra

    with GLOBAL_STATE:
        register_search_path()
        outer = GlobalHydra.instance().hydra
        GlobalHydra.instance().clear()
        try:
            with initialize_config_dir(str(core_directory()), job_name="fusion", version_base=VERSION_BASE):
                yield hydra_compose
        finally:
            GlobalHydra.instance().clear()
            if outer is not None:
                GlobalHydra.instance().initialize(outer)


def jobs(words: Sequence[str]) -> list[list[str]]:
    """Return the words of every job of a sweep, as Hydra's basic sweeper runs them. Raises InputError."""
    from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
    from hydra.core.global_hydra import GlobalHydra
    from hydra.core.override_parser.overrides_parser import OverridesParser

    from fusion.config.messages import HYDRA_ERRORS, of_hydra

    try:
        with composer():
            parsed = OverridesParser.create(GlobalHydra.instance().config_loader()).parse_overrides(list(words))
            (batch,) = BasicSweeper.split_arguments(parsed, max_batch_size=None)
    except HYDRA_ERRORS as error:
        raise InputError(of_hydra(error, [], groups())) from error
    return [list(job) for job in batch]


def refuse_empty_choices(words: Sequence[str]) -> None:
    """Raise InputError for `system=null`: every group needs an option; Hydra would end with a traceback."""
    from fusion.config.messages import no_option

    for word in words:
        group, _, value = word.lstrip("+").partition("=")
        if value in ("", "null") and "=" in word and group in groups():
            raise InputError(no_option(group, value, available(group)))


def refuse_unknown_additions(words: Sequence[str]) -> None:
    """Raise InputError for `+key=value` with an unknown key: Hydra would add it, but no code would read it."""
    from fusion.config.messages import no_setting

    if any(word.startswith(("--config-dir", "-cd", "hydra.searchpath")) for word in words):
        return  # the user's own tree may define groups
    settings = {"method", *read_yaml(core_directory() / "config.yaml")} - {"defaults", "hydra"}
    known = {"hydra", *settings, *(group.split("/")[0] for group in groups())}
    for word in words:
        if word.startswith("+") and "=" in word:
            key = word.lstrip("+").partition("=")[0]
            if re.split(r"[./@]", key)[0] not in known:
                raise InputError(no_setting(key, settings))


def known_settings(words: Sequence[str]) -> list[str]:
    """Dotted names of all settings of the method, system, task, ... that `words` choose, for suggestions."""
    from omegaconf import OmegaConf

    chosen = [word for word in words if word.lstrip("+").partition("=")[0] in groups() and "," not in word]
    for choice in (chosen, []):
        try:
            with composer() as hydra_compose:
                content = OmegaConf.to_container(hydra_compose("config", choice), resolve=False)
            return list(_dotted(content))
        except Exception:  # only a suggestion is lost; the caller explains another error
            continue
    return []


def _dotted(node: Any, prefix: str = "") -> Iterator[str]:
    if prefix:
        yield prefix
    if isinstance(node, dict):
        for key, value in node.items():
            if key != "_target_":
                yield from _dotted(value, f"{prefix}.{key}" if prefix else str(key))
