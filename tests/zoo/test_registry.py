"""Sources of cards: versions, several sources, conflicts, broken cards and sources."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from fusion import zoo
from fusion.errors import InputError
from fusion.zoo import registry
from fusion.zoo.card import Weights
from server import serving
from tiny_models import publish, surroundings


@pytest.fixture
def tiny(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    yield from surroundings(tmp_path, monkeypatch)


def test_the_newest_or_the_requested_version_is_used(tiny: Path) -> None:
    for version in (1, 2, 10):
        publish(tiny, version=version, path=f"pair-{version}.safetensors")
    assert zoo.find("pair").version == 10
    assert zoo.find("pair@2").version == 2
    with pytest.raises(InputError, match=r"no version '3' of pair; versions: pair@1, pair@2, pair@10"):
        zoo.find("pair@3")
    with pytest.raises(InputError, match=r"no model 'pear'. Did you mean 'pair'\?"):
        zoo.find("pear")


def test_one_label_for_two_different_models_is_refused(tiny: Path) -> None:
    mine = registry.user()
    mine.mkdir(parents=True)
    card = publish(tiny)
    publish(mine)
    assert zoo.find("pair") == card
    publish(mine, weights=Weights("0" * 64, 8))
    with pytest.raises(InputError, match=r"pair@1 is one model in .* and another in .*zoo"):
        zoo.find("pair")
    assert zoo.find("ani-2x").name == "ani-2x"


def test_a_broken_card_does_not_hide_others(tiny: Path) -> None:
    publish(tiny)
    (tiny / "bad.toml").write_text("schema = 1")
    assert "pair" in {card.name for card in zoo.cards()}
    assert registry.catalogue().broken == {str(tiny / "bad.toml"): f"{tiny}/bad.toml: training is missing"}
    with pytest.raises(InputError, match=r"the card of bad cannot be read: .*training is missing"):
        zoo.find("bad")


def test_a_plugin_provides_cards_and_weights(tiny: Path) -> None:
    assert zoo.pull(zoo.find("tiny-pair")).is_file()


@pytest.mark.parametrize("separator", [os.pathsep, ","])
def test_several_zoos_are_read(tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, separator: str) -> None:
    other = tmp_path / "other"
    other.mkdir()
    publish(tiny)
    publish(other, name="more", path="more.safetensors")
    monkeypatch.setenv("FUSION_ZOO", separator.join([str(tiny), other.as_uri(), str(tmp_path / "none")]))
    models = registry.catalogue()
    assert {"pair@1", "more@1"} <= set(models.cards)
    assert list(models.broken) == [str(tmp_path / "none")]


def test_models_of_a_zoo_on_the_web_work_offline(tiny: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    card = publish(tiny)
    with serving() as server:
        names = [Path(card.source).name, card.files[0].path]
        server.files = {f"zoo/{name}": (tiny / name).read_bytes() for name in names}
        server.files["zoo/"] = "".join(f'<a href="{name}">{name}</a>' for name in names).encode()
        monkeypatch.setenv("FUSION_ZOO", f"{server.url}zoo,{server.url}absent")
        assert "not found" in registry.catalogue().broken[f"{server.url}absent/"]
        there = zoo.pull(zoo.find("pair"))
    monkeypatch.setenv("FUSION_OFFLINE", "1")
    assert zoo.pull(zoo.find("pair")) == there
    assert zoo.find("pair") == replace(card, source="")
