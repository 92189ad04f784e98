"""References of what runs used: fusion, methods, models of the zoo, levels of theory, programs and data.

A run is described by several groups of settings: its own, and those of every method that its settings name (terms of a
sum, a teacher, methods of a comparison). Only result.json and config.yaml are read.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from fusion.citations import library
from fusion.citations.bibtex import Entry
from fusion.config.options import core_directory, kind_of, option_file, read_yaml
from fusion.runs.collected import CollectedRun, inner_runs, leaves

if TYPE_CHECKING:
    from fusion.zoo.card import Card

_METHODS: Final = (
    "methods", "method.terms", "method.high", "method.low",
    "task.teacher", "task.baseline", "task.dipoles", "task.energies", "data.baseline",
)  # fmt: skip
"""Settings that name methods beside that of the run: a name, a name with settings, or a list of these."""
_PLAIN: Final = re.compile(r"[^a-z0-9]+")


@dataclass
class Citations:
    """References in the order of a bibliography, and remarks on what has none."""

    entries: list[Entry] = field(default_factory=list)
    remarks: list[str] = field(default_factory=list)

    def text(self) -> str:
        """Return the references as BibTeX, the remarks as lines of comment above them."""
        return "\n".join(
            [*(f"% {' '.join(remark.split())}\n" for remark in self.remarks), *(e.text() for e in self.entries)]
        )


def of_runs(runs: Sequence[CollectedRun]) -> Citations:
    """Return the references of all `runs` together, that of fusion first; those of the runs inside them are included.

    Raises InputError for a file of references that cannot be read.
    """
    runs = [each for run in runs for each in (run, *inner_runs(run))]
    versions = {str(v["fusion"]) for run in runs if (v := run.document.get("versions") or {}).get("fusion")}
    models = _Models()
    groups = [group for run in runs for group in _groups(run, models)]
    citations = _of_groups(groups, models)
    citations.entries.insert(0, fusion_entry(versions))
    return citations


def of_method(name: str) -> Citations:
    """Return the references of a method, or of a model of the zoo, with its default settings."""
    models = _Models()
    return _of_groups([_lower(_of_method(name, {}, models))], models)


def fusion_entry(versions: set[str] | None = None) -> Entry:
    """Return the reference of fusion itself from CITATION.cff, for runs of these versions."""
    content = read_yaml(core_directory().parent / "CITATION.cff")  # in a wheel both are inside the package
    authors = [
        f"{{{author['name']}}}" if "name" in author else f"{author['family-names']}, {author['given-names']}"
        for author in content["authors"]
    ]
    fields = {"author": " and ".join(authors), "title": f"{{{content['title']}}}"}
    released = str(content.get("date-released") or "")
    fields |= {"year": released[:4]} if released else {}
    fields["note"] = f"Version {', '.join(sorted(versions)) if versions else content['version']}"
    fields |= {
        name: str(content[key]) for name, key in (("doi", "doi"), ("url", "repository-code")) if content.get(key)
    }
    return Entry("misc", "fusion", fields)


class _Models:
    """Newest cards of the models in the zoo by name, read when the first one is needed."""

    @functools.cached_property
    def cards(self) -> dict[str, Card]:
        from fusion import zoo

        return {card.name: card for card in zoo.cards()}


def _of_groups(groups: Sequence[Mapping[str, str]], models: _Models) -> Citations:
    """References of groups of settings (text in lower case by key), each once."""
    references, citations = library.references(), Citations()
    citations.entries += [r.entry for r in references if any(r.used(group) for group in groups)]
    for model in dict.fromkeys(group["weights"] for group in groups if group.get("weights")):
        own = [r for r in references if any(("weights", model) in conditions for conditions in r.alternatives)]
        if not own:
            _add_model(model, models.cards.get(model), references, citations)
    return citations


def _groups(run: CollectedRun, models: _Models) -> Iterator[dict[str, str]]:
    """Yield the settings of a run, then those of every further method that they name."""
    document, settings = run.document, dict(run.settings)
    weights = document.get("weights") or {}
    own: dict[str, Any] = settings | {
        "weights": weights.get("name") or settings.get("weights"),
        "kind": document.get("kind") or _kind(str(settings.get("method.name"))),
    }
    yield _lower(own)
    for key in _METHODS:
        for entry in _listed(_value(settings, key)):
            name = entry.get("method") if isinstance(entry, Mapping) else entry
            if isinstance(name, str) and name:
                options = {k: v for k, v in entry.items() if k != "method"} if isinstance(entry, Mapping) else {}
                yield _lower(_of_method(name, options, models))


def _value(settings: Mapping[str, Any], key: str) -> Any:
    """Value of a setting; a node is put together from the settings below it."""
    below = {name.removeprefix(f"{key}."): value for name, value in settings.items() if name.startswith(f"{key}.")}
    return below or settings.get(key)


def _listed(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


def _of_method(name: str, options: Mapping[str, Any], models: _Models) -> dict[str, Any]:
    """Settings of a method, or of the method of a model of the zoo, with its defaults, its kind and its weights."""
    model = name.partition("@")[0]
    card = models.cards.get(model) if option_file("method", name) is None else None
    method = name if card is None else card.method
    settings = {f"method.{key}": value for key, value in leaves(_defaults(method) | dict(options)).items()}
    weights = options.get("weights") or (None if card is None else model)
    return settings | {"method.name": method, "kind": _kind(method), "weights": weights}


def _defaults(method: str) -> dict[str, Any]:
    """Node `method` in the YAML of a method, with that of the method that a preset starts from."""
    file = option_file("method", method)
    if file is None:
        return {}
    content = read_yaml(file)
    base = next(
        (d.removeprefix("/method/") for d in content.get("defaults") or [] if str(d).startswith("/method/")), None
    )
    return ({} if base is None else _defaults(base)) | (content.get("method") or {})


def _kind(method: str) -> str:
    file = option_file("method", method.partition("/")[0])
    return "" if file is None else kind_of(read_yaml(file))


def _lower(settings: Mapping[str, Any]) -> dict[str, str]:
    """Settings as text in lower case, without null; bases of several elements become one text, and weights a name."""
    texts = {key: str(value).lower() for key, value in settings.items() if value is not None}
    bases = [value for key, value in texts.items() if key.startswith("method.basis.")]
    texts |= {"method.basis": " ".join(bases)} if bases else {}
    if "weights" in texts:
        texts["weights"] = texts["weights"].partition("@")[0]
    return texts


def _add_model(name: str, card: Card | None, references: Sequence[library.Reference], citations: Citations) -> None:
    """Add the reference on the card of a model, unless it is there; a remark if the model has no card."""
    if card is None:
        citations.remarks.append(f"weights={name}: no card of this model is installed, so its reference is missing")
        return
    known = [r.entry for r in references if card.doi and r.entry.fields.get("doi", "").lower() == card.doi.lower()]
    entry = known[0] if known else _card_entry(name, card.citation, card.doi)
    if entry not in citations.entries:
        citations.entries.append(entry)


def _card_entry(name: str, citation: str, doi: str) -> Entry:
    """Reference from the text of a card, whose authors and title are not apart."""
    fields = {"title": f"{{Model {name}}}", "note": citation.replace("{", "(").replace("}", ")")}
    return Entry("misc", f"model_{_PLAIN.sub('_', name)}", fields | ({"doi": doi} if doi else {}))
