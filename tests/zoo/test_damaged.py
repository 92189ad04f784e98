"""Weights damaged after their verification: each load notices and downloads them again, or says what to do."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from safetensors.torch import save

import fusion
from fusion import zoo
from fusion.errors import CalculationError, InputError
from tiny_models import publish, surroundings


@pytest.fixture
def tiny(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    yield from surroundings(tmp_path, monkeypatch)


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[-3] ^= 0x10
    path.write_bytes(content)


def exchange(path: Path) -> None:
    """Write another model's tensors with the same names, shapes and types."""
    from tiny import model

    path.write_bytes(save({name: tensor + 1 for name, tensor in model.state().items()}))


def nest(path: Path) -> None:
    header = b'{"a":' * 50_000
    path.write_bytes(len(header).to_bytes(8, "little") + header)


def overlap(path: Path) -> None:
    """Write a header with two tensors that share bytes, one of them larger than the file."""
    header = b'{"bias":{"dtype":"F32","shape":[1],"data_offsets":[0,4]},"x":{"dtype":"F32","shape":[99999999999],'
    header += b'"data_offsets":[0,399999999996]}}'
    path.write_bytes(len(header).to_bytes(8, "little") + header + bytes(64))


def pipe(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


FAULTS = [flip, exchange, nest, overlap, pipe, lambda path: os.truncate(path, 100), lambda path: path.write_bytes(b"")]


@pytest.mark.parametrize("fault", FAULTS)
def test_damaged_weights_are_replaced(tiny: Path, fault: Callable[[Path], object]) -> None:
    from tiny import model

    card = publish(tiny)
    path = zoo.pull(card)
    sound = path.read_bytes()
    fault(path)
    loaded = fusion.load("pair").state_dict()
    assert all(torch.equal(loaded[name], tensor) for name, tensor in model.state().items())
    assert path.read_bytes() == sound


def test_a_flipped_bit_is_named_where_nothing_can_be_downloaded(
    tiny: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    card = publish(tiny)
    path = zoo.pull(card)
    flip(path)
    (tiny / card.files[0].path).unlink()
    monkeypatch.setenv("FUSION_OFFLINE", "1")
    with pytest.raises(InputError, match=rf"pair@1: {path} is damaged: .* FUSION_OFFLINE .* copy the file") as caught:
        fusion.load("pair")
    assert "\n" not in str(caught.value) and path.is_file()
    monkeypatch.delenv("FUSION_OFFLINE")
    with pytest.raises(CalculationError, match="could not be downloaded"):
        fusion.load("pair")
    assert "pulling it again" in capsys.readouterr().out


@pytest.mark.parametrize("fault", [pipe, lambda path: os.truncate(path, 10**13)])
def test_weights_beside_a_card_must_have_the_stated_size(tiny: Path, fault: Callable[[Path], object]) -> None:
    card = publish(tiny)
    fault(tiny / card.files[0].path)
    with pytest.raises(CalculationError, match=r"pair@1: .*pair.safetensors .*nothing was kept"):
        fusion.load("pair")
