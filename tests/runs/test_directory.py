"""Directory of a run: its lock, its removal, files of an earlier run, and full disks."""

from __future__ import annotations

import errno
import json
import os
import resource
import shutil
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from fusion import app, plugins
from fusion.app import execution
from fusion.errors import InputError
from fusion.files import atomic
from fusion.runs import directory as run_directory
from fusion.runs import report
from fusion.runs.directory import LOCK, PREVIOUS, Lock
from fusion.runs.results import check_table
from processes import Done, Program

ENERGY, FIT = ("+method=toy",), ("+method=toy", "task=fit", "callbacks.checkpoint.every_n_steps=7")
RELAX = ("+method=morse", "task=relax", "dtype=float64")
DYNAMICS = ("+method=morse", "task=md", "task.steps=4", "task.log_every=1", "task.save_every=1")
VIBRATIONS = ("+method=morse", "task=vibrations", "dtype=float64")


def names(directory: Path) -> set[str]:
    """Files below a directory, without hidden ones and those of an earlier run."""
    files = (path.relative_to(directory) for path in directory.rglob("*") if path.is_file())
    return {str(file) for file in files if file.parts[0] != PREVIOUS and not file.name.startswith(".")}


@pytest.fixture(scope="module")
def energy_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Directory of a finished run of ENERGY."""
    place = tmp_path_factory.mktemp("finished")
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(Path(__file__).parents[1] / "toy_plugin"))
        patch.setattr(plugins, "_discovery", None)
        app.run([*ENERGY, f"hydra.run.dir={place / 'r'}"])
    return place / "r"


@pytest.fixture
def copied(energy_run: Path, program: Program, tmp_path: Path) -> Path:
    """Copy `r` of a finished run in the directory in which `program` works."""
    return Path(shutil.copytree(energy_run, tmp_path / "r"))


def is_one_line(done: Done, status: int) -> bool:
    return done.status == status and done.err.startswith("error: ") and done.err.count("\n") == 1


@pytest.mark.parametrize("words", [(*ENERGY, "hydra.run.dir=r"), ("resume", "r")])
def test_a_second_run_in_a_directory_is_refused(program: Program, tmp_path: Path, words: tuple[str, ...]) -> None:
    assert program(*ENERGY, "hydra.run.dir=r").status == 0
    (tmp_path / "r/result.json").unlink()
    with Lock(tmp_path / "r") as lock:
        lock.acquire()
        before = {path: path.read_bytes() for path in (tmp_path / "r").iterdir()}
        done = program(*words)
        assert is_one_line(done, 2) and f"process {os.getpid()} on {socket.gethostname()}" in done.err
        assert {path: path.read_bytes() for path in (tmp_path / "r").iterdir()} == before
        report = program("report", "r")
        assert report.status == 0 and f"RUNNING          process {os.getpid()} on" in report.out
    assert program(*words).status == 0 and not (tmp_path / "r" / LOCK).exists()


def test_the_lock_file_of_a_killed_run_is_ignored(program: Program, tmp_path: Path) -> None:
    (tmp_path / "r").mkdir()
    (tmp_path / "r" / LOCK).write_text("process 1 on nowhere\n")
    assert run_directory.holder(tmp_path / "r") is None
    assert program(*ENERGY, "hydra.run.dir=r").status == 0


def test_a_forked_process_does_not_hold_the_lock(tmp_path: Path) -> None:
    hold, go = os.pipe(), os.pipe()
    lock = Lock(tmp_path)
    lock.acquire()
    child = os.fork()
    if not child:  # lives on after the lock is freed
        os.write(hold[1], b"1")
        os.read(go[0], 1)
        os._exit(0)
    os.read(hold[0], 1)
    lock.release()
    assert run_directory.holder(tmp_path) is None
    with Lock(tmp_path) as again:
        again.acquire()
        assert run_directory.holder(tmp_path) is not None
    os.write(go[1], b"1")
    os.waitpid(child, 0)


@pytest.mark.parametrize("words", [ENERGY, FIT, RELAX, DYNAMICS])
def test_a_removed_directory_is_not_created_again(
    program: Program, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: tuple[str, ...]
) -> None:
    monkeypatch.setattr(execution, "seed", lambda run: shutil.rmtree(run.directory))
    done = program(*words, "hydra.run.dir=r")
    assert is_one_line(done, 1) and "r was removed while the run was writing to it" in done.err
    assert not (tmp_path / "r").exists() and "result.json" not in done.out


def test_a_directory_that_was_removed_and_created_again_is_noticed(
    program: Program, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def again(run: Any) -> None:
        shutil.rmtree(run.directory)
        run.directory.mkdir()

    monkeypatch.setattr(execution, "seed", again)
    done = program(*ENERGY, "hydra.run.dir=r")
    assert is_one_line(done, 1) and "was removed" in done.err


def test_files_of_an_earlier_run_are_moved_aside(program: Program, tmp_path: Path) -> None:
    assert program(*VIBRATIONS, "hydra.run.dir=r").status == 0
    earlier = names(tmp_path / "r")
    assert {"modes.png", "modes/07.xyz", "relax.extxyz", "hessian.npy"} <= earlier
    (tmp_path / "r/modes/mine.xyz").write_text("of the user\n")
    (tmp_path / "r/notes.png").write_bytes(b"of the user")
    done = program("+method=morse", "system=nh3", "hydra.run.dir=r")
    assert done.status == 0 and "modes.png" not in done.out and "relaxation.png" not in done.out
    assert names(tmp_path / "r") == {
        "config.yaml",
        "result.json",
        "notes.png",
        "modes/mine.xyz",
        "checkpoints/previous.ckpt",
    }
    assert names(tmp_path / "r" / PREVIOUS) == earlier - {"checkpoints/last.ckpt"}
    assert program(*RELAX, "hydra.run.dir=r").status == 0
    assert names(tmp_path / "r" / PREVIOUS) == {"config.yaml", "result.json"}


def test_a_structure_of_an_earlier_run_can_be_the_next_input(program: Program, tmp_path: Path) -> None:
    assert program(*RELAX, "hydra.run.dir=r").status == 0
    assert program("+method=morse", "system=r/relaxed.xyz", "hydra.run.dir=r").status == 0
    (tmp_path / "r/result.json").unlink()
    assert program("resume", "r").status == 0


def test_a_resumed_run_keeps_its_files(program: Program, tmp_path: Path) -> None:
    assert program(*DYNAMICS, "hydra.run.dir=r").status == 0
    whole = {name: (tmp_path / "r" / name).read_bytes() for name in ("md.csv", "md.extxyz", "md.png")}
    (tmp_path / "r/result.json").unlink()
    (tmp_path / "r/.md.csv.0123abcd.part").write_text("a kill left this")
    assert program("resume", "r").status == 0
    assert {name: (tmp_path / "r" / name).read_bytes() for name in whole} == whole
    assert not (tmp_path / "r" / PREVIOUS).exists() and not list((tmp_path / "r").glob(".*.part"))


@pytest.mark.parametrize("name", ["../outside", "..", "/etc/passwd", "link/outside", "a/../../outside", "\0", "."])
def test_a_list_of_files_cannot_point_outside(tmp_path: Path, name: str) -> None:
    outside = tmp_path / "outside"
    outside.write_text("of the user")
    run = tmp_path / "run"
    run.mkdir()
    (run / "link").symlink_to(tmp_path)
    for listing in (run / atomic.WRITTEN, run / PREVIOUS / atomic.WRITTEN):
        listing.parent.mkdir(exist_ok=True)
        listing.write_text(f"{name}\ninside\n")
    (run / "inside").write_text("")
    run_directory.put_aside(run)
    assert outside.read_text() == "of the user" and (run / PREVIOUS / "inside").exists()


@pytest.mark.parametrize("kind", ["pipe", "long", "folder"])
def test_a_damaged_list_of_files_is_one_line(kind: str, program: Program, tmp_path: Path) -> None:
    (tmp_path / "r").mkdir()
    file = tmp_path / "r" / atomic.WRITTEN
    if kind == "long":
        file.touch()
        os.truncate(file, 1 << 40)
    else:
        {"pipe": os.mkfifo, "folder": os.mkdir}[kind](file)
    done = program(*ENERGY, "hydra.run.dir=r")
    assert is_one_line(done, 2) and f"{atomic.WRITTEN} is not the list" in done.err


def test_a_very_long_list_of_files_is_refused_unread(tmp_path: Path) -> None:
    (tmp_path / atomic.WRITTEN).write_text("a\n" * 300_000)
    with pytest.raises(InputError, match="300,000 lines, more than 20,000; remove it"):
        atomic.read_listed(tmp_path)


def test_a_table_of_zeros_is_refused_at_once(tmp_path: Path) -> None:
    (tmp_path / "metrics.csv").touch()
    os.truncate(tmp_path / "metrics.csv", 1 << 40)
    with pytest.raises(InputError, match="line 1 is not text"):
        check_table(tmp_path / "metrics.csv")


def full_disk(after: int) -> Callable[..., int]:
    """Return a `write` that fails like a full disk after this number of bytes of checkpoints and other files."""
    room = [after]

    def write(self: Any, data: Any) -> int:
        room[0] -= len(memoryview(data).cast("B"))
        if room[0] < 0:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return io_write(self, data)

    io_write = atomic.io.FileIO.write
    return write


@pytest.mark.parametrize("words", [ENERGY, FIT, RELAX, DYNAMICS])
def test_a_full_disk_is_one_line_and_the_run_resumes(
    program: Program, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: tuple[str, ...]
) -> None:
    assert program(*words, "hydra.run.dir=whole").status == 0
    space = len((tmp_path / "whole/config.yaml").read_bytes())
    with monkeypatch.context() as patch:
        patch.setattr(atomic._Watched, "write", full_disk(space + 50))
        done = program(*words, "hydra.run.dir=r")
    assert is_one_line(done, 1) and "No space left on device; fusion resume" in done.err
    assert not (tmp_path / "r/result.json").exists() and not list((tmp_path / "r").rglob("*.part"))
    assert program("resume", "r").status == 0
    whole, resumed = (json.loads((tmp_path / name / "result.json").read_text()) for name in ("whole", "r"))
    assert {key: value for key, value in whole.items() if key not in ("timing", "settings", "md")} == {
        key: value for key, value in resumed.items() if key not in ("timing", "settings", "md")
    }


def test_a_run_without_space_for_its_plot_is_complete(
    program: Program, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def draw(directory: Path) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(directory / "energy.png"))

    monkeypatch.setattr(report, "redraw", draw)
    done = program(*ENERGY, "hydra.run.dir=r")
    assert done.status == 0 and done.err == "" and "energy  " in done.out
    assert "energy.png: No space left on device; fusion report" in done.out


def test_a_hidden_write_error_of_a_library_is_reported(tmp_path: Path) -> None:
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, before[1]))
    try:
        with pytest.raises(OSError, match="File too large") as raised, atomic.replacing(tmp_path / "a") as file:
            try:
                file.write(b"1" * 100_000)
            except OSError:
                raise RuntimeError("iostream error") from None
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert raised.value.filename == str(tmp_path / "a") and not list(tmp_path.iterdir())


def test_a_directory_that_cannot_be_created_is_bad_input(program: Program, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    assert is_one_line(program(*ENERGY, "hydra.run.dir=file/run"), 2)
    with pytest.raises(InputError, match="file"):
        app.run([*ENERGY, f"hydra.run.dir={tmp_path}/file/run"])


def test_a_removed_working_directory_is_one_line(
    program: Program, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    gone = tmp_path / "gone"
    gone.mkdir()
    monkeypatch.chdir(gone)
    gone.rmdir()
    for words in (ENERGY, FIT, ("report", "r"), ("resume", "r")):
        assert is_one_line(program(*words), 2)
    assert program("methods").status == 0


DAMAGES = [b"", b'{"status": "ok", "en', b"[1, 2]", b"\x80\x02\xff\x00", b"3", b"{}", b'{"status": ["ok"]}']
WRONG_TYPES = (b'system": []', b'energy": "abc"', b'energy": {"value": [1]}')
DAMAGES += [b'{"status": "ok", "%s}' % inner for inner in WRONG_TYPES]


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_result_is_one_line(program: Program, copied: Path, damage: bytes) -> None:
    (copied / "result.json").write_bytes(damage)
    for words in (("report", "r"), ("resume", "r"), ("zoo", "add", "r", "--name", "mine", "--into", "zoo")):
        done = program(*words)
        assert is_one_line(done, 2) and done.out == ""


@pytest.mark.parametrize("damage", [b"", b"method: {_targ", b"- a\n- b\n", b"\x80\xff\x00", b"word", b"system: []\n"])
def test_damaged_settings_are_one_line(program: Program, copied: Path, damage: bytes) -> None:
    (copied / "config.yaml").write_bytes(damage)
    for words in (("resume", "r"), ("zoo", "add", "r", "--name", "mine", "--into", "zoo")):
        assert is_one_line(program(*words), 2)
    report = program("report", "r")
    assert report.status == 0 or is_one_line(report, 2)


def test_a_damaged_table_is_one_line(program: Program, tmp_path: Path) -> None:
    assert program(*FIT, "hydra.run.dir=r").status == 0
    (tmp_path / "r/metrics.csv").write_bytes(b"step,phase\n1,optimise\n\xff\x00\x80")
    (tmp_path / "r/result.json").unlink()
    for words in (("report", "r"), ("resume", "r")):
        done = program(*words)
        assert is_one_line(done, 2) and "line 3" in done.err
