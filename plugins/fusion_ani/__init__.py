"""ANI: ensembles of neural networks on atomic environment vectors, energies of organic molecules in milliseconds."""

from fusion import hookimpl

fusion_api = 1


@hookimpl
def fusion_config_path() -> str:
    """Return the folder of this plugin's configuration."""
    return "pkg://fusion_ani.conf"
