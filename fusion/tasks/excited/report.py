"""Lines on excited states under the energy of a run."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from fusion.chemistry import spin_states
from fusion.console import units
from fusion.console.format import plus_minus


def rows(excited: Mapping[str, Any]) -> Iterator[list[str]]:
    """Yield one row per level: energy, gap to the lowest, multiplicity, number of states, oscillator strength."""
    strengths = {t["to"]: t for t in excited["transitions"] if t["from"] == 0}
    for index, level in enumerate(excited["states"]):
        yield _level(index, level, strengths.get(index))


def _level(index: int, level: Mapping[str, Any], transition: Mapping[str, Any] | None) -> list[str]:
    row = [f"level {index + 1}", units.energy(level["energy_hartree"], level.get("stderr_hartree"))]
    gap = level.get("gap_ev")
    row.append("" if gap is None else f"{plus_minus(gap, level.get('stderr_gap_ev'), decimals=3)} eV")
    row.append(spin_states.name(level["multiplicity"]) if "multiplicity" in level else "mixed spin")
    if level["states"] > 1:
        row.append(f"{level['states']} states")
    if transition is not None:
        strength = plus_minus(
            transition["oscillator_strength"], transition.get("stderr_oscillator_strength"), decimals=4
        )
        row.append(f"f = {strength}")
    if "configuration" in level:
        row.append(f"orbitals {level['configuration']} ({level['configuration_share']:.0%})")
    return row
