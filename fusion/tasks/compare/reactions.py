"""Reaction energies as the subject of a comparison: one reaction, or several that may share species."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from fusion.chemistry.reactions import Reaction, is_reaction, parse_all
from fusion.errors import InputError
from fusion.tasks.compare.subject import Quantity, Structure, Subject, unique


def subject(written: Any, start_dir: Path) -> Subject:
    """Reactions of `task.reaction`, one text or a list. Raises InputError for a reaction that is not balanced."""
    texts = [written] if isinstance(written, str) else written
    if not isinstance(texts, Sequence) or not texts or not all(isinstance(text, str) for text in texts):
        raise InputError(f"task.reaction: {written!r} is no reaction; write '2 h2o -> 2 h2 + o2', or a list of such")
    reactions = parse_all([_with_arrow(text) for text in texts], start_dir)
    systems = {term.name: term.system for item in reactions for term in item.terms}
    for name, system in systems.items():
        if any(system.pbc):
            raise InputError(f"task.reaction: {name} is periodic; reactions are of molecules")
    names = dict(zip(systems, unique([Path(name).stem for name in systems]), strict=True))
    quantities = tuple(
        Quantity(_written(item), tuple((names[term.name], term.coefficient) for term in item.terms))
        for item in reactions
    )
    structures = tuple(Structure(names[name], system) for name, system in systems.items())
    title = quantities[0].label if len(quantities) == 1 else f"{len(quantities)} reactions"
    return Subject("reaction", title, structures, quantities)


def _with_arrow(text: str) -> str:
    """Rewrite a difference of energies, `butadiene - bicyclobutane`, as `bicyclobutane -> butadiene`."""
    if is_reaction(text):
        return text
    parts = re.split(r"(?:^|\s+)([+-])\s+", text.strip())
    signed = list(zip(["+", *parts[1::2]], [parts[0], *parts[2::2]], strict=True))
    reactants, products = ([part for sign, part in signed if sign == side and part] for side in "-+")
    return f"{' + '.join(reactants)} -> {' + '.join(products)}" if reactants and products else text


def _written(written: Reaction) -> str:
    """The reaction as text, with file names shortened."""
    text = str(written)
    for term in written.terms:
        text = text.replace(term.name, Path(term.name).stem if Path(term.name).suffix else term.name)
    return text
