"""Psiformer: a neural wavefunction for variational Monte Carlo."""

from fusion import hookimpl

fusion_api = 1


@hookimpl
def fusion_config_path() -> str:
    """Return the folder of this plugin's configuration."""
    return "pkg://fusion_psiformer.conf"
