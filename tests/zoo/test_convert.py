"""Conversion of files to tensors: digests, allowed code, and wrong files."""

from __future__ import annotations

import os
import pickle
import signal
import struct
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from hashlib import sha256
from pathlib import Path

import pytest
import torch
from safetensors.torch import save

import fusion
from fusion import zoo
from fusion.errors import CalculationError, InputError
from fusion.zoo.card import Model, Origin, Weights
from fusion.zoo.tensors import file_digest
from tiny_models import PLUGIN, TEXT, left_in_cache, publish, surroundings


@pytest.fixture
def tiny(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    yield from surroundings(tmp_path, monkeypatch)


TORCH = Origin(converter="fusion.zoo.convert:torch_state_dict")


class Evil:
    """Object whose unpickling would write a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, ...]:
        return Path.touch, (self.path,)


def numbers() -> bytes:
    from tiny import model

    state = model.state()
    return " ".join(str(value) for name in ("bias", "strength") for value in state[name].ravel().tolist()).encode()


def saved(path: Path, content: object) -> bytes:
    torch.save(content, path)
    return path.read_bytes()


def test_the_digest_depends_on_the_tensors_alone(tmp_path: Path) -> None:
    tensors = {"b": torch.arange(3.0), "a": torch.tensor([[1, 2]])}
    a, b = struct.pack("<2q", 1, 2), struct.pack("<3f", 0, 1, 2)
    known = sha256(b'["a","I64",[1,2]]\n' + a + b'["b","F32",[3]]\n' + b).hexdigest()
    assert zoo.digest(tensors) == zoo.digest(dict(reversed(tensors.items()))) == known
    path = tmp_path / "x.safetensors"
    path.write_bytes(save(tensors, {"who": "me", "when": "now", "why": "so"}))
    assert file_digest(path) == known
    others = (
        {"b": torch.arange(3.0)},
        tensors | {"b": torch.arange(3.0).double()},
        tensors | {"a": torch.tensor([[1], [2]])},
        tensors | {"a": torch.tensor([[1, 3]])},
        {"c": tensors["b"], "a": tensors["a"]},
    )
    assert known not in {zoo.digest(other) for other in others}


def test_a_foreign_format_is_converted_once(tiny: Path) -> None:
    card = publish(tiny, numbers(), origin=TEXT, path="net/pair.txt")
    path = zoo.pull(card)
    assert left_in_cache() == [f"models/{card.weights.sha256}.safetensors"]
    (tiny / "net/pair.txt").unlink()
    assert zoo.pull(card) == path


@pytest.mark.parametrize("target", ["evil.code:convert", "fusion_evil.code.convert", "os.system"])
def test_code_outside_plugins_is_not_imported(
    tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, target: str
) -> None:
    for package in ("evil", "fusion_evil"):
        (tmp_path / package).mkdir()
        (tmp_path / package / "__init__.py").write_text("")
        (tmp_path / package / "code.py").write_text(
            f"open({str(tmp_path / 'ran')!r}, 'w')\ndef convert(*_): return {{}}"
        )
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(InputError, match="belongs to no installed plugin"):
        zoo.pull(publish(tiny, b"x", origin=Origin(converter=target), path="x.bin"))
    publish(tiny, model=Model(target))
    with pytest.raises(InputError, match="belongs to no installed plugin"):
        fusion.load("pair")
    publish(tiny, model=Model("tiny.model.Pair", {"elements": {"_target_": target}}))
    with pytest.raises(InputError, match="belongs to no installed plugin"):
        fusion.load("pair")
    assert not (tmp_path / "ran").exists()


def test_functions_of_fusion_are_not_called_with_a_cards_arguments(tiny: Path) -> None:
    with pytest.raises(InputError, match="belongs to no installed plugin"):
        zoo.pull(publish(tiny, b"x", origin=Origin(converter="fusion.cli.new_plugin:write"), path="x.bin"))
    harm = {"_target_": "fusion.app.run", "overrides": ["+method=tinypair"]}
    publish(tiny, model=Model("tiny.model.Pair", {"elements": harm}))
    with pytest.raises(InputError, match=r"fusion\.app\.run is not an nn.Module"):
        fusion.load("pair")


@pytest.mark.parametrize(
    ("target", "said"),
    [
        ("fusion.zoo.store.Path", "not a function or class of its own package"),
        ("fusion.app.run", "is not an nn.Module"),
        ("tiny.model.Absent", "there is no tiny.model.Absent"),
        ("tiny.model.NoModule", "is not an nn.Module"),
        ("tiny.model.state", "is not an nn.Module"),
    ],
)
def test_classes_that_are_not_models_are_refused(tiny: Path, target: str, said: str) -> None:
    publish(tiny, model=Model(target))
    with pytest.raises(InputError, match=said):
        fusion.load("pair")


def test_torch_state_dicts_and_checkpoints_are_converted(tiny: Path, tmp_path: Path) -> None:
    from tiny import model

    for content in (model.state(), {"state_dict": model.state(), "epoch": 3}):
        card = publish(tiny, saved(tmp_path / "a.pt", content), origin=TORCH, path="a.pt")
        assert zoo.pull(card).is_file()
        zoo.place(card).unlink()


@pytest.mark.parametrize("fault", ["pickle", "torch pickle", "list", "truncated", "as safetensors", "digest", "text"])
def test_wrong_contents_leave_nothing_and_the_next_pull_works(tiny: Path, tmp_path: Path, fault: str) -> None:
    evil = Evil(tmp_path / "ran")
    right = save(zoo.state(zoo.find("tiny-pair")))
    zoo.place(zoo.find("tiny-pair")).unlink()
    wrong = {
        "pickle": (pickle.dumps(evil), TORCH, "holds more than plain tensors"),
        "torch pickle": (saved(tmp_path / "evil.pt", {"x": evil}), TORCH, "holds more than plain tensors"),
        "list": (saved(tmp_path / "list.pt", [torch.ones(2)]), TORCH, "holds no state dict"),
        "truncated": (right[:-40], Origin(), "not a complete safetensors file"),
        "as safetensors": (pickle.dumps(evil), Origin(), "not a complete safetensors file"),
        "digest": (save({"x": torch.ones(3)}), Origin(), "the digest of its tensors is"),
        "text": (b"one two", TEXT, "could not convert string to float"),
    }
    content, origin, said = wrong[fault]
    path = "pair.bin" if origin.converter else "pair.safetensors"
    with pytest.raises(CalculationError, match=f"pair@1: .*{said}.*nothing was kept") as caught:
        zoo.pull(publish(tiny, content, origin=origin, path=path))
    assert "\n" not in str(caught.value) and left_in_cache() == [] and not (tmp_path / "ran").exists()
    zoo.pull(publish(tiny))
    assert len(left_in_cache()) == 1


def test_a_kill_during_conversion_leaves_a_valid_cache(tiny: Path, tmp_path: Path) -> None:
    card = publish(tiny, numbers(), origin=TEXT, path="pair.txt")
    (tmp_path / "kill").touch()
    path = os.pathsep.join([str(PLUGIN), *sys.path])
    environment = os.environ | {"PYTHONPATH": path, "TINY_KILL": str(tmp_path / "kill"), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "fusion", "zoo", "pull", "pair"]
    assert subprocess.run(command, env=environment, check=False).returncode == -signal.SIGKILL
    assert not zoo.pulled(card)
    zoo.pull(card)
    assert left_in_cache() == [f"models/{card.weights.sha256}.safetensors"]


def test_a_loaded_model_equals_the_published_one(tiny: Path) -> None:
    from tiny import model

    publish(tiny, model=Model("tiny.model.Pair", {"elements": ["H", "O"], "range_bohr": 3.0}))
    loaded = fusion.load("pair")
    assert loaded.range_bohr == 3.0 and not loaded.training
    assert not any(parameter.requires_grad for parameter in loaded.parameters())
    for name, tensor in model.state().items():
        torch.testing.assert_close(loaded.state_dict()[name], tensor, rtol=0, atol=0)


def publish_double(tiny: Path, **changes: torch.Tensor) -> None:
    """Publish weights in double precision, some of them changed."""
    from tiny import model

    state = {name: tensor.double() / 3.0 for name, tensor in model.state().items()} | changes
    content = save(state)
    publish(tiny, content, weights=Weights(zoo.digest(state), len(content)))


def test_weights_keep_their_dtype(tiny: Path) -> None:
    from tiny import model

    publish_double(tiny)
    assert torch.equal(fusion.load("pair").bias, model.state()["bias"].double() / 3.0)


def test_weights_must_fit(tiny: Path) -> None:
    publish_double(tiny, bias=torch.zeros(2, 2))
    with pytest.raises(InputError, match=r"pair@1: the weights do not fit tiny.model.Pair: size mismatch for bias"):
        fusion.load("pair")
    publish_double(tiny, more=torch.zeros(2))
    with pytest.raises(InputError, match="Unexpected key"):
        fusion.load("pair")
    publish(tiny, model=Model("tiny.model.Pair", {"atoms": 3}))
    with pytest.raises(InputError, match=r"tiny.model.Pair cannot be built: .*atoms"):
        fusion.load("pair")


def test_a_model_of_the_users_zoo_needs_no_network(tiny: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FUSION_OFFLINE", "1")
    assert zoo.pull(publish(tiny)).is_file()
    far = replace(publish(tiny), source="https://example.org/pair-1.toml", weights=Weights("1" * 64, 1))
    with pytest.raises(InputError, match="FUSION_OFFLINE"):
        zoo.pull(far)
