"""A plugin for the tests of the run path.

A method that costs nothing and a task that trains one number through Lightning.
"""

from fusion import hookimpl

fusion_api = 1


@hookimpl
def fusion_config_path() -> str:
    return "pkg://toy.conf"


@hookimpl
def fusion_commands(app) -> None:
    @app.command("toy-hello")
    def hello() -> None:
        """Say hello."""
        print("hello from toy")
