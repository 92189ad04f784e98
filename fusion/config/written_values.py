"""Values of Python written in Hydra's grammar, as on the command line."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fusion.config.overrides import quote
from fusion.errors import InputError

_BARE = re.compile(r"[A-Za-z_][\w./@-]*")
_WORDS = frozenset({"true", "false", "null", "nan", "inf"})
_KEY = re.compile(r"[A-Za-z_][\w.]*|[+-]?\d+")


def written(value: Any, setting: str) -> str:
    """Write a number, text, list, mapping, array of numpy, path or None; floating-point numbers keep all their digits.

    Raises InputError for anything else, and names the `setting`.
    """
    if isinstance(value, Path):
        value = str(value)
    elif hasattr(value, "tolist"):  # arrays and scalars of numpy
        value = value.tolist()
    if isinstance(value, str):
        return value if _BARE.fullmatch(value) and value.lower() not in _WORDS else quote(value)
    if value is None or isinstance(value, bool | int | float):
        return json.dumps(value)
    if isinstance(value, list | tuple):
        return f"[{','.join(written(item, setting) for item in value)}]"
    if isinstance(value, Mapping):
        return "{" + ",".join(f"{_key(key, setting)}:{written(item, setting)}" for key, item in value.items()) + "}"
    raise InputError(f"{setting}: {type(value).__name__} is no value of a setting; give a number, text, list or dict")


def _key(key: Any, setting: str) -> str:
    if _KEY.fullmatch(str(key)):
        return str(key)
    raise InputError(f"{setting}: {key!r} cannot be the name of a setting")
