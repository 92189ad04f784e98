"""References of all packages, and the settings for which each of them is cited.

Every configuration tree may hold `references.bib`, the core's as well as a plugin's. The field `usedfor` of an entry
states when a run used what it describes: `kind=ansatz; method.name=hf and method.basis=sto-3g`. Alternatives are
separated by semicolons; keys are those of settings, and values are patterns as in file names. `usedfor` is not part of
the reference and is never printed.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Final

from fusion.citations import bibtex
from fusion.citations.bibtex import Entry
from fusion.config.options import core_directory, sources
from fusion.errors import InputError

FILENAME: Final = "references.bib"
CONDITION: Final = "usedfor"


@dataclass(frozen=True)
class Reference:
    """An entry, and the alternatives for which it is cited: pairs of a setting's key and a pattern of its value."""

    entry: Entry
    alternatives: tuple[tuple[tuple[str, str], ...], ...]

    def used(self, settings: Mapping[str, str]) -> bool:
        """True if the settings, as text in lower case by dotted key, meet one of the alternatives."""
        return any(
            all(fnmatchcase(settings.get(key, ""), pattern) for key, pattern in conditions)
            for conditions in self.alternatives
        )


def references() -> list[Reference]:
    """Read the references of plugins, then the core's. Raises InputError for a file that cannot be read."""
    core = core_directory()
    trees = sorted(dict.fromkeys(tree for _, tree in sources()), key=lambda tree: tree == core)
    files = [tree / FILENAME for tree in trees if (tree / FILENAME).is_file()]
    found: dict[str, Reference] = {}
    for file in files:
        for entry in bibtex.read(file):
            found.setdefault(entry.key, _reference(entry, file))
    return list(found.values())


def _reference(entry: Entry, file: Path) -> Reference:
    fields = dict(entry.fields)
    condition = fields.pop(CONDITION, "")
    alternatives = tuple(_conditions(part, entry.key, file) for part in condition.split(";") if part.strip())
    return Reference(Entry(entry.kind, entry.key, fields), alternatives)


def _conditions(text: str, key: str, file: Path) -> tuple[tuple[str, str], ...]:
    pairs = [part.partition("=") for part in text.split(" and ")]
    for name, equals, pattern in pairs:
        if not (name.strip() and equals and pattern.strip()):
            raise InputError(
                f"{file}: {CONDITION} of {key} must be KEY=PATTERN [and KEY=PATTERN] [; ...], not {text.strip()!r}"
            )
    return tuple((name.strip(), pattern.strip().lower()) for name, _, pattern in pairs)
