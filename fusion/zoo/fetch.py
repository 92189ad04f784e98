"""Download of a model's missing files to the cache, with verification.

`FUSION_TIMEOUT` (seconds, default 30) limits the wait for a server; `FUSION_OFFLINE=1` forbids downloads. Web proxies
come from the environment (http_proxy, https_proxy, no_proxy).
"""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Sequence
from pathlib import Path

from fusion.console.format import memory
from fusion.errors import CalculationError, InputError
from fusion.zoo import cache
from fusion.zoo.files import PARTIAL, File, Withheld, offline, part_name, timeout_s, total, withheld


def fetch(model: str, files: Sequence[File], into: Path) -> None:
    """Download all missing `files` of `model` to the directory `into`, each verified by size and sha256.

    Files are downloaded in parallel, each from the first of its URLs that has it. The download of a partial file, left
    by a dropped connection or a killed process, is resumed. One process at a time downloads a model, others wait.

    Raises InputError (offline, a cache that cannot be written to, a protocol whose package is missing) or
    CalculationError (no URL has some file, the disk is full). Complete files stay for the next call.
    """
    missing = _missing(files, into)
    if not missing:
        return
    if offline():
        raise InputError(_offline(model, missing, files))
    if withheld():
        raise Withheld(f"{model}, {total(missing)}")
    timeout = timeout_s()
    with cache.locked(model):
        missing = _missing(missing, into)  # another process may have downloaded them meanwhile
        if missing:
            from fusion.zoo.downloads import Downloads

            _make_room(model, missing, into)
            present = sum(file.size for file in files) - sum(file.size for file in missing)
            Downloads(model, missing, into, timeout, present).run()


def _missing(files: Sequence[File], into: Path) -> list[File]:
    """Return the files that are missing or have wrong contents."""
    return [file for file in files if not _verified(file, into)]


def _verified(file: File, into: Path) -> bool:
    """Return True if `file` exists with the right contents. Raises InputError for a symbolic link below `into`."""
    path = into
    for part in file.path.split("/"):
        path = path / part
        if path.is_symlink():
            raise InputError(f"{path} is a symbolic link, which is not allowed among a model's files: remove it")
    try:
        if not file.fits(path.stat().st_size):
            return False
        with open(path, "rb") as content:
            return hashlib.file_digest(content, "sha256").hexdigest() == file.sha256
    except OSError:
        return False


def _make_room(model: str, missing: Sequence[File], into: Path) -> None:
    """Create the directories, remove partial files of other versions, and check the free space on the disk.

    Raises CalculationError if the missing files do not fit.
    """
    parts = into / PARTIAL
    if parts.is_symlink():
        raise InputError(f"{parts} is a symbolic link, which is not allowed among a model's files: remove it")
    cache.create(parts)
    wanted = {part_name(file) for file in missing}
    try:
        for part in parts.iterdir():
            if part.name not in wanted:
                part.unlink()
        present = sum(part.lstat().st_size for part in parts.iterdir())
    except OSError as error:
        raise cache.unwritable(parts, error) from None
    needed, disk = sum(file.size for file in missing) - present, shutil.disk_usage(into)
    if disk.total and disk.free < needed:
        raise CalculationError(
            f"{model}: {memory(needed)} are needed in {into}, where only {memory(disk.free)} are free; "
            "set FUSION_CACHE=DIR to use another place"
        )


def _offline(model: str, missing: Sequence[File], files: Sequence[File]) -> str:
    size = total(missing)
    problem = (
        f"{len(missing)} of its {len(files)} files are missing ({size})" if len(files) > 1 else f"missing ({size})"
    )
    return (
        f"{model}: {problem}, and FUSION_OFFLINE forbids downloading: unset it, or copy {cache.directory()} "
        "from a machine that has the model"
    )
