"""Plugin for the tests of the zoo: a potential with a few weights, its card, and its own file format."""

from importlib.resources import files
from importlib.resources.abc import Traversable

from fusion import hookimpl

fusion_api = 1


@hookimpl
def fusion_config_path() -> str:
    return "pkg://tiny.conf"


@hookimpl
def fusion_model_cards() -> Traversable:
    return files("tiny") / "cards"
