"""From a transition state down both sides: the intrinsic reaction coordinate and the minima at its ends."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from fusion.results import Result
from fusion.tasks.reaction.band import path_lengths
from fusion.tasks.structure import geometric_engine
from fusion.tasks.structure import relaxation as relaxing
from fusion.tasks.structure.geometry import frame, write_frames
from fusion.tasks.structure.internal_coordinate import bonds

if TYPE_CHECKING:
    from fusion.system import System
    from fusion.tasks.interruption.journal import Journal
    from fusion.tasks.reaction.saddle import Saddle

FRAMES = "irc.extxyz"
SAME_ANGSTROM = 0.1
"""Two structures whose atoms are nearer than this (root mean square) are one."""


@dataclass(frozen=True)
class Branch:
    """One side: points from the transition state downhill, whether they reached a valley, and the minimum there."""

    results: list[Result]
    arrived: bool
    failure: str | None
    end: relaxing.Relaxed


def follow(
    journal: Journal, saddle: Saddle, steps: int, settings: relaxing.Settings, log: Path
) -> tuple[Branch, Branch]:
    """Both branches, each of at most `steps` points; which is which is the sign of the imaginary mode."""
    backward, forward = (_branch(journal, saddle, way, steps, settings, log) for way in ("backward", "forward"))
    return backward, forward


def _branch(journal: Journal, saddle: Saddle, way: str, steps: int, settings: relaxing.Settings, log: Path) -> Branch:
    from fusion.phases import phase

    system = saddle.result.system
    with phase(way) as bar:

        def watch(number: int, energy: float, force: float) -> None:
            bar(number, f"E = {energy:.6f} Ha  largest force {force:.1e} Ha/bohr")

        with geometric_engine.talking_into(log):
            ended, points = geometric_engine.reaction_path(journal, system, saddle.hessian, way, steps, watch)
    results = [journal.at(system.moved(positions), {"energy", "forces"}) for positions, _ in points]
    end = relaxing.relax(journal, ended.system, settings)
    return Branch(results, ended.converged, ended.failure, end)


def whole(backward: Branch, forward: Branch) -> list[Result]:
    """The path from one end to the other, the transition state once."""
    return [*reversed(backward.results), *forward.results[1:]]


def arc_lengths(results: list[Result]) -> np.ndarray:
    """(points,) length of the path in mass-weighted coordinates, bohr dalton^1/2, without what turns or shifts the
    whole molecule from one point to the next (unless atoms are held)."""
    system, places = results[0].system, [results[0].system.positions]
    for result in results[1:]:
        there = result.system.positions
        places.append(there if system.fixed is not None else onto(there, places[-1], system.nuclear_masses))
    return path_lengths(places, system.nuclear_masses)


def onto(positions: np.ndarray, others: np.ndarray, masses: np.ndarray) -> np.ndarray:
    """Positions (A, 3) shifted and turned as a whole to where their mass-weighted distance from `others` is least
    (Kabsch, Acta Cryst. A32, 922 (1976))."""
    weights = masses[:, None] / masses.sum()
    centre, target = (weights * positions).sum(axis=0), (weights * others).sum(axis=0)
    left, _, right = np.linalg.svd((weights * (positions - centre)).T @ (others - target))
    sense = np.diag([1.0, 1.0, np.sign(np.linalg.det(left @ right))])
    return np.asarray((positions - centre) @ left @ sense @ right + target)


def describe(backward: Branch, forward: Branch, known: dict[str, System]) -> dict[str, Any]:
    """What `result.json` says of the path; `known` minima are recognised at its ends."""
    results = whole(backward, forward)
    top = len(backward.results) - 1
    lengths = arc_lengths(results)
    ends = [_end(branch, known) for branch in (backward, forward)]
    made, broken = bond_changes(backward.end.result.system, forward.end.result.system)
    return {
        "s_bohr_sqrt_dalton": (lengths - lengths[top]).tolist(),
        "energies_hartree": [result.energy for result in results],
        "transition_state": top,
        "backward": ends[0],
        "forward": ends[1],
        "bonds_made": made,
        "bonds_broken": broken,
        "connects": statement(backward, forward, known),
    }


def statement(backward: Branch, forward: Branch, known: dict[str, System]) -> str:
    """Which minima the path connects, in words."""
    one, other = (branch.end.result.system for branch in (backward, forward))
    names = [_recognised(system, known.items()) for system in (one, other)]
    if all(names):
        return f"it connects {names[0]} and {names[1]}" if names[0] != names[1] else f"both ends are the {names[0]}"
    made, broken = bond_changes(one, other)
    changes = [f"{word} {', '.join(pairs)}" for word, pairs in (("makes", made), ("breaks", broken)) if pairs]
    ends = [name or "another minimum" for name in names]
    between = f"it connects {ends[0]} and {ends[1]}" if any(names) else "it connects two minima"
    return f"{between}; from backward to forward it {' and '.join(changes)}" if changes else f"{between}, conformers"


def bond_changes(before: System, after: System) -> tuple[list[str], list[str]]:
    """Bonds that are in `after` alone, and in `before` alone: C1-H4, atoms counted from 1."""
    old, new = bonds(before), bonds(after)

    def names(pairs: np.ndarray) -> list[str]:
        return [
            f"{before.symbols[i]}{i + 1}-{before.symbols[j]}{j + 1}" for i, j in np.argwhere(np.triu(pairs)).tolist()
        ]

    return names(new & ~old), names(old & ~new)


def same(one: System, other: System) -> bool:
    """Whether the two are one structure: atom on atom, shifted and turned as a whole; mirror images are not."""
    return relaxing.rmsd(one, other) < SAME_ANGSTROM


def write(directory: Path, backward: Branch, forward: Branch) -> None:
    """irc.extxyz, the whole path, and the relaxed minima at its ends."""
    results = whole(backward, forward)
    lengths = arc_lengths(results)
    lengths -= lengths[len(backward.results) - 1]
    frames = [frame(result, s_bohr_sqrt_dalton=float(s)) for result, s in zip(results, lengths, strict=True)]
    write_frames(directory / FRAMES, frames)
    for name, branch in (("backward", backward), ("forward", forward)):
        write_frames(directory / f"irc_{name}.xyz", [frame(branch.end.result)])


def _end(branch: Branch, known: dict[str, System]) -> dict[str, Any]:
    found = {
        "points": len(branch.results),
        "arrived": branch.arrived,
        "energy_hartree": branch.end.energies[-1],
        "relaxed": branch.end.converged,
        "is": _recognised(branch.end.result.system, known.items()),
        "failure": branch.failure,
    }
    return {key: value for key, value in found.items() if value is not None}


def _recognised(system: System, known: Iterable[tuple[str, System]]) -> str | None:
    return next((name for name, other in known if same(system, other)), None)
