"""Configuration trees, their options, and the raw contents of an option's file."""

from __future__ import annotations

import difflib
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from fusion import plugins
from fusion.files import bounds


def core_directory() -> Path:
    """Directory of the core's Hydra tree: inside the package when installed from a wheel, beside it in a checkout."""
    package = Path(str(sys.modules["fusion"].__file__)).parent
    inside = package / "conf"
    return inside if inside.is_dir() else package.parent / "conf"


def sources() -> list[tuple[str, Path]]:
    """List (package, directory) of every configuration tree, the core's first."""
    return plugins.discover().sources(core_directory())


def available(group: str) -> list[str]:
    """Names of the options of a group, presets (`ferminet/paper`) included."""
    prefix = f"{group}/"
    return sorted(option.removeprefix(prefix) for option in plugins.options(sources()) if option.startswith(prefix))


def option_files(group: str) -> dict[str, Path]:
    """Return the YAML file of every option of a group, without presets."""
    prefix = f"{group}/"
    return {
        option.removeprefix(prefix): claims[0][1]
        for option, claims in sorted(plugins.options(sources()).items())
        if option.startswith(prefix) and option.count("/") == 1
    }


def option_file(group: str, name: str) -> Path | None:
    """Return the YAML file of an option, a preset (`ferminet/paper`) included; None if there is none."""
    claims = plugins.options(sources()).get(f"{group}/{name}")
    return claims[0][1] if claims else None


def read_yaml(file: Path) -> dict[str, Any]:
    """Read the raw contents of an option's file, without composition. Raises yaml.YAMLError, ValueError or OSError."""
    import yaml

    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    content = yaml.load(bounds.checked_yaml(bounds.text(file)), Loader=loader)
    return content if isinstance(content, dict) else {}


def suggestion(word: str, candidates: Iterable[str]) -> str:
    """Return ` Did you mean 'x'?` for a similar candidate, otherwise an empty text."""
    close = difflib.get_close_matches(word, list(candidates), n=1, cutoff=0.6)
    return f" Did you mean '{close[0]}'?" if close else ""


def groups() -> list[str]:
    """Names of the configuration groups of all trees: `method`, `system`, ..."""
    return sorted({option.rpartition("/")[0] for option in plugins.options(sources()) if "/" in option})


def kind_of(content: dict[str, Any]) -> str:
    """Return the kind of a method, the `/kind/NAME` entry of its defaults list."""
    for entry in content.get("defaults") or []:
        if isinstance(entry, str) and entry.lstrip("/").startswith("kind/"):
            return entry.rpartition("/")[2]
    return str((content.get("method") or {}).get("kind", "?"))
