"""Terminal report of a sum of methods: its terms and its energy zero."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from fusion.chemistry import energy_zeros
from fusion.console import units
from fusion.console.format import count

_ZEROS = {
    energy_zeros.ATOMISATION: "relative to separate atoms",
    energy_zeros.OWN: "neither total nor atomisation energies: compare only energies of the same atoms",
    energy_zeros.CORRECTION: "a correction, to be added to an energy",
}


def rows(document: dict[str, Any]) -> Iterator[list[str]]:
    """Yield a line per term and one on the energy zero, from the content of `result.json`; none without a sum."""
    details = document.get("sum") or {}
    for number, term in enumerate(details.get("terms", ())):
        energy = term.get("energy_hartree")
        value = "none" if energy is None else units.energy(energy, term.get("energy_stderr_hartree"))
        factor = "" if term["factor"] == 1 else f"{term['factor']:g} × "
        columns = [term["term"], *_part(term), "" if term["status"] == "ok" else term["status"]]
        yield ["" if number else "terms", factor + value, *(column for column in columns if column)]
    if details.get("energy_zero") in _ZEROS:
        yield ["zero", _ZEROS[details["energy_zero"]]]


def _part(term: dict[str, Any]) -> list[str]:
    """Fragment of a term for part of the molecule: `CH4, with 1 link atom`."""
    if "formula" not in term:
        return []
    links = len(term["link_atoms"])
    charge = f", charge {term['charge']:+d}" if term["charge"] else ""
    return [f"{term['formula']}{charge}" + (f", with {count(links, 'link atom')}" if links else "")]
