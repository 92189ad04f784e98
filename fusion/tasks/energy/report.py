"""Terminal report of an SCF calculation, the correlation energy and the charges of atoms, from a `result.json`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final

from fusion.console import units
from fusion.console.format import count

_NAMED: Final = 4
"""Largest number of atoms whose charges or spins are shown."""
_UNPAIRED: Final = 0.05
"""Least spin of an atom that counts as one."""


def rows(document: Mapping[str, Any]) -> Iterator[list[str]]:
    """Yield lines on the solvent, the parts of the energy, SCF, spin and basis-set limit; none without them."""
    if document.get("solvent"):
        yield from _solvent_rows(document["solvent"])
    correlation, scf, limit = (document.get(name) or {} for name in ("correlation", "scf", "basis_limit"))
    if limit:
        yield from _limit_rows(limit)
    elif correlation:
        yield ["Hartree–Fock", units.energy(scf["energy_hartree"]), f"{scf['reference']}, {scf['basis']}"]
    if correlation:
        yield from _correlation_rows(correlation, bool(limit))
    if scf:
        yield from _scf_rows(scf)


def _solvent_rows(solvent: Mapping[str, Any]) -> Iterator[list[str]]:
    parts = [f"polarisation {units.energy(solvent['polarisation_hartree'])}"]
    if "nonelectrostatic_hartree" in solvent:
        parts.append(f"cavitation and dispersion {units.energy(solvent['nonelectrostatic_hartree'])}")
    name = solvent.get("name") or "unnamed"
    yield ["solvent", f"{name}, {solvent['model']}, ε {solvent['epsilon']:g}", *parts]


def fitting_rows(scf: Mapping[str, Any]) -> Iterator[list[str]]:
    """Yield the line on density fitting and its error, for details of an SCF that has it."""
    if not scf.get("auxiliary_functions"):
        return
    error = scf.get("density_fit_error_hartree")
    text = f"error {scf.get('density_fit_error')}"
    if error is not None:
        text = f"error {1e3 * error:+.4f} mHa, from exact integrals at its density"
    yield ["density fit", count(scf["auxiliary_functions"], "auxiliary function"), text]


def population_rows(document: Mapping[str, Any]) -> Iterator[list[str]]:
    """Yield the largest charges of atoms, and their spins if there are any."""
    symbols = document.get("system", {}).get("symbols", [])
    for name, key in (("charges", "charges_e"), ("spins", "spin_populations")):
        values = document.get(key) or []
        least = _UNPAIRED if name == "spins" else 0.0
        largest = sorted(
            (atom for atom, value in enumerate(values) if abs(value) >= least), key=lambda i: -abs(values[i])
        )
        named = [f"{symbols[atom]}{atom + 1} {values[atom]:+.2f}" for atom in largest[:_NAMED]]
        if named:
            yield [name, ", ".join(named), "the largest" if len(largest) > _NAMED else ""]


def _limit_rows(limit: Mapping[str, Any]) -> Iterator[list[str]]:
    parts = zip(limit["bases"], limit["mean_field_hartree"], limit["correlation_hartree"], strict=True)
    for basis, mean_field, correlation in parts:
        correlation_part = f"and {units.energy(correlation)}" if correlation else ""
        yield [basis, units.energy(mean_field), f"Hartree–Fock {correlation_part}".rstrip()]
    mean_field, correlation = limit["limit_mean_field_hartree"], limit["limit_correlation_hartree"]
    correlation_part = f"and {units.energy(correlation)} by L⁻³" if correlation else ""
    yield ["basis limit", units.energy(mean_field), f"Hartree–Fock by (L + 1) exp(-9 √L) {correlation_part}".rstrip()]


def _correlation_rows(correlation: Mapping[str, Any], extrapolated: bool) -> Iterator[list[str]]:
    frozen = correlation.get("frozen_orbitals", 0)
    remark = f"{count(frozen, 'core orbital')} frozen" if frozen else "all electrons"
    if "determinants" in correlation:
        remark += f", {count(correlation['determinants'], 'determinant')}"
    if not extrapolated:
        yield ["correlation", units.energy(correlation["energy_hartree"]), remark]
    if "triples_hartree" in correlation:
        yield ["triples (T)", units.energy(correlation["triples_hartree"])]
    if "t1_diagnostic" in correlation:
        yield [
            "T1 diagnostic",
            f"{correlation['t1_diagnostic']:.4f}",
            f"{count(correlation['cycles'], 'cycle')}",
        ]


def _scf_rows(scf: Mapping[str, Any]) -> Iterator[list[str]]:
    settings = f"{scf['reference']}, {scf['basis']}, {count(scf['functions'], 'function')}"
    if "grid_level" in scf:
        settings += f", grid level {scf['grid_level']} ({scf['grid_points']:,} points)"
    yield [
        "SCF",
        count(scf["cycles"], "cycle"),
        ", then ".join(attempt["name"] for attempt in scf["attempts"]),
        settings,
    ]
    yield from fitting_rows(scf)
    if scf.get("core_potential_electrons"):
        yield ["core potential", count(scf["core_potential_electrons"], "electron"), "of the basis set"]
    if scf.get("dispersion_hartree") is not None:
        yield ["dispersion", units.energy(scf["dispersion_hartree"]), "D3(BJ)"]
    if scf.get("spin_squared") is not None:
        yield ["⟨S²⟩", f"{scf['spin_squared']:.4f}", f"{scf['spin_squared_of_pure_state']:.4f} in a pure state"]
