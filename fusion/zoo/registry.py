"""Which models there are: the cards of fusion, of plugins, of the user's zoo and of the zoos that FUSION_ZOO names.

FUSION_ZOO holds directories or URLs, separated by commas or as in PATH. Cards that cannot be read, and sources that do
not answer, are kept apart and hide no others.
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
from fusion.zoo import cache, card
from fusion.zoo.card import Card
from fusion.zoo.files import offline, timeout_s


@dataclass
class Catalogue:
    """Cards by NAME@VERSION; what could not be read, with reasons, by source; names that mean two different models."""

    cards: dict[str, Card] = field(default_factory=dict)
    broken: dict[str, str] = field(default_factory=dict)
    conflicts: dict[str, str] = field(default_factory=dict)

    def add(self, source: str, read: Callable[[], Card]) -> None:
        """Add the card that `read` gives, or why it gives none."""
        try:
            new = read()
        except (InputError, CalculationError) as error:
            self.broken[source] = str(error)
            return
        known = self.cards.setdefault(new.label, new)
        if known != new:
            self.conflicts[new.label] = (
                f"{new.label} is one model in {known.source} and another in {new.source}; remove one of them or "
                "give it a new version"
            )


def cards() -> list[Card]:
    """The cards that can be read, by name and version."""
    return sorted(catalogue().cards.values(), key=lambda card: (card.name, card.version))


def find(name: str) -> Card:
    """The card of NAME (its newest version) or NAME@VERSION. Raises InputError."""
    found = catalogue()
    stem, at, version = name.partition("@")
    versions = {card.version: card for card in found.cards.values() if card.name == stem}
    if not versions:
        raise InputError(_unknown(name, stem, found))
    if at and (not version.isdecimal() or int(version) not in versions):
        there = ", ".join(f"{stem}@{number}" for number in sorted(versions))
        raise InputError(f"no version {version!r} of {stem}; there is {there}")
    card = versions[int(version) if at else max(versions)]
    if card.label in found.conflicts:
        raise InputError(found.conflicts[card.label])
    return card


def find_for(name: str, kind: str, method: str) -> Card:
    """`find` of a model that belongs to a method, which is of a kind. Raises InputError where it does not."""
    card = find(name)
    if card.kind != kind or card.method != method:
        raise InputError(f"{card.label} is a model of +method={card.method}, not of +method={method}")
    return card


def catalogue() -> Catalogue:
    """All sources, read now."""
    found = Catalogue()
    _add_directory(found, bundled())
    for plugin, directory in _plugin_directories(found):
        for file in sorted(directory.iterdir(), key=lambda file: file.name):
            if file.name.endswith(".toml"):
                found.add(f"{plugin}: {file.name}", partial(_read_resource, file))
    _add_directory(found, user())
    for source in named():
        if "://" in source:
            _add_remote(found, source)
        elif Path(source).is_dir():
            _add_directory(found, Path(source))
        else:
            found.broken[source] = f"{source}, in FUSION_ZOO, is not a directory"
    _add_directory(found, _kept())
    return found


def bundled() -> Path:
    """The directory of fusion's own cards: inside the package when installed from a wheel, else in the checkout."""
    inside = Path(__file__).parent / "cards"
    return inside if inside.is_dir() else Path(__file__).parents[2] / "zoo"


def user() -> Path:
    """The directory of the cards that the user adds."""
    return cache.directory() / "zoo"


def named() -> list[str]:
    """The sources in FUSION_ZOO: absolute directories and URLs ending in a slash."""
    text = os.environ.get("FUSION_ZOO", "")
    # Of the colons in URLs, those before //, before a port and between chained protocols separate nothing.
    separator = r",|(?<!:):(?=[~.]|/(?!/)|[a-z][a-z0-9+.-]*://)" if "://" in text else f"[,{re.escape(os.pathsep)}]"
    sources = [part.strip() for part in re.split(separator, text) if part.strip()]
    return [f"{part.rstrip('/')}/" if "://" in part else str(Path(part).expanduser().absolute()) for part in sources]


def keep(model: Card) -> None:
    """Keep the card of a model that was pulled from a URL: it can then be used without asking there again."""
    if "://" in model.source:
        card.write(model, cache.create(_kept()) / f"{model.label}.toml")


def forget(model: Card) -> None:
    """Remove what `keep` wrote."""
    (_kept() / f"{model.label}.toml").unlink(missing_ok=True)


def _kept() -> Path:
    return cache.directory() / "cards"


def _add_directory(found: Catalogue, directory: Path) -> None:
    for file in sorted(directory.glob("*.toml")):
        found.add(str(file), partial(card.read, file))


def _add_remote(found: Catalogue, url: str) -> None:
    """The cards of a URL; a source that cannot be listed is broken, and offline all are left out."""
    from fusion.zoo.sources import Dropped, Sources, Unavailable

    if offline() and not url.startswith("file:"):
        found.broken[url] = f"{url} was not asked: FUSION_OFFLINE is set"
        return
    sources = Sources(timeout_s())
    try:
        names = sources.names(url)
    except (Unavailable, Dropped) as error:
        found.broken[url] = f"{url}: {error}"
        return
    for name in names:
        if name.endswith(".toml"):
            found.add(url + name, partial(_read_remote, sources, url + name))


def _read_remote(sources: object, url: str) -> Card:
    from fusion.zoo.sources import Dropped, Sources, Unavailable

    assert isinstance(sources, Sources)
    try:
        text = sources.content(url, card.LONGEST)
    except (Unavailable, Dropped) as error:
        raise CalculationError(f"{url}: {error}") from error
    return card.parse(text, url)


def _plugin_directories(found: Catalogue) -> Iterator[tuple[str, Path]]:
    for plugin in plugins.discover().plugins:
        if plugin.module is None:
            continue
        try:
            yield from ((plugin.name, directory) for directory in plugins.model_cards(plugin.module))
        except Exception as error:  # as at import
            found.broken[plugin.name] = f"the cards of {plugin.name} cannot be read: {type(error).__name__}: {error}"


def _read_resource(file: Path) -> Card:
    return card.parse(file.read_bytes(), str(file))


def _unknown(name: str, stem: str, found: Catalogue) -> str:
    for source, reason in found.broken.items():
        if Path(source).stem in (stem, name):
            return f"the card of {name} cannot be read: {reason}"
    names = sorted({card.name for card in found.cards.values()})
    return f"no model {name!r}.{suggestion(stem, names)}  There are: {', '.join(names)}   (fusion zoo list tells more)"
