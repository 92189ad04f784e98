"""SO3LR: a potential of organic molecules and ions with long-range electrostatics and dispersion."""

from fusion import hookimpl

fusion_api = 1


@hookimpl
def fusion_config_path() -> str:
    """Return the folder of this plugin's configuration."""
    return "pkg://fusion_so3lr.conf"
