"""What the terminal shows of a sum of methods: its terms, and what its energy is relative to."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from fusion import report, zeros

_ZEROS = {
    zeros.ATOMISATION: "relative to separate atoms",
    zeros.OWN: "neither total nor atomisation energies: compare energies of the same atoms only",
    zeros.CORRECTION: "a correction, to be added to an energy",
}


def rows(document: dict[str, Any]) -> Iterator[list[str]]:
    """A line per term and one on the energy zero, from the content of `result.json`; none where there is no sum."""
    found = document.get("sum") or {}
    for number, term in enumerate(found.get("terms", ())):
        energy = term.get("energy_hartree")
        value = "none" if energy is None else report.plus_minus(energy, term.get("energy_stderr_hartree")) + " Ha"
        times = "" if term["factor"] == 1 else f"{term['factor']:g} × "
        columns = [term["term"], *_part(term), "" if term["status"] == "ok" else term["status"]]
        yield ["" if number else "terms", times + value, *(column for column in columns if column)]
    if found.get("energy_zero") in _ZEROS:
        yield ["zero", _ZEROS[found["energy_zero"]]]


def _part(term: dict[str, Any]) -> list[str]:
    """`CH4, 1 link atom` of a term that is for part of the molecule."""
    if "formula" not in term:
        return []
    links = len(term["link_atoms"])
    charge = f", charge {term['charge']:+d}" if term["charge"] else ""
    return [f"{term['formula']}{charge}" + (f", with {report.count(links, 'link atom')}" if links else "")]
