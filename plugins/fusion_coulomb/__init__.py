"""The Coulomb-matrix network: atomisation energies of whole molecules from charges and distances."""

from fusion import hookimpl

fusion_api = 1


@hookimpl
def fusion_config_path() -> str:
    """Return the folder of this plugin's configuration."""
    return "pkg://fusion_coulomb.conf"
