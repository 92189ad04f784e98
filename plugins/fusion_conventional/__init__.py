"""Conventional methods as references for learned ones: those of PySCF and of any ASE calculator."""

from fusion import hookimpl

fusion_api = 1


@hookimpl
def fusion_config_path() -> str:
    """Return the folder of this plugin's configuration."""
    return "pkg://fusion_conventional.conf"
