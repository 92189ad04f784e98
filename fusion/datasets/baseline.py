"""Delta-learning: labels less what a cheaper method says of the same structures."""

from __future__ import annotations

from typing import Any

from fusion.datasets.labelled import Labelled


def subtracted(data: Labelled, entry: Any) -> Labelled:
    return data
