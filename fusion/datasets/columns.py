"""Growing columns, in memory or in files that are then memory-mapped."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from fusion.files.atomic import replacing

_META = "columns.json"


class Columns:
    """Arrays by name to which rows are added; stored in files of `directory` if one is given."""

    def __init__(self, directory: Path | None = None) -> None:
        self._parts: dict[str, list[np.ndarray]] = {}
        self._files: dict[str, BinaryIO] = {}
        self._forms: dict[str, dict[str, Any]] = {}
        self._directory = directory

    def add(self, rows: Mapping[str, np.ndarray]) -> None:
        """Append rows to every column."""
        for name, array in rows.items():
            form = self._forms.setdefault(name, {"dtype": array.dtype.str, "shape": [0, *array.shape[1:]]})
            form["shape"][0] += len(array)
            if self._directory is None:
                self._parts.setdefault(name, []).append(array)
            else:
                if name not in self._files:
                    self._files[name] = (self._directory / f"{name}.bin").open("wb")
                np.ascontiguousarray(array).tofile(self._files[name])

    def __len__(self) -> int:
        return int(self._forms["sizes"]["shape"][0]) if self._forms else 0

    def finish(self, extra: Mapping[str, Any]) -> dict[str, np.ndarray]:
        """Return all columns. With files, also write `extra`; its presence marks the directory as complete."""
        if self._directory is None:
            return {name: np.concatenate(parts) for name, parts in self._parts.items()}
        for file in self._files.values():
            file.close()
        with replacing(self._directory / _META) as file:
            file.write(json.dumps({"columns": self._forms, "extra": dict(extra)}).encode())
        content = mapped(self._directory)
        assert content is not None
        return content[0]


def mapped(directory: Path) -> tuple[dict[str, np.ndarray], dict[str, Any]] | None:
    """Return the memory-mapped columns of a complete directory and its `extra`; None for an incomplete one."""
    if not (directory / _META).is_file():
        return None
    content = json.loads((directory / _META).read_text())
    columns: dict[str, np.ndarray] = {
        name: np.memmap(directory / f"{name}.bin", form["dtype"], "r", shape=tuple(form["shape"]))
        for name, form in content["columns"].items()
    }
    return columns, content["extra"]
