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

    `zero`: what its energies are relative to, one of `fusion.zeros`.
    """

    label: str
    settings: dict[str, Any]
    method: Any
    zero: str

    @property
    def level(self) -> str:
        """What the method calls itself, B3LYP/def2-TZVP, say."""
        return str(getattr(self.method, "label", self.method.name))

    @property
    def trains(self) -> bool:
        """Whether a run of it optimises a wavefunction."""
        return bool(self.settings["task"]["name"] == "train")


def read(listed: Any, seed: int) -> list[Entry]:
    """The entries of `methods=[...]`, each built once to see that it can be. Raises InputError."""
    if not isinstance(listed, Sequence) or isinstance(listed, str) or not listed:
        raise InputError("no methods to compare; name them: methods=[hf,ani-2x,{method: dft, xc: pbe}]")
    parts = [_parts(entry) for entry in listed]
    labels = _labels(parts)
    return [_entry(label, name, options, seed) for label, (name, options, _) in zip(labels, parts, strict=True)]


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


def _parts(entry: Any) -> tuple[str, dict[str, Any], str | None]:
    plain = OmegaConf.to_container(entry, resolve=True) if OmegaConf.is_config(entry) else entry
    name, options = named.parts(plain)  # type: ignore[arg-type]
    label = options.pop("label", None)
    if label is not None and not str(label).strip():
        raise InputError(f"methods: the label of {name} is empty")
    return name, options, None if label is None else str(label)


def _labels(parts: Sequence[tuple[str, dict[str, Any], str | None]]) -> list[str]:
    """Names, with the settings behind them where a name is used more than once; labels that are given stay."""
    names = Counter(name for name, _, label in parts if label is None)
    found = []
    for name, options, label in parts:
        settings = [str(value) for value in options.values() if not isinstance(value, Mapping)]
        found.append(label or ("-".join([name, *settings]) if names[name] > 1 else name))
    twice = [label for label, times in Counter(found).items() if times > 1]
    if twice:
        raise InputError(f"methods: {twice[0]} is listed twice; {{method: ..., label: ...}} tells two apart")
    return unique(found)


def _entry(label: str, name: str, options: dict[str, Any], seed: int) -> Entry:
    composed = named.composed(name, options)
    if "seed" not in options:
        OmegaConf.update(composed, "seed", seed)
    settings = _plain(composed)
    method = methods.build(settings["method"])
    return Entry(label, settings, method, zeros.of(method))


def _plain(composed: DictConfig) -> dict[str, Any]:
    settings = OmegaConf.to_container(composed, resolve=True)
    assert isinstance(settings, dict)
    return {str(key): value for key, value in settings.items()}
