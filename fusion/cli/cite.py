"""`fusion cite RUN_DIR...`: references of what runs used, as BibTeX."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from fusion.citations.used import of_runs
from fusion.console import streams
from fusion.runs.collected import collect_some


def cite(places: Sequence[Path]) -> None:
    """Print the references of the runs in `places`, each once. Raises InputError if there are no runs."""
    text = of_runs(collect_some(places)).text()
    streams.any_text(sys.stdout)
    print(text, end="")
