"""A plugin for the tests of the run path.

A method that costs nothing and a task that trains one number through Lightning.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from fusion import hookimpl

if TYPE_CHECKING:
    from typer import Typer

fusion_api = 1


@hookimpl
def fusion_config_path() -> str:
    return "pkg://toy.conf"


@hookimpl
def fusion_commands(app: Typer) -> None:
    @app.command("toy-hello")
    def hello() -> None:
        """Say hello."""
        print("hello from toy")
