"""Skala: a neural exchange-correlation functional whose grid points exchange messages with the nuclei around them."""

from fusion import hookimpl

fusion_api = 1


@hookimpl
def fusion_config_path() -> str:
    """Return the folder of this plugin's configuration."""
    return "pkg://fusion_skala.conf"
