"""$name, a $kind for fusion. Do not import large packages here: `fusion methods` must start quickly."""

from fusion import hookimpl

fusion_api = 1


@hookimpl
def fusion_config_path() -> str:
    return "pkg://fusion_$name.conf"
