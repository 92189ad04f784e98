"""Lines on the energy and the properties in a result, for the summary of a run."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any

from fusion.console import units
from fusion.console.format import count, difference, memory, plus_minus, with_error


def status_of(result: dict[str, Any]) -> str:
    """Return the status, but `failed` instead of `ok` for an energy that is not finite."""
    status = str(result.get("status") or "unknown status")
    value = (result.get("energy") or {}).get("value", 0.0)
    return "failed" if status == "ok" and not math.isfinite(value) else status


def verdict_of(result: dict[str, Any]) -> str:
    """Return the task's own verdict on its convergence; empty if there is none."""
    parts = [value for value in result.values() if isinstance(value, dict)]
    return next((str(part["verdict"]) for part in parts if part.get("verdict")), "")


def energy_columns(result: dict[str, Any], alarm: str) -> list[str]:
    """Energy with its errors, and what stands beside it; `alarm` is the status of a result that is not ok."""
    energy, vmc = result.get("energy") or {}, result.get("vmc") or {}
    value, spread = energy.get("value"), result.get("energy_std_hartree")
    columns, unit = [alarm] if alarm else [], units.current().energy
    if value is None:
        return ["none", *columns]
    if spread is not None:
        calibrated = "calibration_factor" in (result.get("domain") or {})
        columns.append(f"± {spread * unit.factor:.2g} {unit.symbol} model" + (", calibrated" if calibrated else ""))
    if vmc.get("variance_hartree2") is not None:
        columns.append(f"variance {vmc['variance_hartree2']:.2g}")
    spin_squared = vmc.get("spin_squared")
    if spin_squared is not None:
        columns.append(f"⟨S²⟩ {with_error(spin_squared['value'], spin_squared.get('stderr'), decimals=3)}")
    return [units.energy(value, energy.get("stderr")), *columns]


def reference_rows(result: dict[str, Any]) -> Iterator[list[str]]:
    """Yield rows of Hartree-Fock, the reference with the difference to it, and the fraction of correlation energy."""
    vmc, reference = result.get("vmc") or {}, result.get("reference")
    energy = result.get("energy") or {}
    hartree_fock = vmc.get("hartree_fock")
    if hartree_fock:
        remark = ", ".join(hartree_fock[key] for key in ("basis", "method") if hartree_fock.get(key))
        yield ["Hartree–Fock", units.energy(hartree_fock["energy_hartree"], decimals=5), remark]
    if reference:
        errors = [error for error in (energy.get("stderr"), reference.get("uncertainty")) if error is not None]
        error = 1000 * math.hypot(*errors) if errors else None
        columns = [reference.get("source") or "source unknown"]
        if reference.get("difference_mhartree") is not None:
            columns.append(difference(reference["difference_mhartree"], error))
        yield ["reference", units.energy(reference["value"], decimals=5), *columns]
    communication = vmc.get("communication")
    if communication:
        sent = memory(communication["bytes_per_iteration_and_rank"])
        calls = f"{communication['calls_per_iteration']:.0f} calls an iteration"
        yield ["communication", f"{sent} a rank", calls, f"{communication['ranks']} ranks"]
    remaining = vmc.get("remaining")
    if remaining:
        yield ["remaining", f"at most about {1e3 * remaining['error_hartree']:.1f} mHa", *_remaining_columns(remaining)]
    percent = vmc.get("correlation_percent")
    if percent and hartree_fock and reference:
        share = plus_minus(percent["value"], percent.get("stderr"), digits=1, decimals=1)
        correlation = reference["value"] - hartree_fock["energy_hartree"]
        yield ["correlation", f"{share} %", f"of {correlation:.4f} Ha beyond Hartree–Fock"]
    elif hartree_fock and energy.get("value") is not None:
        gained = with_error(energy["value"] - hartree_fock["energy_hartree"], energy.get("stderr"), decimals=4)
        side = "below" if energy["value"] < hartree_fock["energy_hartree"] else "ABOVE"
        yield ["E - E(HF)", f"{gained} Ha", f"{side} Hartree–Fock"]


def _remaining_columns(remaining: dict[str, Any]) -> Iterator[str]:
    """Yield both estimates of the remaining error of an optimisation, mHa."""
    for name, text in (("by_steps", "more steps"), ("by_variance", "zero variance")):
        if estimate := remaining.get(name):
            yield f"{text} {plus_minus(-1e3 * estimate['hartree'], 1e3 * estimate['stderr_hartree'])} mHa"


def property_rows(result: dict[str, Any]) -> Iterator[list[str]]:
    """Yield the largest force, moments, occupations and remarks on the optimisation, as far as the result has them."""
    forces = result.get("forces_hartree_per_bohr")
    if forces and all(None not in force for force in forces):
        fixed = (result.get("system") or {}).get("fixed") or [(False, False, False)] * len(forces)
        norms = [
            math.hypot(*(value for value, held in zip(force, row, strict=True) if not held))
            for force, row in zip(forces, fixed, strict=True)
        ]
        worst = max(range(len(norms)), key=norms.__getitem__)
        symbols = (result.get("system") or {}).get("symbols") or [""] * len(norms)
        unit = units.current().force
        small = norms[worst] * unit.factor < 10.0 ** (1 - unit.decimals)
        size = f"{norms[worst] * unit.factor:.1e}" if small else unit.number(norms[worst])
        stderr = result.get("forces_stderr_hartree_per_bohr")
        if stderr:
            error = _norm_stderr(forces[worst], stderr[worst], fixed[worst])
            size = plus_minus(norms[worst] * unit.factor, error * unit.factor, digits=1)
        spread = result.get("forces_std_hartree_per_bohr")
        model = [f"± {math.hypot(*spread[worst]) * unit.factor:.2g} {unit.symbol} model"] if spread else []
        yield ["forces", f"{size} {unit.symbol}", f"largest, on {symbols[worst]} (atom {worst + 1})", *model]
    vmc = result.get("vmc") or {}
    if matrix := vmc.get("density_matrix"):
        yield ["occupations", _occupations(matrix), "last occupied and first virtual natural orbital"]
    steps = vmc.get("optimisation") or {}
    rejected = steps.get("rejected_steps")
    if rejected:
        yield ["optimisation", count(steps["iterations"], "step"), f"{rejected:,} rejected and rolled back"]


def _occupations(matrix: dict[str, Any]) -> str:
    """Format the occupations of the last natural orbital that Hartree-Fock occupies and of the next one."""
    values = matrix["occupations"]["value"]
    errors = matrix["occupations"]["stderr"] or [None] * len(values)
    last = sum(occupation > 0.5 for occupation in matrix["hartree_fock_occupations"]) - 1
    pairs = list(zip(values, errors, strict=True))[last : last + 2]
    return " ".join(with_error(value, error, decimals=3) for value, error in pairs)


def _norm_stderr(vector: Sequence[float], stderr: Sequence[float], held: Sequence[bool]) -> float:
    """Standard error of the norm of the components of a vector that are not held."""
    parts = [(value, error) for value, error, fixed in zip(vector, stderr, held, strict=True) if not fixed]
    norm = math.hypot(*(value for value, _ in parts))
    return math.hypot(*(value * error for value, error in parts)) / norm if norm else 0.0
