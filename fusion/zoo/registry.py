"""Catalogue of models: the cards of fusion, of plugins, of the user's zoo and of the zoos in FUSION_ZOO.

FUSION_ZOO holds directories or URLs, separated by commas or as in PATH. Unreadable cards and sources that do not answer
are reported separately and do not hide the others.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from fusion import plugins
from fusion.config.options import suggestion
from fusion.errors import CalculationError, InputError
from fusion.zoo import cache, card_file
from fusion.zoo.card import Card
from fusion.zoo.files import offline, timeout_s


@dataclass
class Catalogue:
    """Cards by NAME@VERSION, reasons why sources could not be read, and conflicts of labels with two models."""

    cards: dict[str, Card] = field(default_factory=dict)
    broken: dict[str, str] = field(default_factory=dict)
    conflicts: dict[str, str] = field(default_factory=dict)

    def add(self, source: str, read: Callable[[], Card]) -> None:
        """Add the card that `read` returns, or the reason why it fails."""
        try:
            card_ = read()
        except (InputError, CalculationError) as error:
            self.broken[source] = str(error)
            return
        existing = self.cards.setdefault(card_.label, card_)
        if existing != card_:
            self.conflicts[card_.label] = _conflict(existing, card_)


def cards() -> list[Card]:
    """Return the readable cards, sorted by name and version."""
    return sorted(catalogue().cards.values(), key=lambda card: (card.name, card.version))


def find(name: str) -> Card:
    """Return the card of NAME (its newest version) or NAME@VERSION, or the card at a URL.

    The URL may be that of a card, or of a zoo with one model. Raises InputError, or CalculationError if it cannot be
    read.
    """
    if is_url(name):
        return _at(name)
    models = catalogue()
    stem, at, version = name.partition("@")
    versions = {card.version: card for card in models.cards.values() if card.name == stem}
    if not versions:
        raise InputError(_unknown(name, stem, models))
    if at and (not version.isdecimal() or int(version) not in versions):
        existing = ", ".join(f"{stem}@{number}" for number in sorted(versions))
        raise InputError(f"no version {version!r} of {stem}; versions: {existing}")
    card = versions[int(version) if at else max(versions)]
    if card.label in models.conflicts:
        raise InputError(models.conflicts[card.label])
    return card


def is_url(name: str) -> bool:
    """True for a URL, which is no name of a model."""
    return "://" in name


def _at(url: str) -> Card:
    """Read the card at `url`, or the newest version of the only model of the zoo there."""
    from fusion.zoo.sources import Dropped, Sources, Unavailable

    if offline() and not url.startswith("file:"):
        raise InputError(f"{url} was not contacted: FUSION_OFFLINE is set. A model that was pulled has a name")
    sources = Sources(timeout_s())
    if url.endswith(".toml"):
        return _read_remote(sources, url)
    directory = f"{url.rstrip('/')}/"
    try:
        names = [name for name in sources.names(directory) if name.endswith(".toml")]
    except (Unavailable, Dropped) as error:
        raise CalculationError(f"{url}: {error}") from error
    models = [_read_remote(sources, directory + name) for name in names]
    if len({model.name for model in models}) != 1:
        cards = f"several models; choose a card: {', '.join(directory + name for name in names)}"
        raise InputError(f"{url} holds {cards if models else 'no cards of models (NAME-VERSION.toml)'}")
    return max(models, key=lambda model: model.version)


def find_for(name: str, kind: str, method: str) -> Card:
    """Return the card of a model for a method of this kind. Raises InputError for a model of another method."""
    card = find(name)
    if card.kind != kind or card.method != method:
        raise InputError(f"{card.label} is a model of +method={card.method}, not of +method={method}")
    return card


def catalogue() -> Catalogue:
    """Read the cards of all sources."""
    models = Catalogue()
    _add_directory(models, bundled())
    for plugin, directory in _plugin_directories(models):
        for file in sorted(directory.iterdir(), key=lambda file: file.name):
            if file.name.endswith(".toml"):
                models.add(f"{plugin}: {file.name}", partial(_read_resource, file))
    _add_directory(models, user())
    for source in named():
        if "://" in source:
            _add_remote(models, source)
        elif Path(source).is_dir():
            _add_directory(models, Path(source))
        else:
            models.broken[source] = f"{source}, in FUSION_ZOO, is not a directory"
    _add_directory(models, _saved())
    return models


def bundled() -> Path:
    """Directory of fusion's own cards: inside the package when installed from a wheel, otherwise in the checkout."""
    inside = Path(__file__).parent / "cards"
    return inside if inside.is_dir() else Path(__file__).parents[2] / "zoo"


def user() -> Path:
    """Directory of the cards that the user adds."""
    return cache.directory() / "zoo"


def named() -> list[str]:
    """Sources in FUSION_ZOO: absolute directories and URLs ending in a slash."""
    text = os.environ.get("FUSION_ZOO", "")
    # Colons in URLs before //, before a port and between chained protocols do not separate sources.
    separator = r",|(?<!:):(?=[~.]|/(?!/)|[a-z][a-z0-9+.-]*://)" if "://" in text else f"[,{re.escape(os.pathsep)}]"
    sources = [part.strip() for part in re.split(separator, text) if part.strip()]
    return [f"{part.rstrip('/')}/" if "://" in part else str(Path(part).expanduser().absolute()) for part in sources]


def keep(model: Card) -> None:
    """Save the card of a model that was pulled from a URL, so that the model can be used without that source."""
    if is_url(model.source):
        save(model)


def save(model: Card) -> None:
    """Save the card of a model in the cache, so that the model can be used by its name.

    Raises InputError if another model has the name and version.
    """
    existing = catalogue().cards.get(model.label)
    if existing is not None and existing != model:
        raise InputError(_conflict(existing, model))
    card_file.write(model, cache.create(_saved()) / f"{model.label}.toml")


def forget(model: Card) -> None:
    """Remove the card that `keep` saved."""
    (_saved() / f"{model.label}.toml").unlink(missing_ok=True)


def _saved() -> Path:
    return cache.directory() / "cards"


def _add_directory(models: Catalogue, directory: Path) -> None:
    for file in sorted(directory.glob("*.toml")):
        models.add(str(file), partial(card_file.read, file))


def _add_remote(models: Catalogue, url: str) -> None:
    """Add the cards of a URL; a source that cannot be listed, or any source offline, counts as broken."""
    from fusion.zoo.sources import Dropped, Sources, Unavailable

    if offline() and not url.startswith("file:"):
        models.broken[url] = f"{url} was not contacted: FUSION_OFFLINE is set"
        return
    sources = Sources(timeout_s())
    try:
        names = sources.names(url)
    except (Unavailable, Dropped) as error:
        models.broken[url] = f"{url}: {error}"
        return
    for name in names:
        if name.endswith(".toml"):
            models.add(url + name, partial(_read_remote, sources, url + name))


def _read_remote(sources: object, url: str) -> Card:
    from fusion.zoo.sources import Dropped, Sources, Unavailable

    assert isinstance(sources, Sources)
    try:
        text = sources.content(url, card_file.LONGEST)
    except (Unavailable, Dropped) as error:
        raise CalculationError(f"{url}: {error}") from error
    return card_file.parse(text, url)


def _plugin_directories(models: Catalogue) -> Iterator[tuple[str, Path]]:
    for plugin in plugins.discover().plugins:
        if plugin.module is None:
            continue
        try:
            yield from ((plugin.name, directory) for directory in plugins.model_cards(plugin.module))
        except Exception as error:  # a plugin's code can raise anything
            models.broken[plugin.name] = f"the cards of {plugin.name} cannot be read: {type(error).__name__}: {error}"


def _read_resource(file: Path) -> Card:
    return card_file.parse(file.read_bytes(), str(file))


def _conflict(first: Card, second: Card) -> str:
    return (
        f"{first.label} is one model in {first.source} and another in {second.source}; remove one of them or give it a "
        "new version"
    )


def _unknown(name: str, stem: str, models: Catalogue) -> str:
    for source, reason in models.broken.items():
        if Path(source).stem in (stem, name):
            return f"the card of {name} cannot be read: {reason}"
    names = sorted({card.name for card in models.cards.values()})
    return f"no model {name!r}.{suggestion(stem, names)}  Models: {', '.join(names)}   (fusion zoo list shows details)"
