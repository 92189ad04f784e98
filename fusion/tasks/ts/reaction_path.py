"""Intrinsic reaction coordinate: paths from a transition state down both sides, and the minima at their ends."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from fusion.runs.results import Result
from fusion.tasks.geometry import geometric
from fusion.tasks.geometry.internal_coordinates import bonds
from fusion.tasks.geometry.structures import frame, write_frames
from fusion.tasks.relax import relaxation as relaxing
from fusion.tasks.relax.report import rmsd
from fusion.tasks.ts.neb import path_lengths

if TYPE_CHECKING:
    from fusion.chemistry.system import System
    from fusion.methods.recorded import Journal
    from fusion.tasks.ts.saddle import Saddle

FRAMES = "irc.extxyz"
SAME_ANGSTROM = 0.1
"""Root mean square distance of atoms below which two structures count as the same."""


@dataclass(frozen=True)
class Branch:
    """One side of the path: results from the transition state downhill, and the relaxed end. `arrived`: true if the
    path reached a valley."""

    results: list[Result]
    arrived: bool
    failure: str | None
    end: relaxing.Relaxed


def follow(
    journal: Journal, saddle: Saddle, steps: int, settings: relaxing.Settings, log: Path
) -> tuple[Branch, Branch]:
    """Follow both branches, each for at most `steps` points; the sign of the imaginary mode tells them apart."""
    backward, forward = (
        _branch(journal, saddle, direction, steps, settings, log) for direction in ("backward", "forward")
    )
    return backward, forward


def _branch(
    journal: Journal, saddle: Saddle, direction: str, steps: int, settings: relaxing.Settings, log: Path
) -> Branch:
    from fusion.console.phases import phase

    system = saddle.result.system
    with phase(direction) as bar:

        def watch(number: int, energy: float, force: float) -> None:
            bar(number, f"E = {energy:.6f} Ha  largest force {force:.1e} Ha/bohr")

        with geometric.logging_to(log):
            ended, points = geometric.reaction_path(journal, system, saddle.hessian, direction, steps, watch)
    results = [journal.at(system.moved(positions), {"energy", "forces"}) for positions, _ in points]
    end = relaxing.relax(journal, ended.system, settings)
    return Branch(results, ended.converged, ended.failure, end)


def full_path(backward: Branch, forward: Branch) -> list[Result]:
    """Results along the path from one end to the other; the transition state is included once."""
    return [*reversed(backward.results), *forward.results[1:]]


def arc_lengths(results: list[Result]) -> np.ndarray:
    """Length of the path (points,) in mass-weighted coordinates, bohr dalton^1/2. Translations and rotations of the
    whole molecule between points do not count (unless atoms are held)."""
    system, aligned = results[0].system, [results[0].system.positions]
    for result in results[1:]:
        positions = result.system.positions
        aligned.append(positions if system.fixed is not None else onto(positions, aligned[-1], system.nuclear_masses))
    return path_lengths(aligned, system.nuclear_masses)


def onto(positions: np.ndarray, others: np.ndarray, masses: np.ndarray) -> np.ndarray:
    """Positions (A, 3), translated and rotated as a whole to the least mass-weighted distance from `others` (Kabsch,
    Acta Cryst. A32, 922 (1976))."""
    weights = masses[:, None] / masses.sum()
    centre, target = (weights * positions).sum(axis=0), (weights * others).sum(axis=0)
    u, _, vt = np.linalg.svd((weights * (positions - centre)).T @ (others - target))
    sense = np.diag([1.0, 1.0, np.sign(np.linalg.det(u @ vt))])
    return np.asarray((positions - centre) @ u @ sense @ vt + target)


def describe(backward: Branch, forward: Branch, minima: dict[str, System]) -> dict[str, Any]:
    """Details of the path for `result.json`; the known `minima`, by name, are recognised at its ends."""
    results = full_path(backward, forward)
    top = len(backward.results) - 1
    lengths = arc_lengths(results)
    ends = [_end(branch, minima) for branch in (backward, forward)]
    made, broken = bond_changes(backward.end.result.system, forward.end.result.system)
    return {
        "s_bohr_sqrt_dalton": (lengths - lengths[top]).tolist(),
        "energies_hartree": [result.energy for result in results],
        "transition_state": top,
        "backward": ends[0],
        "forward": ends[1],
        "bonds_made": made,
        "bonds_broken": broken,
        "connects": statement(backward, forward, minima),
    }


def statement(backward: Branch, forward: Branch, minima: dict[str, System]) -> str:
    """The minima that the path connects, in words."""
    start, end = (branch.end.result.system for branch in (backward, forward))
    names = [_recognised(system, minima.items()) for system in (start, end)]
    if all(names):
        return f"it connects {names[0]} and {names[1]}" if names[0] != names[1] else f"both ends are the {names[0]}"
    made, broken = bond_changes(start, end)
    changes = [f"{word} {', '.join(pairs)}" for word, pairs in (("makes", made), ("breaks", broken)) if pairs]
    ends = [name or "another minimum" for name in names]
    between = f"it connects {ends[0]} and {ends[1]}" if any(names) else "it connects two minima"
    return f"{between}; from backward to forward it {' and '.join(changes)}" if changes else f"{between}, conformers"


def bond_changes(before: System, after: System) -> tuple[list[str], list[str]]:
    """Bonds only in `after`, and bonds only in `before`, as C1-H4 with atoms counted from 1."""
    bonds_before, bonds_after = bonds(before), bonds(after)

    def names(pairs: np.ndarray) -> list[str]:
        return [
            f"{before.symbols[i]}{i + 1}-{before.symbols[j]}{j + 1}" for i, j in np.argwhere(np.triu(pairs)).tolist()
        ]

    return names(bonds_after & ~bonds_before), names(bonds_before & ~bonds_after)


def same(first: System, second: System) -> bool:
    """True if the two are the same structure, atom by atom, up to translation and rotation; mirror images differ."""
    return rmsd(first, second) < SAME_ANGSTROM


def write(directory: Path, backward: Branch, forward: Branch) -> None:
    """Write the whole path to irc.extxyz, and the minima at its ends to irc_backward.xyz and irc_forward.xyz."""
    results = full_path(backward, forward)
    lengths = arc_lengths(results)
    lengths -= lengths[len(backward.results) - 1]
    frames = [frame(result, s_bohr_sqrt_dalton=float(s)) for result, s in zip(results, lengths, strict=True)]
    write_frames(directory / FRAMES, frames)
    for name, branch in (("backward", backward), ("forward", forward)):
        write_frames(directory / f"irc_{name}.xyz", [frame(branch.end.result)])


def _end(branch: Branch, minima: dict[str, System]) -> dict[str, Any]:
    details = {
        "points": len(branch.results),
        "arrived": branch.arrived,
        "energy_hartree": branch.end.energies[-1],
        "relaxed": branch.end.converged,
        "is": _recognised(branch.end.result.system, minima.items()),
        "failure": branch.failure,
    }
    return {key: value for key, value in details.items() if value is not None}


def _recognised(system: System, minima: Iterable[tuple[str, System]]) -> str | None:
    return next((name for name, other in minima if same(system, other)), None)
