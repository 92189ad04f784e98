"""Candidates for labels: geometries of the molecule that the student, or what moves it, goes through. Atomic units."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

import numpy as np

from fusion.chemistry.system import System
from fusion.methods import protocol
from fusion.methods.protocol import Method
from fusion.potentials import PotentialMethod
from fusion.tasks.distill.dynamics import frames
from fusion.tasks.geometry.bonds import Bonds, displaced, scales, turned
from fusion.tasks.geometry.model_hessian import scaled_modes
from fusion.tasks.geometry.normal_modes import normal_modes
from fusion.tasks.relax.relaxation import Settings as Relaxing
from fusion.tasks.relax.together import relax

COPIES: Final = 16
"""Copies of the molecule that move at once."""

EVERY: Final = 40
"""Steps between two geometries of a copy."""

EACH: Final = 8
"""Candidates for each label."""

COLDEST, HOTTEST = 0.5, 1.3
"""Temperatures at the beginning and the end of the dynamics of a round, as multiples of the temperature of use."""

_EQUILIBRATION: Final = 10
"""Geometries of every copy that are left out of the test."""

_PER_CONFORMER: Final = 10
"""Displaced geometries for each random conformer."""

_RELAXING = Relaxing({}, fmax=1e-3, steps=200)


class Explorer:
    """Source of geometries of `system`.

    `mover` gives the forces; without one, geometries are displaced along the eigenvectors of a model Hessian.
    """

    def __init__(self, system: System, mover: Method | None, temperature_k: float) -> None:
        self.system, self.mover, self.temperature_k = system, mover, temperature_k
        self.bonds = Bonds.of(system)

    def candidates(self, number: int, random: np.random.Generator, show: Callable[[int, str], None]) -> np.ndarray:
        """At least `EACH` times `number` geometries (n, A, 3), as far as they can be had."""
        wanted = EACH * number
        if self.mover is None:
            return self._plain(wanted, random)
        hottest = HOTTEST * self.temperature_k
        found = [starts := self._starts(COPIES, hottest, random)]
        for _ in range(4):  # copies that end early are replaced by others
            steps = EVERY * max(1, -(-(wanted - sum(map(len, found))) // COPIES))
            span = (COLDEST * self.temperature_k, hottest)
            found.append(self._moved(starts, span, steps, random, show))
            if sum(map(len, found)) >= wanted:
                break
            starts = self._starts(COPIES, COLDEST * self.temperature_k, random)
        return np.concatenate(found)

    def test(self, number: int, random: np.random.Generator, show: Callable[[int, str], None]) -> np.ndarray:
        """Geometries (`number` at most, A, 3) of dynamics at the temperature of use."""
        if self.mover is None:
            return self._plain(number, random)
        per_copy = _EQUILIBRATION + max(1, -(-4 * number // COPIES))
        span = (self.temperature_k, self.temperature_k)
        starts = self._starts(COPIES, self.temperature_k, random)
        found = self._moved(starts, span, EVERY * per_copy, random, show)[COPIES * _EQUILIBRATION :]
        return found[np.sort(random.permutation(len(found))[:number])]

    def _plain(self, number: int, random: np.random.Generator) -> np.ndarray:
        """Displaced geometries with whole bonds of random conformers."""
        conformers = [self.system, *map(self.system.moved, turned(self.bonds, number // _PER_CONFORMER, random))]
        return self._shaken(conformers, number, self.temperature_k, random)

    def _starts(self, number: int, temperature_k: float, random: np.random.Generator) -> np.ndarray:
        """Conformers at minima of the mover, displaced along their normal modes."""
        assert self.mover is not None
        conformers = [self.system, *map(self.system.moved, turned(self.bonds, number - 1, random))]
        ends = [end.result.system for end in relax(self.mover, conformers, _RELAXING) if end.failure is None]
        minima = [end for end in ends if self.bonds.intact(end.positions[None])[0]]
        return self._shaken(minima or [self.system], number, temperature_k, random)

    def _shaken(
        self, conformers: Sequence[System], number: int, temperature_k: float, random: np.random.Generator
    ) -> np.ndarray:
        """`number` geometries with whole bonds, displaced from all conformers, as far as they can be had."""
        each = -(-4 * number // len(conformers))
        moved = [displaced(c.positions, self._scaled(c), temperature_k, each, random) for c in conformers]
        places = np.stack(moved, axis=1).reshape(-1, *self.system.positions.shape)
        whole = places[self.bonds.intact(places)]
        return whole[:number] if len(whole) else self.system.positions[None]

    def _scaled(self, conformer: System) -> np.ndarray:
        """Modes W (3A, m) of the mover's Hessian, or of a model Hessian without one."""
        if self.mover is None or "hessian" not in self.mover.provides:
            return scaled_modes(conformer)[0]
        (result,) = protocol.calculate(self.mover, [conformer], {"energy", "hessian"})
        hessian = np.asarray(result.properties["hessian"])
        return scales(normal_modes(hessian, conformer.positions, conformer.nuclear_masses))

    def _moved(
        self,
        starts: np.ndarray,
        span: tuple[float, float],
        steps: int,
        random: np.random.Generator,
        show: Callable[[int, str], None],
    ) -> np.ndarray:
        assert self.mover is not None
        limit = self.mover.domain.spread if isinstance(self.mover, PotentialMethod) else None
        text = f"{steps} steps at {span[0]:.0f} to {span[1]:.0f} K"
        return frames(self.mover, self.bonds, starts, span, steps, EVERY, random, lambda step: show(step, text), limit)
