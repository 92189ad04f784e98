"""The files of a model brought into the cache: what is there is kept, the rest downloaded and verified.

`FUSION_TIMEOUT` (seconds, 30) bounds the waiting for a server; `FUSION_OFFLINE=1` forbids downloading. Web proxies are
taken from the environment (http_proxy, https_proxy, no_proxy).
"""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Sequence
from pathlib import Path

from fusion.errors import CalculationError, InputError
from fusion.zoo import cache
from fusion.zoo.files import PARTIAL, File, offline, part_name, timeout_s


def fetch(model: str, files: Sequence[File], into: Path) -> None:
    """Bring all `files` of `model` under the directory `into`, each verified by size and sha256.

    Files that are there and right are kept. The others are downloaded several at a time, each from the first of its
    URLs that gives it; what a dropped connection or a killed process left is gone on from. One process at a time does
    this for a model, others wait. Raises InputError (offline, a cache that cannot be written to, a protocol whose
    package is missing) or CalculationError (no URL gives some file, the disk is full), in one line; complete files
    stay, and the next call goes on from there.
    """
    missing = _missing(files, into)
    if not missing:
        return
    if offline():
        raise InputError(_offline(model, missing, files))
    timeout = timeout_s()
    with cache.locked(model):
        missing = _missing(missing, into)  # another process may have fetched them meanwhile
        if missing:
            from fusion.zoo.downloads import Downloads

            _make_room(model, missing, into)
            there = sum(file.size for file in files) - sum(file.size for file in missing)
            Downloads(model, missing, into, timeout, there).run()


def _missing(files: Sequence[File], into: Path) -> list[File]:
    """Those of `files` that are not there with the right contents."""
    return [file for file in files if not _verified(file, into)]


def _verified(file: File, into: Path) -> bool:
    """Whether `file` is there and right; InputError where a symbolic link below `into` would lead elsewhere."""
    path = into
    for part in file.path.split("/"):
        path = path / part
        if path.is_symlink():
            raise InputError(f"{path} is a symbolic link, which has no place among a model's files: remove it")
    try:
        if path.stat().st_size != file.size:
            return False
        with open(path, "rb") as there:
            return hashlib.file_digest(there, "sha256").hexdigest() == file.sha256
    except OSError:
        return False


def _make_room(model: str, missing: Sequence[File], into: Path) -> None:
    """Create the directories, remove partial files that nothing can complete, and see that the rest fits on the disk.

    CalculationError where it does not, before anything is downloaded.
    """
    from fusion.console.format import memory

    parts = into / PARTIAL
    if parts.is_symlink():
        raise InputError(f"{parts} is a symbolic link, which has no place among a model's files: remove it")
    cache.create(parts)
    wanted = {part_name(file) for file in missing}
    try:
        for part in parts.iterdir():
            if part.name not in wanted:
                part.unlink()
        here = sum(part.lstat().st_size for part in parts.iterdir())
    except OSError as error:
        raise cache.unwritable(parts, error) from None
    needed, disk = sum(file.size for file in missing) - here, shutil.disk_usage(into)
    if disk.total and disk.free < needed:
        raise CalculationError(
            f"{model}: {memory(needed)} are needed in {into}, where only {memory(disk.free)} are free; "
            "FUSION_CACHE=DIR names another place"
        )


def _offline(model: str, missing: Sequence[File], files: Sequence[File]) -> str:
    from fusion.console.format import memory

    size = memory(sum(file.size for file in missing))
    what = f"{len(missing)} of its {len(files)} files are missing ({size})" if len(files) > 1 else f"missing ({size})"
    return (
        f"{model}: {what}, and FUSION_OFFLINE forbids downloading: unset it, or copy {cache.directory()} "
        "from a machine that has the model"
    )
