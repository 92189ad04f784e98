"""Ghost atoms: centres of basis functions with neither nucleus nor electrons, for counterpoise corrections."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from ase.data import atomic_numbers

from fusion.chemistry.units import BOHR_PER_ANGSTROM
from fusion.errors import InputError


@dataclass(frozen=True)
class Ghost:
    """Centre of basis functions with neither nucleus nor electrons; position in bohr."""

    symbol: str
    position: tuple[float, float, float]

    @property
    def pyscf(self) -> tuple[str, tuple[float, float, float]]:
        """Atom of a PySCF molecule."""
        return f"ghost-{self.symbol}", self.position


def parsed_ghosts(setting: Any) -> tuple[Ghost, ...]:
    """Read ghosts from `"O 0 0 0; H 0 0.76 0.59"` or `[[O, 0, 0, 0], ...]`, both in Angstrom. Raises InputError."""
    lines = setting.split(";") if isinstance(setting, str) else setting or ()
    if not isinstance(lines, Sequence) or not all(isinstance(line, str | Sequence) for line in lines):
        raise InputError(f"method.ghosts: write 'O 0 0 1.2; H 0 0.7 1.8', positions in Angstrom, not {setting!r}")
    return tuple(_ghost(line.split() if isinstance(line, str) else list(line)) for line in lines if line)


def check_no_solvent(ghosts: Sequence[Ghost], solvent: Any) -> None:
    """Raise InputError for ghosts in a solvent."""
    if ghosts and solvent is not None:
        raise InputError("method.ghosts: a solvent has no cavity around atoms without nuclei; remove ghosts or solvent")


def _ghost(words: Sequence[Any]) -> Ghost:
    try:
        symbol, (x, y, z) = str(words[0]), (float(word) * BOHR_PER_ANGSTROM for word in words[1:])
    except (ValueError, TypeError, IndexError):
        shown = " ".join(map(str, words))
        raise InputError(
            f"method.ghosts: {shown!r} is not an element with x y z in Angstrom, as in 'O 0 0 1.2'"
        ) from None
    proper = symbol.capitalize() if symbol.islower() else symbol
    if atomic_numbers.get(proper, 0) == 0:
        raise InputError(f"method.ghosts: unknown element {symbol!r}; write symbols as in H, Li, Cl")
    return Ghost(proper, (x, y, z))
