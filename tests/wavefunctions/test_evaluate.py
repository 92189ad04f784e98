"""A wavefunction from a checkpoint: evaluated alone, optimised further, or refused."""

from __future__ import annotations

import csv
import os
import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from killable import TINY, assert_same, at, checkpoint, fusion
from resuming import differences, document, killed_and_resumed

slow = pytest.mark.slow
HERE = TINY[:-1]  # without a directory


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Directory of a trained run."""
    place = tmp_path_factory.mktemp("trained")
    assert fusion(place, *TINY).complete
    return place / "run"


def phases(run: Path) -> list[tuple[str, int]]:
    """Phase and step of the rows in the metrics.csv of a run."""
    with (run / "metrics.csv").open() as file:
        return [(row["phase"], int(row["step"])) for row in csv.DictReader(file)]


def test_evaluation_of_a_checkpoint(trained: Path, tmp_path: Path) -> None:
    """Evaluate the same wavefunction with another number of walkers and other random numbers."""
    before = {path: path.read_bytes() for path in trained.rglob("*") if path.is_file()}
    words = (*HERE, "task=evaluate", f"ckpt={trained}", "method.walkers=24", "hydra.run.dir=alone")
    ended = fusion(tmp_path, *words)
    assert ended.complete, ended
    assert f"starting from {trained}/checkpoints/last.ckpt, 13 steps optimised" in ended.out
    assert {path: path.read_bytes() for path in before} == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["alone"]
    run = tmp_path / "alone"
    assert phases(run) == [("evaluate", step) for step in range(25, 37)]
    old, new = checkpoint(trained), checkpoint(run)
    assert differences(old["parameters"], new["parameters"]) == []
    assert len(new["electrons"]) == 24
    result = document(run)
    assert result["task"] == "evaluate" and result["vmc"]["evaluation"]["walkers"] == 24
    assert result["energy"]["value"] != document(trained)["energy"]["value"]


@pytest.mark.slow
def test_evaluations_with_different_seeds_are_independent(trained: Path, tmp_path: Path) -> None:
    energies = []
    for seed in (1, 2):
        words = (*HERE, "task=evaluate", f"ckpt={trained}", f"seed={seed}", f"hydra.run.dir={seed}")
        assert fusion(tmp_path, *words).complete
        energies.append(document(tmp_path / str(seed))["energy"]["value"])
    assert energies[0] != energies[1]


@pytest.mark.slow
@pytest.mark.parametrize("dtype", ["float32", pytest.param("float64", marks=slow)])
def test_optimisation_continues_from_a_checkpoint(trained: Path, tmp_path: Path, dtype: str) -> None:
    """Continue from another run's checkpoint, then from its own after a kill."""
    words = (*TINY, f"dtype={dtype}")
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    for place in (whole, killed):
        shutil.copytree(trained, place / "first")
    longer = (*words, "ckpt=first", "method.optimisation.steps=20")
    assert fusion(whole, *longer).complete
    (resumed,) = killed_and_resumed(killed, longer, [at("step", 8)])
    assert resumed.status in (0, 1), resumed
    more = whole / "run"
    assert_same(more, killed / "run")
    assert phases(more) == [("optimise", step) for step in range(25, 32)] + [("evaluate", s) for s in range(32, 44)]
    assert document(more)["vmc"]["optimisation"]["iterations"] == 20

    ended = fusion(whole, *words, "ckpt=last", "method.optimisation.steps=22")
    assert ended.complete and "resuming from step 20 of 22" in ended.out
    assert phases(more) == [("optimise", step) for step in range(25, 34)] + [("evaluate", s) for s in range(34, 46)]


class _Code:
    def __reduce__(self) -> tuple[Callable[[str], int], tuple[str]]:
        return os.system, ("touch executed",)


def _damage(good: Path, directory: Path, how: str) -> Path:
    file, content = directory / "bad.ckpt", bytearray((good / "checkpoints" / "last.ckpt").read_bytes())
    if how == "cut":
        file.write_bytes(content[: len(content) // 2])
    elif how == "flipped":
        with zipfile.ZipFile(good / "checkpoints" / "last.ckpt") as archive:  # between its members there is padding
            largest = max(archive.infolist(), key=lambda member: member.file_size)
            content[content.index(archive.read(largest))] ^= 1
        file.write_bytes(content)
    elif how == "code":
        torch.save({"vmc": _Code()}, file)
    elif how == "other":
        torch.save({"state_dict": {}}, file)
    return file


@pytest.mark.parametrize(
    ("how", "message"),
    [
        ("missing", "no checkpoint "),
        ("cut", "is not a checkpoint, or only a part of one"),
        pytest.param("flipped", "is damaged", marks=slow),
        ("code", "could run code, and is not loaded"),
        pytest.param("other", "is not a checkpoint of a wavefunction", marks=slow),
    ],
)
def test_bad_file_is_refused(trained: Path, tmp_path: Path, how: str, message: str) -> None:
    place = tmp_path / "place"
    file = _damage(trained, tmp_path, how)
    _assert_refused(place, message, f"ckpt={file}")


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("system=he", "belongs to another system: formula is H2 there, He here"),
        ("method.model.layers=3", "belongs to another network: layers is 2 there, 3 here"),
        pytest.param("method.model.rescale_inputs=true", "belongs to another network: rescale_inputs", marks=slow),
    ],
)
def test_checkpoint_of_another_system_or_network_is_refused(
    trained: Path, tmp_path: Path, setting: str, message: str
) -> None:
    _assert_refused(tmp_path / "place", message, f"ckpt={trained}", setting)


def test_evaluation_needs_a_checkpoint(tmp_path: Path) -> None:
    _assert_refused(tmp_path / "place", "task evaluate needs a wavefunction: ckpt=RUN_DIR", "task=evaluate")


def _assert_refused(place: Path, message: str, *words: str) -> None:
    """Assert exit status 2, a message of one line and no new files."""
    refused = fusion(place, *TINY, *words)
    assert refused.status == 2 and refused.out == ""
    assert message in refused.err and len(refused.err.splitlines()) == 1, refused.err
    assert not any(place.iterdir())
