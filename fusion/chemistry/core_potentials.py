"""Effective core potentials: those of PySCF's library by name (ccECP), or files in NWChem's format.

    V(r) = -Z_eff/r + v_local(r) + sum_l v_l(r) sum_m |lm><lm|,        v(r) = sum_t c_t r^(n_t - 2) exp(-a_t r^2)

Lengths in bohr, energies in hartree. Spin-orbit parts are left out.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import Any, NamedTuple

from ase.data import atomic_numbers

from fusion.errors import InputError
from fusion.files import bounds

LOCAL = -1
"""Angular momentum of the local channel."""

_LETTERS = {"ul": LOCAL} | {letter: momentum for momentum, letter in enumerate("spdfghik")}
_POWERS = range(7)
_SYNTAX = "write a name, ccecp, a file in NWChem's format, or one of them per element, {Fe: ccecp}"


class Term(NamedTuple):
    """c r^(power - 2) exp(-exponent r^2)."""

    power: int
    exponent: float
    coefficient: float


@dataclass(frozen=True)
class CorePotential:
    """Potential of one element: number of core electrons, and the terms of every channel by angular momentum."""

    name: str
    symbol: str
    electrons: int
    channels: Mapping[int, tuple[Term, ...]]

    @property
    def charge(self) -> int:
        """Z_eff, the charge of the nucleus with its core."""
        return int(atomic_numbers[self.symbol]) - self.electrons

    @property
    def radius(self) -> float:
        """Range of the most extended Gaussian of the semi-local part, or of the local one without any, bohr."""
        semi_local = [term.exponent for momentum, terms in self.channels.items() if momentum >= 0 for term in terms]
        exponents = semi_local or [term.exponent for term in self.channels.get(LOCAL, ())]
        return float(min(exponents) ** -0.5) if exponents else 0.0

    def as_pyscf(self) -> list[Any]:
        """Potential in the form of ``Mole.ecp``."""
        shells = [
            [momentum, [[[t.exponent, t.coefficient] for t in terms if t.power == power] for power in _POWERS]]
            for momentum, terms in sorted(self.channels.items())
        ]
        return [self.electrons, shells]


def read(setting: Any, symbols: Sequence[str], start_dir: Path) -> tuple[CorePotential, ...]:
    """Return the potentials of the elements `symbols` that `system.ecp` names.

    A name or file for all elements leaves H and He bare, unless it is a file that has them. Raises InputError.
    """
    if setting is None:
        return ()
    elements = list(dict.fromkeys(symbols))
    if isinstance(setting, str) and setting.strip():
        potentials = _source(setting, start_dir)
        wanted = [symbol for symbol in elements if atomic_numbers[symbol] > 2 or is_file(setting)]
        optional = [symbol for symbol in wanted if atomic_numbers[symbol] <= 2 and symbol not in potentials]
        return tuple(_of_element(potentials, symbol, setting) for symbol in wanted if symbol not in optional)
    if not isinstance(setting, Mapping) or not all(isinstance(name, str) for name in setting.values()):
        raise InputError(f"system.ecp={setting} is not a core potential; {_SYNTAX}")
    named = {str(key).strip().capitalize(): str(name) for key, name in setting.items()}
    strangers = [symbol for symbol in named if symbol not in elements]
    if strangers:
        raise InputError(f"system.ecp names {strangers[0]}, but the system has only {', '.join(elements)}")
    return tuple(_of_element(_source(name, start_dir), symbol, name) for symbol, name in named.items())


def absolute(setting: Any, start_dir: Path) -> Any:
    """Return the setting `system.ecp` with absolute paths of files."""
    if isinstance(setting, Mapping):
        return {key: absolute(value, start_dir) for key, value in setting.items()}
    if isinstance(setting, str) and is_file(setting):
        return str(start_dir / Path(setting).expanduser())
    return setting


def is_file(name: str) -> bool:
    """True for a name with a directory or a suffix, `./mine` or `mine.nw`, unlike those of PySCF's library."""
    return "/" in name or bool(PurePath(name).suffix)


def label(potentials: Iterable[CorePotential]) -> str:
    """Names with their elements: `ccecp for C O`."""
    names: dict[str, list[str]] = {}
    for potential in potentials:
        names.setdefault(PurePath(potential.name).name, []).append(potential.symbol)
    return ", ".join(f"{name} for {' '.join(elements)}" for name, elements in names.items())


def parse(text: str, name: str) -> dict[str, CorePotential]:
    """Parse all potentials of a file in NWChem's format, by element. Raises InputError that names a wrong line.

    Only the section between ECP and END counts if the text has one.
    """
    cores: dict[str, int] = {}
    channels: dict[str, dict[int, list[Term]]] = {}
    current: list[Term] | None = None
    for number, words in _section(text):
        try:
            if words[0][0].isalpha():
                symbol, keyword = words[0].capitalize(), words[1].lower()
                if not atomic_numbers.get(symbol, 0):
                    raise ValueError
                if keyword == "nelec":
                    cores[symbol], current = _core(symbol, words[2]), None
                else:
                    current = channels.setdefault(symbol, {}).setdefault(_LETTERS[keyword], [])
            elif current is None:
                raise ValueError
            else:
                current.append(_term(words))
        except (ValueError, KeyError, IndexError):
            raise InputError(
                f"system.ecp={name}, line {number}: {' '.join(words)!r} is not NWChem's format; expected "
                "'Li nelec 2' (an even number below Z), 'Li ul', 'Li s' or 'power exponent coefficient'"
            ) from None
    for symbol in cores.keys() ^ channels.keys():
        lacking = "'nelec'" if symbol in channels else "channels, such as 'ul'"
        raise InputError(f"system.ecp={name}: {symbol} has no {lacking}")
    return {
        symbol: CorePotential(name, symbol, cores[symbol], {key: tuple(terms) for key, terms in by_momentum.items()})
        for symbol, by_momentum in channels.items()
    }


def _section(text: str) -> list[tuple[int, list[str]]]:
    """Numbers and words of the lines that hold data."""
    lines = [(number, line.partition("#")[0].split()) for number, line in enumerate(text.splitlines(), start=1)]
    keywords = [words[0].lower() if words else "" for _, words in lines]
    first = keywords.index("ecp") + 1 if "ecp" in keywords else 0
    last = keywords.index("end", first) if "end" in keywords[first:] else len(lines)
    return [(number, words) for number, words in lines[first:last] if words]


def _core(symbol: str, word: str) -> int:
    electrons = int(word)
    if not 0 <= electrons < atomic_numbers[symbol] or electrons % 2:
        raise ValueError
    return electrons


def _term(words: Sequence[str]) -> Term:
    power, *values = words
    # A third number is that of the spin-orbit part.
    exponent, coefficient = (float(value.upper().replace("D", "E")) for value in values[:2])
    term = Term(int(power), exponent, coefficient)
    if term.power not in _POWERS or not 0 < exponent < float("inf") or not abs(coefficient) < float("inf"):
        raise ValueError
    return term


def _of_element(potentials: Mapping[str, CorePotential], symbol: str, name: str) -> CorePotential:
    if symbol not in potentials:
        raise InputError(
            f"system.ecp={name} has no potential for {symbol}, only for {' '.join(sorted(potentials))}; "
            "name the elements that have one, {Fe: " + name + "}, or choose another"
        )
    return potentials[symbol]


def _source(name: str, start_dir: Path) -> dict[str, CorePotential]:
    """All potentials of a file, or of PySCF's library under this name."""
    if is_file(name):
        path = start_dir / Path(name).expanduser()
        try:
            potentials = parse(bounds.text(path), name)
        except (OSError, ValueError) as error:
            raise InputError(f"system.ecp: {path} cannot be read: {bounds.reason(error)}") from None
        if not potentials:
            raise InputError(f"system.ecp={name} contains no potential in NWChem's format ('Li nelec 2', ...)")
        return potentials
    from pyscf.gto import basis

    file = basis.ALIAS.get("".join(letter for letter in name.lower() if letter.isalnum()))
    content = Path(basis._BASIS_DIR, file).read_text() if isinstance(file, str) and file.endswith(".dat") else ""
    if "nelec" not in content.lower():
        raise InputError(f"system.ecp: no core potential {name!r} in PySCF; {_SYNTAX}")
    return parse(content, name)
