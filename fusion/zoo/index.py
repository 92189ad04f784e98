"""The index page of a directory of cards: README.md, made from the cards alone."""

from __future__ import annotations

from pathlib import Path

from fusion.errors import InputError
from fusion.zoo import card as cards
from fusion.zoo.card import Card

FILENAME = "README.md"


def write(directory: Path) -> Path:
    """Write the index page of the cards in `directory`. Raises InputError for a card that cannot be read."""
    path = directory / FILENAME
    path.write_text(page(directory), encoding="utf-8")
    return path


def page(directory: Path) -> str:
    """The page, in Markdown: a table of all models, then a paragraph on each."""
    found = [cards.read(path) for path in sorted(directory.glob("*.toml"))]
    if not found:
        raise InputError(f"{directory} has no cards (*.toml)")
    found.sort(key=lambda card: (card.name, card.version))
    lines = [
        "# Models",
        "",
        "Made by `fusion zoo index` from the cards in this directory. `fusion zoo pull NAME` downloads a model,",
        "`weights=NAME` uses it in a run, `fusion.load(NAME)` and `fusion.calculator(NAME)` in Python.",
        "",
        "| model | kind | elements | level of theory | energies | size | licence |",
        "|---|---|---|---|---|---|---|",
        *(f"| {' | '.join(_row(card))} |" for card in found),
    ]
    for card in found:
        lines += ["", f"## {card.label}", "", *_paragraph(card)]
    return "\n".join(lines) + "\n"


def _row(card: Card) -> list[str]:
    size = f"{card.weights.size / 1e6:.3g} MB"
    elements, level = " ".join(card.elements), card.training.level_of_theory
    return [
        f"[{card.label}](#{card.name}{card.version})",
        card.kind,
        elements,
        level,
        card.energy_zero,
        size,
        card.licence,
    ]


def _paragraph(card: Card) -> list[str]:
    doi = f" [doi:{card.doi}](https://doi.org/{card.doi})" if card.doi else ""
    charges, spins = (", ".join(map(str, values)) for values in (card.charges, card.spins))
    lines = [
        f"{card.summary}. {card.citation}.{doi}",
        "",
        f"Trained on: {card.training.data}. Charges {charges}; unpaired electrons {spins}.",
        f"Digest of the tensors: `{card.weights.sha256}`.",
    ]
    if card.metrics:
        lines += ["", "| measured | value | command |", "|---|---|---|"]
        lines += [f"| {m.name} | {m.value:g} {m.unit} | `{m.command}` |" for m in card.metrics]
    return lines
