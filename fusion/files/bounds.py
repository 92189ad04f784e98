"""Limits on untrusted files.

Each function refuses, before it costs memory or time, a file that is not regular, declares more than it holds, unpacks
to far more than its own size, or is nested too deeply. All raise ValueError with the reason; the caller adds the file's
name and purpose. A file that is missing or cannot be opened raises OSError.
"""

from __future__ import annotations

import bz2
import json
import math
import os
import stat
import tomllib
import zipfile
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

if TYPE_CHECKING:
    import numpy as np

DEEPEST = 100
"""Largest number of nested levels of a document."""
TEXT = 1 << 24
"""Largest size in bytes of a document (JSON, YAML, TOML) that is read completely."""
NODES = 200_000
"""Largest number of values in a YAML document, with repeated values counted each time."""
UNPACKED = 1 << 24
"""Size in bytes to which any file may unpack; beyond it, at most `RATIO` times the packed size."""
RATIO = 100
_LONGEST_REASON = 200


def reason(error: Exception | str) -> str:
    """Return the first line of an exception's message, shortened and with printable characters only."""
    line = next(iter(str(error).strip().splitlines()), type(error).__name__)
    return "".join(letter if letter.isprintable() else "?" for letter in line[:_LONGEST_REASON])


def regular(path: Path) -> Path:
    """Return `path` if it is a regular file: a pipe or a device may never end. Raises ValueError or OSError."""
    if not stat.S_ISREG(path.stat().st_mode):
        raise ValueError("it is not a regular file")
    return path


def content(path: Path, most: int) -> bytes:
    """Read a regular file of at most `most` bytes."""
    with regular(path).open("rb") as file:
        if os.fstat(file.fileno()).st_size > most:
            raise ValueError(f"it is longer than {most:,} bytes")
        return file.read()


def text(path: Path, most: int = TEXT) -> str:
    """Read the text of a regular file in UTF-8."""
    return content(path, most).decode()


def parsed_json(document: str | bytes) -> Any:
    """Parse a JSON document with at most `DEEPEST` nested levels."""
    try:
        value = json.loads(document)
    except RecursionError:
        raise ValueError(_too_deep()) from None
    _check_depth(value)
    return value


def parsed_toml(document: str) -> dict[str, Any]:
    """Parse a TOML document with at most `DEEPEST` nested levels and whole numbers of at most 64 bits."""
    try:
        value = tomllib.loads(document)
    except RecursionError:
        raise ValueError(_too_deep()) from None
    _check_depth(value)
    _check_whole(value)
    return value


def _check_whole(value: Any) -> None:
    if isinstance(value, dict | list):
        for item in value.values() if isinstance(value, dict) else value:
            _check_whole(item)
    elif isinstance(value, int) and not -(2**63) <= value < 2**63:
        raise ValueError("it has a whole number of more than 64 bits")


def _check_depth(value: Any) -> None:
    level = [value]
    for _ in range(DEEPEST + 1):
        containers = (
            item.values() if isinstance(item, dict) else item for item in level if isinstance(item, dict | list)
        )
        level = [item for container in containers for item in container if isinstance(item, dict | list)]
        if not level:
            return
    raise ValueError(_too_deep())


def _too_deep() -> str:
    return f"it is nested more than {DEEPEST} levels deep"


def checked_yaml(document: str) -> str:
    """Return `document` if it is YAML with at most `NODES` values after its aliases are expanded.

    A few hundred bytes of nested aliases can expand to more values than any memory holds. Raises ValueError, also for
    binary values, which no setting has, or yaml.YAMLError for text that is not YAML.
    """
    import yaml

    sizes: dict[str, int] = {}  # numbers of values of the nodes with an anchor
    opened: list[tuple[str | None, int]] = []  # anchors of the open collections, and the number of values before them
    values = 0
    for event in yaml.parse(document, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader)):
        if isinstance(event, yaml.AliasEvent):
            if event.anchor in (anchor for anchor, _ in opened):
                raise ValueError(f"the alias *{event.anchor} contains itself")
            values += sizes.get(event.anchor, 0)
        elif isinstance(event, yaml.CollectionStartEvent):
            opened.append((event.anchor, values))
            values += 1
        elif isinstance(event, yaml.CollectionEndEvent):
            anchor, before = opened.pop()
            if anchor is not None:
                sizes[anchor] = values - before
        elif isinstance(event, yaml.ScalarEvent):
            values += 1
            if event.tag == "tag:yaml.org,2002:binary":
                raise ValueError("it holds binary data, !!binary")
            if event.anchor is not None:
                sizes[event.anchor] = 1
        if len(opened) > DEEPEST:
            raise ValueError(_too_deep())
        if values > NODES:
            raise ValueError(f"it expands to more than {NODES:,} values")
    return document


def bunzipped(packed: bytes, most: int) -> bytes:
    """Unpack a bzip2 stream to at most `most` bytes."""
    unpacked = bz2.BZ2Decompressor().decompress(packed, max_length=most + 1)
    if len(unpacked) > most:
        raise ValueError(f"it unpacks to more than {most:,} bytes")
    return unpacked


def check_torch(path: Path) -> None:
    """Raise ValueError for a file that torch.save did not write: not regular, or with compressed parts."""
    if zipfile.is_zipfile(regular(path)):
        with zipfile.ZipFile(path) as archive:
            check_zip(archive, (zipfile.ZIP_STORED,), path.stat().st_size)


def limit(packed_size: int) -> int:
    """Largest size in bytes to which `packed_size` bytes may unpack."""
    return max(UNPACKED, RATIO * packed_size)


def unpacked(stream: BinaryIO, packed_size: int) -> bytes:
    """Read a stream that unpacks as it is read, up to `limit` bytes."""
    most = limit(packed_size)
    content = stream.read(most + 1)
    if len(content) > most:
        raise ValueError(f"its {packed_size:,} bytes unpack to more than {most:,}")
    return content


def npz(path: Path, names: Iterable[str] | None = None) -> dict[str, np.ndarray]:
    """Read the arrays, all or those of `names`, of a numpy archive whose members have the sizes in their headers."""
    import numpy as np

    with regular(path).open("rb") as file:
        try:
            with zipfile.ZipFile(file) as archive:
                members = _members(archive, os.fstat(file.fileno()).st_size)
                wanted = members if names is None else {name: members[name] for name in names if name in members}
                for name, member in wanted.items():
                    with archive.open(member) as packed:
                        _check_array(name, member.file_size, packed)
                arrays = {}
                for name, member in wanted.items():
                    with archive.open(member) as packed:
                        arrays[name] = np.lib.format.read_array(packed, allow_pickle=False)
                return arrays
        except (ValueError, OSError):
            raise
        except Exception as error:  # zipfile, zlib and numpy raise exceptions of many types for a damaged file
            raise ValueError(f"{type(error).__name__}: {reason(error)}") from error


def _members(archive: zipfile.ZipFile, packed_size: int) -> dict[str, zipfile.ZipInfo]:
    """Members of a numpy archive by array name."""
    check_zip(archive, (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED), limit(packed_size))
    return {member.filename.removesuffix(".npy"): member for member in archive.infolist()}


def check_zip(archive: zipfile.ZipFile, compressions: tuple[int, ...], most: int) -> None:
    """Raise ValueError for an archive with another compression than `compressions`, or of more than `most` bytes."""
    if any(member.compress_type not in compressions for member in archive.infolist()):
        raise ValueError("its parts are packed in a way that is not used for such files")
    declared = sum(member.file_size for member in archive.infolist())
    if declared > most:
        raise ValueError(f"it declares {declared:,} bytes, more than the {most:,} expected of its size")


def _check_array(name: str, size: int, file: Any) -> None:
    """Raise ValueError unless the array that the header of `file` declares has its `size` bytes."""
    import numpy as np

    version = np.lib.format.read_magic(file)
    if version not in ((1, 0), (2, 0)):
        raise ValueError(f"the array {name} is of the unknown format {version}")
    header = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    shape, _, dtype = header(file)
    declared = math.prod(shape) * dtype.itemsize
    if min(shape, default=0) < 0 or declared != size - file.tell():
        raise ValueError(f"the array {name} declares {declared:,} bytes (shape {shape}) and has {size - file.tell():,}")
