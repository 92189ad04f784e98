"""Limits of control groups of both versions, and of their parents, limit the memory."""

from pathlib import Path

import psutil
import pytest

from fusion.parallel.memory import available_memory

FILES = {
    "1": ("5:cpu,memory:/job/step", "memory", "memory.limit_in_bytes", "memory.usage_in_bytes"),
    "2": ("0::/job/step", "", "memory.max", "memory.current"),
}


@pytest.mark.parametrize("version", FILES)
@pytest.mark.parametrize("place", ["", "job", "job/step"])
def test_the_lowest_limit_counts(tmp_path: Path, version: str, place: str) -> None:
    line, folder, limit, usage = FILES[version]
    groups, mounted = tmp_path / "cgroup", tmp_path / "mounted"
    groups.write_text(f"9:name=systemd:/\n{line}\n")
    limited = mounted / folder / place
    limited.mkdir(parents=True)
    (limited / limit).write_text("3000\n")
    (limited / usage).write_text("1000\n")
    assert available_memory(groups, mounted) == 2000


def test_no_limit_no_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    groups = tmp_path / "cgroup"
    groups.write_text("0::/\n")
    (tmp_path / "memory.max").write_text("max\n")
    (tmp_path / "memory.current").write_text("1000\n")
    machine = psutil.virtual_memory()
    monkeypatch.setattr(psutil, "virtual_memory", lambda: machine)  # the machine's memory changes all the time
    for memory in (available_memory(groups, tmp_path), available_memory(tmp_path / "none", tmp_path)):
        assert memory == machine.available
