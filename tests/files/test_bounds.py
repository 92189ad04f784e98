"""Files that declare, unpack to or nest more than they hold are refused before they cost memory or time."""

from __future__ import annotations

import io
import os
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from fusion.files import bounds


def npy(shape: tuple[int, ...], content: bytes) -> bytes:
    file = io.BytesIO()
    np.lib.format.write_array_header_1_0(file, {"descr": "<f8", "fortran_order": False, "shape": shape})
    return file.getvalue() + content


def archive(path: Path, *members: bytes, compression: int = zipfile.ZIP_DEFLATED) -> Path:
    with zipfile.ZipFile(path, "w", compression) as file:
        for number, content in enumerate(members):
            file.writestr(f"array{number}.npy", content)
    return path


def test_arrays_are_read_as_by_numpy(tmp_path: Path) -> None:
    arrays = {
        "a": np.arange(6.0).reshape(2, 3),
        "b": np.array("text"),
        "c": np.zeros((3, 0)),
        "d": np.array(["H", "He"]),
    }
    for write in (np.savez, np.savez_compressed):
        write(tmp_path / "a.npz", **arrays)
        read = bounds.npz(tmp_path / "a.npz")
        assert list(read) == list(arrays)
        for name, array in arrays.items():
            np.testing.assert_array_equal(read[name], array)
    assert list(bounds.npz(tmp_path / "a.npz", ["b", "x"])) == ["b"]


ARCHIVES: dict[str, tuple[Callable[[Path], object], str]] = {
    "declares 745 GiB": (lambda path: archive(path, npy((10**11,), bytes(64))), "declares 800,000,000,000 bytes"),
    "declares less": (lambda path: archive(path, npy((4,), bytes(64))), "declares 32 bytes"),
    "negative": (lambda path: archive(path, npy((-8, -1), bytes(64))), "declares 64 bytes"),
    "a bomb": (lambda path: archive(path, *[npy((2**21,), bytes(2**24))] * 2), "declares 33,554,688 bytes, more than"),
    "another packing": (lambda path: archive(path, npy((1,), bytes(8)), compression=zipfile.ZIP_LZMA), "packed in"),
    "no header": (lambda path: archive(path, b"\x93NUMPY\x01\x00"), "reading array header|EOF"),
    "nested header": (lambda path: archive(path, b"\x93NUMPY\x01\x00\xff\x0f" + b"(" * 4095), "header|nested|Error"),
    "an array alone": (lambda path: np.save(path.open("wb"), np.zeros(3)), "not a zip file"),
    "a pipe": (os.mkfifo, "not a regular file"),
}


@pytest.mark.parametrize("fault", ARCHIVES)
def test_damaged_archives_are_refused(tmp_path: Path, fault: str) -> None:
    write, words = ARCHIVES[fault]
    write(tmp_path / "a.npz")
    with pytest.raises(ValueError, match=words):
        bounds.npz(tmp_path / "a.npz")


def laughs(levels: int) -> str:
    return "a0: &a0 [x, x]\n" + "".join(
        f"a{level}: &a{level} [{', '.join([f'*a{level - 1}'] * 9)}]\n" for level in range(1, levels)
    )


@pytest.mark.parametrize(
    ("document", "words"),
    [
        (laughs(9), "expands to more than 200,000 values"),
        ("a: &a [*a]", "contains itself"),
        ("a: &a {b: {c: *a}}", "contains itself"),
        ("[" * 100_000, "more than 100 levels"),
        ("[x, " * 200 + "]" * 200, "more than 100 levels"),
        ("a:\n- " + "- " * 300 + "x", "more than 100 levels"),
        ("a: !!binary aGVsbG8=", "binary data"),
        ("a: [!<tag:yaml.org,2002:binary> aGVsbG8=]", "binary data"),
    ],
)
def test_oversized_yaml_documents_are_refused(document: str, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        bounds.checked_yaml(document)


def test_ordinary_anchors_are_read(tmp_path: Path) -> None:
    assert bounds.checked_yaml(laughs(3)) == laughs(3)
    assert bounds.checked_yaml("a: &a 1\nb: *a\nc: &a [2]\nd: *a\n")


@pytest.mark.parametrize("parse", [bounds.parsed_json, bounds.parsed_toml])
@pytest.mark.parametrize("levels", [102, 100_000])
def test_deeply_nested_documents_are_refused(parse: Callable[[str], object], levels: int) -> None:
    prefix = "" if parse is bounds.parsed_json else "a = "
    with pytest.raises(ValueError, match="more than 100 levels"):
        parse(f"{prefix}{'[' * levels}{']' * levels}")
    assert parse(f"{prefix}{'[' * 90}1{']' * 90}")


def test_only_regular_files_of_bounded_length_are_read(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "sparse").touch()
    os.truncate(tmp_path / "sparse", 10**12)
    for path, words in (
        (tmp_path / "pipe", "regular"),
        (Path("/dev/zero"), "regular"),
        (tmp_path / "sparse", "longer"),
    ):
        with pytest.raises(ValueError, match=words):
            bounds.text(path)
