"""Files of named data sets, downloaded and verified like those of the zoo's models.

With `FUSION_MIRROR`, a file is first searched in data/ beside it and in data/ inside it, so that one place may hold
weights/ and data/. Then the file's own URLs are tried.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from fusion.zoo import cache
from fusion.zoo.fetch import fetch
from fusion.zoo.files import File


def fetched(name: str, files: Sequence[Mapping[str, Any]]) -> tuple[Path, ...]:
    """Return the local paths of `files` (path, size in bytes, sha256, urls); download missing ones.

    Raises InputError or CalculationError as `fusion.zoo.fetch.fetch` does.
    """
    into = cache.directory() / "data" / "files"
    wanted = [_file(entry) for entry in files]
    fetch(f"data-{name}", wanted, into)
    return tuple(into / file.path for file in wanted)


def _file(entry: Mapping[str, Any]) -> File:
    path = str(entry["path"])
    urls = (*(f"{base}/{path}" for base in _mirrors()), *map(str, entry.get("urls") or ()))
    return File(path, int(entry["size"]), str(entry["sha256"]), urls)


def _mirrors() -> tuple[str, ...]:
    mirror = os.environ.get("FUSION_MIRROR", "").rstrip("/")
    if not mirror:
        return ()
    above = mirror.rpartition("/")[0]
    return (f"{above}/data", f"{mirror}/data") if above.strip("/:") else (f"{mirror}/data",)
