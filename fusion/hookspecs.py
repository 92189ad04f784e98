"""Hooks of a plugin.

A plugin module (entry-point group `fusion.plugins`) implements the hooks it needs and states `fusion_api = 1`.
"""

from __future__ import annotations

from importlib.resources.abc import Traversable
from typing import TYPE_CHECKING

import pluggy

if TYPE_CHECKING:
    import typer

hookspec = pluggy.HookspecMarker("fusion")


@hookspec
def fusion_config_path() -> str:  # type: ignore[empty-body]
    """Return the place of the plugin's Hydra tree, `pkg://my_plugin.conf`; its options join the core's groups."""


@hookspec
def fusion_model_cards() -> Traversable:  # type: ignore[empty-body]
    """Return a directory of model cards, *.toml."""


@hookspec
def fusion_commands(app: typer.Typer) -> None:
    """Add subcommands to `fusion`."""
