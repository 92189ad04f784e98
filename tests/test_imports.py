"""Importing the package and its plugins loads no large packages."""

from __future__ import annotations

import subprocess
import sys

PACKAGES = (
    "fusion",
    "fusion.cli.main",
    "fusion_ani",
    "fusion_conventional",
    "fusion_coulomb",
    "fusion_dm21",
    "fusion_ferminet",
)
HEAVY = ("torch", "pyscf", "pytorch_lightning", "matplotlib", "ase", "scipy")


def test_neither_the_package_nor_a_plugin_loads_torch_at_import() -> None:
    program = f"import sys, {', '.join(PACKAGES)}; print(*sorted(set({HEAVY}) & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=600.0)
    assert done.stdout.split() == []
