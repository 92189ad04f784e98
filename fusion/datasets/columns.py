"""Columns that grow: in memory, or in files that are then mapped into it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from fusion.files.atomic import replacing

_META = "columns.json"


class Columns:
    """Arrays by name, to which rows are added; in files of `directory` if there is one."""

    def __init__(self, directory: Path | None = None) -> None:
        self._parts: dict[str, list[np.ndarray]] = {}
        self._files: dict[str, BinaryIO] = {}
        self._forms: dict[str, dict[str, Any]] = {}
        self._directory = directory

    def add(self, rows: Mapping[str, np.ndarray]) -> None:
        """Rows for every column."""
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
        """All columns; `extra` is written beside the files, whose directory is complete once it is there."""
        if self._directory is None:
            return {name: np.concatenate(parts) for name, parts in self._parts.items()}
        for file in self._files.values():
            file.close()
        with replacing(self._directory / _META) as file:
            file.write(json.dumps({"columns": self._forms, "extra": dict(extra)}).encode())
        found = mapped(self._directory)
        assert found is not None
        return found[0]


def mapped(directory: Path) -> tuple[dict[str, np.ndarray], dict[str, Any]] | None:
    """The columns of a complete directory, mapped into memory, and what was written beside them; None of another."""
    if not (directory / _META).is_file():
        return None
    content = json.loads((directory / _META).read_text())
    columns: dict[str, np.ndarray] = {
        name: np.memmap(directory / f"{name}.bin", form["dtype"], "r", shape=tuple(form["shape"]))
        for name, form in content["columns"].items()
    }
    return columns, content["extra"]
