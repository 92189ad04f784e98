"""Words of a run at a published wavefunction: `weights=NAME` stands for the system and the network of its card."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from fusion.config import compose as trees
from fusion.config import overrides, places
from fusion.config.options import available, groups, sources
from fusion.errors import InputError
from fusion.methods import addresses
from fusion.zoo import registry
from fusion.zoo.card import Nuclei, without_null

if TYPE_CHECKING:
    from fusion.zoo.card import Card

_ELSEWHERE = frozenset({"method", "system", "task", "data", "trainer", "logger", "callbacks"})
"""Groups whose options have no settings of the network."""
_KEY = re.compile(r"[A-Za-z_]\w*")
_SAME_POSITION = 1e-6
"""Largest difference (bohr) of positions that count as the same."""


def with_card(words: Sequence[str]) -> list[str]:
    """Replace addresses of models by names, and prepend to the prepared `words` of a run those of a wavefunction.

    These set the network, and the system unless `words` choose one. The run's own words come last; its checks compare
    them with the card. Without a published wavefunction nothing is prepended. Raises InputError for options of groups
    that change the network, and for a sweep over wavefunctions.
    """
    words = [_named(word) for word in words]
    settings = {key.lstrip("+"): value for key, _, value in (word.partition("=") for word in words)}
    card = _card(settings.get("weights"), settings.get("method", ""))
    if card is None or card.system is None:
        return list(words)
    _refuse_other_network(card, words)
    return [*_network(card), *(() if "system" in settings else _system(card.system)), *words]


def _named(word: str) -> str:
    """Replace the addresses of models in `weights=...` by names."""
    key, equals, value = word.partition("=")
    if key.lstrip("+") != "weights" or value in ("", "null"):
        return word
    texts = [text.strip().strip("'\"") for text in overrides.split(value)]
    names = [addresses.named(text) for text in texts]
    return word if names == texts else f"{key}{equals}{','.join(names)}"


def _card(weights: str | None, method: str) -> Card | None:
    """Card of the wavefunction that `weights` names, if it belongs to `method`."""
    if not method or weights in (None, "", "null"):
        return None
    names = overrides.split(str(weights))
    try:
        cards = [registry.find(name.strip().strip("'\"")) for name in names]
    except InputError:
        return None  # the method reports an unknown name
    cards = [card for card in cards if card.kind == "ansatz" and card.method == method.partition("/")[0]]
    if cards and len(names) > 1:
        raise InputError(f"weights={weights}: a sweep has one wavefunction, since each has its own system and network")
    return cards[0] if cards else None


def _network(card: Card) -> list[str]:
    """Words that replace the network by that of `card`. Raises InputError for classes that no option names."""
    settings = card.model.settings
    refused = places.of(sources()).refusal({"method": {"model": settings}})
    interpolations = [text for _, text in places.strings(settings) if "${" in text]
    if refused is not None or interpolations:
        raise InputError(f"{card.label}: its card may not set {refused or interpolations[0]}")
    return ["method.model=null", f"++method.model={_written(settings)}"]


def _system(system: Nuclei) -> Iterator[str]:
    """Words for a system: its name, if that has these nuclei in the configuration, otherwise its atoms."""
    if system.name in available("system") and _is_named(system):
        yield f"system={system.name}"
    else:
        yield "system=inline"
        yield f"++system.symbols={_written(system.symbols)}"
        yield f"++system.positions={_written(system.positions)}"
        yield "system.unit=bohr"
        yield f"system.name={_written(system.name or 'inline')}"
    yield f"system.charge={system.charge}"
    yield f"system.spin={system.spin}"
    if system.ecp:
        yield f"++system.ecp={_written(system.ecp)}"


def _is_named(system: Nuclei) -> bool:
    import numpy as np

    from fusion.chemistry import system_input

    named = system_input.read(trees.compose([f"system={system.name}"])[0].system)
    same = named.symbols == system.symbols
    return same and bool(np.abs(named.positions - np.array(system.positions)).max() < _SAME_POSITION)


def _refuse_other_network(card: Card, words: Sequence[str]) -> None:
    """Raise InputError if a preset of the method, or an option of another group, sets the network differently."""
    known = set(groups()) - _ELSEWHERE
    chosen = [word for word in words if word.partition("=")[0] in known and "," not in word]
    preset = next(word for word in words if word.startswith("+method="))
    base, slash, _ = preset.partition("/")
    if not chosen and not slash:
        return
    without = [base, *(f"~{word.partition('=')[0]}" for word in chosen)]
    before, now = (trees.compose(each)[0].method.get("model") or {} for each in (without, [preset, *chosen]))
    settings = card.model.settings
    for key in now:
        value = without_null(_plain(now[key]))
        if (key not in before or before[key] != now[key]) and value != settings.get(key):
            said = " ".join([*([preset] if slash else []), *chosen])
            raise InputError(f"{said}: {card.label} has a network of its own, with another {key}; leave this out")


def _plain(value: Any) -> Any:
    from omegaconf import OmegaConf

    return OmegaConf.to_container(value, resolve=True) if OmegaConf.is_config(value) else value


def _written(value: Any) -> str:
    """Write a value in Hydra's grammar, with all text in quotes."""
    if isinstance(value, Mapping):
        wrong = next((key for key in value if not _KEY.fullmatch(str(key))), None)
        if wrong is not None:
            raise InputError(f"a card has the setting {wrong!r}, which is not a name")
        return "{" + ",".join(f"{key}:{_written(item)}" for key, item in value.items()) + "}"
    if isinstance(value, list | tuple):
        return f"[{','.join(map(_written, value))}]"
    return overrides.quote(value) if isinstance(value, str) else json.dumps(value)
