"""Test of the method through the core, with the settings of its YAML file."""

import math
from pathlib import Path

import fusion


def test_energy(tmp_path: Path) -> None:
    result = fusion.run(["+method=$name", f"hydra.run.dir={tmp_path}/run"])
    assert result.status == "ok", result.message
    assert result.energy is not None and math.isfinite(result.energy)
