"""Names of the files in a run's directory."""

from __future__ import annotations

from pathlib import Path

CHECKPOINT = Path("checkpoints", "last.ckpt")
CONFIG = "config.yaml"
DENSITY = "density.cube"
DENSITY_MATRIX = "density_matrix.csv"
METRICS = "metrics.csv"
NATURAL_ORBITALS = "natural_orbitals.molden"
PAIR_DENSITY = "pair_density.csv"
RESULT = "result.json"
