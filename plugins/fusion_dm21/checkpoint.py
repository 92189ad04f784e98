"""Read TensorFlow's tensor bundles, the files variables.index and variables.data-*, without TensorFlow.

The index is a sorted string table as LevelDB writes it: blocks of keys with shared prefixes, possibly compressed with
snappy, each followed by its kind and a masked CRC-32C. Its values are protocol buffers with the place of a tensor in
the data files, its type, shape and CRC-32C. Every checksum is verified.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from fusion.errors import InputError
from fusion.files import bounds

_MAGIC = 0xDB4775248B80FB57
_FOOTER = 48
_TRAILER = 5  # bytes after a block: one for its kind, four for its checksum
_DTYPES = {1: "<f4", 2: "<f8", 3: "<i4", 9: "<i8"}  # TensorFlow's DataType
_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5  # kinds of fields in protocol buffers
_LONGEST_VARINT = 10
_LONGEST_INDEX, _LONGEST_DATA = 1 << 18, 1 << 24  # bytes; published ones have 681 and 1.6 million
_MOST_SHARDS = 64
_LONGEST_NAME = 1 << 10


class _Broken(Exception):
    """Defect of a file."""


@dataclass(frozen=True)
class Entry:
    """Place, type, shape and checksum of a tensor."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    shard: int
    offset: int
    size: int
    checksum: int


def read(prefix: Path) -> dict[str, np.ndarray]:
    """All tensors of the bundle `prefix`.index, `prefix`.data-00000-of-00001, ... by name.

    Raises InputError, with the file's name, if a file is missing, truncated, damaged or of another kind.
    """
    index = prefix.with_name(f"{prefix.name}.index")
    try:
        shards, entries = _index(_contents(index, _LONGEST_INDEX))
    except (_Broken, UnicodeDecodeError) as error:
        raise InputError(f"{index} is no complete index of a TensorFlow checkpoint: {error}") from error
    paths = [prefix.with_name(f"{prefix.name}.data-{shard:05d}-of-{shards:05d}") for shard in range(shards)]
    data = [_contents(path, _LONGEST_DATA) for path in paths]
    tensors, rest = {}, sum(map(len, data))
    for entry in entries:
        try:
            tensors[entry.name] = _tensor(data[entry.shard], entry)
            rest -= entry.size
            if rest < 0:
                raise _Broken("overlaps with others")
        except _Broken as error:
            raise InputError(f"{paths[entry.shard]}: the tensor {entry.name} {error}") from error
    return tensors


def crc32c(content: bytes) -> int:
    """CRC-32C (Castagnoli), as in RFC 3720."""
    crc = 0xFFFFFFFF
    table = _TABLE
    for byte in content:
        crc = table[(crc ^ byte) & 0xFF] ^ (crc >> 8)
    return crc ^ 0xFFFFFFFF


def masked(crc: int) -> int:
    """Stored form of a checksum: rotated and shifted, so that data may contain checksums of their own parts."""
    return (((crc >> 15) | (crc << 17)) + 0xA282EAD8) & 0xFFFFFFFF


def unsnappy(packed: bytes) -> bytes:
    """Decompress a raw snappy block. Raises InputError for invalid blocks."""
    length, at = _varint(packed, 0)
    output = bytearray()
    if length > _LONGEST_INDEX:
        raise _Broken(f"a block that unpacks to {length} bytes")
    while at < len(packed) and len(output) <= length:
        tag = packed[at]
        at += 1
        if tag & 3 == 0:  # literal bytes
            size = (tag >> 2) + 1
            if size > 60:
                size, at = 1 + int.from_bytes(_part(packed, at, size - 60), "little"), at + size - 60
            output += _part(packed, at, size)
            at += size
            continue
        if tag & 3 == 1:  # copy of earlier output; it may overlap with its own result
            size, back, extra = 4 + (tag >> 2 & 7), tag >> 5 << 8, 1
        else:
            size, back, extra = 1 + (tag >> 2), 0, 2 if tag & 3 == 2 else 4
        back |= int.from_bytes(_part(packed, at, extra), "little")
        at += extra
        if not 0 < back <= len(output):
            raise _Broken("a copy from before the beginning")
        for _ in range(size):
            output.append(output[-back])
    if len(output) != length:
        raise _Broken(f"{len(output)} bytes come out, not {length}")
    return bytes(output)


def _contents(path: Path, most: int) -> bytes:
    try:
        return bounds.content(path, most)
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror}") from error
    except ValueError as error:
        raise InputError(f"{path} cannot be read: {error}") from error


def _index(content: bytes) -> tuple[int, list[Entry]]:
    """Number of data files, and the entries of the tensors in them."""
    if len(content) < _FOOTER or int.from_bytes(content[-8:], "little") != _MAGIC:
        raise _Broken("it does not end as one")
    _, of_blocks = (list(_block(content, *handle)) for handle in _handles(content[-_FOOTER:], 2))  # the first is empty
    rows: dict[bytes, bytes] = {}
    end = 0
    for _, value in of_blocks:
        ((start, size),) = _handles(value, 1)
        if start < end:
            raise _Broken("its blocks overlap")
        rows.update(_block(content, start, size))
        end = start + size
    header = _fields(rows.pop(b"", b""))
    if header.get(2, [0]) != [0]:
        raise _Broken("its numbers are big-endian")
    shards = _number(header, 1)
    if shards > _MOST_SHARDS:
        raise _Broken(f"it declares {shards} data files")
    entries = [_entry(name.decode(), value, shards) for name, value in rows.items()]
    return shards, entries


def _handles(content: bytes, count: int) -> list[tuple[int, int]]:
    """Offsets and lengths of blocks."""
    numbers, at = [], 0
    for _ in range(2 * count):
        number, at = _varint(content, at)
        numbers.append(number)
    return list(zip(numbers[::2], numbers[1::2], strict=True))


def _block(content: bytes, start: int, size: int) -> Iterator[tuple[bytes, bytes]]:
    """Iterate over keys and values of the block at `start`."""
    block, trailer = _part(content, start, size), _part(content, start + size, _TRAILER)
    if masked(crc32c(block + trailer[:1])) != int.from_bytes(trailer[1:], "little"):
        raise _Broken(f"the checksum of its block at byte {start} is wrong")
    if trailer[0] > 1:
        raise _Broken(f"its block at byte {start} is compressed in an unknown way ({trailer[0]})")
    block = unsnappy(block) if trailer[0] else block
    restarts = int.from_bytes(_part(block, len(block) - 4, 4), "little")
    end, at, key = len(block) - 4 * (restarts + 1), 0, b""
    while at < end:
        shared, at = _varint(block, at)
        own, at = _varint(block, at)
        length, at = _varint(block, at)
        key = key[:shared] + _part(block, at, own)
        if len(key) > _LONGEST_NAME:
            raise _Broken("a name is too long")
        yield key, _part(block, at + own, length)
        at += own + length


def _entry(name: str, value: bytes, shards: int) -> Entry:
    fields = _fields(value)
    if 7 in fields:
        raise _Broken(f"{name} is stored in slices, which is not supported")
    dtype, shard = _number(fields, 1), _number(fields, 3)
    if dtype not in _DTYPES:
        raise _Broken(f"{name} is not of real or whole numbers (TensorFlow's type {dtype})")
    if shard >= shards:
        raise _Broken(f"{name} is in data file {shard} of {shards}")
    shape = [_number(_fields(size), 1) for field in fields.get(2, []) for size in _fields(field).get(2, [])]
    offset, size, checksum = (_number(fields, field) for field in (4, 5, 6))
    return Entry(name, _DTYPES[dtype], tuple(shape), shard, offset, size, checksum)


def _tensor(data: bytes, entry: Entry) -> np.ndarray:
    content = data[entry.offset : entry.offset + entry.size]
    if len(content) != entry.size:
        raise _Broken(f"ends after {len(content)} of {entry.size} bytes")
    if masked(crc32c(content)) != entry.checksum:
        raise _Broken("is damaged: its checksum is wrong")
    if len(content) != np.dtype(entry.dtype).itemsize * math.prod(entry.shape):
        raise _Broken(f"has {entry.size} bytes, not those of the shape {entry.shape}")
    return np.frombuffer(content, entry.dtype).reshape(entry.shape).astype(entry.dtype[1:])


def _fields(message: bytes) -> dict[int, list]:
    """Values of a protocol buffer by field number: integers or bytes."""
    values: dict[int, list] = {}
    at = 0
    while at < len(message):
        tag, at = _varint(message, at)
        kind = tag & 7
        if kind == _VARINT:
            value, at = _varint(message, at)
            values.setdefault(tag >> 3, []).append(value)
            continue
        if kind == _BYTES:
            size, at = _varint(message, at)
        elif kind in (_FIXED64, _FIXED32):
            size = 8 if kind == _FIXED64 else 4
        else:
            raise _Broken(f"a protocol buffer has a field of kind {kind}")
        value_bytes, at = _part(message, at, size), at + size
        value_of = value_bytes if kind == _BYTES else int.from_bytes(value_bytes, "little")
        values.setdefault(tag >> 3, []).append(value_of)
    return values


def _number(fields: dict[int, list], field: int) -> int:
    """Value of an integer field; zero if absent."""
    value = fields.get(field, [0])[-1]
    if not isinstance(value, int):
        raise _Broken(f"field {field} of a protocol buffer is not a number")
    return value


def _varint(content: bytes, at: int) -> tuple[int, int]:
    """Integer of seven bits per byte, and the offset after it."""
    value = 0
    for place in range(_LONGEST_VARINT):
        byte = _part(content, at + place, 1)[0]
        value |= (byte & 0x7F) << 7 * place
        if byte < 0x80:
            return value, at + place + 1
    raise _Broken("a number does not end")


def _part(content: bytes, at: int, size: int) -> bytes:
    part = content[at : at + size]
    if at < 0 or len(part) != size:
        raise _Broken("it is cut short")
    return part


def _crc_table() -> tuple[int, ...]:
    table = []
    for byte in range(256):
        for _ in range(8):
            byte = byte >> 1 ^ (0x82F63B78 if byte & 1 else 0)
        table.append(byte)
    return tuple(table)


_TABLE = _crc_table()
