"""Metrics of a model card, from the result of the run that trained the model."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from fusion.cli.repeated_command import repeating
from fusion.zoo.card import Metric

if TYPE_CHECKING:
    from omegaconf import DictConfig


def metrics(document: dict[str, Any] | None, config: DictConfig) -> Iterable[Metric]:
    """Yield the metrics of a run: energy and standard error of a wavefunction, or mean errors of a training."""
    if not document:
        return
    command, training = repeating(config), document.get("training")
    if training and document.get("kind") == "potential":
        yield from _errors_of_parts(training["parts"], command)
        yield from _shares_within(training.get("uncertainty") or {}, command)
    elif training:
        yield from _training_errors(training["mae_kcal_mol"], command)
    if document.get("kind") != "ansatz" or not document.get("energy"):
        return
    energy, vmc = document["energy"], document.get("vmc") or {}
    note = "" if document.get("status") == "ok" else f" ({document.get('status')})"
    correlation = vmc.get("correlation_percent") or {}
    for name, value, unit in (
        (f"energy{note}", energy.get("value"), "hartree"),
        (f"standard error of the energy{note}", energy.get("stderr"), "hartree"),
        ("variance of the local energy", vmc.get("variance_hartree2"), "hartree^2"),
        ("remaining error of the optimisation", (vmc.get("remaining") or {}).get("error_hartree"), "hartree"),
        ("correlation energy", correlation.get("value"), "%"),
        ("standard error of the correlation energy", correlation.get("stderr"), "%"),
    ):
        if value is not None:
            yield Metric(name, float(value), unit, command)


def _errors_of_parts(parts: dict[str, Any], command: str) -> Iterable[Metric]:
    kinds = (
        ("energy_mae_kcal_mol", "energy", "kcal/mol"),
        ("forces_mae_mev_angstrom", "forces", "meV/Angstrom"),
        ("stress_mae_mev_angstrom3", "stress", "meV/Angstrom^3"),
        ("dipole_mae_debye", "dipole", "debye"),
    )
    for part, errors in parts.items():
        for key, label, unit in kinds:
            if key in errors:
                yield Metric(
                    f"mean error, {label}, {part}, {errors['structures']} structures", errors[key], unit, command
                )


def _shares_within(uncertainty: dict[str, Any], command: str) -> Iterable[Metric]:
    for label, calibrations in (("errors", uncertainty), ("errors of forces", uncertainty.get("forces") or {})):
        for part in ("test", "unseen"):
            shares = calibrations.get(part, {}).get("calibrated") or {}
            for number in (1, 2) if shares else ():
                name = f"{label} within {number} standard deviation{'s' if number > 1 else ''}, {part}"
                yield Metric(name, round(100.0 * shares[f"within_{number}"], 1), "%", command)


def _training_errors(measured: dict[str, Any], command: str) -> Iterable[Metric]:
    words = {"trained": "trained on", "held_out": "held out"}
    for split, kinds in measured.items():
        for kind, errors in kinds.items():
            for mode in ("fixed_density", "self_consistent"):
                if mode in errors:
                    conditions = f"{mode.replace('_', ' ')}, {words[split]}, {errors['number']} {kind}"
                    yield Metric(f"mean error, {conditions}", float(errors[mode]), "kcal/mol", command)
