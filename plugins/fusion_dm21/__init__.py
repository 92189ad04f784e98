"""DM21: neural exchange-correlation functionals trained on fractional charges and spins."""

from fusion import hookimpl

fusion_api = 1


@hookimpl
def fusion_config_path() -> str:
    """Return the folder of this plugin's configuration."""
    return "pkg://fusion_dm21.conf"
