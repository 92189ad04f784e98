"""Description of a method, for the table of `fusion methods` and the first lines of its runs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, Final

from fusion.config.moved_names import ABOUT
from fusion.config.options import suggestion
from fusion.errors import InputError


@dataclass(frozen=True)
class About:
    """The node `method.about`; nothing in it changes a number."""

    title: str | None = None
    """Title in first lines and labels; None: the name of the method, or a composed one."""
    summary: str = ""
    """Summary in a few words."""
    cost: str = ""
    """Time for a molecule of ten atoms, in a word."""
    gives: str = ""
    """Properties that it computes itself; empty: those of its kind."""
    note: str | None = None
    """A line below the title of a run."""
    requires: tuple[str, ...] = ()
    """Distributions that must be installed; without one the method is listed as not installed."""
    accuracy: str = ""
    """Measured error in a sentence, with the page of the measurement."""
    examples: tuple[str, ...] = ()
    """Commands for `fusion methods show`, without the program's name; empty: those of its kind."""

    @classmethod
    def read(cls, stated: About | Mapping[str, Any] | None) -> About:
        """Read the node of a configuration. Raises InputError for an unknown key."""
        if isinstance(stated, About):
            return stated
        if not isinstance(stated, Mapping | None):
            raise InputError(f"method.about must be a description, {{summary: what it is}}, not {stated!r}")
        values = {str(key): value for key, value in (stated or {}).items()}
        for key in values:
            if key not in _KEYS:
                raise InputError(f"method.about has no {key}.{suggestion(key, _KEYS)}  It has {', '.join(_KEYS)}")
        return cls(**values | {key: tuple(values.get(key) or ()) for key in ("requires", "examples")})


_KEYS: Final = tuple(field.name for field in fields(About))


def refuse_beside(settings: Mapping[str, Any], name: Any) -> None:
    """Raise InputError for parts of the description among the settings of a method, as in earlier versions."""
    misplaced = [key for key in ABOUT if key in settings]
    if misplaced:
        raise InputError(
            f"the YAML of method {name} has method.{misplaced[0]}; write it below method.about: "
            f"about: {{{', '.join(f'{key}: ...' for key in misplaced)}}}"
        )


def is_installed(requirement: str) -> bool:
    """True if a distribution of the name in `requirement` is installed, in any version."""
    import re
    from importlib import metadata

    name = re.split(r"[\s\[<>=!~;]", requirement, maxsplit=1)[0]
    try:
        metadata.version(name)
    except metadata.PackageNotFoundError:
        return False
    return True
