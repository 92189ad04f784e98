"""Labelled structures: read from files, checked, split, and cut into batches."""

from __future__ import annotations

from fusion.datasets.batches import batches, number_of_batches
from fusion.datasets.labelled import UNKNOWN_SPIN, Labelled
from fusion.datasets.loading import load
from fusion.datasets.report import Report
from fusion.datasets.splits import Split, split

__all__ = ["UNKNOWN_SPIN", "Labelled", "Report", "Split", "batches", "load", "number_of_batches", "split"]
