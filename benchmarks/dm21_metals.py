"""Atoms and monoxides of transition metals with DM21: attempts of the SCF until convergence.

`python benchmarks/dm21_metals.py STORE [MINUTES]`; writes dm21_metals.md. STORE, a JSON file, keeps finished systems,
so that another call resumes. No system starts after the time is used up; each stops after ten minutes of CPU time.
States and distances (Angstrom) of the monoxides are those of the known ground states, rounded; DM21 was trained on no
transition metal.
"""

from __future__ import annotations

import json
import signal
import sys
import time
from pathlib import Path
from typing import Any

from pyscf import gto

import fusion
from runs import write_table

BASIS, GRID_LEVEL, LIMIT_S = "def2-svp", 3, 600.0
SYSTEMS = (
    ("Sc", 1, None), ("Ti", 2, None), ("V", 3, None), ("Cr", 6, None), ("Mn", 5, None), ("Fe", 4, None),
    ("Co", 3, None), ("Ni", 2, None), ("Cu", 1, None), ("Zn", 0, None),
    ("Sc", 1, 1.668), ("Ti", 2, 1.623), ("V", 3, 1.592), ("Cr", 4, 1.621), ("Mn", 5, 1.648), ("Fe", 4, 1.616),
    ("Co", 3, 1.629), ("Ni", 2, 1.627), ("Cu", 1, 1.724), ("Zn", 0, 1.719),
)  # fmt: skip
"""Element, N_up - N_down, distance to the oxygen (None: the atom)."""


class TimeUp(BaseException):
    """Signal that the time is used up; no code of the calculation may catch it."""


def calculation(element: str, spin: int, distance: float | None) -> dict[str, Any]:
    """Result of the SCF of one system, or its progress within the CPU time."""
    atoms = f"{element} 0 0 0" + ("" if distance is None else f"; O 0 0 {distance}")
    mean_field = fusion.kohn_sham(gto.M(atom=atoms, spin=spin, basis=BASIS, verbose=0), "dm21", grid_level=GRID_LEVEL)
    energies: list[float] = []
    gradients: list[float] = []

    def watch(envs: dict[str, Any]) -> None:
        energies.append(float(envs["e_tot"]) if "e_tot" in envs else energies[-1])
        gradients.append(float(envs["norm_gorb"]))

    mean_field.callback = watch
    began, remarks, given_up = time.process_time(), [], False
    signal.signal(signal.SIGPROF, _time_up)
    signal.setitimer(signal.ITIMER_PROF, LIMIT_S)
    try:
        mean_field.kernel()
    except TimeUp:
        given_up = True
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0.0)
    attempts = mean_field.attempts
    converged = bool(attempts and attempts[-1].converged)
    if given_up and converged:
        remarks = ["the occupied orbitals are not the lowest; whether this is a minimum was not found out in time"]
    elif given_up:
        remarks = [f"given up after {len(gradients)} cycles in all"]
    squared = None if given_up else float(mean_field.spin_square()[0])
    return {
        "energy": energies[-1] if given_up else float(mean_field.e_tot),
        "converged": converged,
        "attempts": [str(attempt) for attempt in attempts],
        "gradient": gradients[-1],
        "remarks": [*mean_field.remarks, *remarks],
        "torque": mean_field.torque,
        "spin_square": squared,
        "cpu_s": time.process_time() - began,
    }


def _time_up(*_: Any) -> None:
    raise TimeUp


def main(store: Path, minutes: float) -> None:
    """Compute what the time allows and write the table."""
    done: dict[str, Any] = json.loads(store.read_text()) if store.is_file() else {}
    rows, missing, began = [], [], time.monotonic()
    for element, spin, distance in SYSTEMS:
        name = element if distance is None else f"{element}O"
        if name not in done:
            if time.monotonic() - began > 60.0 * minutes:
                missing.append(name)
                continue
            done[name] = calculation(element, spin, distance)
            store.write_text(json.dumps(done))
        state, pure = done[name], 0.25 * spin * (spin + 2)
        energy = f"{state['energy']:.5f}" if state["converged"] else f"not converged, gradient {state['gradient']:.0e}"
        squared = "" if state["spin_square"] is None else f"{state['spin_square']:.3f} ({pure:.2f})"
        rows.append([
            name, spin, energy, ", ".join(state["attempts"]), squared,
            f"{state['torque']:.0e}" if state["torque"] else "", f"{state['cpu_s']:.0f}", "; ".join(state["remarks"]),
        ])  # fmt: skip
        print(*map(str, rows[-1]), sep="  ", flush=True)
    notes = (
        f"{BASIS}, grid level {GRID_LEVEL}, unrestricted, started from B3LYP; torque: what the grid would turn an open "
        "shell by, which is held; in brackets ⟨S²⟩ of the pure state; one thread. DM21 was trained on none: the "
        "table is about convergence, not about accuracy. Not computed for want of time: "
        + (", ".join(missing) or "none")
        + ". Looking for a lower state takes up to twenty products with the orbital Hessian, second order more: 4 s "
        "each for V, nearly all of it for second derivatives of the network."
    )
    columns = ["system", "spin", "energy / Ha", "what it took", "⟨S²⟩", "torque / Ha", "CPU s", "remarks"]
    write_table(Path(__file__).with_suffix(".md"), "Transition metals with DM21", notes, columns, rows)


if __name__ == "__main__":
    main(Path(sys.argv[1]), float(sys.argv[2]) if len(sys.argv) > 2 else 60.0)
