"""The methods that a comparison names: their labels, their settings, and what their energies are relative to."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from omegaconf import OmegaConf

from fusion import methods, named, zeros
from fusion.config import suggestion
from fusion.errors import InputError
from fusion.tasks.comparing.subject import unique

if TYPE_CHECKING:
    from omegaconf import DictConfig


@dataclass(frozen=True)
class Entry:
    """A method of the list: `label` in tables and as its directory, the `settings` of its runs, the method itself.

    `zero`: what its energies are relative to, one of `fusion.zeros`; `forces`: whether they are wanted of it.
    """

    label: str
    settings: dict[str, Any]
    method: Any
    zero: str
    forces: bool

    @property
    def level(self) -> str:
        """What the method calls itself, B3LYP/def2-TZVP, say."""
        return str(getattr(self.method, "label", self.method.name))

    @property
    def trains(self) -> bool:
        """Whether a run of it optimises a wavefunction."""
        return bool(self.settings["task"]["name"] == "train")


def read(listed: Any, seed: int, forces: bool) -> list[Entry]:
    """The entries of `methods=[...]`, each built once to see that it can be; `forces`, where an entry does not say
    itself whether they are wanted of it. Raises InputError."""
    if not isinstance(listed, Sequence) or isinstance(listed, str) or not listed:
        raise InputError("no methods to compare; name them: methods=[hf,ani-2x,{method: dft, xc: pbe}]")
    parts = [_parts(entry) for entry in listed]
    labels = _labels(parts)
    return [_entry(label, part, seed, forces) for label, part in zip(labels, parts, strict=True)]


def chosen(against: Any, entries: Sequence[Entry]) -> Entry:
    """The reference method that `task.against` names, by label or, where only one has it, by name; the first if null.

    Raises InputError.
    """
    if against is None:
        return entries[0]
    for found in (
        [entry for entry in entries if entry.label == against],
        [entry for entry in entries if entry.method.name == against],
    ):
        if len(found) == 1:
            return found[0]
    labels = [entry.label for entry in entries]
    raise InputError(
        f"task.against: {against!r} is none of the methods compared.{suggestion(str(against), labels)}  "
        f"They are: {', '.join(labels)}"
    )


@dataclass(frozen=True)
class _Part:
    """An entry as it is written."""

    name: str
    options: dict[str, Any]
    label: str | None
    forces: bool | None


def _parts(entry: Any) -> _Part:
    plain = OmegaConf.to_container(entry, resolve=True) if OmegaConf.is_config(entry) else entry
    name, options = named.parts(plain)  # type: ignore[arg-type]
    label, forces = options.pop("label", None), options.pop("forces", None)
    if label is not None and not str(label).strip():
        raise InputError(f"methods: the label of {name} is empty")
    if forces is not None and not isinstance(forces, bool):
        raise InputError(f"methods: forces of {name} are true or false, not {forces!r}")
    return _Part(name, options, None if label is None else str(label), forces)


def _labels(parts: Sequence[_Part]) -> list[str]:
    """Names, with the settings behind them where a name is used more than once; labels that are given stay."""
    names = Counter(part.name for part in parts if part.label is None)
    found = []
    for part in parts:
        settings = [word for key, value in part.options.items() for word in _words(key, value)]
        found.append(part.label or ("-".join([part.name, *settings]) if names[part.name] > 1 else part.name))
    twice = [label for label, times in Counter(found).items() if times > 1]
    if twice:
        raise InputError(f"methods: {twice[0]} is listed twice; {{method: ..., label: ...}} tells two apart")
    return unique(found)


def _words(key: str, value: Any) -> list[str]:
    """The parts of a label that a setting gives: a basis per element is named, other groups of settings are not."""
    if not isinstance(value, Mapping):
        return [str(value)]
    return [str(word) for pair in value.items() for word in pair] if key == "basis" else []


def _entry(label: str, part: _Part, seed: int, forces: bool) -> Entry:
    composed = named.composed(part.name, part.options)
    if "seed" not in part.options:
        OmegaConf.update(composed, "seed", seed)
    settings = _plain(composed)
    method = methods.build(settings["method"])
    return Entry(label, settings, method, zeros.of(method), forces if part.forces is None else part.forces)


def _plain(composed: DictConfig) -> dict[str, Any]:
    settings = OmegaConf.to_container(composed, resolve=True)
    assert isinstance(settings, dict)
    return {str(key): value for key, value in settings.items()}
