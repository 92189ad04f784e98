"""The conventional methods that learned ones are judged against: PySCF's, and those of any ASE calculator."""

from fusion import hookimpl

fusion_api = 1


@hookimpl
def fusion_config_path() -> str:
    return "pkg://fusion_conventional.conf"
