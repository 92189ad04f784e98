"""Conventional methods against published energies: Hartree-Fock limits, exact energies, the hydrogen chain.

    python benchmarks/conventional_limits.py DIRECTORY_OF_REFERENCES    writes conventional_limits.md beside this file

DIRECTORY_OF_REFERENCES holds h10_motta2017.json: Motta et al., Phys. Rev. X 7, 031059 (2017), tables of
github.com/simonsfoundation/hydrogen-benchmark-PRX (CC BY 4.0).
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

from fusion.chemistry import system_input
from fusion.chemistry.system import System
from fusion.config import compose
from fusion.methods import by_name
from fusion.runs.results import Result, versions

TABLE = Path(__file__).with_suffix(".md")
HARTREE_FOCK = {
    "n2": (
        -108.9938,
        "N2 at 2.068 bohr, numerical Hartree–Fock; tables in S. Lehtola, Int. J. Quantum Chem. 119, e25944 (2019)",
    ),
    "h2o": (
        -76.0675,
        "H2O, the limit usually quoted near equilibrium; multiwavelets (tests of MADNESS) give -76.06744",
    ),
}
CHAIN = {"hf": "RHF", "ccsd": "RCCSD", "ccsd_t": "RCCSD(T)", "fci": "FCI", "uhf": "UHF", "uccsd_t": "UCCSD(T)"}
SPACINGS = ("1.4", "1.8", "2.8")


def main(references: Path) -> None:
    """Compute all tables and write the page."""
    tables = json.loads((references / "h10_motta2017.json").read_text())["data"]
    lines = ["# Conventional methods against published energies", "", _settings(), ""]
    for part in (_limits, lambda: _chain(tables), lambda: _chain_limit(tables), _exact):
        lines += [*part(), ""]
        TABLE.write_text("\n".join(lines).rstrip() + "\n")  # what is done is kept


def _limits() -> list[str]:
    rows = [
        "## Hartree–Fock limits",
        "",
        "| molecule | basis | energy / Ha | published / Ha | difference / mHa |",
        "|---|---|---|---|---|",
    ]
    for name, (published, _) in HARTREE_FOCK.items():
        system = _system(name)
        if name == "n2":
            system = system.moved(np.array([[0, 0, 0], [0, 0, 2.068]]))
        for basis in ("cc-pvqz", "cc-pv[dt]z", "cc-pv[tq]z", "aug-cc-pv[tq]z"):
            energy = _run({"method": "hf", "basis": basis}, system).energy
            rows.append(
                f"| {system.formula} | {basis} | {energy:.5f} | {published} | {1000 * (energy - published):+.2f} |"
            )
    return [*rows, "", *(f"* {source}: {value} Ha" for value, source in HARTREE_FOCK.values())]


def _exact() -> list[str]:
    rows = [
        "## CCSD(T), all electrons, against energies called exact",
        "",
        "| molecule | basis | energy / Ha | exact / Ha | difference / mHa | CPU s | source |",
        "|---|---|---|---|---|---|---|",
    ]
    for name, basis in (("h2o", "cc-pcv[dt]z"), ("h2o", "cc-pcv[tq]z"), ("n2", "cc-pcv[dt]z")):
        system, began = _system(name), time.process_time()
        result = _run({"method": "ccsd_t", "basis": basis, "frozen_core": False}, system)
        assert system.reference is not None and result.energy is not None
        difference = 1000 * (result.energy - system.reference.value)
        cpu = time.process_time() - began
        rows.append(
            f"| {system.formula} | {basis} | {result.energy:.5f} | {system.reference.value} | {difference:+.1f} "
            f"| {cpu:.0f} | {system.reference.source} |"
        )
    return rows


def _chain(tables: dict[str, Any]) -> list[str]:
    rows = [
        "## Hydrogen chain H10: difference to Motta et al. 2017, µHa",
        "",
        f"| method | basis | {' | '.join(f'R = {spacing} bohr' for spacing in SPACINGS)} |",
        "|---|---|" + "---|" * len(SPACINGS),
    ]
    for name, title in CHAIN.items():
        for basis, label in (("sto-6g", "STO"), ("cc-pvdz", "DZ")):
            if f"{title}_basis-{label}" not in tables:
                continue
            cells = [_difference(name, basis, tables[f"{title}_basis-{label}"], spacing) for spacing in SPACINGS]
            rows.append(f"| {title} | {basis} | {' | '.join(cells)} |")
    return rows


def _difference(name: str, basis: str, table: dict[str, list[float]], spacing: str) -> str:
    entry: dict[str, Any] = {"method": name.removeprefix("u"), "basis": basis}
    if name.startswith("u"):
        entry |= {"reference": "unrestricted", "stability": True}
    if "cc" in name:
        entry["cc_max_cycle"] = 300
    system = System("h10", ("H",) * 10, np.array([[0, 0, float(spacing) * index] for index in range(10)]))
    result = _run(entry, system)
    return f"{1e6 * (result.energy - table[spacing][0]):+.1f}" if result.status == "ok" else "not converged"  # type: ignore[operator]


def _chain_limit(tables: dict[str, Any]) -> list[str]:
    """Apply the extrapolation to the published energies in cc-pVTZ and cc-pVQZ."""
    from fusion_conventional.basis_limit import terms

    rows = [
        "## Hydrogen chain H10: cc-pv[tq]z of the published energies against the published limits, Ha",
        "",
        "| method | R / bohr | this rule | published | difference / mHa |",
        "|---|---|---|---|---|",
    ]
    for title in ("RHF", "RCCSD", "RCCSD(T)"):
        for spacing in SPACINGS:
            total = 0.0
            for term, label in zip(terms("cc-pv[tq]z"), ("TZ", "QZ"), strict=True):
                hartree_fock = tables[f"RHF_basis-{label}"][spacing][0]
                total += term.mean_field * hartree_fock
                total += term.correlation * (tables[f"{title}_basis-{label}"][spacing][0] - hartree_fock)
            limit, error = tables[f"{title}_CBS"][spacing]
            rows.append(
                f"| {title} | {spacing} | {total:.5f} | {limit:.5f} ± {error:.5f} | {1000 * (total - limit):+.2f} |"
            )
    return rows


def _run(entry: dict[str, Any], system: System) -> Result:
    print(entry, system.formula, flush=True)
    (result,) = by_name.method(entry).calculate([system], {"energy"})
    return result


def _system(name: str) -> System:
    composed, _ = compose.compose(["+method=hf", f"system={name}"])
    return system_input.read(composed.system)


def _settings() -> str:
    packages = versions()
    return f"fusion {packages['fusion']}, PySCF {packages['pyscf']}; one thread; default settings unless said."


if __name__ == "__main__":
    main(Path(sys.argv[1]))
