"""$name, a $kind for fusion. Nothing heavy is imported here: `fusion methods` has to answer at once."""

from fusion import hookimpl

fusion_api = 1


@hookimpl
def fusion_config_path() -> str:
    return "pkg://fusion_$name.conf"
