"""TensorFlow's bundles, read as data: complete, damaged and foreign ones, and the cards made from them."""

from __future__ import annotations

import os
import struct
import tomllib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from fusion.errors import InputError
from fusion.zoo.tensors import digest
from fusion_dm21 import checkpoint, convert

DATA = os.environ.get("FUSION_TEST_DATA")
VARIANTS = ("DM21", "DM21m", "DM21mc", "DM21mu")
MAGIC = bytes.fromhex("57fb808b247547db")
TENSORS = {"a/b": np.arange(6, dtype="<f4").reshape(2, 3), "a/w": np.array(2.5, dtype="<f8")}
needs_data = pytest.mark.skipif(DATA is None, reason="FUSION_TEST_DATA names no directory of published weights")


def varint(number: int) -> bytes:
    head = b""
    while number > 127:
        head, number = head + bytes([number & 127 | 128]), number >> 7
    return head + bytes([number])


def message(**fields: int | bytes) -> bytes:
    """Encode a protocol buffer with the fields f1, f2, ...; f6 has a fixed width."""
    content = b""
    for name, value in fields.items():
        field = int(name[1:])
        if isinstance(value, bytes):
            content += varint(field << 3 | 2) + varint(len(value)) + value
        elif field == 6:
            content += varint(field << 3 | 5) + struct.pack("<I", value)
        else:
            content += varint(field << 3) + varint(value)
    return content


def block(rows: dict[bytes, bytes]) -> bytes:
    """Encode a block of a string table, whose keys share prefixes."""
    content, last = b"", b""
    for key, value in rows.items():
        shared = next((n for n in range(len(last)) if key[: n + 1] != last[: n + 1]), len(last))
        content += varint(shared) + varint(len(key) - shared) + varint(len(value)) + key[shared:] + value
        last = key
    return content + struct.pack("<II", 0, 1)


def with_trailer(content: bytes, kind: int = 0) -> bytes:
    return content + bytes([kind]) + struct.pack("<I", checkpoint.masked(checkpoint.crc32c(content + bytes([kind]))))


def write(directory: Path, dtype: int = 1, kind: int = 0, pack: Callable[[bytes], bytes] = lambda block: block) -> Path:
    """Write the bundle of TENSORS; the first is declared as `dtype`, and its block as `kind`."""
    data, rows = b"", {b"": message(f1=1)}
    for number, (name, values) in enumerate(TENSORS.items()):
        dimensions = b"".join(message(f2=message(f1=size)) for size in values.shape)
        content = values.tobytes()
        rows[name.encode()] = message(
            f1=2 if number else dtype,
            f2=dimensions,
            f4=len(data),
            f5=len(content),
            f6=checkpoint.masked(checkpoint.crc32c(content)),
        )
        data += content
    packed = pack(block(rows))
    index = with_trailer(packed, kind)
    handle = varint(0) + varint(len(packed))
    root = block({b"z": handle})
    empty = struct.pack("<II", 0, 1)
    footer = b"".join(map(varint, (len(index), len(empty), len(index) + len(empty) + 5, len(root))))
    content = index + with_trailer(empty) + with_trailer(root)
    (directory / "variables.index").write_bytes(content + footer.ljust(40, b"\0") + MAGIC)
    (directory / "variables.data-00000-of-00001").write_bytes(data)
    return directory / "variables"


def literal(content: bytes) -> bytes:
    """Encode a snappy block that copies the last four bytes of each row of sixteen from the previous row if equal."""
    encoded = varint(len(content))
    for at in range(0, len(content), 16):
        row, before = content[at : at + 16], content[max(at - 16, 0) : at]
        if len(row) == len(before) == 16 and row[12:] == before[12:]:
            encoded += bytes([11 << 2]) + row[:12] + bytes([1, 16])
        else:
            encoded += bytes([60 << 2, len(row) - 1]) + row
    return encoded


@pytest.mark.parametrize(("kind", "pack"), [(0, lambda block: block), (1, literal)])
def test_a_bundle_is_read(kind: int, pack: Callable[[bytes], bytes], tmp_path: Path) -> None:
    content = checkpoint.read(write(tmp_path, kind=kind, pack=pack))
    assert list(content) == list(TENSORS)
    for name, values in TENSORS.items():
        np.testing.assert_array_equal(content[name], values)
        assert (content[name].dtype, content[name].shape) == (values.dtype, values.shape)


def test_checksums_and_copies_follow_the_standards() -> None:
    assert checkpoint.crc32c(b"123456789") == 0xE3069283  # check value of CRC-32C
    assert checkpoint.crc32c(bytes(32)) == 0x8A9136AA  # RFC 3720, B.4
    assert checkpoint.unsnappy(bytes([8, 4, 97, 98, 0x09, 2])) == b"ab" + b"ab" * 3  # a copy that overlaps itself
    assert checkpoint.unsnappy(bytes([6, 8]) + b"xyz" + bytes([2 << 2 | 2, 3, 0])) == b"xyzxyz"


def _flip(name: str, at: int) -> Callable[[Path], None]:
    def apply(directory: Path) -> None:
        content = bytearray((directory / name).read_bytes())
        content[at] ^= 1
        (directory / name).write_bytes(content)

    return apply


def _cut(name: str, keep: int) -> Callable[[Path], None]:
    return lambda directory: (directory / name).write_bytes((directory / name).read_bytes()[:keep]) and None


INDEX, SHARD = "variables.index", "variables.data-00000-of-00001"
FAULTS: dict[str, tuple[Callable[[Path], object], str]] = {
    "a flipped byte of a tensor": (_flip(SHARD, 5), r"00001: the tensor a/b is damaged: its checksum is wrong"),
    "data cut short": (_cut(SHARD, 26), r"00001: the tensor a/w ends after 2 of 8 bytes"),
    "no data": (lambda d: (d / SHARD).unlink(), r"data-00000-of-00001 cannot be read: No such file"),
    "a flipped byte of the index": (
        _flip(INDEX, 9),
        r"index is no complete index .* the checksum of its block at byte 0",
    ),
    "index cut short": (_cut(INDEX, 60), r"it does not end as one"),
    "an empty index": (_cut(INDEX, 0), r"it does not end as one"),
    "another file": (lambda d: (d / INDEX).write_bytes(b"PK\3\4" * 99), r"it does not end as one"),
    "words": (lambda d: write(d, dtype=7), r"a/b is not of real or whole numbers \(TensorFlow's type 7\)"),
    "another length": (lambda d: write(d, dtype=2), r"the tensor a/b has 24 bytes, not those of the shape \(2, 3\)"),
    "an unknown compression": (lambda d: write(d, kind=2), r"compressed in an unknown way \(2\)"),
    "no snappy": (lambda d: write(d, kind=1, pack=lambda b: b"\x04\x09\x01ab"), r"a copy from before the beginning"),
    "snappy too short": (lambda d: write(d, kind=1, pack=lambda b: b"\x09\x08xyz"), r"3 bytes come out, not 9"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_damaged_bundle_is_refused(fault: str, tmp_path: Path) -> None:
    apply, message = FAULTS[fault]
    prefix = write(tmp_path)
    apply(tmp_path)
    with pytest.raises(InputError, match=message) as error:
        checkpoint.read(prefix)
    assert "\n" not in str(error.value)


def test_another_model_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"one file variables.index; .* has 0"):
        convert.convert(tmp_path)
    write(tmp_path)
    with pytest.raises(InputError, match=r"not a network of DM21: hub_wrapper/.*/linear/w is missing"):
        convert.convert(tmp_path)


@needs_data
@pytest.mark.parametrize("variant", VARIANTS)
def test_cards_match_the_published_files(variant: str) -> None:
    folder = Path(str(DATA)) / "weights" / "dm21"
    card = tomllib.loads((Path(__file__).parents[2] / "zoo" / f"{variant.lower()}.toml").read_text(encoding="utf-8"))
    state = convert.convert(folder / "checkpoints" / variant)
    assert digest(state) == card["weights"]["sha256"]
    assert sum(tensor.numel() for tensor in state.values()) == 401_667
    published = dict(reversed(line.split()) for line in (folder / "SHA256SUMS").read_text().splitlines())
    assert len(card["files"]) == 2
    for path, entry in card["files"].items():
        assert entry == {"size": (folder / path).stat().st_size, "sha256": published[path]}


@needs_data
def test_every_flipped_byte_of_a_published_index_is_noticed(tmp_path: Path) -> None:
    source = Path(str(DATA)) / "weights" / "dm21" / "checkpoints" / "DM21" / "variables"
    (tmp_path / SHARD).write_bytes((source / SHARD).read_bytes()[:1000])  # never reached
    content = (source / INDEX).read_bytes()
    for at in range(0, len(content) - checkpoint._FOOTER, 7):
        (tmp_path / INDEX).write_bytes(content[:at] + bytes([content[at] ^ 0x10]) + content[at + 1 :])
        with pytest.raises(InputError, match="no complete index"):
            checkpoint.read(tmp_path / "variables")
