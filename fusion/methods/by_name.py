"""Methods from names, outside of +method=: in Python, in lists of methods, and as terms of a sum."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from fusion.errors import InputError
from fusion.methods import addresses, protocol
from fusion.methods.card_words import with_card

if TYPE_CHECKING:
    from omegaconf import DictConfig

    from fusion.zoo.card import Card

_ABSENT = object()
BESIDE = ("dtype", "seed", "weights")
"""Settings beside the `method` node."""


def method(entry: str | Mapping[str, Any]) -> Any:
    """Build the method that `entry` names, with its settings.

    `"ani-2x"` and `"dft"` are a model of the zoo and a method with its defaults; `{"method": "dft", "xc": "pbe"}` also
    has settings, those of `method.KEY`. Raises InputError for an unknown name or setting.
    """
    name, options = parts(entry)
    return protocol.build(node(name, options))


def parts(entry: str | Mapping[str, Any]) -> tuple[str, dict[str, Any]]:
    """Return name and settings of an entry of a list of methods. Raises InputError for anything else."""
    if isinstance(entry, str) and entry:
        return entry, {}
    if isinstance(entry, Mapping) and isinstance(entry.get("method"), str):
        return entry["method"], {str(key): value for key, value in entry.items() if key != "method"}
    raise InputError(
        f"{entry!r} names no method; write a name, ani-2x, or a name with settings, {{method: dft, xc: pbe}}"
    )


def node(name: str, options: Mapping[str, Any]) -> Any:
    """Compose the `method` node of a method, or of the method of a model of the zoo, with `options`.

    Raises InputError for an unknown method or setting.
    """
    from omegaconf import OmegaConf

    return OmegaConf.create(OmegaConf.to_container(composed(name, options), resolve=True)).method


def composed(name: str, options: Mapping[str, Any]) -> DictConfig:
    """Compose the complete configuration of a run of that method with `options`, interpolations unresolved.

    Raises InputError for an unknown method or setting.
    """
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException

    from fusion.config import compose as trees
    from fusion.config import messages
    from fusion.config.options import suggestion

    options = {key: addresses.named(value) if key == "weights" else value for key, value in options.items()}
    initial = [f"weights={options['weights']}"] if options.get("weights") else []
    config, _ = trees.compose(with_card([*words(name), *initial]))
    for key, value in options.items():
        path = key if key in BESIDE else f"method.{key}"
        if OmegaConf.select(config, path, default=_ABSENT) is _ABSENT:
            setting_names = [str(setting) for setting in config.method if setting not in ("_target_", "name", "about")]
            raise InputError(
                f"{name} has no setting {key!r}.{suggestion(key, setting_names)}  Settings: {', '.join(setting_names)}"
            )
        try:
            OmegaConf.update(config, path, value)
        except OmegaConfBaseException as error:
            raise InputError(f"{key}={value!r}: {messages.one_line(error)}") from error
    return config


def words(name: str) -> list[str]:
    """Return the words of the command line for a method, or for a model of the zoo. Raises InputError."""
    from fusion.config.options import available

    method_names = available("method")
    card = None if name in method_names else _model(name)
    if name not in method_names and card is None:
        from fusion import zoo
        from fusion.config import messages

        names = sorted({*method_names, *(card.name for card in zoo.cards())})
        raise InputError(messages.no_option("method", name, names))
    return [f"+method={name}"] if card is None else [f"+method={card.method}", f"weights={card.label}"]


def _model(name: str) -> Card | None:
    """Return the zoo's card of that name, or None."""
    from fusion import zoo

    if zoo.registry.is_url(name):
        name = addresses.named(name)
    return zoo.find(name) if name.partition("@")[0] in {card.name for card in zoo.cards()} else None
