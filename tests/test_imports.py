"""Importing the package and its plugins loads no large packages; scripts import names that exist."""

from __future__ import annotations

import ast
import importlib
import importlib.util
import subprocess
import sys
from pathlib import Path

import pytest

PACKAGES = (
    "fusion",
    "fusion.cli.main",
    "fusion_aimnet",
    "fusion_ani",
    "fusion_conventional",
    "fusion_coulomb",
    "fusion_dm21",
    "fusion_ferminet",
    "fusion_psiformer",
    "fusion_skala",
    "fusion_so3lr",
)
SCRIPTS = sorted((Path(__file__).parents[1] / "benchmarks").glob("*.py"))
HEAVY = ("torch", "pyscf", "pytorch_lightning", "matplotlib", "ase", "scipy")


def test_neither_the_package_nor_a_plugin_loads_torch_at_import() -> None:
    program = f"import sys, {', '.join(PACKAGES)}; print(*sorted(set({HEAVY}) & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=600.0)
    assert done.stdout.split() == []


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: path.name)
def test_the_names_that_a_script_imports_exist(path: Path) -> None:
    for node in ast.walk(ast.parse(path.read_text())):
        if not isinstance(node, ast.ImportFrom) or not (node.module or "").startswith("fusion"):
            continue
        module = importlib.import_module(str(node.module))
        for alias in node.names:
            assert hasattr(module, alias.name) or importlib.util.find_spec(f"{node.module}.{alias.name}"), alias.name
