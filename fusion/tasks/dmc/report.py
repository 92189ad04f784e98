"""Lines on diffusion Monte Carlo under the energy of a run."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from fusion.console.format import with_error


def rows(dmc: dict[str, Any]) -> Iterator[list[str]]:
    """Yield one row per time step, the extrapolation, and the energy of the wavefunction itself."""
    for step in dmc["time_steps"]:
        energy = with_error(step["energy_hartree"], step["stderr_hartree"])
        bias = with_error(1e3 * step["population_bias_hartree"], 1e3 * step["population_bias_stderr_hartree"])
        note = f"time step {step['time_step_per_hartree']:g} 1/Ha; bias of the fixed population {bias} mHa"
        yield ["diffusion", f"{energy} Ha", note]
    limit = dmc.get("extrapolated")
    if limit is not None:
        energy = with_error(limit["energy_hartree"], limit["stderr_hartree"])
        yield ["extrapolated", f"{energy} Ha", "to time step 0, linearly"]
    variational = dmc["variational"]
    energy = with_error(variational["energy_hartree"], variational["stderr_hartree"])
    remaining = variational.get("remaining")
    note = f", remaining error at most about {1e3 * remaining['error_hartree']:.1f} mHa" if remaining else ""
    yield ["variational", f"{energy} Ha", f"energy of the wavefunction itself{note}"]
