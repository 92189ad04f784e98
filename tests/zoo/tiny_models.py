"""Models of the tiny plugin for the tests: cards with real files, in separate zoos."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import replace
from hashlib import sha256
from pathlib import Path

import pytest

from fusion import plugins
from fusion.console.format import console
from fusion.zoo import Card, card_file
from fusion.zoo.card import Model, Origin, Training, Weights
from fusion.zoo.files import File
from fusion.zoo.tensors import digest, serialised

PLUGIN = Path(__file__).parent / "tiny_plugin"


def surroundings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Install the tiny plugin in this process, with an empty cache; return an empty directory for a zoo."""
    for variable in list(os.environ):
        if variable.startswith("FUSION_") or variable.lower().endswith("_proxy"):
            monkeypatch.delenv(variable)
    monkeypatch.setenv("FUSION_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("FUSION_ZOO", str(tmp_path / "zoo"))
    monkeypatch.syspath_prepend(str(PLUGIN))
    monkeypatch.setattr(plugins, "_discovery", None)
    console.cache_clear()
    (tmp_path / "zoo").mkdir()
    yield tmp_path / "zoo"
    console.cache_clear()


def publish(zoo: Path, content: bytes | None = None, **changes: object) -> Card:
    """Write a card to the directory `zoo` with its file beside it: `content`, or the right safetensors."""
    from tiny import model

    state = model.state()
    right = serialised(state)
    path = str(changes.pop("path", "pair.safetensors"))
    content = right if content is None else content
    made = Card(
        name="pair",
        version=1,
        kind="potential",
        method="tinypair",
        summary="pairs",
        licence="MIT",
        citation="A. Nobody, J. Null 1, 1 (2026)",
        energy_zero="total",
        training=Training("nothing", "none"),
        elements=("H", "O"),
        model=Model("tiny.model.Pair", {"elements": ["H", "O"]}),
        weights=Weights(digest(state), len(right)),
        files=(File(path, len(content), sha256(content).hexdigest(), ()),),
    )
    made = replace(made, **changes)  # type: ignore[arg-type]
    if made.origin.converter and not (made.origin.urls or made.origin.package):
        made = replace(made, origin=replace(made.origin, urls=(f"file://{zoo}/",)))
    (zoo / path).parent.mkdir(exist_ok=True)
    (zoo / path).write_bytes(content)
    card_file.write(made, zoo / f"{made.name}-{made.version}.toml")
    return card_file.read(zoo / f"{made.name}-{made.version}.toml")


def left_in_cache() -> list[str]:
    """Files of the cache, except for locks."""
    root = Path(os.environ["FUSION_CACHE"])
    return [str(path.relative_to(root)) for path in root.rglob("*") if path.is_file() and path.suffix != ".lock"]


TEXT = Origin(converter="tiny.model:convert")
