"""Command `fusion new-plugin NAME`: writes a complete, installable third-party package with one method."""

from __future__ import annotations

import re
import shutil
from datetime import date
from pathlib import Path
from string import Template

import fusion
from fusion.config.options import available, suggestion
from fusion.errors import InputError

KINDS = ("potential", "functional", "ansatz")
DATA = {"potential": "water.extxyz", "functional": "systems.toml"}
"""Data for a training, by kind; wavefunctions need none."""


def write(name: str, kind: str, into: Path) -> Path:
    """Write the package fusion-NAME into a new directory below `into` and return it.

    Raises InputError; overwrites nothing.
    """
    if not re.fullmatch(r"[a-z][a-z0-9_]*", name):
        raise InputError(f"a plugin's name must start with a letter and consist of a-z, 0-9 and _: not '{name}'")
    if kind not in KINDS:
        raise InputError(f"no kind '{kind}'.{suggestion(kind, KINDS)}  Kinds: {', '.join(KINDS)}")
    if name in available("method"):
        raise InputError(f"there is a method '{name}' already (fusion methods)")
    directory = into / f"fusion-{name.replace('_', '-')}"
    if directory.exists():
        raise InputError(f"{directory} exists already")
    package = directory / f"fusion_{name}"
    templates = _templates()
    files = {
        directory / "pyproject.toml": templates / "any" / "pyproject.toml",
        directory / "LICENSE": templates / "any" / "LICENSE",
        directory / ".gitignore": templates / "any" / "gitignore",
        directory / ".github" / "workflows" / "test.yml": templates / "any" / "ci.yml",
        package / "__init__.py": templates / "any" / "__init__.py",
        directory / "README.md": templates / kind / "README.md",
        package / "model.py": templates / kind / "model.py",
        package / "conf" / "method" / f"{name}.yaml": templates / kind / "method.yaml",
        directory / "tests" / f"test_{name}.py": templates / kind / "test.py.in",
    }
    values = {"name": name, "dashed": name.replace("_", "-"), "kind": kind, "year": str(date.today().year), **_bounds()}
    for target, template in files.items():
        target.parent.mkdir(parents=True, exist_ok=True)
        text = Template(template.read_text(encoding="utf-8"))
        target.write_text(text.substitute(values), encoding="utf-8")
    if kind in DATA:
        (directory / "data").mkdir()
        shutil.copyfile(templates / kind / DATA[kind], directory / "data" / DATA[kind])
    return directory


def _bounds() -> dict[str, str]:
    """Versions of fusion that the package accepts: from this one to below the next that may change the protocols."""
    major, minor = (int(part) for part in fusion.__version__.split(".")[:2])
    return {"oldest": f"{major}.{minor}", "too_new": f"{major}.{minor + 1}" if major == 0 else f"{major + 1}"}


def _templates() -> Path:
    """Directory of the templates: inside the package when installed from a wheel, under tools/ in a checkout."""
    package = Path(__file__).parents[1]
    inside = package / "plugin_template"
    return inside if inside.is_dir() else package.parent / "tools" / "plugin_template"
