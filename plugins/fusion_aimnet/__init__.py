"""AIMNet2: a potential of molecules and ions of 14 elements, with partial charges and long-range terms."""

from fusion import hookimpl

fusion_api = 1


@hookimpl
def fusion_config_path() -> str:
    """Return the folder of this plugin's configuration."""
    return "pkg://fusion_aimnet.conf"
