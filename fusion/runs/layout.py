"""Names of the files in a run's directory."""

from __future__ import annotations

from pathlib import Path

CHECKPOINT = Path("checkpoints", "last.ckpt")
CONFIG = "config.yaml"
METRICS = "metrics.csv"
RESULT = "result.json"
