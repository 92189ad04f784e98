"""Diagnostics of amplitudes: how far one determinant is a good start.

T1: T. J. Lee, P. R. Taylor, Int. J. Quantum Chem. Symp. 23, 199 (1989); D1: C. L. Janssen, I. M. B. Nielsen, Chem.
Phys. Lett. 290, 423 (1998).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

T1_LIMIT = 0.02
"""A larger T1 means that one determinant is a poor start (Lee and Taylor); 0.04 for open shells."""
D1_LIMIT = 0.05
"""Limit of D1, the largest singular value of the single excitations of a closed shell."""
T2_LIMITS = {"MP2": 0.2, "CCSD": 0.25}
"""Largest double excitation of molecules near their equilibrium: ethylene has 0.13 and 0.22 in a minimal basis, F2 0.14
and 0.19, ozone 0.20 and 0.24; bonds stretched by half exceed the limits, broken ones have 0.6 to 1."""


def out_of_range(details: Mapping[str, Any], open_shell: bool) -> list[str]:
    """Return warnings of amplitudes too large for single-reference coupled cluster."""
    limit = 2.0 * T1_LIMIT if open_shell else T1_LIMIT
    warnings = []
    for name, value, most in (
        ("T1", details["t1_diagnostic"], limit),
        ("D1", details.get("d1_diagnostic", 0.0), D1_LIMIT),
    ):
        if value > most:
            warnings.append(f"{name} diagnostic {value:.3f}, above {most}: one determinant may be a poor start")
    if details["largest_t2"] > T2_LIMITS["CCSD"]:
        warnings.append(large_t2("CCSD", details["largest_t2"]))
    return warnings


def large_t2(name: str, value: float) -> str:
    """Return the warning of a double excitation (of the method `name`) above its limit."""
    return (
        f"largest double excitation of {name} {value:.2f}, above {T2_LIMITS[name]}: more than one determinant matters, "
        "and the energy may have a large error"
    )


def largest_amplitude(amplitudes: Any) -> float:
    """Return the largest absolute value of the amplitudes, over all pairs of spins."""
    if amplitudes is None:
        return 0.0
    blocks = amplitudes if isinstance(amplitudes, tuple) else (amplitudes,)
    return max((float(np.abs(block).max()) for block in blocks if np.size(block)), default=0.0)


def t1_diagnostic(solver: Any) -> float:
    """Return T1, the norm of the single excitations over the square root of the number of correlated electrons."""
    if isinstance(solver.t1, tuple):
        squares, electrons = sum(float(np.sum(t1**2)) for t1 in solver.t1), sum(solver.nocc)
        return math.sqrt(0.5 * squares / electrons)
    return math.sqrt(float(np.sum(solver.t1**2)) / (2 * solver.nocc))
