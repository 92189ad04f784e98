"""Digests and checks of safetensors files, without torch. A digest depends on the tensors alone."""

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
    """Return the sha256 of the names, dtypes, shapes and contents of `tensors`, in the order of names.

    It is the same on every machine, and for a safetensors file of these tensors with any metadata.
    """
    import io

    return _digest(io.BytesIO(serialised(tensors)))


def serialised(tensors: Mapping[str, Tensor], metadata: dict[str, str] | None = None) -> bytes:
    """Return `tensors` as the contents of a safetensors file, with `metadata` in its header."""
    from safetensors.torch import save

    return save({name: tensor.detach().cpu().clone().contiguous() for name, tensor in tensors.items()}, metadata)


_RECORDED = "fusion_digest"


def with_record(tensors: Mapping[str, Tensor]) -> bytes:
    """Return `tensors` as the contents of a safetensors file that records their digest in its header."""
    return serialised(tensors, {_RECORDED: digest(tensors)})


def recorded(path: Path) -> str:
    """Return the digest that `with_record` wrote into a file; an empty text if there is none."""
    try:
        with bounds.regular(path).open("rb") as file:
            metadata = _whole_header(file)[0].get("__metadata__", {})
        return str(metadata.get(_RECORDED, ""))
    except (OSError, ValueError, AttributeError):
        return ""


def file_digest(path: Path) -> str:
    """Return the `digest` of the tensors in a safetensors file. Raises CalculationError for any other file."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(bounds.regular(path), framework="np"):
            pass
        with path.open("rb") as file:
            return _digest(file)
    except (SafetensorError, OSError, ValueError, KeyError) as error:
        raise _not_whole(error) from error


def read(path: Path, most: int) -> tuple[dict[str, Tensor], str]:
    """Read the tensors of a safetensors file of at most `most` bytes and their digest, in one pass over the file.

    Raises CalculationError for any other file.
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
    return CalculationError(f"is not a complete safetensors file: {next(iter(str(error).splitlines()), '')}")


def whole(path: Path) -> bool:
    """Return True if `path` is a safetensors file of the length that its header states; reads the header only."""
    try:
        with bounds.regular(path).open("rb") as file:
            header, start = _header(file)
        return path.stat().st_size == start + max((entry["data_offsets"][1] for entry in header.values()), default=0)
    except (OSError, ValueError, KeyError, TypeError, IndexError, AttributeError):
        return False


def _header(file: BinaryIO) -> tuple[dict[str, dict[str, Any]], int]:
    """Read the header: entries by name, and the offset of the data."""
    header, start = _whole_header(file)
    header.pop("__metadata__", None)
    return header, start


def _whole_header(file: BinaryIO) -> tuple[dict[str, Any], int]:
    length = int.from_bytes(file.read(8), "little")
    if not 2 <= length <= LONGEST_HEADER:
        raise ValueError("no header")
    header: dict[str, Any] = bounds.parsed_json(file.read(length))
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
