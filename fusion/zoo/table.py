"""Reader of one table of a TOML file, key by key with type checks; it refuses unknown keys by name."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Iterator
from typing import Any

from fusion.config.options import suggestion
from fusion.console.streams import visible
from fusion.errors import InputError

_REQUIRED: Any = object()


class Table:
    """Table `name` (empty: the top level) of the file `source`, with its `content`. All readers raise InputError."""

    def __init__(self, source: str, content: dict[str, Any], name: str = "") -> None:
        self.source, self.name, self._content = source, name, content
        self._read: set[str] = set()

    def __iter__(self) -> Iterator[str]:
        """Iterate over all keys, in the file's order."""
        return iter(self._content)

    def end(self) -> None:
        """Refuse keys that were not read."""
        for key in self._content:
            if key not in self._read:
                hint = suggestion(key, self._read - set(self._content))
                raise InputError(f"{self.source}: unknown key {self._path(key)}.{hint}")

    def text(
        self, key: str, pattern: re.Pattern[str] | None = None, form: str = "text", default: str = _REQUIRED
    ) -> str:
        """Read a string that is not empty and matches `pattern`, described by `form`."""
        value = self._get(key, default)
        if value is default:
            return default
        if not isinstance(value, str) or not value.strip() or (pattern is not None and not pattern.fullmatch(value)):
            raise self._wrong(key, form, value)
        if visible(value) != value or "\n" in value:
            raise self._wrong(key, "text of one line without control characters", value)
        return value

    def choice(self, key: str, choices: Iterable[str]) -> str:
        """Read a value that must be one of `choices`."""
        choices = list(choices)
        value = self._get(key)
        if value not in choices:
            raise self._wrong(key, " or ".join(choices), value)
        assert isinstance(value, str)
        return value

    def whole(self, key: str, least: int | None = None, default: int = _REQUIRED) -> int:
        """Read a whole number of at least `least`."""
        value = self._get(key, default)
        if not isinstance(value, int) or isinstance(value, bool) or (least is not None and value < least):
            at_least = "" if least is None else f" of at least {least}"
            raise self._wrong(key, f"a whole number{at_least}", value)
        return value

    def flag(self, key: str, default: bool) -> bool:
        """Read true or false."""
        value = self._get(key, default)
        if not isinstance(value, bool):
            raise self._wrong(key, "true or false", value)
        return value

    def number(self, key: str, default: float | None = _REQUIRED, positive: bool = False) -> float | None:
        """Read a finite number, greater than zero with `positive`."""
        value = self._get(key, default)
        if value is default:
            return default
        if not _is_number(value) or (positive and value <= 0.0):
            raise self._wrong(key, "a number greater than 0" if positive else "a number", value)
        return float(value)

    def texts(
        self, key: str, pattern: re.Pattern[str], form: str, default: tuple[str, ...] = _REQUIRED
    ) -> tuple[str, ...]:
        """Read a list of strings that match `pattern`, not empty unless there is a default."""
        value = self._get(key, default)
        if value is default:
            return default
        right = isinstance(value, list) and (value or default is not _REQUIRED)
        if not right or not all(isinstance(item, str) and pattern.fullmatch(item) for item in value):
            raise self._wrong(key, f"a list of {form}", value)
        return tuple(value)

    def wholes(self, key: str, default: tuple[int, ...]) -> tuple[int, ...]:
        """Read a list of whole numbers."""
        value = self._get(key, default)
        if value is default:
            return default
        if not isinstance(value, list) or not all(isinstance(item, int) and item is not True for item in value):
            raise self._wrong(key, "a list of whole numbers", value)
        return tuple(value)

    def vectors(self, key: str) -> tuple[tuple[float, float, float], ...]:
        """Read a list of lists of three numbers."""
        value = self._get(key)
        rows: list[Any] = value if isinstance(value, list) else [None]
        if not all(isinstance(row, list) and len(row) == 3 and all(map(_is_number, row)) for row in rows):
            raise self._wrong(key, "a list of [x, y, z]", value)
        return tuple((float(x), float(y), float(z)) for x, y, z in rows)

    def table(self, key: str, required: bool = True) -> Table:
        """Return a table, empty if it is absent and not required."""
        value = self._get(key, _REQUIRED if required else {})
        if not isinstance(value, dict):
            raise self._wrong(key, "a table", value)
        return Table(self.source, value, self._path(key))

    def tables(self, key: str) -> list[Table]:
        """Return an array of tables, empty if it is absent."""
        value = self._get(key, [])
        if not isinstance(value, list) or not all(isinstance(item, dict) for item in value):
            raise self._wrong(key, "an array of tables", value)
        return [Table(self.source, item, f"{self._path(key)}[{number}]") for number, item in enumerate(value)]

    def free(self, key: str) -> dict[str, Any]:
        """Return a table of any contents, empty if it is absent."""
        self.table(key, required=False)
        return dict(self._content.get(key, {}))

    def _get(self, key: str, default: Any = _REQUIRED) -> Any:
        self._read.add(key)
        if key in self._content:
            return self._content[key]
        if default is _REQUIRED:
            raise InputError(f"{self.source}: {self._path(key)} is missing")
        return default

    def _wrong(self, key: str, form: str, value: object) -> InputError:
        return InputError(f"{self.source}: {self._path(key)} must be {form}, not {str(value)[:80]!r}")

    def _path(self, key: str) -> str:
        return f"{self.name}.{key}" if self.name else key


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
