"""Command `fusion methods show NAME`: what a method is, its models, accuracy, citations, settings and examples."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from fusion.citations.used import of_method
from fusion.cli import settings_help as shown
from fusion.cli.listing import GIVES, missing_packages
from fusion.cli.settings_help import Row
from fusion.config import described
from fusion.config.described import Described
from fusion.config.options import read_yaml
from fusion.methods.about import About

if TYPE_CHECKING:
    from fusion.zoo.card import Card

_KINDS = {
    "potential": "potential: a learned energy E(R) of the positions of the atoms",
    "functional": "functional: a learned exchange-correlation energy in Kohn-Sham calculations",
    "ansatz": "ansatz: a neural wavefunction psi(r), found by Monte Carlo without data",
    "conventional": "conventional: nothing is learned",
    "composite": "composite: a combination of other methods",
}
_ELEMENTS = {
    "ansatz": "all, heavy ones with core potentials (system.ecp=ccecp); cost limits the number of electrons",
    "functional": "those of the basis",
    "conventional": "those of its program and basis",
    "composite": "those that all its parts cover",
}
_EXAMPLES = {
    "potential": ("system=ethanol", "task=relax system=FILE.xyz", "task=vibrations system=ethanol"),
    "functional": ("system=h2o", "task=relax system=nh3 method.basis=def2-svp", "system=n2 method.grid_level=4"),
    "ansatz": ("system=lih", "system=be task=dmc", "system=li task=ionize"),
    "conventional": ("system=h2o", "task=relax system=FILE.xyz", "task=vibrations system=h2o"),
}
_NO_FORCES = ("system=lih", "task=ionize system=li", "system=h2 task=scan task.atoms=[1,2] task.relaxed=false")
_SEEN = re.compile(r"\b(train|trained on|validation)\b")
"""Measurements on data that the training has seen, which say little of the accuracy."""
_METRICS = 3
"""Largest number of measurements that are shown of a model."""


def show(name: str) -> None:
    """Print the page of a method. Raises InputError for an unknown name."""
    shown.refuse_unknown("method", name)
    found = shown.composed([f"method={name}"])
    kind = found.choices["kind"].option if "kind" in found.choices else found.settings.at("method.kind")
    kind = kind if isinstance(kind, str) else kind.text if kind is not None else ""
    about = _about(found, name)
    cards = _cards(name)
    print()
    shown.print_rows([(name, "", shown.about(found, found.choices["method"]))])
    print()
    shown.print_rows([*_facts(found, name, kind, about, cards)])
    citation = ""
    for card in cards:
        print()
        shown.print_rows([*_model(card, cite=card.citation != citation)])
        citation = card.citation
    shown.print_blocks(shown.method_blocks(found, f"fusion help method={name}"))
    print("\nexamples")
    for words in about.examples or _examples(name, kind, about):
        print(f"  fusion {words}")


def _about(found: Described, name: str) -> About:
    """Description of a method; a preset has that of its method where it has none of its own."""
    own = read_yaml(described.files()[f"method/{name}"]).get("method") or {}
    base = name.partition("/")[0]
    first: dict[str, Any] = {}
    if base != name and "/method/" + base in str(read_yaml(described.files()[f"method/{name}"]).get("defaults")):
        first = (read_yaml(described.files()[f"method/{base}"]).get("method") or {}).get("about") or {}
        first = {key: value for key, value in first.items() if key not in ("accuracy", "examples")}
    return About.read({**first, **(own.get("about") or {})})


def _facts(found: Described, name: str, kind: str, about: About, cards: list[Card]) -> Iterator[Row]:
    yield "kind", "", _KINDS.get(kind, kind)
    missing = missing_packages(about)
    if missing:
        yield "not installed", "", f"pip install {shlex.join(missing)}"
    yield "gives", "", about.gives or GIVES.get(kind, "")
    elements = _listed(found, "method.domain.elements") or ([] if cards else _listed(found, "method.model.elements"))
    if elements or not cards or kind == "ansatz":
        yield "elements", "", " ".join(elements) or _ELEMENTS.get(kind, "")
    if about.cost:
        yield "cost", "", f"{about.cost}, for a molecule of ten atoms"
    if about.accuracy:
        yield "accuracy", "", about.accuracy
    if not cards:
        for number, entry in enumerate(of_method(name).entries):
            yield "" if number else "citation", "", entry.short()
    for key in ("licence", "calculator"):
        setting = found.settings.at(f"method.{key}")
        if setting is not None and setting.children is None and setting.text not in ("null", ""):
            yield key, "", setting.text
    presets = [option for option in shown.options_of("method") if option.startswith(f"{name}/")]
    if presets:
        yield "presets", "", ", ".join(f"+method={preset}" for preset in presets)


def _listed(found: Described, place: str) -> list[str]:
    setting = found.settings.at(place)
    text = setting.text if setting is not None else ""
    return [part.strip(" '\"") for part in text[1:-1].split(",")] if text.startswith("[") else []


def _cards(name: str) -> list[Card]:
    """Newest cards of the models of a method, by name."""
    from fusion.zoo import registry

    newest = {card.name: card for card in registry.cards()}  # sorted by version
    return [card for card in newest.values() if card.method == name]


def _model(card: Card, cite: bool) -> Iterator[Row]:
    yield f"weights={card.name}", "", f"{card.summary}. Elements {' '.join(card.elements)}; {card.licence}"
    yield "  trained on", "", f"{card.training.data}; {card.training.level_of_theory}"
    measured = [metric for metric in card.metrics if not _SEEN.search(metric.name)] or [*card.metrics]
    for metric in measured[:_METRICS]:
        yield "  accuracy", "", f"{metric.name}: {metric.text}"
    if cite:
        yield "  cite", "", f"{card.citation}{f', doi:{card.doi}' if card.doi else ''}"


def _examples(name: str, kind: str, about: About) -> list[str]:
    gives = (about.gives or GIVES.get(kind, "")).split()
    words = _EXAMPLES.get(kind, _EXAMPLES["conventional"])
    if kind == "conventional" and "forces" not in gives:
        words = _NO_FORCES
    return [f"+method={name} {each}" for each in words]
