"""Convergence of an SCF by a ladder of methods, each tried when the one before fails.

DIIS (Pulay, J. Comput. Chem. 3, 556 (1982)); damping of the first cycles; a level shift of the empty orbitals (Saunders
and Hillier, Int. J. Quantum Chem. 7, 699 (1973)); second order (Sun, arXiv:1610.08423). A learned functional may bind
an electron in an orbital above an empty one. One more diagonalisation without the shift would then leave the state, so
the shift stays to the end. DIIS extrapolates shifted matrices: if the gap is negative, shifting the extrapolated matrix
leads away from the state. Unrestricted singlets with spins in different places have empty orbitals far below the
occupied ones: there the occupied orbitals are those that overlap most with the start (Barca, Gilbert and Gill, J. Chem.
Theory Comput. 14, 1501 (2018)). Convergence is judged by the energy and by the gradient of the unshifted Fock matrix.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from pyscf import lib
from pyscf.scf import diis, hf

from fusion.functionals.grid.drafts import CoarseDrafts
from fusion.functionals.grid.response import has_response
from fusion.functionals.scf.extrapolation import Extrapolation, Rung
from fusion.scf import broken_symmetry, occupations, second_order

NEAR = 3.0
"""Multiple of the tolerance of the gradient below which cycles are computed in full precision."""
ROUGH = 1e-2
"""Gradient (hartree) below which a draft on a coarse grid is corrected by the fine one."""
AHEAD = 0.03
"""Fraction of the gradient on the fine grid to which a corrected draft is converged."""
FALL = 0.5
"""Fraction to which a corrected draft must reduce the gradient on the fine grid; otherwise the SCF continues there."""
DRAFT_CHANGE = 1e-5
"""Change of the energy (hartree) below which a draft without progress stops early."""
DRAFT_PATIENCE = 3
"""Cycles without a smaller gradient after which a draft counts as without progress."""
PATIENCE = 12
"""Cycles without a smaller gradient after which a rung stops; half as many if the energy has risen too."""
RISEN = 1e-4
"""Increase over the lowest energy so far (hartree) that counts as risen."""
CREEPING = 4
"""Cycles within ten times the tolerance of the energy that suffice when the gradient is converged: an atom's open
shell never stops rotating on the grid."""
PROGRESS = 0.7
"""Fraction of the smallest gradient so far below which a gradient counts as smaller."""
OVERLAP = "maximum overlap"
AUFBAU_TOL = 1e-4
"""Hartree by which an occupied orbital may lie above an empty one without a remark: degenerate ones differ by noise."""


@dataclass(frozen=True)
class Attempt:
    """Result of one rung."""

    name: str
    cycles: int
    converged: bool
    energy: float
    """Energy of the last cycle, hartree."""
    change: float
    """Change of the energy in the last cycle, hartree."""
    gradient: float
    """Norm of the orbital gradient, hartree."""

    def __str__(self) -> str:
        return f"{self.name} ({self.cycles} cycle{'' if self.cycles == 1 else 's'})"


@dataclass
class State:
    """Determinant (or ensemble) with the quantities computed for it."""

    energy: float
    gradient: float
    change: float
    density: Any
    orbitals: Any = None
    numbers: Any = None
    fock: Any = None
    rough: bool = False
    """True for the energy on a coarse grid."""


@dataclass(frozen=True)
class Ladder:
    """Strengths of the rungs: `damp` is a fraction from 0 to 1, `shift` in hartree."""

    damp: float = 0.5
    shift: float = 0.3

    def rungs(self, mean_field: Any) -> Iterator[Rung]:
        """Yield the rungs without second order. The object's own damping and shift apply to the first."""
        own = [f"{word} {value:g}" for word in ("damp", "level_shift") if (value := getattr(mean_field, word))]
        yield Rung(", ".join(["DIIS", *own]), mean_field.damp, shift=mean_field.level_shift)
        if mean_field.singlet:
            yield Rung(OVERLAP, overlap=True)
        yield Rung("damping", self.damp)
        yield Rung("level shift", self.damp, 3, self.shift)
        yield Rung("larger level shift", self.damp, 3, 3.0 * self.shift)

    def climb(self, mean_field: Any, density: Any) -> None:
        """Converge a PySCF mean-field object from `density`; set the results of `kernel`, `attempts` and `remarks`."""
        best = State(np.inf, np.inf, np.inf, density, rough=True)
        mean_field.attempts, mean_field.remarks = [], []
        state = None
        with _in_drafts(mean_field):
            for rung in self.rungs(mean_field):
                watch = _climb(mean_field, rung, density if rung.overlap else best.density)
                state, best = watch.last, min((best, watch.lowest), key=lambda state: (state.rough, state.energy))
                _note(mean_field, rung.name, watch.cycles, watch.converged, state)
                if watch.converged:
                    break
        assert state is not None
        if state.rough:
            state = _evaluated(mean_field, state.orbitals, state.numbers, state.energy)
        if not mean_field.attempts[-1].converged and has_response(mean_field):
            state = self._second_order(mean_field, "second order", best)
        collapsed = mean_field.singlet and broken_symmetry.is_closed(np.asarray(state.density))
        if mean_field.attempts[-1].converged and (collapsed or _aufbau_broken_by(state) > AUFBAU_TOL):
            state = self._off_the_saddle(mean_field, state)
        _finish(mean_field, state)

    def _second_order(self, mean_field: Any, name: str, start: State) -> State:
        solver, cycles = second_order.solved(mean_field, start.orbitals, start.numbers, start.density)
        state = _evaluated(mean_field, solver.mo_coeff, solver.mo_occ, solver.e_tot)
        converged = bool(solver.converged) and state.gradient < 3.0 * _gradient_tol(mean_field)
        _note(mean_field, name, cycles, converged, state)
        return state

    def _off_the_saddle(self, mean_field: Any, state: State) -> State:
        """Return a state with occupied orbitals above empty ones if it is a minimum, otherwise the state below it.

        Orbitals that were followed by overlap stay: where only one spin has density, the potential and the curvature of
        the other are far from smooth.
        """
        where = ""
        if has_response(mean_field) and mean_field.attempts[-1].name != OVERLAP:
            _fill(mean_field, state)
            curvature, orbitals = second_order.lowest_curvature(mean_field)
            where = ", in a minimum of the energy"
            if curvature < -second_order.FLAT:
                state, where = self._down(mean_field, state, orbitals)
        broken = _aufbau_broken_by(state)
        if broken > AUFBAU_TOL:
            mean_field.remarks.append(
                f"the occupied orbitals are not the lowest: one lies {broken:.4f} Ha above an empty one{where}"
            )
        return state

    def _down(self, mean_field: Any, saddle: State, orbitals: Any) -> tuple[State, str]:
        """Return the state below a saddle point and a remark; the saddle point itself if no lower state was reached."""
        lower = self._second_order(mean_field, "down from a saddle", replace(saddle, orbitals=orbitals))
        if mean_field.attempts[-1].converged and lower.energy < saddle.energy + RISEN:
            return lower, ""
        mean_field.attempts.pop()
        # The object still holds the parts of the energy of the other state.
        saddle = _evaluated(mean_field, saddle.orbitals, saddle.numbers, saddle.energy)
        return saddle, ", in a saddle point of the energy below which no state was found"


class _Watch:
    """PySCF's convergence check of one rung: record states; stop when it converges or makes no progress.

    Drafts come first. On a coarse grid, they alternate with cycles on the fine grid that correct them.
    """

    def __init__(self, mean_field: Any, restart: Callable[[], None]) -> None:
        self.mean_field, self.numint, self.restart = mean_field, mean_field._numint, restart
        self.gradient_tol = _gradient_tol(mean_field)
        self.cycles = self.stuck = self.creeping = 0
        self.smallest = self.smallest_fine = np.inf
        self.converged = self.first = False
        self.last = self.lowest = State(np.inf, np.inf, np.inf, None)
        self.aim = NEAR * self.gradient_tol
        """Gradient at which a draft ends."""
        if self.numint.drafts is not None:
            self.numint.drafts.correction = None
            self.aim = max(self.aim, ROUGH)

    def __call__(self, envs: dict[str, Any]) -> bool:
        change, draft, drafts = envs["e_tot"] - envs["last_hf_e"], self.numint.draft, self.numint.drafts
        orbitals, numbers = envs["mo_coeff"], envs["mo_occ"]
        rough = draft and drafts is not None and drafts.correction is None
        self.last = State(envs["e_tot"], envs["norm_gorb"], change, envs["dm"], orbitals, numbers, envs["fock"], rough)
        self.cycles += 1
        if (self.last.rough, self.last.energy) < (self.lowest.rough, self.lowest.energy) or self.cycles == 1:
            self.lowest = self.last
        self.stuck = 0 if self.last.gradient < PROGRESS * self.smallest else self.stuck + 1
        self.smallest = min(self.smallest, self.last.gradient)
        crept = abs(change) < 10.0 * self.mean_field.conv_tol and self.last.gradient < self.gradient_tol
        self.creeping = self.creeping + 1 if crept and not draft else 0
        self.converged = not draft and self._stationary()
        if self.first and not self.converged and drafts is not None:
            self._correct(drafts)
        self.first = draft and self._draft_is_done()
        if self.first:
            self._switch(False)
        risen = self.last.energy > self.lowest.energy + RISEN
        return self.converged or self.stuck >= (PATIENCE // 2 if risen else PATIENCE)

    def _stationary(self) -> bool:
        """Judge convergence by the gradient and the change of the energy.

        The first cycle of full precision has no such change. It needs a smaller gradient, whose square is about the
        error of the energy.
        """
        last, tolerance = self.last, self.mean_field.conv_tol
        still = abs(last.change) < tolerance or self.creeping >= CREEPING
        return bool(last.gradient < self.gradient_tol and (still or (self.first and last.gradient < self._enough)))

    @property
    def _enough(self) -> float:
        """Gradient that suffices without a small change of the energy."""
        return float(np.sqrt(self.mean_field.conv_tol) / 3.0)

    def _draft_is_done(self) -> bool:
        last = self.last
        idle = self.stuck >= DRAFT_PATIENCE and abs(last.change) < DRAFT_CHANGE
        stuck = self.numint.drafts is not None and self.stuck >= PATIENCE // 2
        return bool(idle or stuck or last.gradient < self.aim)

    def _correct(self, drafts: CoarseDrafts) -> None:
        """Return to drafts, corrected at this density, if the last ones have reduced the gradient on the fine grid."""
        if self.last.gradient < FALL * self.smallest_fine:
            self.smallest_fine = self.last.gradient
            self.aim = max(AHEAD * self.last.gradient, 0.3 * min(self._enough, self.gradient_tol))
            self._switch(True)
            drafts.correct(self.mean_field.mol, self.numint.last)

    def _switch(self, draft: bool) -> None:
        self.numint.draft, self.stuck, self.smallest = draft, 0, np.inf
        if self.numint.drafts is not None:
            self.restart()


def _climb(mean_field: Any, rung: Rung, density: Any) -> _Watch:
    numint = mean_field._numint
    settings: dict[str, Any] = {"damp": rung.damp, "level_shift": rung.shift}
    watch = _Watch(mean_field, lambda: None)
    if _extrapolates(mean_field):
        extrapolation = Extrapolation(mean_field, rung)
        watch.restart = extrapolation.restart
        settings |= {"diis": extrapolation, "damp": 0.0, "level_shift": 0.0}
        settings["diis_start_cycle"] = 0 if rung.damp or rung.shift else mean_field.diis_start_cycle
    if rung.overlap:
        settings["get_occ"] = occupations.by_overlap(np.asarray(density), mean_field.get_ovlp(), mean_field.nelec)
    numint.draft = True
    try:
        with lib.temporary_env(mean_field, check_convergence=watch, **settings):
            hf.kernel(
                mean_field, mean_field.conv_tol, mean_field.conv_tol_grad,
                dm0=density, callback=mean_field.callback, conv_check=False,
            )  # fmt: skip
    except (np.linalg.LinAlgError, AttributeError) as error:
        # PySCF 2.14 looks for numpy's LinAlgError at its place before numpy 2.
        if not isinstance(error, np.linalg.LinAlgError) and not isinstance(error.__context__, np.linalg.LinAlgError):
            raise
        watch.converged = False  # DIIS got the same error vector twice: this rung cannot continue
    finally:
        numint.draft = False
    return watch


@contextmanager
def _in_drafts(mean_field: Any) -> Iterator[None]:
    """Let early cycles use a coarse grid inside the block, and float32 where it changes energies negligibly."""
    numint = mean_field._numint
    numint.tolerance = mean_field.conv_tol
    if _extrapolates(mean_field):
        if mean_field.grids.coords is None:
            mean_field.grids.build()
        numint.drafts = numint.with_coarse_drafts(mean_field.mol, mean_field.grids)
    try:
        yield
    finally:
        numint.drafts, numint.tolerance = None, 0.0


def _extrapolates(mean_field: Any) -> bool:
    """True if the user has not chosen another way than DIIS."""
    return bool(mean_field.diis is True and mean_field.DIIS is diis.SCF_DIIS)


def _gradient_tol(mean_field: Any) -> float:
    return mean_field.conv_tol_grad or float(np.sqrt(mean_field.conv_tol))


def _evaluated(mean_field: Any, orbitals: Any, numbers: Any, expected: float) -> State:
    """Evaluate the state of given orbitals; `change` is its energy minus the expected one."""
    density = mean_field.make_rdm1(orbitals, numbers)
    potential = mean_field.get_veff(mean_field.mol, density)
    fock = mean_field.get_fock(vhf=potential, dm=density)
    energy = float(mean_field.energy_tot(density, vhf=potential))
    gradient = float(np.linalg.norm(mean_field.get_grad(orbitals, numbers, fock)))
    return State(energy, gradient, energy - expected, density, orbitals, numbers, fock)


def _note(mean_field: Any, name: str, cycles: int, converged: bool, state: State) -> None:
    attempt = Attempt(name, cycles, converged, float(state.energy), float(state.change), float(state.gradient))
    mean_field.attempts.append(attempt)


def _spins(*arrays: Any) -> list[tuple[np.ndarray, ...]]:
    """Split quantities of a restricted object, or of both spins, by spin."""
    if np.ndim(arrays[-1]) == 1:
        return [tuple(np.asarray(array) for array in arrays)]
    return list(zip(*arrays, strict=True))


def _aufbau_broken_by(state: State) -> float:
    broken = []
    for orbitals, fock, numbers in _spins(state.orbitals, state.fock, state.numbers):
        energies, _ = occupations.canonical(orbitals, numbers, fock)
        broken.append(occupations.aufbau_broken_by(energies, numbers))
    return max(broken)


def _fill(mean_field: Any, state: State) -> None:
    """Store a state in the object: orbitals canonical among those of equal occupation, energies of the Fock matrix."""
    spins = _spins(state.orbitals, state.fock, state.numbers)
    energies, orbitals = zip(*(occupations.canonical(c, n, f) for c, f, n in spins), strict=True)
    restricted = np.ndim(state.numbers) == 1
    mean_field.e_tot = float(state.energy)
    mean_field.mo_energy = energies[0] if restricted else np.array(energies)
    mean_field.mo_coeff = orbitals[0] if restricted else np.array(orbitals)
    mean_field.mo_occ = np.asarray(state.numbers)


def _finish(mean_field: Any, state: State) -> None:
    _fill(mean_field, state)
    mean_field.converged = mean_field.attempts[-1].converged
    mean_field.cycles = sum(attempt.cycles for attempt in mean_field.attempts)
    if mean_field.chkfile:
        mean_field.dump_chk({name: getattr(mean_field, name) for name in ("e_tot", "mo_energy", "mo_coeff", "mo_occ")})
