"""Checkpoint of a task outside Lightning: it is read back exactly, and other files are refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from omegaconf import OmegaConf

from fusion.errors import InputError
from fusion.runs import checkpoints
from fusion.runs.layout import CHECKPOINT
from fusion.runs.run import Run
from fusion.runs.state import read_state, write_state


def run(directory: Path, resumed: bool = True) -> Run:
    return Run(directory, OmegaConf.create({}), directory / CHECKPOINT if resumed else None, 0, directory)


def test_a_state_is_read_back_exactly(tmp_path: Path) -> None:
    state = {
        "task": "md",
        "step": np.int64(7),
        "random": np.random.default_rng(1).bit_generator.state,
        "frames": [{"positions": np.random.default_rng(2).normal(size=(4, 3)), "energy": 0.1 + 0.2}],
    }
    write_state(run(tmp_path), state)
    content = read_state(run(tmp_path), "md")
    assert content is not None
    assert content["step"] == 7 and content["random"] == state["random"] and content["frames"][0]["energy"] == 0.1 + 0.2
    np.testing.assert_array_equal(content["frames"][0]["positions"], state["frames"][0]["positions"])  # type: ignore[index]
    assert list((tmp_path / "checkpoints").iterdir()) == [tmp_path / CHECKPOINT]


def test_a_state_is_no_start_of_a_wavefunction_or_network(tmp_path: Path) -> None:
    write_state(run(tmp_path), {"task": "ionize"})
    with pytest.raises(InputError, match="is a checkpoint of task=ionize, which has no parameters to start from"):
        checkpoints.read(tmp_path / CHECKPOINT)


def test_a_wavefunction_is_no_state_of_a_task(tmp_path: Path) -> None:
    checkpoints.AtomicCheckpointIO().save_checkpoint({"step": 1}, tmp_path / CHECKPOINT)
    with pytest.raises(InputError, match="is a checkpoint of a wavefunction or network, not of task=scan"):
        read_state(run(tmp_path), "scan")


def test_a_new_run_has_no_state(tmp_path: Path) -> None:
    assert read_state(run(tmp_path, resumed=False), "md") is None


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 cut", b"\x80\x04K\x01."])
def test_other_files_are_refused_as_checkpoints(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "checkpoints").mkdir()
    (tmp_path / CHECKPOINT).write_bytes(content)
    with pytest.raises(InputError, match="not a checkpoint of task=md"):
        read_state(run(tmp_path), "md")


def test_the_state_of_another_task_is_refused(tmp_path: Path) -> None:
    write_state(run(tmp_path), {"task": "relax"})
    with pytest.raises(InputError, match="of task=relax, not of task=md"):
        read_state(run(tmp_path), "md")
