"""A nudged elastic band between two minima, all its images calculated in one call per step.

Henkelman, Uberuaga and Jonsson, J. Chem. Phys. 113, 9901 (climbing image) and 9978 (improved tangent) (2000); started
by interpolating distances (Smidstrup et al., J. Chem. Phys. 140, 214106 (2014)). ASE's implementation.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from ase import Atoms
from ase.build import minimize_rotation_and_translation
from ase.calculators.calculator import Calculator, all_changes
from ase.mep.neb import NEB, idpp_interpolate
from ase.optimize import FIRE

from fusion import methods, units
from fusion.calculators import in_ase_units
from fusion.chemistry.constraints import free
from fusion.errors import CalculationError, InputError
from fusion.methods import Method
from fusion.results import Result
from fusion.system import System
from fusion.tasks.structure.geometry import HARTREE_BOHR_PER_EV_ANGSTROM, constrained, largest_force, moved

_SPRING = 0.1  # eV/Angstrom^2, between images
_BEFORE_CLIMBING = 3.0  # times the wanted force: from where on the highest image climbs
_COLLISION = 0.7  # times the shortest distance at the ends
_ASIDE_ANGSTROM = 0.3
_NEEDS = frozenset({"energy", "forces"})


@dataclass(frozen=True)
class Path:
    """Images from reactant to product with their results, the steps it took, and the largest force (hartree/bohr)
    across the path that is left."""

    results: list[Result]
    converged: bool
    steps: int
    largest_force: float

    @property
    def energies(self) -> np.ndarray:
        """(images,) hartree."""
        return np.array([result.energy for result in self.results], dtype=float)

    @property
    def top(self) -> int:
        """The image with the highest energy."""
        return int(np.argmax(self.energies))

    @property
    def lengths(self) -> np.ndarray:
        """(images,) Angstrom: the path's length up to each image, in the space of all coordinates."""
        return path_lengths([result.system.positions * units.ANGSTROM_PER_BOHR for result in self.results])


class Band:
    """`images` structures from `reactant` to `product` (results at minima), the two included.

    Raises CalculationError where the two cannot be joined: atoms meet on the way.
    """

    def __init__(self, method: Method, reactant: Result, product: Result, images: int) -> None:
        self._method, self._system, self._ends = method, reactant.system, (reactant, product)
        self._results: list[Result] = []
        first, last = constrained(reactant.system), constrained(product.system)
        self._atoms = [first.copy() for _ in range(images - 1)] + [last]
        periodic = any(first.pbc)
        turns = not periodic and self._system.fixed is None
        if turns:
            minimize_rotation_and_translation(first, last)
        self._neb = NEB(self._atoms, k=_SPRING, method="improvedtangent", remove_rotation_and_translation=turns)
        with np.errstate(all="ignore"), suppress(np.linalg.LinAlgError):  # judged by the positions
            self._neb.interpolate("linear", mic=periodic)
            _bend_round_collisions(self._atoms, free(self._system))
            idpp_interpolate(self._neb, traj=None, log=None, mic=periodic)
        if not all(np.isfinite(atoms.positions).all() for atoms in self._atoms):
            raise CalculationError("reactant and product cannot be joined: atoms would pass through each other")
        for index, atoms in enumerate(self._atoms):
            atoms.calc = _Image(self, index)

    def relax(self, fmax: float, steps: int, watch: Callable[[int, float, float], None]) -> Path:
        """Relax the band until the largest force across the path is below `fmax` (hartree/bohr), the highest image
        climbing towards the end; `watch(step, energy of the top, force)` is told of every step."""
        done, force = 0, np.inf
        for climb, goal in ((False, _BEFORE_CLIMBING * fmax), (True, fmax)):
            self._neb.climb = climb
            optimiser = FIRE(self._neb, logfile=None)
            left = steps - done if climb else (steps - done) // 2
            try:
                for _ in optimiser.irun(fmax=goal * units.EV_ANGSTROM_PER_HARTREE_BOHR, steps=left):
                    force = largest_force(self._neb.get_forces()) * HARTREE_BOHR_PER_EV_ANGSTROM
                    watch(done + optimiser.nsteps, float(self._neb.emax) * units.HARTREE_PER_EV, force)
            except (InputError, np.linalg.LinAlgError) as error:  # atoms ran into each other
                raise CalculationError(f"the band broke in step {done + optimiser.nsteps + 1}: {error}") from error
            done += optimiser.nsteps
        first, last = self._ends
        turned = moved(self._system, self._atoms[-1])  # as the band has turned
        (end,) = methods.calculate(self._method, [turned], _NEEDS)
        end.energy, end.energy_std = last.energy, last.energy_std
        return Path([first, *self._results, end], force < fmax, done, force)

    def results_of(self, index: int) -> Result:
        """The result of one image; all that moved are calculated together."""
        if index in (0, len(self._atoms) - 1):
            return self._ends[index > 0]
        systems = [moved(self._system, atoms) for atoms in self._atoms[1:-1]]
        if not self._results or not _same(systems, [result.system for result in self._results]):
            results = methods.calculate(self._method, systems, _NEEDS)
            for number, result in enumerate(results, start=2):
                if result.status != "ok" or result.energy is None:
                    raise CalculationError(f"image {number} of the path: {result.message or result.status}")
            self._results = results
        return self._results[index - 1]


class _Image(Calculator):
    """One image's part of what the band calculates."""

    implemented_properties: ClassVar[list[str]] = ["energy", "forces"]

    def __init__(self, band: Band, index: int) -> None:
        super().__init__()
        self._band, self._index = band, index

    def calculate(self, atoms: Atoms | None = None, properties: Any = None, system_changes: Any = all_changes) -> None:
        super().calculate(atoms, properties, system_changes)
        self.results = in_ase_units(self._band.results_of(self._index))


def _bend_round_collisions(images: Sequence[Atoms], moving: np.ndarray) -> None:
    """Push atoms that would meet on the straight way aside: by symmetry (atoms in a row) nothing else would.

    The push is arbitrary but always the same, and the larger the nearer to the middle; only coordinates that are
    `moving` (A, 3) bool get one.
    """
    closest = [np.sort(atoms.get_all_distances(mic=any(atoms.pbc)), axis=None)[len(atoms)] for atoms in images]
    if min(closest[1:-1]) > _COLLISION * min(closest[0], closest[-1]):
        return
    aside = _ASIDE_ANGSTROM * np.random.default_rng(0).uniform(-1.0, 1.0, images[0].positions.shape) * moving
    for number, atoms in enumerate(images[1:-1], start=1):
        atoms.positions += np.sin(np.pi * number / (len(images) - 1)) * aside


def path_lengths(positions: Sequence[np.ndarray], weights: np.ndarray | None = None) -> np.ndarray:
    """Length of a path up to each of its points (A, 3), in their unit; `weights` (A,) of the atoms' squared shifts."""
    scale = np.ones(len(positions[0])) if weights is None else weights
    steps = [np.sqrt((scale[:, None] * (after - before) ** 2).sum()) for before, after in itertools.pairwise(positions)]
    return np.concatenate([[0.0], np.cumsum(steps)])


def _same(some: Sequence[System], others: Sequence[System]) -> bool:
    """Whether the atoms are where they were but for the rounding of turning them onto each other again."""
    return all(np.abs(one.positions - other.positions).max() < 1e-10 for one, other in zip(some, others, strict=True))
