"""Reactions from text, `2 h2o -> 2 h2 + o2`: species by name, with a check of the balance."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import NamedTuple

import numpy as np

from fusion.chemistry import g2, system_input
from fusion.chemistry.system import System
from fusion.errors import InputError

_ARROW = re.compile(r"\s*(?:<?[-=]+>|→|⇌|=)\s*")
_SPACED_ARROW = re.compile(r"\s+(?:<?[-=]+>|→|⇌|=)\s+")
_QUOTED = re.compile(r"""(?<!\S)(["'])(.+?)\1(?!\S)""")
_PLAIN_NAME = re.compile(r"[\w./@-]+")
_TERM = re.compile(r"(?:(\d+\s*/\s*\d+|\d+(?:\.\d*)?|\.\d+)(?:\s*\*\s*|\s+))?(\S.*)")
_LARGEST = 100  # largest proposed coefficient


class Term(NamedTuple):
    """Species of a reaction; the coefficient of a reactant is negative."""

    coefficient: float
    name: str
    system: System


@dataclass(frozen=True)
class Reaction:
    """Balanced reaction: every species once, reactants first, each with its signed coefficient."""

    terms: tuple[Term, ...]

    def change(self, values: Mapping[str, float]) -> float:
        """Return products minus reactants of a quantity given by species name, in its unit."""
        return sum(term.coefficient * values[term.name] for term in self.terms)

    def error(self, errors: Mapping[str, float | None]) -> float | None:
        """Return the error of `change` for independent errors of the species; None if no species has an error."""
        parts = [term.coefficient * error for term in self.terms if (error := errors.get(term.name)) is not None]
        return math.hypot(*parts) if parts else None

    def __str__(self) -> str:
        left, right = (
            " + ".join(_written(abs(term.coefficient), term.name) for term in self.terms if sign * term.coefficient > 0)
            for sign in (-1, 1)
        )
        return f"{left} -> {right}"


def parse(text: str, start_dir: Path) -> Reaction:
    """Parse `[number] NAME + ... -> [number] NAME + ...`; numbers may be 1.5 or 3/2.

    The name of a file's species is its name without the folder; a name with spaces or signs may be quoted. Raises
    InputError for a text that is not a reaction, an unknown species, or a reaction whose elements or charge are not
    balanced; the message names what is missing on each side.
    """
    unquoted, quoted = _protected(text) if isinstance(text, str) else ("", {})
    sides = _sides(unquoted)
    if len(sides) != 2 or not all(sides):
        raise InputError(f"{text!r} is not a reaction; write '2 h2o -> 2 h2 + o2'")
    amounts: Counter[str] = Counter()
    for sign, side in zip((-1, 1), sides, strict=True):
        for number, name in _split(side, quoted, start_dir):
            amounts[name] += sign * number  # type: ignore[assignment]
    systems = {name: species(name, start_dir) for name in amounts}
    idle = [name for name, amount in amounts.items() if amount == 0]
    if idle:
        raise InputError(f"'{text}': {idle[0]} has the same amount on both sides; leave it out")
    shown = _short(list(amounts), start_dir)
    reaction = Reaction(tuple(Term(float(amounts[name]), shown[name], systems[name]) for name in amounts))
    _check_balance(reaction, text)
    return reaction


def is_reaction(text: str) -> bool:
    """True if `text` has an arrow."""
    return len(_sides(_protected(text)[0])) > 1


def is_file(name: str, start_dir: Path) -> bool:
    """True if a species is a file. A name that fusion knows takes precedence, unless it has a folder or a suffix."""
    path = Path(name)
    if not (start_dir / path.expanduser()).is_file():
        return False
    return bool(path.suffix) or "/" in name or _named(name) is None


def with_full_paths(text: str, start_dir: Path) -> str:
    """Replace the files of a reaction by their full paths, so that it does not depend on the current directory."""
    unquoted, quoted = _protected(text)
    pieces = re.split(r"(\s+(?:[+-]|<?[-=]+>|→|⇌|=)\s+)", unquoted)
    for index, piece in enumerate(pieces[::2]):
        term = _TERM.fullmatch(piece.strip())
        name = quoted.get(term[2], term[2]) if term else ""
        if name and is_file(name, start_dir):
            path = str(start_dir / Path(name).expanduser())
            mark = "" if _PLAIN_NAME.fullmatch(path) else '"' if "'" in path else "'"
            pieces[2 * index] = f"{term[1] + ' ' if term and term[1] else ''}{mark}{path}{mark}"
    result = "".join(pieces)
    for placeholder, name in quoted.items():
        result = result.replace(placeholder, repr(name))
    return result


def _protected(text: str) -> tuple[str, dict[str, str]]:
    """Replace each quoted name in `text` by a placeholder; also return the names."""
    names: dict[str, str] = {}

    def keep(match: re.Match[str]) -> str:
        placeholder = chr(0xE000 + len(names))
        names[placeholder] = match[2]
        return placeholder

    return _QUOTED.sub(keep, text), names


def _sides(text: str) -> list[str]:
    """Split a reaction at its arrows; arrows between spaces take precedence over those inside names."""
    spaced = _SPACED_ARROW.split(text.strip())
    return spaced if len(spaced) > 1 else _ARROW.split(text.strip())


def parse_all(texts: Sequence[str], start_dir: Path) -> list[Reaction]:
    """Parse several reactions. Raises the errors of `parse`, and InputError for a name with different molecules."""
    reactions = [parse(text, start_dir) for text in texts]
    systems: dict[str, System] = {}
    for term in (term for reaction in reactions for term in reaction.terms):
        first = systems.setdefault(term.name, term.system)
        if first.symbols != term.system.symbols or not np.array_equal(first.positions, term.system.positions):
            raise InputError(f"{term.name} is the name of two different files; rename one of them")
    return reactions


def species(name: str, start_dir: Path) -> System:
    """Return the system of that name from conf/system, the G2 collection, or a file that ASE reads.

    Case matters only where it distinguishes two names. Raises InputError for an unknown name.
    """
    if is_file(name, start_dir):
        return system_input.read({"path": name}, start_dir)
    predefined = _named(name)
    if predefined is not None:
        return predefined
    from fusion.config.options import suggestion

    if Path(name).suffix or "/" in name:
        raise InputError(f"no file '{name}' in {start_dir}")
    raise InputError(
        f"no species {name!r}.{suggestion(name, [*_predefined(), *g2.names()])}  A species is a system of fusion "
        "(h2o, ethanol), a molecule of the G2 collection (H2O, CH3CH2OH) or a file (water.xyz)"
    )


def _named(name: str) -> System | None:
    """Return the system of conf/system or of the G2 collection; an exact match precedes one in another case."""
    from omegaconf import OmegaConf

    files = _predefined()
    for same in (str.__eq__, lambda one, other: one.lower() == other.lower()):
        for option, file in files.items():
            if same(option, name):
                return system_input.read(OmegaConf.load(file), file.parent)  # type: ignore[arg-type]
        for molecule in g2.names():
            if same(molecule, name):
                return g2.system(molecule)
    return None


def _predefined() -> dict[str, Path]:
    from fusion.config.options import option_files

    return {name: file for name, file in option_files("system").items() if name not in ("file", "inline")}


def _split(side: str, quoted: Mapping[str, str], start_dir: Path) -> list[tuple[Fraction, str]]:
    """Return amounts and names of `2 h2 + o2`. A plus without spaces belongs to the name of an existing file."""
    parts: list[str] = []
    for piece in re.split(r"\s+\+\s+", side):
        is_name = "+" not in piece or (start_dir / piece).is_file()
        parts += [piece] if is_name else piece.split("+")
    terms = []
    for part in parts:
        match = _TERM.fullmatch(part.strip())
        if match is None:
            raise InputError(f"'{side}' is not a side of a reaction; write '2 h2 + o2'")
        number, name = match[1], quoted.get(match[2].strip(), match[2].strip())
        joined = re.fullmatch(r"(\d+)([A-Za-z].*)", name)
        if number is None and joined and _named(name) is None and not (start_dir / name).is_file():  # 2H2O
            number, name = joined.groups()
        amount = Fraction((number or "1").replace(" ", "")) if "/0" not in str(number) else Fraction(0)
        if amount <= 0:
            raise InputError(f"'{part.strip()}': an amount must be a positive number")
        terms.append((amount, name))
    return terms


def _short(names: Sequence[str], start_dir: Path) -> dict[str, str]:
    """Short names of files, without the folder, where they are unique."""
    last = {name: Path(name).name if is_file(name, start_dir) else name for name in names}
    shared = Counter(last.values())
    return {name: short if shared[short] == 1 else name for name, short in last.items()}


def _check_balance(reaction: Reaction, text: str) -> None:
    """Raise InputError that names what each side lacks, and balancing amounts if there are any."""
    surplus: Counter[str] = Counter()
    for coefficient, _, system in reaction.terms:
        for symbol in system.symbols:
            surplus[symbol] += coefficient  # type: ignore[assignment]
    lacking: dict[str, list[str]] = {"left": [], "right": []}
    for symbol, amount in surplus.items():
        if abs(amount) > 1e-9:
            lacking["left" if amount > 0 else "right"].append(f"{abs(amount):g} {symbol}")
    faults = [f"the {side} lacks {', '.join(parts)}" for side, parts in lacking.items() if parts]
    left, right = (sum(-sign * c * s.charge for c, _, s in reaction.terms if sign * c < 0) for sign in (1, -1))
    if abs(left - right) > 1e-9:
        faults.append(f"the charge is {left:+g} on the left and {right:+g} on the right")
    if faults:
        raise InputError(f"'{text}' is not balanced: {'; '.join(faults)}{_proposal(reaction)}")


def _proposal(reaction: Reaction) -> str:
    """Return `; 2 h2 + o2 -> 2 h2o is` if exactly one set of amounts balances the species."""
    from scipy.linalg import null_space

    systems = [term.system for term in reaction.terms]
    elements = sorted({symbol for system in systems for symbol in system.symbols})
    rows: list[Sequence[float]] = [[system.symbols.count(element) for system in systems] for element in elements]
    space = null_space(np.array([*rows, [system.charge for system in systems]], dtype=float))
    signs = np.array([math.copysign(1.0, term.coefficient) for term in reaction.terms])
    if space.shape[1] != 1:
        return ""
    amounts = space[:, 0] * signs
    amounts = amounts if amounts[0] > 0 else -amounts
    if (amounts < 1e-6).any():
        return ""
    shares = [Fraction(float(amount / amounts.min())).limit_denominator(_LARGEST) for amount in amounts]
    scale = math.lcm(*(share.denominator for share in shares))
    coefficients = [float(sign * share * scale) for sign, share in zip(signs, shares, strict=True)]
    terms = (Term(amount, *term[1:]) for amount, term in zip(coefficients, reaction.terms, strict=True))
    return f"; {Reaction(tuple(terms))} is"


def _written(amount: float, name: str) -> str:
    if amount == 1:
        return name
    exact = Fraction(amount).limit_denominator(_LARGEST)
    return f"{exact if abs(float(exact) - amount) < 1e-9 else f'{amount:g}'} {name}"
