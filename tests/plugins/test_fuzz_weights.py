"""Damaged files of published weights by NeuroChem and TensorFlow are read, or refused in one line within seconds."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest
from test_ani_files import write_model
from test_dm21_files import write

from fusion_ani import neurochem
from fusion_dm21 import checkpoint
from fuzzing import Files, fuzzed


def written(save: Callable[[Path], object]) -> Callable[[], Files]:
    def make() -> Files:
        with tempfile.TemporaryDirectory() as name:
            save(Path(name))
            return {str(path.relative_to(name)): path.read_bytes() for path in Path(name).rglob("*") if path.is_file()}

    return make


def read_neurochem(directory: Path) -> None:
    neurochem.arguments(directory)
    neurochem.convert(directory)


READERS = {
    "neurochem": (written(write_model), read_neurochem),
    "bundle": (written(write), lambda directory: checkpoint.read(directory / "variables")),
}


@pytest.mark.parametrize("name", READERS)
def test_damaged_weights_are_read_or_refused(name: str) -> None:
    fuzzed(*READERS[name])
