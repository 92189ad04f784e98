"""Nudged elastic band between two minima; all its images are calculated in one call per step.

Henkelman, Uberuaga and Jonsson, J. Chem. Phys. 113, 9901 (climbing image) and 9978 (improved tangent) (2000). The
initial path interpolates distances (Smidstrup et al., J. Chem. Phys. 140, 214106 (2014)). ASE's implementation.
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

from fusion.chemistry import units
from fusion.chemistry.constraints import free
from fusion.chemistry.system import System
from fusion.errors import CalculationError, InputError
from fusion.methods import protocol
from fusion.methods.ase_calculator import in_ase_units
from fusion.methods.protocol import Method
from fusion.runs.results import Result
from fusion.tasks.geometry.structures import HARTREE_BOHR_PER_EV_ANGSTROM, constrained, largest_force, moved

_SPRING = 0.1  # eV/Angstrom^2, between images
_BEFORE_CLIMBING = 3.0  # times the force threshold: below it the highest image climbs
_COLLISION = 0.7  # times the shortest distance at the ends
_ASIDE_ANGSTROM = 0.3
_NEEDS = frozenset({"energy", "forces"})


@dataclass(frozen=True)
class Path:
    """Results of the images from reactant to product, the number of steps, and the largest remaining force
    (hartree/bohr) across the path."""

    results: list[Result]
    converged: bool
    steps: int
    largest_force: float

    @property
    def energies(self) -> np.ndarray:
        """Energies (images,) in hartree."""
        return np.array([result.energy for result in self.results], dtype=float)

    @property
    def top(self) -> int:
        """Index of the image with the highest energy."""
        return int(np.argmax(self.energies))

    @property
    def lengths(self) -> np.ndarray:
        """Length of the path (images,) up to each image, Angstrom, in the space of all coordinates."""
        return path_lengths([result.system.positions * units.ANGSTROM_PER_BOHR for result in self.results])


class Band:
    """A band of `images` structures from `reactant` to `product` (results at minima), these two included.

    Raises CalculationError if the path between the two cannot be interpolated because atoms meet.
    """

    def __init__(self, method: Method, reactant: Result, product: Result, images: int) -> None:
        self._method, self._system, self._ends = method, reactant.system, (reactant, product)
        self._results: list[Result] = []
        first, last = constrained(reactant.system), constrained(product.system)
        self._atoms = [first.copy() for _ in range(images - 1)] + [last]
        periodic = any(first.pbc)
        may_rotate = not periodic and self._system.fixed is None
        if may_rotate:
            minimize_rotation_and_translation(first, last)
        self._neb = NEB(self._atoms, k=_SPRING, method="improvedtangent", remove_rotation_and_translation=may_rotate)
        with np.errstate(all="ignore"), suppress(np.linalg.LinAlgError):  # the positions are checked below
            self._neb.interpolate("linear", mic=periodic)
            _bend_round_collisions(self._atoms, free(self._system))
            idpp_interpolate(self._neb, traj=None, log=None, mic=periodic)
        if not all(np.isfinite(atoms.positions).all() for atoms in self._atoms):
            raise CalculationError("no path between reactant and product: atoms would pass through each other")
        for index, atoms in enumerate(self._atoms):
            atoms.calc = _Image(self, index)

    def relax(self, fmax: float, steps: int, watch: Callable[[int, float, float], None]) -> Path:
        """Relax the band until the largest force across the path is below `fmax` (hartree/bohr). In the second part the
        highest image climbs. `watch(step, energy of the top, force)` is called at every step."""
        done, force = 0, np.inf
        for climb, threshold in ((False, _BEFORE_CLIMBING * fmax), (True, fmax)):
            self._neb.climb = climb
            optimiser = FIRE(self._neb, logfile=None)
            steps_left = steps - done if climb else (steps - done) // 2
            try:
                for _ in optimiser.irun(fmax=threshold * units.EV_ANGSTROM_PER_HARTREE_BOHR, steps=steps_left):
                    force = largest_force(self._neb.get_forces()) * HARTREE_BOHR_PER_EV_ANGSTROM
                    watch(done + optimiser.nsteps, float(self._neb.emax) * units.HARTREE_PER_EV, force)
            except (InputError, np.linalg.LinAlgError) as error:  # atoms collided
                raise CalculationError(f"the band broke in step {done + optimiser.nsteps + 1}: {error}") from error
            done += optimiser.nsteps
        first, last = self._ends
        final = moved(self._system, self._atoms[-1])  # the product as rotated with the band
        (end,) = protocol.calculate(self._method, [final], _NEEDS)
        end.energy, end.energy_std = last.energy, last.energy_std
        return Path([first, *self._results, end], force < fmax, done, force)

    def results_of(self, index: int) -> Result:
        """Result of one image. If the images have moved, all are calculated together."""
        if index in (0, len(self._atoms) - 1):
            return self._ends[index > 0]
        systems = [moved(self._system, atoms) for atoms in self._atoms[1:-1]]
        if not self._results or not _same(systems, [result.system for result in self._results]):
            results = protocol.calculate(self._method, systems, _NEEDS)
            for number, result in enumerate(results, start=2):
                if result.status != "ok" or result.energy is None:
                    raise CalculationError(f"image {number} of the path: {result.message or result.status}")
            self._results = results
        return self._results[index - 1]


class _Image(Calculator):
    """ASE calculator of one image; the band calculates all of them at once."""

    implemented_properties: ClassVar[list[str]] = ["energy", "forces"]

    def __init__(self, band: Band, index: int) -> None:
        super().__init__()
        self._band, self._index = band, index

    def calculate(self, atoms: Atoms | None = None, properties: Any = None, system_changes: Any = all_changes) -> None:
        super().calculate(atoms, properties, system_changes)
        self.results = in_ase_units(self._band.results_of(self._index))


def _bend_round_collisions(images: Sequence[Atoms], moving: np.ndarray) -> None:
    """Displace atoms sideways if some would collide on the linear path; by symmetry the band may not do so itself.

    The displacement is random but reproducible, and largest in the middle of the path. It applies only to the
    coordinates in `moving` (A, 3), bool.
    """
    closest = [np.sort(atoms.get_all_distances(mic=any(atoms.pbc)), axis=None)[len(atoms)] for atoms in images]
    if min(closest[1:-1]) > _COLLISION * min(closest[0], closest[-1]):
        return
    shift = _ASIDE_ANGSTROM * np.random.default_rng(0).uniform(-1.0, 1.0, images[0].positions.shape) * moving
    for number, atoms in enumerate(images[1:-1], start=1):
        atoms.positions += np.sin(np.pi * number / (len(images) - 1)) * shift


def path_lengths(positions: Sequence[np.ndarray], weights: np.ndarray | None = None) -> np.ndarray:
    """Length of a path up to each of its points (A, 3), in their unit; `weights` (A,) multiply the squared shifts."""
    scale = np.ones(len(positions[0])) if weights is None else weights
    steps = [np.sqrt((scale[:, None] * (after - before) ** 2).sum()) for before, after in itertools.pairwise(positions)]
    return np.concatenate([[0.0], np.cumsum(steps)])


def _same(some: Sequence[System], others: Sequence[System]) -> bool:
    """True if all positions agree, apart from rounding by the rotation of the images onto each other."""
    return all(np.abs(a.positions - b.positions).max() < 1e-10 for a, b in zip(some, others, strict=True))
