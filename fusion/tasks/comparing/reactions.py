"""Reaction energies as what is compared: one reaction, or several with species in common."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from fusion import reaction
from fusion.errors import InputError
from fusion.tasks.comparing.subject import Quantity, Structure, Subject, unique


def subject(given: Any, start_dir: Path) -> Subject:
    """The reactions that `task.reaction` says, one text or a list. Raises InputError for one that is not balanced."""
    texts = [given] if isinstance(given, str) else given
    if not isinstance(texts, Sequence) or not texts or not all(isinstance(text, str) for text in texts):
        raise InputError(f"task.reaction: {given!r} is no reaction; write '2 h2o -> 2 h2 + o2', or a list of such")
    reactions = reaction.parse_all([_with_arrow(text) for text in texts], start_dir)
    systems = {term.name: term.system for one in reactions for term in one.terms}
    for name, system in systems.items():
        if any(system.pbc):
            raise InputError(f"task.reaction: {name} is periodic; energies of crystals are none of molecules")
    names = dict(zip(systems, unique([Path(name).stem for name in systems]), strict=True))
    quantities = tuple(
        Quantity(_written(one), tuple((names[term.name], term.coefficient) for term in one.terms)) for one in reactions
    )
    structures = tuple(Structure(names[name], system) for name, system in systems.items())
    title = quantities[0].label if len(quantities) == 1 else f"{len(quantities)} reactions"
    return Subject("reaction", title, structures, quantities)


def _with_arrow(text: str) -> str:
    """`butadiene - bicyclobutane`, a difference of energies, as the reaction `bicyclobutane -> butadiene`."""
    if reaction.is_reaction(text):
        return text
    parts = re.split(r"(?:^|\s+)([+-])\s+", text.strip())
    signed = list(zip(["+", *parts[1::2]], [parts[0], *parts[2::2]], strict=True))
    left, right = ([part for sign, part in signed if sign == side and part] for side in "-+")
    return f"{' + '.join(left)} -> {' + '.join(right)}" if left and right else text


def _written(one: reaction.Reaction) -> str:
    """The reaction with names of files shortened."""
    text = str(one)
    for term in one.terms:
        text = text.replace(term.name, Path(term.name).stem if Path(term.name).suffix else term.name)
    return text
