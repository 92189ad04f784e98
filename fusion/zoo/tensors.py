"""safetensors files: their digest, which depends on the tensors alone, and whether a file is whole. Needs no torch."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from fusion.errors import CalculationError
from fusion.files import bounds

if TYPE_CHECKING:
    from torch import Tensor

SUFFIX = ".safetensors"
LONGEST_HEADER = 100_000_000
_PIECE = 1 << 22


def digest(tensors: Mapping[str, Tensor]) -> str:
    """sha256 in hexadecimal digits over the names, dtypes, shapes and contents of `tensors`, in the order of names.

    The same on every machine, and for a safetensors file of these tensors whatever its metadata.
    """
    import io

    return _digest(io.BytesIO(serialised(tensors)))


def serialised(tensors: Mapping[str, Tensor]) -> bytes:
    """`tensors` as the contents of a safetensors file without metadata."""
    from safetensors.torch import save

    return save({name: tensor.detach().cpu().clone().contiguous() for name, tensor in tensors.items()})


def file_digest(path: Path) -> str:
    """`digest` of the tensors in a safetensors file. Raises CalculationError for a file that is not one."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(bounds.regular(path), framework="np"):
            pass
        with path.open("rb") as file:
            return _digest(file)
    except (SafetensorError, OSError, ValueError, KeyError) as error:
        raise _not_whole(error) from error


def read(path: Path, most: int) -> tuple[dict[str, Tensor], str]:
    """The tensors of a safetensors file of at most `most` bytes, and their digest, from the same reading of the file.

    Raises CalculationError for a file that is not one.
    """
    import io

    from safetensors import SafetensorError
    from safetensors.torch import load

    try:
        content = bounds.content(path, most)
        return load(content), _digest(io.BytesIO(content))  # load checks that the declared sizes fit the content
    except (SafetensorError, OSError, ValueError, KeyError) as error:
        raise _not_whole(error) from error


def _not_whole(error: Exception) -> CalculationError:
    return CalculationError(f"is no whole safetensors file: {next(iter(str(error).splitlines()), '')}")


def whole(path: Path) -> bool:
    """Whether `path` is a safetensors file of the length that its beginning states; the contents are not read."""
    try:
        with bounds.regular(path).open("rb") as file:
            header, start = _header(file)
        return path.stat().st_size == start + max((entry["data_offsets"][1] for entry in header.values()), default=0)
    except (OSError, ValueError, KeyError, TypeError, IndexError, AttributeError):
        return False


def _header(file: BinaryIO) -> tuple[dict[str, dict[str, Any]], int]:
    """Entries by name and where the data begin."""
    length = int.from_bytes(file.read(8), "little")
    if not 2 <= length <= LONGEST_HEADER:
        raise ValueError("no header")
    header = bounds.parsed_json(file.read(length))
    header.pop("__metadata__", None)
    return header, 8 + length


def _digest(file: BinaryIO) -> str:
    header, start = _header(file)
    sha256 = hashlib.sha256()
    for name in sorted(header):
        entry = header[name]
        first, end = entry["data_offsets"]
        sha256.update(json.dumps([name, entry["dtype"], entry["shape"]], separators=(",", ":")).encode() + b"\n")
        file.seek(start + first)
        for at in range(first, end, _PIECE):
            sha256.update(file.read(min(_PIECE, end - at)))
    return sha256.hexdigest()
