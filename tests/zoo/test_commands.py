"""Commands `fusion zoo ...` as a user types them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from fusion import zoo
from fusion.cli import main
from fusion.zoo.card import Card
from tiny_models import TEXT, left_in_cache, publish, surroundings

Typed = Callable[..., tuple[int, str, str]]


@pytest.fixture
def tiny(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    yield from surroundings(tmp_path, monkeypatch)


@pytest.fixture
def type_(tiny: Path, capsys: pytest.CaptureFixture[str]) -> Typed:
    """Function `type_("zoo", "list")` that returns exit status, output and errors."""

    def call(*words: str) -> tuple[int, str, str]:
        from fusion.console.format import console

        console.cache_clear()
        with pytest.raises(SystemExit) as end:
            main.main(words)
        assert isinstance(end.value.code, int)
        return end.value.code, *capsys.readouterr()

    return call


def damage(card: Card) -> None:
    """Change the last byte of a file."""
    content = bytearray(zoo.place(card).read_bytes())
    content[-1] ^= 1
    zoo.place(card).write_bytes(content)


def test_list_shows_models_and_broken_cards(tiny: Path, type_: Typed) -> None:
    publish(tiny)
    (tiny / "bad.toml").write_text("schema = 1")
    status, out, _ = type_("zoo", "list")
    lines = [line.split() for line in out.splitlines()]
    assert status == 0 and ["pair@1", "tinypair", "H", "O", "none", "636", "B", "MIT", "no"] in lines
    assert f"cannot be read: {tiny}/bad.toml: training is missing" in out
    zoo.pull(zoo.find("pair"))
    listed = json.loads(type_("zoo", "list", "--json")[1])
    (pair,) = [model for model in listed["models"] if model["label"] == "pair@1"]
    assert pair["path"] == str(zoo.place(zoo.find("pair"))) and len(listed["unreadable"]) == 1


def test_pull_path_verify_remove(tiny: Path, type_: Typed) -> None:
    card = publish(tiny)
    assert type_("zoo", "path", "pair") == (2, "", "error: pair@1 is not on this machine: fusion zoo pull pair\n")
    status, out, _ = type_("zoo", "pull", "pair", "tiny-pair")
    assert status == 0 and f"digest verified   {card.weights.sha256[:4]}…{card.weights.sha256[-2:]}" in out
    assert "already installed" in type_("zoo", "pull", "pair@1")[1]
    assert type_("zoo", "path", "pair") == (0, f"{zoo.place(card)}\n", "")
    assert type_("zoo", "verify")[:2] == (0, "pair@1   ok\ntiny-pair@1   ok\n")
    damage(card)
    status, out, _ = type_("zoo", "verify", "pair")
    assert status == 1 and out.count("\n") == 1
    assert "bad: pair@1: " in out and "fusion zoo remove pair@1 && fusion zoo pull pair@1" in out
    assert json.loads(type_("zoo", "verify", "pair", "--json")[1])[0]["ok"] is False
    assert type_("zoo", "remove", "pair")[0] == 0 and left_in_cache() == []
    assert "is not on this machine" in type_("zoo", "remove", "pair")[1]
    assert type_("zoo", "verify", "pair")[0] == 1
    assert type_("zoo", "pull", "pair")[0] == type_("zoo", "verify", "pair")[0] == 0


def test_pull_with_json_prints_json_only(tiny: Path, type_: Typed) -> None:
    from tiny import model

    state = model.state()
    text = " ".join(str(value) for name in ("bias", "strength") for value in state[name].ravel().tolist())
    card = publish(tiny, text.encode(), origin=TEXT, path="pair.txt")
    status, out, err = type_("zoo", "pull", "pair", "--json")
    assert status == 0 and json.loads(out)[0]["path"] == str(zoo.place(card)) and "downloading" in err


def test_show_prints_the_card(tiny: Path, type_: Typed) -> None:
    card = publish(tiny)
    out = type_("zoo", "show", "pair")[1]
    assert all(text in out for text in (card.citation, card.weights.sha256, card.source, "fusion zoo pull pair"))
    assert json.loads(type_("zoo", "show", "pair", "--json")[1])["licence"] == "MIT"


def test_add_and_remove_with_the_card(tiny: Path, type_: Typed, tmp_path: Path) -> None:
    import torch
    from tiny import model

    torch.save(model.state(), tmp_path / "last.ckpt")
    words = ["zoo", "add", str(tmp_path / "last.ckpt"), "--name", "mine", "--model", "+method=tinypair"]
    about = ["--summary", "s", "--licence", "MIT", "--citation", "c", "--data", "d", "--level-of-theory", "l"]
    status, out, _ = type_(*words)
    assert status == 0 and "not stated" in out
    assert type_("zoo", "remove", "mine", "--card")[0] == 0
    assert type_(*words, *about)[0] == 0
    assert "mine@1" in type_("zoo", "list")[1]
    assert type_("zoo", "pull", "mine")[0] == 0
    assert "not your own zoo" in type_("zoo", "remove", "tiny-pair", "--card")[2]
    assert type_("zoo", "remove", "mine", "--card")[0] == 0
    assert left_in_cache() == [] and type_("zoo", "show", "mine")[0] == 2


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["zoo", "pul", "ani-2x"], "no command 'zoo pul'. Did you mean 'pull'?"),
        (["zo", "list"], "no command 'zo'. Did you mean 'zoo'?"),
        (["zoo", "pull", "ani-3x"], "no model 'ani-3x'. Did you mean 'ani-"),
        (["zoo", "pull"], "Missing argument"),
        (["zoo", "index", "nowhere"], "nowhere has no cards"),
    ],
)
def test_wrong_commands_are_one_line(type_: Typed, words: list[str], said: str) -> None:
    status, out, err = type_(*words)
    assert status == 2 and out == "" and said in err and err.count("\n") == 1


def test_listing_models_imports_no_large_packages(tiny: Path) -> None:
    program = """
import sys
from fusion.cli import main
for words in (["zoo", "list"], ["zoo", "show", "ani-2x"], ["zoo", "path", "ani-2x"], ["--help"]):
    try: main.main(words)
    except SystemExit: pass
print([name for name in ("torch", "ase", "numba", "hydra", "aiohttp", "fsspec") if name in sys.modules])
"""
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"
