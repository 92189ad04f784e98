"""Methods of a comparison: their labels, settings and energy zeros."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from omegaconf import OmegaConf

from fusion.config.options import suggestion
from fusion.errors import InputError
from fusion.methods import by_name, protocol
from fusion.tasks.compare.subject import unique

if TYPE_CHECKING:
    from omegaconf import DictConfig


@dataclass(frozen=True)
class Entry:
    """A method of the list: `label` for tables and its directory, the `settings` of its runs, and the method itself.

    `zero`: energy zero, one of `fusion.chemistry.energy_zeros`; `forces`: true if its forces are requested.
    """

    label: str
    settings: dict[str, Any]
    method: Any
    zero: str
    forces: bool

    @property
    def level(self) -> str:
        """Level of theory as the method states it, for example B3LYP/def2-TZVP."""
        return str(self.method.label)

    @property
    def trains(self) -> bool:
        """True if its runs optimise a wavefunction."""
        return bool(self.settings["task"]["name"] == "train")


def read(listed: Any, seed: int, forces: bool, states: int | None = None) -> list[Entry]:
    """Read the entries of `methods=[...]` and build each method once to check it. Raises InputError.

    `forces`: request forces of an entry that does not set `forces` itself. `states`: number of states of methods that
    have this setting.
    """
    if not isinstance(listed, Sequence) or isinstance(listed, str) or not listed:
        raise InputError("no methods to compare; name them: methods=[hf,ani-2x,{method: dft, xc: pbe}]")
    parts = [_parts(entry) for entry in listed]
    labels = _labels(parts)
    return [_entry(label, part, seed, forces, states) for label, part in zip(labels, parts, strict=True)]


def chosen(against: Any, entries: Sequence[Entry]) -> Entry:
    """The reference method `task.against`, by label or by a name that only one method has; the first if null.

    Raises InputError.
    """
    if against is None:
        return entries[0]
    for matches in (
        [entry for entry in entries if entry.label == against],
        [entry for entry in entries if entry.method.name == against],
    ):
        if len(matches) == 1:
            return matches[0]
    labels = [entry.label for entry in entries]
    raise InputError(
        f"task.against: {against!r} is not one of the compared methods.{suggestion(str(against), labels)}  "
        f"They are: {', '.join(labels)}"
    )


@dataclass(frozen=True)
class _Part:
    """An entry as written in the settings."""

    name: str
    options: dict[str, Any]
    label: str | None
    forces: bool | None


def _parts(entry: Any) -> _Part:
    plain = OmegaConf.to_container(entry, resolve=True) if OmegaConf.is_config(entry) else entry
    name, options = by_name.parts(plain)  # type: ignore[arg-type]
    label, forces = options.pop("label", None), options.pop("forces", None)
    if label is not None and not str(label).strip():
        raise InputError(f"methods: the label of {name} is empty; give a name, or leave label out")
    if forces is not None and not isinstance(forces, bool):
        raise InputError(f"methods: forces of {name} must be true or false, not {forces!r}")
    return _Part(name, options, None if label is None else str(label), forces)


def _labels(parts: Sequence[_Part]) -> list[str]:
    """Labels as given, else names; a name used more than once is followed by its settings. Raises InputError."""
    names = Counter(part.name for part in parts if part.label is None)
    labels = []
    for part in parts:
        settings = [word for key, value in part.options.items() for word in _words(key, value)]
        labels.append(part.label or ("-".join([part.name, *settings]) if names[part.name] > 1 else part.name))
    repeated = [label for label, times in Counter(labels).items() if times > 1]
    if repeated:
        raise InputError(f"methods: {repeated[0]} is listed twice; distinguish the two by {{method: ..., label: ...}}")
    return unique(labels)


def _words(key: str, value: Any) -> list[str]:
    """Words of a label from one setting. Of groups of settings only a basis per element is named."""
    if not isinstance(value, Mapping):
        return [str(value)]
    return [str(word) for pair in value.items() for word in pair] if key == "basis" else []


def _entry(label: str, part: _Part, seed: int, forces: bool, states: int | None) -> Entry:
    composed = by_name.composed(part.name, part.options)
    if states is not None and "states" in composed.method:
        OmegaConf.update(composed, "method.states", states)
    if "seed" not in part.options:
        OmegaConf.update(composed, "seed", seed)
    settings = _plain(composed)
    method = protocol.build(settings["method"])
    return Entry(label, settings, method, method.energy_zero, forces if part.forces is None else part.forces)


def _plain(composed: DictConfig) -> dict[str, Any]:
    settings = OmegaConf.to_container(composed, resolve=True)
    assert isinstance(settings, dict)
    return {str(key): value for key, value in settings.items()}
