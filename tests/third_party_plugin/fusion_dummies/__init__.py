"""A complete third-party plugin: this hook, one YAML and one module per method."""

from fusion import hookimpl

fusion_api = 1


@hookimpl
def fusion_config_path() -> str:
    return "pkg://fusion_dummies.conf"
