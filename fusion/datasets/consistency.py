"""Whether the labels say what their settings claim."""

from __future__ import annotations

from fusion.datasets.labelled import Labelled
from fusion.datasets.settings import Settings, Units


def check(data: Labelled, settings: Settings, units: Units) -> None:
    return None
