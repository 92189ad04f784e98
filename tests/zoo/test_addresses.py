"""`weights=URL`, `fusion zoo pull URL`: models of zoos elsewhere by the address of their card."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from fusion import zoo
from fusion.errors import CalculationError, InputError
from fusion.methods import addresses, by_name
from fusion.methods.card_words import with_card
from fusion.runs import trust
from fusion.zoo import registry
from fusion.zoo.card import Card, Weights
from server import Server, serving
from tiny_models import publish, surroundings


@pytest.fixture
def tiny(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    yield from surroundings(tmp_path, monkeypatch)


@pytest.fixture
def elsewhere(tiny: Path, tmp_path: Path) -> Iterator[tuple[Server, Card]]:
    """A server with one model in zoo/, which FUSION_ZOO does not name."""
    place = tmp_path / "elsewhere"
    place.mkdir()
    card = publish(place)
    with serving() as server:
        names = [Path(card.source).name, card.files[0].path]
        server.files = {f"zoo/{name}": (place / name).read_bytes() for name in names}
        server.files["zoo/"] = "".join(f'<a href="{name}">{name}</a>' for name in names).encode()
        yield server, card


def test_a_url_becomes_a_model_with_a_name(elsewhere: tuple[Server, Card], monkeypatch: pytest.MonkeyPatch) -> None:
    server, card = elsewhere
    for url in (f"{server.url}zoo/{Path(card.source).name}", f"{server.url}zoo/", f"{server.url}zoo"):
        assert with_card(["+method=tinypair", f"weights='{url}'"]) == ["+method=tinypair", "weights=pair@1"]
    monkeypatch.setenv("FUSION_OFFLINE", "1")
    assert zoo.find("pair") == card and zoo.pulled(card)
    assert by_name.node("tinypair", {"weights": "pair@1"}).weights == "pair@1"
    with pytest.raises(InputError, match="was not contacted: FUSION_OFFLINE is set"):
        addresses.named(f"{server.url}zoo/")


def test_contents_other_than_those_of_the_card_are_refused(elsewhere: tuple[Server, Card]) -> None:
    server, card = elsewhere
    server.files[f"zoo/{card.files[0].path}"] = bytes(card.files[0].size)
    with pytest.raises(CalculationError, match="wrong contents"):
        addresses.named(f"{server.url}zoo/")
    assert not registry.catalogue().cards.keys() & {"pair@1"}


def test_a_url_without_a_model_or_with_several_is_refused(elsewhere: tuple[Server, Card], tmp_path: Path) -> None:
    server, _ = elsewhere
    with pytest.raises(CalculationError, match="not found"):
        addresses.named(f"{server.url}absent/")
    server.files["empty/"] = b"<html></html>"
    with pytest.raises(InputError, match="holds no cards of models"):
        addresses.named(f"{server.url}empty/")
    other = publish(tmp_path / "elsewhere", name="more", path="more.safetensors")
    server.files[f"zoo/{Path(other.source).name}"] = Path(other.source).read_bytes()
    server.files["zoo/"] += f'<a href="{Path(other.source).name}">x</a>'.encode()
    with pytest.raises(InputError, match=r"several models; choose a card: http.*pair.*toml"):
        addresses.named(f"{server.url}zoo/")


def test_another_model_with_the_same_label_is_refused(elsewhere: tuple[Server, Card], tiny: Path) -> None:
    server, _ = elsewhere
    publish(tiny, weights=Weights("0" * 64, 8))
    with pytest.raises(InputError, match=r"pair@1 is one model in .* and another in http"):
        addresses.named(f"{server.url}zoo/")


def test_names_and_wrong_directories(tiny: Path, tmp_path: Path) -> None:
    assert addresses.named("ani-2x") == "ani-2x" and addresses.named(None) is None
    with pytest.raises(InputError, match=r"weights=\./none is no directory of a run: it has no config.yaml"):
        addresses.named("./none")


def test_an_untrusted_configuration_names_no_address(tiny: Path, tmp_path: Path) -> None:
    token = trust._stranger.set(tmp_path / "config.yaml")
    try:
        for weights in ("http://example.org/zoo/", str(tmp_path)):
            with pytest.raises(InputError, match="is refused, because the file does not have your signature"):
                addresses.named(weights)
    finally:
        trust._stranger.reset(token)
