"""Domain of a potential: the systems it was trained for, and messages about systems outside it. Atomic units."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ase.data import atomic_numbers

from fusion.chemistry.neighbours import closest_pair
from fusion.chemistry.system import System
from fusion.chemistry.units import ANGSTROM_PER_BOHR, BOHR_PER_ANGSTROM
from fusion.console.format import count
from fusion.errors import InputError

if TYPE_CHECKING:
    from torch import Tensor

    from fusion.zoo.card import Card

CLOSEST_ANGSTROM = 0.1
"""Atoms nearer than this are refused: no potential was trained there, and compressed structures stay above it."""


@dataclass(frozen=True)
class Domain:
    """Elements, charges and spins that a model covers; None means unknown.

    `factor` times the members' standard deviation is the uncertainty of their mean energy, calibrated on held-out
    structures (`fusion.evaluation.uncertainty`). `forces_factor` is the same for a component of a force. Both are None
    without a calibration. A structure counts as unlike the training data if its calibrated uncertainty per square root
    of the number of atoms exceeds `spread` (hartree), the criterion of Smith et al., J. Chem. Phys. 148, 241733 (2018).
    `periodic` is False for a model without periodic images; `single_atoms` is False for a model whose energies are
    relative to separate atoms.
    """

    label: str
    elements: tuple[str, ...] | None = None
    charges: tuple[int, ...] | None = None
    spins: tuple[int, ...] | None = None
    spread: float | None = None
    factor: float | None = None
    forces_factor: float | None = None
    periodic: bool = True
    single_atoms: bool = True

    @classmethod
    def of_card(cls, card: Card) -> Domain:
        """The domain that a model card states."""
        states = tuple(card.charges), tuple(card.spins)
        return cls(card.name, tuple(card.elements), *states, card.spread, card.spread_factor, card.forces_factor)

    @classmethod
    def stated(cls, label: str, setting: Any, where: str) -> Domain:
        """Read the domain from the setting `where`: lists of elements, charges and spins (N_up - N_down), all optional.

        Raises InputError for an unknown key or a value that is not such a list.
        """
        keys = ("elements", "charges", "spins")
        if not isinstance(setting, Mapping) or not setting.keys() <= set(keys):
            raise InputError(f"{where} takes {', '.join(keys)}: {{elements: [H, C], charges: [0], spins: [0]}}")
        for key, values in setting.items():
            kind, example = (str, "[H, C]") if key == "elements" else (int, "[0]")
            listed = isinstance(values, Sequence) and not isinstance(values, str) and len(values) > 0
            if not listed or not all(type(value) is kind for value in values):
                raise InputError(f"{where}.{key} must be a list, {example}, not {values!r}")
        for symbol in setting.get("elements", ()):
            if symbol not in atomic_numbers:
                raise InputError(f"{where}.elements: {symbol!r} is not an element; write symbols like H, Li, Cl")
        elements, charges, spins = (tuple(setting[key]) if key in setting else None for key in keys)
        return cls(label, elements, charges, spins)

    def check(self, system: System) -> None:
        """Raise InputError for a system the model does not cover.

        An assumed spin (no spin in the input) passes if the model covers any spin of the same parity. It also passes
        for a single atom, whose energy is a constant of the model (see `remark`).
        """
        self._check_elements(system)
        if self.charges is not None and system.charge not in self.charges:
            raise InputError(self._outside(f"charge {system.charge}"))
        if any(system.pbc) and not self.periodic:
            raise InputError(
                f"{self.label} has no periodic images, but {system.name} is periodic; for a molecule, remove its cell"
            )
        if _is_atom(system) and not self.single_atoms:
            raise InputError(f"{self.label} gives energies relative to separate atoms; {system.name} is a single atom")
        self._check_spin(system)
        check_distances(system)

    def remark(self, system: System) -> str | None:
        """Return the meaning of a single atom's energy as a message; None for a molecule."""
        if not _is_atom(system):
            return None
        return f"a single atom: its energy is a constant of {self.label}, not that of a state of {system.symbols[0]}"

    def scaled(self, members: Tensor) -> Tensor:
        """Scale the members' values (M, ...) by `factor` about their mean.

        Every spread computed from them is then calibrated, also that of an energy difference or a frequency.
        """
        if self.factor is None:
            return members
        mean = members.mean(dim=0)
        return mean + self.factor * (members - mean)

    def judge(self, system: System, std: float) -> tuple[dict[str, Any], str | None]:
        """Compare the standard deviation `std` (hartree) of the `scaled` members with the limit `spread`.

        Returns details for the result, and a warning if the system lies outside the domain.
        """
        per_sqrt_atom = std / math.sqrt(len(system.symbols))
        details: dict[str, Any] = {"spread_hartree_per_sqrt_atom": per_sqrt_atom}
        details |= {} if self.factor is None else {"calibration_factor": self.factor}
        if self.spread is None:
            return details, None
        outside = per_sqrt_atom > self.spread
        details |= {"limit_hartree_per_sqrt_atom": self.spread, "outside": outside}
        if not outside:
            return details, None
        return details, (
            f"outside what the model was trained on: {self.label}'s members differ by {per_sqrt_atom * 1000:.3g} mHa "
            f"per sqrt(atom), more than {self.spread * 1000:.3g}; the numbers are only a guess"
        )

    def _check_elements(self, system: System) -> None:
        missing = [] if self.elements is None else [s for s in system.symbols if s not in self.elements]
        if not missing:
            return
        named = []
        for symbol in dict.fromkeys(missing):
            places = [str(i) for i, other in enumerate(system.symbols, start=1) if other == symbol]
            more = ", ..." if len(places) > 3 else ""
            named.append(f"{symbol} (atom{'s' if len(places) > 1 else ''} {', '.join(places[:3])}{more})")
        raise InputError(
            f"{self.label} covers {' '.join(self.elements or ())}; {system.name} also has {', '.join(named)}."
            f"{_covering(set(system.symbols), self.label)}"
        )

    def _check_spin(self, system: System) -> None:
        if self.spins is None or system.spin in self.spins:
            return
        parity_covered = any((system.spin - spin) % 2 == 0 for spin in self.spins)
        if system.spin_assumed and (parity_covered or _is_atom(system)):
            return
        if parity_covered or system.spin % 2 == 0:
            raise InputError(self._outside(f"spin {system.spin} (N_up - N_down)"))
        electrons = f"{count(system.n_electrons, 'electron')} is an odd number: an open shell (spin {system.spin})"
        raise InputError(self._outside(electrons, f"; if {system.name} is an ion, system.charge=... sets its charge"))

    def _outside(self, state: str, advice: str = "") -> str:
        closed = "closed shells" if self.spins == (0,) else "other states"
        kind = "neutral closed-shell molecules" if (self.charges, self.spins) == ((0,), (0,)) else closed
        return f"{self.label} was trained on {kind}; {state} is outside its domain{advice}.{_other_methods()}"


def _is_atom(system: System) -> bool:
    return len(system.symbols) == 1 and not any(system.pbc)


def check_distances(system: System) -> None:
    """Raise InputError for atoms closer than `CLOSEST_ANGSTROM`, periodic images included."""
    limit = CLOSEST_ANGSTROM * BOHR_PER_ANGSTROM
    closest = closest_pair(system.positions, system.cell, system.pbc)
    if closest is not None and closest[2] < limit:
        i, j, distance = closest
        raise InputError(
            f"atoms {i + 1} ({system.symbols[i]}) and {j + 1} ({system.symbols[j]}) of {system.name} are "
            f"{distance * ANGSTROM_PER_BOHR:.3f} Angstrom apart; at least {CLOSEST_ANGSTROM} are needed"
        )


def _covering(symbols: set[str], label: str) -> str:
    """Name a potential of the zoo that covers all these elements, or the methods without training data.

    Models of the method of the model `label` come first, then those with the fewest elements.
    """
    from fusion import zoo

    potentials = [card for card in zoo.cards() if card.kind == "potential"]
    own = {card.method for card in potentials if card.name == label}
    able = [card for card in potentials if card.elements and symbols <= set(card.elements)]
    if not able:
        return f" No model of the zoo has all of {' '.join(sorted(symbols))}.{_other_methods()}"
    card = min(able, key=lambda card: (card.method not in own, len(card.elements)))
    method = "" if card.method in own else f"+method={card.method} "
    return f" {method}weights={card.name} covers {' '.join(card.elements)}"


def _other_methods() -> str:
    """Name the methods that are not limited to training data of closed shells."""
    from fusion.config.options import kind_of, option_files, read_yaml

    able = [
        name
        for name, file in option_files("method").items()
        if kind_of(read_yaml(file)) in ("functional", "ansatz", "conventional")
    ]
    return f" Other methods: {', '.join(able)}" if able else ""
