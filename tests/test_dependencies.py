"""Packages that the sources import are declared in pyproject.toml, and the declared ones are imported."""

from __future__ import annotations

import ast
import re
import sys
import tomllib
from importlib.metadata import packages_distributions
from pathlib import Path

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
TOOLS = ("all", "dev", "docs")
"""Extras of programs for the project itself."""
OPTIONAL = {"metatensor": "metatensor-torch", "metatomic": "metatomic-torch"}
"""Imported names that differ from their distribution's, of extras that need not be installed."""
INDIRECT = {"tensorboard", "ipykernel"}
"""Imported by Lightning's logger, and by the program that runs notebooks."""


def normal(name: str) -> str:
    """Return the name of a distribution or requirement as indices spell it."""
    return re.sub(r"[-_.]+", "-", re.split(r"[\[<>=~; ]", name)[0]).lower()


def imported() -> dict[str, str]:
    """Map each imported distribution to one of the files that import it."""
    distributions, found = packages_distributions(), {}
    for path in sorted([*(ROOT / "fusion").rglob("*.py"), *(ROOT / "plugins").rglob("*.py")]):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                modules = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom) and not node.level:
                modules = [str(node.module)]
            else:
                continue
            for name in {module.partition(".")[0] for module in modules} - sys.stdlib_module_names:
                if not re.fullmatch("fusion(_.*)?", name):
                    distribution = OPTIONAL.get(name) or distributions.get(name, [name])[0]
                    found[normal(distribution)] = str(path.relative_to(ROOT))
    return found


def test_each_import_is_declared_and_each_declared_package_is_imported() -> None:
    required = {normal(name) for name in PROJECT["dependencies"]}
    extras = PROJECT["optional-dependencies"]
    optional = {normal(name) for extra in extras if extra not in TOOLS for name in extras[extra]}
    found = imported()
    assert {name: path for name, path in found.items() if name not in required | optional} == {}
    assert (required | optional) - set(found) - INDIRECT == set()
